"""Labels as the later stages need them: sides by position, one piece per bone, on this very CT."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.core.anatomy import LABEL_VALUES, SIDES
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume, bounding_box
from bmdkit.errors import CaseError
from bmdkit.segmentation.edge_agreement import measure_edge_agreement

_LOG = logging.getLogger(__name__)
_FEMURS = tuple(f"femur_{side}" for side in SIDES)
_MOST_VERTEBRAE = 24  # pieces of the axial skeleton: vertebrae may not touch each other
_STRAY, _TOUCHING, _REJOINED = 1 / 3, 0.1, 3  # see `rejoin_pieces`; rounds at most, as pieces may lie against pieces

_CLEAR_AGREEMENT = 0.75
"""An outline that agrees so well is not compared with its mirror image."""
_MIRRORED_BETTER = 0.1
"""A map whose mirror image agrees better by more than this is mirrored: patients are nearly symmetric."""


@dataclass(frozen=True)
class LabelConfig:
    """What labels have to satisfy.

    Attributes:
        required: Structures that must be there.
        least_volume_ml: A part smaller than this is no bone.
        least_overlap: Share of the labels' voxels that must lie within the CT.
        least_bone_hu: The 90th percentile of HU under the labels must reach this: else they lie beside the bones.
        least_edge_agreement: Least agreement of the labels' outline with the edges of the CT's bones, 0 to 1, of
            `measure_edge_agreement`: below it the labels are another patient's, shifted or mirrored.
    """

    required: tuple[str, ...] = ("pelvis",)
    least_volume_ml: float = 5.0
    least_overlap: float = 0.9
    least_bone_hu: float = 120.0
    least_edge_agreement: float = 0.4


def prepare_labels(labels: LabelMap, ct: Volume | None = None, config: LabelConfig | None = None) -> LabelMap:
    """Make labels fit for use: femurs sided by their place in LPS, the largest piece of each bone, the usual values.

    Femurs whose names are swapped, or that share one label, are told apart by position; the pelvis may have two pieces.

    Args:
        labels: On any grid; its own grid is kept.
        ct: CT in HU, to check that the labels lie on its bones.
        config: What is asked.

    Returns:
        A label map with the values of `anatomy.LABEL_VALUES`.

    Raises:
        CaseError: BMD-LBL-001, nothing of ours in the map; 002, a required structure is empty; 003, the labels do not
            lie on the CT's bones; 004, the femurs cannot be told apart.
    """
    config = LabelConfig() if config is None else config
    known = [name for name in labels.values if name in LABEL_VALUES]
    if not labels.mask(*known).any():
        named = ", ".join(labels.values) or "nothing"
        raise CaseError("BMD-LBL-001", f"the map names {named}, and holds no voxel of ours.")
    least = config.least_volume_ml * 1000 / labels.grid.voxel_volume_mm3
    array = np.zeros(labels.grid.shape, np.uint8)
    array[_pieces(labels.mask("axial"), least, most=_MOST_VERTEBRAE)] = LABEL_VALUES["axial"]
    array[_pieces(labels.mask("pelvis"), least, most=2, share=0.1)] = LABEL_VALUES["pelvis"]
    for name, box, piece in _sided_femurs(labels, least):
        array[box][piece] = LABEL_VALUES[name]
    sorted_labels = LabelMap(array, labels.grid, LABEL_VALUES)
    present = sorted_labels.present()
    wanted = [name for name in config.required if name not in present]
    if wanted or not set(_FEMURS) & set(present):
        empty = ", ".join(wanted) or "femur_L and femur_R"
        raise CaseError("BMD-LBL-002", f"{empty} below {config.least_volume_ml:g} ml.")
    if ct is not None:
        check_on_ct(sorted_labels, ct, config)
    return sorted_labels


def rejoin_pieces(labels: LabelMap) -> LabelMap:
    """Give stray pieces of one bone to the bone that they lie against: a network that sees slices mistakes parts.

    A piece is stray if it is smaller than a third of its bone's largest piece (of the second largest, for the femurs)
    and touches another bone along a tenth of its border. A mistaken part that hangs together with its bone stays.

    Args:
        labels: Not sided yet: both femurs may share one value.

    Returns:
        A new map on the same grid.
    """
    array = labels.array.copy()
    groups = [[labels.values[n] for n in names if n in labels.values] for names in (("pelvis",), ("axial",), _FEMURS)]
    for _ in range(_REJOINED):
        moved = 0
        for own, whole in zip(groups, (1, 1, 2), strict=True):
            parts, count = ndimage.label(np.isin(array, own))
            if count <= whole:
                continue
            sizes = np.bincount(parts.ravel())
            limit = _STRAY * np.sort(sizes[1:])[-whole]
            for number, box in enumerate(ndimage.find_objects(parts), start=1):
                if sizes[number] >= limit:
                    continue
                wide = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
                piece = parts[wide] == number
                neighbour = _neighbour(array[wide], piece, own)
                if neighbour:
                    array[wide][piece] = neighbour
                    moved += 1
        if not moved:
            break
    return LabelMap(array, labels.grid, labels.values)


def _neighbour(array: np.ndarray, piece: np.ndarray, own: list[int]) -> int:
    """The value of the other bone that a piece touches most, if along enough of its border; else 0."""
    around = array[ndimage.binary_dilation(piece) & ~piece]
    others = np.bincount(around[(around > 0) & ~np.isin(around, own)], minlength=1)
    return int(others.argmax()) if others.max() > _TOUCHING * around.size else 0


def check_on_ct(labels: LabelMap, ct: Volume, config: LabelConfig | None = None) -> None:
    """Check that labels lie within a CT, on bone, and that their outline is that of its bones.

    Raises:
        CaseError: BMD-LBL-003.
    """
    config = LabelConfig() if config is None else config
    drawn = np.flatnonzero(labels.array)
    inside = np.stack(np.unravel_index(drawn[:: max(len(drawn) // 200_000, 1)], labels.array.shape), axis=1)
    index = np.rint(ct.grid.indices(labels.grid.points(inside))).astype(int)
    within = ((index >= 0) & (index < ct.grid.shape)).all(axis=1)
    share, needed = 100 * within.mean(), 100 * config.least_overlap
    if share < needed:
        raise CaseError("BMD-LBL-003", f"{share:.0f} % of the labels lie in the CT, needed {needed:.0f} %.")
    values = ct.require("hu").array[tuple(index[within].T)]
    high = float(np.percentile(values, 90))
    if high < config.least_bone_hu:
        raise CaseError(
            "BMD-LBL-003", f"90th percentile under the labels {high:.0f} HU, needed {config.least_bone_hu:.0f} HU."
        )
    _check_edges(labels, ct, config.least_edge_agreement)


def _check_edges(labels: LabelMap, ct: Volume, least: float) -> None:
    agreement = measure_edge_agreement(labels, ct)
    if agreement is None or agreement >= max(least, _CLEAR_AGREEMENT):
        return
    mirrored = LabelMap(np.flip(labels.array, _left_right_axis(labels.grid)), labels.grid, labels.values)
    other = measure_edge_agreement(mirrored, ct) or 0.0
    is_mirrored = other > agreement + _MIRRORED_BETTER
    if agreement >= least and not is_mirrored:
        return
    found = f"the labels' outline agrees with the bones' edges by {agreement:.2f}, needed {least:.2f}"
    hint = f"; mirrored left to right they would agree by {other:.2f}" if is_mirrored else ""
    raise CaseError("BMD-LBL-003", f"{found}{hint}.")


def _left_right_axis(grid: Grid) -> int:
    """The axis of an array [slice, row, column] that runs most nearly from left to right."""
    return 2 - int(np.argmax(np.abs(grid.direction[0])))


def _sided_femurs(labels: LabelMap, least: float) -> list[tuple[str, tuple[slice, slice, slice], np.ndarray]]:
    """(name, box, mask within it) of one or two femurs, named by their side."""
    femurs = labels.mask(*_FEMURS)
    if not femurs.any():
        return []
    box = bounding_box(femurs)
    grid = labels.grid.crop(box)
    by_name = {name: _pieces(labels.mask(name)[box], least) for name in _FEMURS}
    found = {name: _centre(mask, grid) for name, mask in by_name.items() if mask.any()}
    if len(found) == 2 and abs(found["femur_L"][0] - found["femur_R"][0]) > _apart_mm(by_name, grid):
        if found["femur_L"][0] > found["femur_R"][0]:
            return [(name, box, mask) for name, mask in by_name.items()]
        _LOG.warning("the femurs' labels were swapped; sides are taken from LPS")
        return [("femur_L", box, by_name["femur_R"]), ("femur_R", box, by_name["femur_L"])]
    parts, count = ndimage.label(femurs[box])
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    large = [n + 1 for n in np.argsort(-sizes, kind="stable")[:2] if sizes[n] >= least]
    if not large:
        return []
    if len(large) == 2 and sizes[large[1] - 1] < 0.1 * sizes[large[0] - 1]:
        large = large[:1]
    pieces = [parts == n for n in large]
    if len(pieces) == 2:
        pieces.sort(key=lambda piece: _centre(piece, grid)[0])
        left, right = _centre(pieces[1], grid)[0], _centre(pieces[0], grid)[0]
        if left - right < 50:
            raise CaseError("BMD-LBL-004", f"the two largest pieces lie {left - right:.0f} mm apart, needed 50 mm.")
        if len(found) < 2 and len({name for name in _FEMURS if labels.mask(name).any()}) < 2:
            _LOG.warning("one label held both femurs; sides are taken from LPS")
        return [("femur_R", box, pieces[0]), ("femur_L", box, pieces[1])]
    return [(_side_of(pieces[0], grid, labels, found), box, pieces[0])]


def _side_of(piece: np.ndarray, grid: Grid, labels: LabelMap, found: dict[str, np.ndarray]) -> str:
    """The name of a lone femur: by its place beside the pelvis, else by its own label."""
    x = _centre(piece, grid)[0]
    pelvis = labels.mask("pelvis", "axial")
    if pelvis.any():
        middle = _centre(pelvis, labels.grid)[0]
        if abs(x - middle) > 30:
            return "femur_L" if x > middle else "femur_R"
    if len(found) == 1:
        return next(iter(found))
    raise CaseError("BMD-LBL-004", f"one piece of femur {x:.0f} mm from the middle, and no pelvis to tell its side.")


def _apart_mm(masks: dict[str, np.ndarray], grid: Grid) -> float:
    """Least distance of two femurs: half of what either is wide."""
    widths = []
    for mask in masks.values():
        corners = grid.crop(bounding_box(mask)).corners()
        widths.append(np.ptp(corners[:, 0]))
    return 0.5 * min(widths)


def _pieces(mask: np.ndarray, least: float, *, most: int = 1, share: float = 0.0) -> np.ndarray:
    """The `most` largest connected pieces that have `least` voxels and a share of the largest one's."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return np.zeros(mask.shape, bool)
    sizes = np.bincount(parts.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")[:most]
    return np.isin(parts, [n + 1 for n in order if sizes[n] >= max(least, share * sizes.max())])


def _centre(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """(3,), LPS of a mask's middle, mm."""
    sums = [mask.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    middle = [float((s * np.arange(s.size)).sum() / s.sum()) for s in sums]
    return grid.points(np.array(middle))
