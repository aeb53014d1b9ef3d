"""Label maps with the structures of `anatomy.STRUCTURES`: files of one map, segmentations, or folders of masks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap
from bmdkit.errors import CaseError
from bmdkit.io.dicom_files import is_dicom
from bmdkit.io.label_names import assign_structures
from bmdkit.io.nifti import write_nifti
from bmdkit.io.results import write_json
from bmdkit.io.segment_files import read_dicom_segments, read_slicer_segments
from bmdkit.io.volumes import VOLUME_SUFFIXES, find_stem, find_suffix, read_array, turn_to_axial

LABEL_SUFFIXES = (*VOLUME_SUFFIXES, ".dcm")
_LARGEST_VALUE = 32767

_TOTALSEGMENTATOR_IDS = {  # class ids of the task "total", version 2, that stand for bones of ours
    25: "sacrum",
    26: "vertebrae_S1",
    **{27 + n: f"vertebrae_L{5 - n}" for n in range(5)},
    **{32 + n: f"vertebrae_T{12 - n}" for n in range(12)},
    75: "femur_left",
    76: "femur_right",
    77: "hip_left",
    78: "hip_right",
}


def read_labels(path: str | Path, *, case: str | None = None) -> LabelMap:
    """Read a label map with the four structures of `anatomy.STRUCTURES` under the values that bmdkit writes.

    Names come from, in this order: a side-car `NAME.json` ({name: value} or {value: name}); the segments of a
    `.seg.nrrd` of 3D Slicer or of a DICOM SEG; the names that TotalSegmentator keeps in the NIfTI header;
    TotalSegmentator's class ids (version 2), if any of its hips or femurs is there. A folder is read as one mask per
    structure, each file named as TotalSegmentator or bmdkit names it, or as the one DICOM SEG that it holds. Case,
    blanks and the place of the side in a name do not count; a name that is nearly right otherwise is refused.

    Args:
        path: File or folder.
        case: Identifier of the patient, for the message of an error.

    Raises:
        CaseError: It cannot be read, its values are not whole, or its structures cannot be named.

    Example:
        >>> read_labels("cohort/labels/sim000.nii.gz").present()
        ('pelvis', 'femur_L', 'femur_R', 'axial')
    """
    path = Path(path)
    try:
        array, grid = _read_folder(path, case) if path.is_dir() else _read_file(path, case)
    except CaseError as error:
        if error.code.startswith("BMD-MAP"):
            raise
        raise CaseError("BMD-MAP-001", f"{error.code}: {error.message}", case=case, file=path.name) from error
    array, grid = turn_to_axial(array, grid)
    return LabelMap(array, grid, LABEL_VALUES)


def write_labels(path: Path, labels: LabelMap) -> None:
    """Write the map as .nii.gz and its names beside it as NAME.json ({name: value})."""
    write_nifti(path, labels.array, labels.grid)
    write_json(Path(path).with_name(find_stem(path) + ".json"), labels.values)


def _read_folder(folder: Path, case: str | None) -> tuple[np.ndarray, Grid]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    dicom = [path for path in files if find_suffix(path) not in VOLUME_SUFFIXES and is_dicom(path)]
    if not dicom or len(dicom) < len([path for path in files if find_suffix(path) in VOLUME_SUFFIXES]):
        return _read_masks(folder, case)
    if len(dicom) > 1:
        message = f"{len(dicom)} DICOM files, expected one SEG."
        raise CaseError("BMD-MAP-001", message, case=case, file=folder.name)
    return read_dicom_segments(dicom[0], case=case)


def _read_file(path: Path, case: str | None) -> tuple[np.ndarray, Grid]:
    if find_suffix(path) == ".dcm" or (find_suffix(path) not in VOLUME_SUFFIXES and is_dicom(path)):
        return read_dicom_segments(path, case=case)
    side_car = _read_side_car(path, case)
    if side_car is None and find_suffix(path) in (".nrrd", ".nhdr"):
        segments = read_slicer_segments(path, case=case)
        if segments is not None:
            return segments
    values, grid, text = read_array(path, case=case)
    values = _require_whole_numbers(values, path, case)
    names = side_car or _read_header_names(text)
    if not names:
        if not np.isin((75, 76, 77, 78), values).any():
            raise CaseError("BMD-MAP-002", "nothing says which value is which structure.", case=case, file=path.name)
        names = _TOTALSEGMENTATOR_IDS
    structures = _assign(names, path, case)
    table = np.zeros(max(int(values.max()), max(names)) + 1, np.uint8)
    for value, structure in structures.items():
        table[value] = LABEL_VALUES[structure]
    return table[values], grid


def list_value_names(path: Path, text: bytes, case: str | None = None) -> dict[int, str]:
    """List the names that a label map's side-car, or its header, gives to its values.

    Args:
        path: The map.
        text: Its header, as `read_array` gives it.
        case: Identifier of the patient, for the message of an error.

    Raises:
        CaseError: Its side-car cannot be read.
    """
    return dict(_read_side_car(path, case) or _read_header_names(text) or {})


def _assign(names: Mapping[int, str], path: Path, case: str | None) -> dict[int, str]:
    try:
        structures = assign_structures({value: [name] for value, name in names.items()})
    except ValueError as error:
        raise CaseError("BMD-MAP-002", f"{error}", case=case, file=path.name) from error
    if not structures:
        raise CaseError("BMD-MAP-002", f"no bone of ours among {sorted(names.values())}.", case=case, file=path.name)
    return structures


def _require_whole_numbers(values: np.ndarray, path: Path, case: str | None) -> np.ndarray:
    whole = values if values.dtype.kind in "iu" else np.rint(values)
    off = 0.0 if whole is values else float(np.abs(whole - values).max())
    if values.min() < 0 or values.max() > _LARGEST_VALUE or off > 1e-3:
        raise CaseError("BMD-MAP-001", "values that are no whole numbers >= 0.", case=case, file=path.name)
    return whole.astype(np.int16, copy=False)


def _read_side_car(path: Path, case: str | None) -> dict[int, str] | None:
    """Value -> name, of the file of names beside a map; None if there is none."""
    beside = path.with_name(find_stem(path) + ".json")
    if not beside.exists():
        return None
    try:
        data = json.loads(beside.read_text(encoding="utf-8-sig"), object_pairs_hook=_refuse_doubles)
        data = data["labels"] if isinstance(data.get("labels"), Mapping) else data
        names: dict[int, str] = {}
        for key, entry in data.items():
            value, name = _value_and_name(key, entry)
            if value in names and value != 0:
                raise ValueError(f"value {value} is given to {names[value]!r} and to {name!r}")
            names[value] = name
        if not names:
            raise ValueError("expected {name: value}")
        return names
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CaseError("BMD-MAP-003", f"not readable ({error}).", case=case, file=beside.name) from error


def _value_and_name(key: str, entry: object) -> tuple[int, str]:
    """One entry of a side-car, whichever way round it is.

    Raises:
        ValueError: It is neither {name: value} nor {value: name} of a whole number.
    """
    if isinstance(entry, str):
        text, name = (key, entry) if _as_value(key) is not None else (entry, key)
        value = _as_value(text)
    else:
        value, name = (None if isinstance(entry, bool) else _as_value(entry)), key
    if value is None:
        raise ValueError(f"{key!r}: {entry!r}, expected {{name: value}} with a whole number 0 to {_LARGEST_VALUE}")
    return value, name


def _as_value(given: object) -> int | None:
    """A label's value; also where it was written as 4.0 or as "4"."""
    if not isinstance(given, (int, float, str)):
        return None
    try:
        number = float(given)
    except ValueError:
        return None
    return int(number) if number.is_integer() and 0 <= number <= _LARGEST_VALUE else None


def _refuse_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return found


def _read_header_names(text: bytes) -> dict[int, str] | None:
    """Value -> name, as TotalSegmentator writes them into the header of NIfTI."""
    pattern = rb'<Label[^>]*\bKey="(\d+)"[^>]*>\s*(?:<!\[CDATA\[)?\s*([^<\]]+)'
    found = {int(key): name.decode("utf-8", "replace").strip() for key, name in re.findall(pattern, text[: 1 << 20])}
    return {key: name for key, name in found.items() if 0 < key <= _LARGEST_VALUE} or None


def _read_masks(folder: Path, case: str | None) -> tuple[np.ndarray, Grid]:
    files = [path for path in sorted(folder.iterdir()) if find_suffix(path) in VOLUME_SUFFIXES]
    try:
        structures = assign_structures({number: [find_stem(path)] for number, path in enumerate(files)})
    except ValueError as error:
        raise CaseError("BMD-MAP-002", f"{error}", case=case, file=folder.name) from error
    merged: np.ndarray | None = None
    grid: Grid | None = None
    for number, structure in structures.items():
        values, here, _ = read_array(files[number], case=case)
        if merged is None or grid is None:
            merged, grid = np.zeros(values.shape, np.uint8), here
        if not here.is_near(grid):
            message = "the masks do not lie on one grid."
            raise CaseError("BMD-MAP-001", message, case=case, file=files[number].name)
        merged[values > 0.5] = LABEL_VALUES[structure]
    if merged is None or grid is None:
        raise CaseError("BMD-MAP-002", "no mask named as a bone of ours.", case=case, file=folder.name)
    return merged, grid
