"""The geometry gate of a CT series: its slices have to be one regular, straight stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmdkit.errors import CaseError
from bmdkit.io.dicom_header import DicomHeader, Pair

MIN_SLICES = 3
ORTHONORMAL_TOLERANCE = 1e-3
TILT_LIMIT_DEG = 0.1
SAME_POSITION_MM = 0.01
STRAIGHT_LIMIT_MM = 0.1
_LISTED = 6

Refuse = Callable[[str, str, Sequence[Path]], CaseError]
"""Makes the error of a code and a message that names the files at fault."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice that passed the checks of its own header.

    Attributes:
        path: Its file.
        header: What its header says.
        position_mm: (3,), LPS of the centre of its first pixel.
        orientation: (6,), direction of rows' and columns' indices.
        spacing_mm: Between rows, between columns (DICOM's order).
        slope, intercept: HU = slope * stored + intercept.
    """

    path: Path
    header: DicomHeader
    position_mm: np.ndarray
    orientation: np.ndarray
    spacing_mm: Pair
    slope: float
    intercept: float


@dataclass(frozen=True)
class SliceStack:
    """Slices in ascending order of position along their normal.

    Attributes:
        slices: May hold several of one position (see `twins`).
        twins: Index pairs of neighbours in `slices` that lie at one position.
        distance_mm: (n,), of each slice along the normal.
        tilt_deg: Angle between the normal and the line of positions.
    """

    slices: tuple[Slice, ...]
    twins: tuple[tuple[int, int], ...]
    distance_mm: np.ndarray
    tilt_deg: float


def stack_slices(slices: Sequence[Slice], refuse: Refuse) -> SliceStack:
    """Order slices by their positions on the slice normal and make sure that they are a regular stack.

    Raises:
        CaseError: Orientations differ or are not orthonormal; slices are missing (the gaps are listed), unevenly
            spaced, or beside the line of the others.
    """
    axes = _common_axes(slices, refuse)
    normal = np.cross(*axes) / np.linalg.norm(np.cross(*axes))
    positions = np.array([s.position_mm for s in slices])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    slices, positions, along = [slices[int(i)] for i in order], positions[order], along[order]
    twins = tuple((i - 1, i) for i in range(1, len(slices)) if along[i] - along[i - 1] < SAME_POSITION_MM)
    second = {pair[1] for pair in twins}
    single = [i for i in range(len(slices)) if i not in second]
    if len(single) < MIN_SLICES:
        raise refuse("BMD-CT-004", f"{len(single)} positions, at least {MIN_SLICES} are needed.", ())
    paths = [slices[i].path for i in single]
    _check_spacing(paths, along[single], refuse)
    tilt = _tilt_deg(paths, positions[single], along[single], normal, refuse)
    for first, other in twins:
        if np.abs(positions[first] - positions[other]).max() > SAME_POSITION_MM:
            raise refuse("BMD-CT-013", "slices at one level are shifted.", [slices[first].path, slices[other].path])
    return SliceStack(tuple(slices), twins, along, tilt)


def _common_axes(slices: Sequence[Slice], refuse: Refuse) -> np.ndarray:
    """(2, 3), the directions of columns' and rows' indices that all slices share."""
    orientations = np.array([s.orientation for s in slices])
    middle = np.median(orientations, axis=0)
    turned = np.flatnonzero(np.abs(orientations - middle).max(axis=1) > ORTHONORMAL_TOLERANCE)
    if turned.size:
        raise refuse(
            "BMD-CT-006", f"{turned.size} slices are oriented otherwise.", [slices[int(i)].path for i in turned]
        )
    axes = middle.reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > ORTHONORMAL_TOLERANCE:
        raise refuse("BMD-CT-008", f"row and column directions {axes.round(4).tolist()}.", ())
    return axes


def _check_spacing(paths: list[Path], along: np.ndarray, refuse: Refuse) -> None:
    steps = np.diff(along)
    usual = float(np.median(steps))
    allowed = max(0.01 * usual, 0.01)
    off = np.flatnonzero(np.abs(steps - usual) > allowed)
    if off.size == 0:
        return
    times = np.rint(steps[off] / usual)
    missing = times - 1
    gaps = (missing >= 1) & (np.abs(steps[off] - times * usual) <= allowed * np.maximum(times, 1))
    where = [(paths[i].name, paths[i + 1].name, along[i], along[i + 1]) for i in off[:_LISTED]]
    listed = "; ".join(f"between {a} ({x:.2f} mm) and {b} ({y:.2f} mm)" for a, b, x, y in where)
    listed += f" and {off.size - _LISTED} more" if off.size > _LISTED else ""
    if gaps.all():
        raise refuse("BMD-CT-011", f"{int(missing.sum())} missing at a spacing of {usual:.3f} mm: {listed}.", ())
    measured = f"from {steps.min():.3f} to {steps.max():.3f} mm, allowed {usual:.3f} +- {allowed:.3f} mm"
    raise refuse("BMD-CT-012", f"{measured}: {listed}.", ())


def _tilt_deg(paths: list[Path], positions: np.ndarray, along: np.ndarray, normal: np.ndarray, refuse: Refuse) -> float:
    """Angle between the normal and the straight line through all positions."""
    middle = along - along.mean()
    offset, slope = np.polynomial.polynomial.polyfit(middle, positions, 1)
    apart = np.linalg.norm(positions - offset - middle[:, None] * slope, axis=1)
    if apart.max() > STRAIGHT_LIMIT_MM:
        message = f"slices up to {apart.max():.2f} mm beside the line of the others, allowed {STRAIGHT_LIMIT_MM} mm."
        raise refuse("BMD-CT-013", message, [paths[int(apart.argmax())]])
    step = slope / np.linalg.norm(slope)
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
