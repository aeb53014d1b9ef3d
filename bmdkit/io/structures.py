"""Any structures of a label map, by the names that the map itself gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap
from bmdkit.errors import CaseError
from bmdkit.io.label_maps import list_value_names
from bmdkit.io.volumes import VOLUME_SUFFIXES, find_stem, find_suffix, read_array, turn_to_axial


def read_structures(path: Path, wanted: Sequence[str], *, case: str | None = None) -> LabelMap:
    """Read some structures of a label map, whatever they are.

    Args:
        path: Label map, named by its side-car `NAME.json`, by the names that TotalSegmentator keeps in the header, or
            by nothing (then structures are asked for by their values); or a folder with one mask `NAME.nii.gz` each.
        wanted: Names as the map has them, in any case, or values.
        case: Identifier of the patient, for the message of an error.

    Returns:
        The structures under the values 1, 2, ... in the order in which they are wanted.

    Raises:
        CaseError: The map cannot be read, or does not hold one of them (BMD-MAP-002).
    """
    path = Path(path)
    masks, grid = (_read_masks if path.is_dir() else _read_map)(path, wanted, case)
    array = np.zeros(grid.shape, np.uint8)
    for value, name in enumerate(wanted, start=1):
        if not masks[name].any():
            raise CaseError("BMD-MAP-002", f"{name} is empty.", case=case, file=path.name)
        array[masks[name]] = value
    array, grid = turn_to_axial(array, grid)
    return LabelMap(array, grid, {name: value for value, name in enumerate(wanted, start=1)})


def _read_map(path: Path, wanted: Sequence[str], case: str | None) -> tuple[dict[str, np.ndarray], Grid]:
    values, grid, text = read_array(path, case=case)
    known = {name.lower(): value for value, name in list_value_names(path, text, case).items()}
    found = {}
    for name in wanted:
        value = int(name) if name.isdecimal() else known.get(name.lower())
        if value is None:
            raise CaseError("BMD-MAP-002", _describe_missing(name, known), case=case, file=path.name)
        found[name] = values == value
    return found, grid


def _read_masks(folder: Path, wanted: Sequence[str], case: str | None) -> tuple[dict[str, np.ndarray], Grid]:
    files = {find_stem(p).lower(): p for p in sorted(folder.iterdir()) if find_suffix(p) in VOLUME_SUFFIXES}
    found: dict[str, np.ndarray] = {}
    grid: Grid | None = None
    for name in wanted:
        file = files.get(name.lower())
        if file is None:
            raise CaseError("BMD-MAP-002", _describe_missing(name, files), case=case, file=folder.name)
        values, here, _ = read_array(file, case=case)
        grid = here if grid is None else grid
        if not here.is_near(grid):
            raise CaseError("BMD-MAP-001", "the masks do not lie on one grid.", case=case, file=file.name)
        found[name] = values > 0.5
    if grid is None:
        raise CaseError("BMD-MAP-002", "no structure is asked for.", case=case, file=folder.name)
    return found, grid


def _describe_missing(name: str, known: Mapping[str, object]) -> str:
    there = ", ".join(sorted(known)) or "no names; ask for a value"
    return f"no structure {name!r}; the map has {there}."
