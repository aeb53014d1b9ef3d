"""Segmentations that name their segments themselves: `.seg.nrrd` of 3D Slicer and DICOM SEG."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.grid import Grid
from bmdkit.errors import CaseError
from bmdkit.io.label_names import assign_structures
from bmdkit.io.volumes import read_layers

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer|Tags)")
_TERMINOLOGY = re.compile(r"TerminologyEntry:(.*)")
_INSIDE = 0.5  # of a fractional segmentation

logging.getLogger("highdicom").setLevel(logging.ERROR)


def read_slicer_segments(path: Path, *, case: str | None = None) -> tuple[np.ndarray, Grid] | None:
    """Read the segments of a NRRD file that the Segment Editor of 3D Slicer wrote.

    Overlapping segments lie in several layers; where two of ours overlap, the later one is taken.

    Args:
        path: NRRD file.
        case: Identifier of the patient, for the message of an error.

    Returns:
        Our values [slice, row, column], uint8, and where the voxels lie; None if its header names no segment.

    Raises:
        CaseError: It cannot be read, or its segments cannot be named (BMD-MAP-002).
    """
    layers, grid, header = read_layers(path, case=case)
    segments = _list_segments(header, len(layers))
    if not segments:
        return None
    structures = _assign({number: names for number, (names, _, _) in segments.items()}, path, case)
    array = np.zeros(grid.shape, np.uint8)
    for number, structure in structures.items():
        _, layer, value = segments[number]
        if not 0 <= layer < len(layers):
            raise CaseError(
                "BMD-MAP-001", f"segment {number} lies in layer {layer} of {len(layers)}.", case=case, file=path.name
            )
        array[layers[layer] == value] = LABEL_VALUES[structure]
    return array, grid


def read_dicom_segments(path: Path, *, case: str | None = None) -> tuple[np.ndarray, Grid]:
    """Read the segments of a DICOM Segmentation object.

    Args:
        path: File of DICOM.
        case: Identifier of the patient, for the message of an error.

    Returns:
        Our values [slice, row, column], uint8, and where the voxels lie.

    Raises:
        CaseError: It is no segmentation of regular slices (BMD-MAP-001), or its segments cannot be named (BMD-MAP-002).
    """
    import highdicom

    try:
        segmentation = highdicom.seg.segread(path)
        names = {number: _names_of(segmentation.get_segment_description(number)) for number in _numbers(segmentation)}
    except MemoryError:
        raise
    except Exception as error:  # any defect of the file ends here
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise CaseError("BMD-MAP-001", f"not readable as DICOM SEG ({reason}).", case=case, file=path.name) from error
    structures = _assign(names, path, case)
    array, grid = None, None
    for number, structure in structures.items():
        mask, grid = _read_dicom_segment(segmentation, number, path, case)
        array = np.zeros(mask.shape, np.uint8) if array is None else array
        array[mask] = LABEL_VALUES[structure]
    if array is None or grid is None:
        raise CaseError("BMD-MAP-002", _nothing_of_ours(names), case=case, file=path.name)
    return array, grid


def _list_segments(header: Mapping[str, str], layers: int) -> dict[int, tuple[list[str], int, int]]:
    """Number -> names, layer and value. Files from before 2020 have one layer a segment, its value 1."""
    found: dict[int, dict[str, str]] = {}
    for key, text in header.items():
        if match := _SEGMENT.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = text.strip()
    segments = {}
    for number in sorted(found):
        tags = found[number]
        try:
            layer = int(tags.get("Layer", number if layers > 1 else 0))
            value = int(tags.get("LabelValue", 1 if layers > 1 else number + 1))
        except ValueError:
            continue
        names = [tags["Name"]] if tags.get("Name") else []
        if match := _TERMINOLOGY.search(tags.get("Tags", "")):
            names.append(_name_in_terminology(match[1]))
        segments[number] = (names, layer, value)
    return segments


def _name_in_terminology(entry: str) -> str:
    """The words for type and side in an entry of 3D Slicer's terminology: context~category~type~modifier~..."""
    parts = entry.partition("|")[0].split("~")[2:4]
    return " ".join(part.split("^")[2] for part in parts if part.count("^") >= 2)


def _numbers(segmentation: Segmentation) -> list[int]:
    return [int(number) for number in segmentation.segment_numbers]


def _names_of(description: SegmentDescription) -> list[str]:
    """The label of a segment, and the meaning of its type with its side."""
    names = [str(description.segment_label)]
    kind = description.get("SegmentedPropertyTypeCodeSequence")
    if kind:
        modifier = kind[0].get("SegmentedPropertyTypeModifierCodeSequence") or []
        names.append(" ".join(str(item.CodeMeaning) for item in [kind[0], *modifier]))
    return names


def _read_dicom_segment(
    segmentation: Segmentation, number: int, path: Path, case: str | None
) -> tuple[np.ndarray, Grid]:
    """Where one segment is, bool [slice, row, column], and where the voxels lie."""
    try:
        volume = segmentation.get_volume(segment_numbers=[number])
        mask = np.asarray(volume.array)[..., 0] >= _INSIDE
        affine = np.asarray(volume.affine, float)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        # its columns are steps along the axes of the array, slice first; a grid's are i, j, k
        direction = (affine[:3, :3] / spacing)[:, ::-1]
        return mask, Grid(mask.shape, spacing[::-1], affine[:3, 3], direction)
    except MemoryError:
        raise
    except Exception as error:  # any defect of its frames ends here
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise CaseError("BMD-MAP-001", f"no volume of regular slices ({reason}).", case=case, file=path.name) from error


def _assign(names: Mapping[int, list[str]], path: Path, case: str | None) -> dict[int, str]:
    try:
        structures = assign_structures(names)
    except ValueError as error:
        raise CaseError("BMD-MAP-002", f"{error}", case=case, file=path.name) from error
    if not structures:
        raise CaseError("BMD-MAP-002", _nothing_of_ours(names), case=case, file=path.name)
    return structures


def _nothing_of_ours(names: Mapping[int, list[str]]) -> str:
    return f"no bone of ours among {sorted(given[0] for given in names.values() if given)}."
