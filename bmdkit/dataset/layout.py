"""What stands where in the folder of a dataset: the one module that spells these names.

```
manifest.csv manifest.parquet quarantine.csv dataset.json SHA256SUMS ratings.csv
dataset_a/<pair>/{xray,drr,mask}.tif meta.json        pelvis and femur
dataset_b/<pair>/{xray,drr,mask}.tif meta.json        proximal femur; layers.tif where simulated pairs keep them
cases/<patient>/                                      what the CT and its radiographs gave, and meta.json
logs/ report/ .staging/
```
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bmdkit.core.anatomy import Side
from bmdkit.errors import PreflightError

DatasetName = Literal["A", "B"]
"""A shows pelvis and femur, B the proximal femur."""

MANIFEST_CSV, MANIFEST_PARQUET, QUARANTINE_CSV = "manifest.csv", "manifest.parquet", "quarantine.csv"
DESCRIPTION, SUMS = "dataset.json", "SHA256SUMS"
CASES, META, STAGING, LOGS, REPORT = "cases", "meta.json", ".staging", "logs", "report"
RUN_FILE = f"{LOGS}/run.json"
RATINGS = "ratings.csv"
"""What a reader of the report thinks of the pairs; the reader's own file, which SHA256SUMS leaves out."""

PAIR_FOLDERS: Mapping[DatasetName, str] = {"A": "dataset_a", "B": "dataset_b"}
PAIR_IMAGES = ("xray", "drr", "mask")
LAYERS = ("soft tissue", "other bones", "femur")
"""Pages of layers.tif, g/cm2: soft tissue, mineral of the other bones, mineral of the target's femur."""

_REGISTRATION = "registration_"


def find_dataset_above(path: Path) -> Path | None:
    """The dataset that a path lies in, be it built or begun; None where it lies in none."""
    place = path.resolve()
    return next((one for one in (place, *place.parents) if _is_dataset(one)), None)


def require_outside_dataset(out: Path) -> None:
    """Refuse to write what names a patient into a dataset, which names nobody.

    Raises:
        PreflightError: `out` lies in a dataset (BMD-DCM-002).
    """
    if (dataset := find_dataset_above(out)) is not None:
        raise PreflightError("BMD-DCM-002", f"it lies in the dataset {dataset.name}.", file=out)


def _is_dataset(folder: Path) -> bool:
    built = (folder / DESCRIPTION).is_file() and (folder / MANIFEST_CSV).is_file()
    return built or (folder / RUN_FILE).is_file()


def case_folder(root: Path, patient_id: str) -> Path:
    """Return the folder of one patient.

    Args:
        root: Folder of a dataset.
        patient_id: Identifier of the patient.

    Example:
        >>> case_folder(Path("out"), "p1").as_posix()
        'out/cases/p1'
    """
    return root / CASES / patient_id


def list_patients(root: Path) -> list[str]:
    """List the patients that have a folder, sorted."""
    folder = root / CASES
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def meta_file(root: Path, patient_id: str) -> Path:
    """Return the file that vouches for the files of one patient."""
    return case_folder(root, patient_id) / META


def calibration_file(case: Path) -> Path:
    """Return the calibration in the folder of a patient."""
    return case / "calibration.json"


def density_file(case: Path) -> Path:
    """Return the calibrated CT in the folder of a patient, mg/cm3."""
    return case / "density.nii.gz"


def labels_file(case: Path) -> Path:
    """Return the label map in the folder of a patient."""
    return case / "labels.nii.gz"


def uncertainty_files(case: Path) -> tuple[Path, Path]:
    """Return the map and the table of the network's uncertainty in the folder of a patient."""
    return case / "uncertainty.nii.gz", case / "uncertainty.json"


def landmarks_file(case: Path, side: Side) -> Path:
    """Return the landmarks of one hip in the folder of a patient."""
    return case / f"landmarks_{side}.mrk.json"


def proximal_femur_file(case: Path, side: Side) -> Path:
    """Return the mask of one proximal femur in the folder of a patient."""
    return case / f"proximal_femur_{side}.nii.gz"


def pictures_folder(case: Path) -> Path:
    """Return the folder of the pictures for the eye in the folder of a patient."""
    return case / "qc"


def registration_file(case: Path, radiograph: str) -> Path:
    """Return the registration of one radiograph in the folder of a patient."""
    return case / f"{_REGISTRATION}{radiograph}.json"


def overlay_file(case: Path, radiograph: str) -> Path:
    """Return the picture of a registration in the folder of a patient."""
    return pictures_folder(case) / f"overlay_{radiograph}.png"


def find_registrations(case: Path) -> dict[str, Path]:
    """Find the registrations in the folder of a patient: name of the radiograph -> file, sorted by name.

    Args:
        case: Folder of a patient; it need not exist.
    """
    files = sorted(case.glob(f"{_REGISTRATION}*.json"))
    return {file.stem.removeprefix(_REGISTRATION): file for file in files}


def find_sides(case: Path) -> set[str]:
    """Find the hips whose proximal femur lies in the folder of a patient."""
    return {file.name.split(".")[0][-1] for file in case.glob("proximal_femur_?.nii.gz")}


def pair_folder(dataset: DatasetName, pair_id: str) -> Path:
    """Return the folder of a pair, relative to the dataset.

    Example:
        >>> pair_folder("A", "p1__standing__L").as_posix()
        'dataset_a/p1__standing__L'
    """
    return Path(PAIR_FOLDERS[dataset]) / pair_id


def pair_image(folder: Path, name: str) -> Path:
    """Return one image in the folder of a pair: xray, drr or mask."""
    return folder / f"{name}.tif"


def layers_file(folder: Path) -> Path:
    """Return what the radiograph in the folder of a simulated pair was made of."""
    return folder / "layers.tif"


def pair_meta_file(folder: Path) -> Path:
    """Return the description in the folder of a pair."""
    return folder / META
