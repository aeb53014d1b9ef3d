"""A paragraph on how a dataset was built, to be pasted into a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CALIBRATIONS = {
    "phantom": "HU were converted to bone density (mg/cm3) with the calibration phantom in each scan",
    "file": "HU were converted to bone density (mg/cm3) with a line that was measured beforehand",
    "phantomless": "HU were converted to bone density (mg/cm3) by air, fat and muscle of each patient",
    "none": "HU were not calibrated and took the place of density",
}
LABELS = {
    "labels": "Pelvis, femurs and spine were given as label maps",
    "model": "Pelvis, femurs and spine were labelled by a Bayesian U-Net with Monte Carlo dropout (Hiasa et al. 2020)",
    "totalsegmentator": "Pelvis, femurs and spine were labelled by TotalSegmentator (Wasserthal et al. 2023)",
    "auto": "Pelvis, femurs and spine were given as label maps or labelled by a Bayesian U-Net (Hiasa et al. 2020)",
}
REFERENCES = {
    "Otake": "Otake et al. 2012, doi 10.1109/TMI.2011.2176555",
    "Hiasa": "Hiasa et al. 2020, doi 10.1109/TMI.2019.2940555",
    "Wasserthal": "Wasserthal et al. 2023, doi 10.1148/ryai.230024",
}


def write_methods(about: Mapping[str, Any], *, patients: int, pairs: Sequence[Mapping[str, str]]) -> str:
    """The paragraph; what the description of a dataset does not say is left out.

    Args:
        about: Content of dataset.json.
        patients: Number of cases.
        pairs: Rows of the manifest that are usable.

    Returns:
        Plain text of several sentences, the references last.
    """
    configuration = about.get("configuration") or {}
    hips = {(row.get("patient_id"), row.get("side")) for row in pairs}
    sentences = [
        f"Paired datasets were built with bmdkit {about.get('bmdkit', '')}".rstrip() + f" from {patients} patients: "
        f"{len(pairs)} pairs of {len(hips)} hips.",
    ]
    mode = (configuration.get("calibration") or {}).get("mode")
    source = (configuration.get("segmentation") or {}).get("source")
    if mode in CALIBRATIONS:
        sentences.append(f"{CALIBRATIONS[mode]}.")
    if source in LABELS:
        sentences.append(f"{LABELS[source]}.")
    if configuration.get("registration"):
        sentences.append(
            "Pelvis and femurs were registered to each radiograph by maximising "
            f"{_name_measure(configuration['registration'].get('similarity'))} between the radiograph and digitally "
            "reconstructed radiographs with CMA-ES and a gradient-based refinement (Otake et al. 2012); the "
            "calibrated bones were projected under these poses."
        )
    image = about.get("image") or {}
    if image.get("rows") and image.get("columns"):
        sentences.append(f"Images have {image['rows']} x {image['columns']} pixels.")
    if configuration.get("folds"):
        sentences.append(
            f"Patients were divided into {configuration['folds']} folds (seed {configuration.get('seed', 0)}), "
            "no patient into two."
        )
    libraries = about.get("libraries") or {}
    if libraries:
        listed = ", ".join(f"{name} {version}" for name, version in sorted(libraries.items(), key=_fold))
        sentences.append(f"Libraries: {listed}.")
    text = " ".join(sentences)
    cited = [reference for name, reference in REFERENCES.items() if name in text]
    cited += [str(about["citation"])] if about.get("citation") else []
    return f"{text} References: {'; '.join(cited)}." if cited else text


def _name_measure(name: object) -> str:
    names = {
        "patch_gc": "gradient correlation in patches",
        "gc": "gradient correlation",
        "ncc": "normalised cross-correlation",
        "gradient_information": "gradient information",
    }
    return names.get(str(name), "a similarity")


def _fold(item: tuple[str, str]) -> str:
    return item[0].casefold()
