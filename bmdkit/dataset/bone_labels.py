"""Where a case's labels come from: the cohort, a trained network, or another program."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from bmdkit.core.case import Case
from bmdkit.dataset.settings import BuildConfig
from bmdkit.errors import CaseError, PreflightError
from bmdkit.io.ct import CtScan
from bmdkit.io.label_maps import read_labels
from bmdkit.io.results import sha256_of
from bmdkit.segmentation.ct_labels import Segmented, segment_with_model, segment_with_totalsegmentator
from bmdkit.segmentation.failures import ROC, SHIPPED, VARIANCE
from bmdkit.segmentation.labels import prepare_labels


def choose_label_source(case: Case, config: BuildConfig) -> Literal["labels", "model", "totalsegmentator", "none"]:
    """What makes the labels of a case."""
    chosen = config.segmentation
    if chosen.source == "auto":
        return "labels" if case.labels is not None else "model"
    if chosen.source == "labels":
        return "labels" if case.labels is not None else "none"
    return chosen.source


def check_sources(cases: Iterable[Case], config: BuildConfig, device: str | None = None) -> None:
    """Make sure that what is to make the labels of these cases is there.

    Args:
        cases: Those that are to be built.
        config: Settings of the build.
        device: cpu or cuda[:N] if the labels are made on this machine; None: on others.

    Raises:
        PreflightError: The model cannot be read (BMD-TRN-009); its largest uncertainty was measured with other settings
            (BMD-SEG-005); the device lacks the precision (BMD-SEG-006); TotalSegmentator is not installed
            (BMD-SEG-002).
    """
    sources = {choose_label_source(case, config) for case in cases}
    if "model" in sources:
        from bmdkit.segmentation.model import load_model, require_precision

        chosen = config.segmentation
        if device is not None:
            require_precision(chosen.predict.precision, device)
        limit = load_model(choose_model_folder(config)).limit_uncertainty(chosen.predict, chosen.most_uncertainty)
        if limit.refusal:
            raise PreflightError("BMD-SEG-005", f"{limit.refusal}.", file=choose_model_folder(config))
    if "totalsegmentator" in sources:
        from bmdkit.segmentation.totalsegmentator import require_totalsegmentator

        require_totalsegmentator(config.segmentation.totalsegmentator)


def choose_model_folder(config: BuildConfig) -> Path:
    """The run whose network makes labels: the one that is named, or the one that comes with the package."""
    return config.segmentation.model or SHIPPED


def hash_model(case: Case, config: BuildConfig) -> str | None:
    """SHA-256 of the network that makes the labels of a case; None if none does, or it cannot be read."""
    if choose_label_source(case, config) != "model":
        return None
    from bmdkit.segmentation.model import RUN, WEIGHTS

    folder = choose_model_folder(config)
    try:
        names = (RUN, WEIGHTS, ROC) if (folder / ROC).exists() else (RUN, WEIGHTS)
        parts = [sha256_of(folder / name) for name in names]
    except OSError:
        return None
    return hashlib.sha256("".join([*parts, VARIANCE]).encode()).hexdigest()


def make_labels(case: Case, scan: CtScan, config: BuildConfig, device: str = "cpu") -> Segmented:
    """The labels of one case, fit for use.

    Raises:
        CaseError: There are none and nothing makes any (BMD-LBL-005), or they are unfit.
    """
    match choose_label_source(case, config):
        case "labels" if case.labels is not None:
            given = read_labels(case.labels, case=case.patient_id)
            return Segmented(prepare_labels(given, scan.volume, config.labels))
        case "model":
            from bmdkit.segmentation.model import load_model

            model = load_model(choose_model_folder(config), device)
            return segment_with_model(scan.volume, model, config.segmentation, config.labels, seed=config.seed)
        case "totalsegmentator":
            return segment_with_totalsegmentator(
                scan.volume, config.segmentation, config.labels, device=device, case=case.patient_id
            )
    raise CaseError("BMD-LBL-005", "cohort.csv names no label map, and --segmentation labels asks for one.")
