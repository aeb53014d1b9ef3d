"""Label maps with the structures of `anatomy.STRUCTURES`: volumes with names beside or inside, or folders of masks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import LABEL_VALUES, structure_of
from bmdkit.core.volume import Grid, LabelMap
from bmdkit.errors import CaseError
from bmdkit.io.nifti import write_nifti
from bmdkit.io.results import write_json
from bmdkit.io.volumes import VOLUME_SUFFIXES, axial, read_array, stem_of, suffix_of

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
    """A label map with the four structures of `anatomy.STRUCTURES` under the values that bmdkit writes.

    Names come from, in this order: a side-car `NAME.json` ({name: value} or {value: name}); the names that
    TotalSegmentator keeps in the NIfTI header; TotalSegmentator's class ids (version 2), if any of its hips or femurs
    is there. A folder is read as one mask per structure, each file named as TotalSegmentator or bmdkit names it.

    Raises:
        CaseError: It cannot be read, its values are not whole, or its structures cannot be named.
    """
    path = Path(path)
    try:
        if path.is_dir():
            array, grid = _read_masks(path, case)
        else:
            array, grid = _read_multilabel(path, case)
    except CaseError as error:
        if error.code.startswith("BMD-MAP"):
            raise
        raise CaseError("BMD-MAP-001", f"{error.code}: {error.message}", case=case, file=path.name) from error
    array, grid = axial(array, grid)
    return LabelMap(array, grid, LABEL_VALUES)


def write_labels(path: Path, labels: LabelMap) -> None:
    """Write the map as .nii.gz and its names beside it as NAME.json ({name: value})."""
    write_nifti(path, labels.array, labels.grid)
    write_json(Path(path).with_name(stem_of(path) + ".json"), labels.values)


def _read_multilabel(path: Path, case: str | None) -> tuple[np.ndarray, Grid]:
    values, grid, text = read_array(path, case=case)
    values = _whole_numbers(values, path, case)
    names = _side_car_names(path, case) or _header_names(text)
    if not names:
        if not np.isin((75, 76, 77, 78), values).any():
            raise CaseError("BMD-MAP-002", "nothing says which value is which structure.", case=case, file=path.name)
        names = _TOTALSEGMENTATOR_IDS
    table = np.zeros(max(int(values.max()), max(names)) + 1, np.uint8)
    for value, name in names.items():
        if structure := structure_of(name):
            table[value] = LABEL_VALUES[structure]
    if not table.any():
        raise CaseError("BMD-MAP-002", f"no bone of ours among {sorted(names.values())}.", case=case, file=path.name)
    return table[values], grid


def _whole_numbers(values: np.ndarray, path: Path, case: str | None) -> np.ndarray:
    whole = values if values.dtype.kind in "iu" else np.rint(values)
    if values.min() < 0 or values.max() > 32767 or (whole is not values and np.abs(whole - values).max() > 1e-3):
        raise CaseError("BMD-MAP-001", "values that are no whole numbers >= 0.", case=case, file=path.name)
    return whole.astype(np.int16, copy=False)


def _side_car_names(path: Path, case: str | None) -> dict[int, str] | None:
    beside = path.with_name(stem_of(path) + ".json")
    if not beside.exists():
        return None
    try:
        data = json.loads(beside.read_text(encoding="utf-8-sig"))
        data = data["labels"] if isinstance(data.get("labels"), Mapping) else data
        names: dict[int, str] = {}
        for key, value in data.items():
            if isinstance(value, str):
                names[int(key)] = value
            elif isinstance(value, int) and not isinstance(value, bool):
                names[value] = key
        if not names or not all(0 <= value <= 32767 for value in names):
            raise ValueError("expected {name: value}")
        return names
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CaseError("BMD-MAP-003", f"not readable ({error}).", case=case, file=beside.name) from error


def _header_names(text: bytes) -> dict[int, str] | None:
    pattern = rb'<Label[^>]*\bKey="(\d+)"[^>]*>\s*(?:<!\[CDATA\[)?\s*([A-Za-z0-9_]+)'
    found = {int(key): name.decode() for key, name in re.findall(pattern, text[: 1 << 20])}
    return {key: name for key, name in found.items() if 0 < key <= 32767} or None


def _read_masks(folder: Path, case: str | None) -> tuple[np.ndarray, Grid]:
    merged, grid = None, None
    for path in sorted(p for p in folder.iterdir() if suffix_of(p) in VOLUME_SUFFIXES):
        structure = structure_of(stem_of(path))
        if structure is None:
            continue
        values, here, _ = read_array(path, case=case)
        if merged is None:
            merged, grid = np.zeros(values.shape, np.uint8), here
        if not here.is_near(grid):
            raise CaseError("BMD-MAP-001", "the masks do not lie on one grid.", case=case, file=path.name)
        merged[values > 0.5] = LABEL_VALUES[structure]
    if merged is None:
        raise CaseError("BMD-MAP-002", "no mask named as a bone of ours.", case=case, file=folder.name)
    return merged, grid
