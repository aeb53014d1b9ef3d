"""Anatomy from a label map of a real patient, deformed at random."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from bmdkit.core.anatomy import SIDES, STRUCTURES, Side
from bmdkit.core.grid import Grid
from bmdkit.core.volume import bounding_box, keep_largest_component
from bmdkit.errors import CaseError, PreflightError
from bmdkit.io.label_maps import read_labels
from bmdkit.io.volumes import VOLUME_SUFFIXES, find_stem, read_array, turn_to_axial
from bmdkit.regions.head import FemoralHead
from bmdkit.simulation.hip_variation import draw_more_girth
from bmdkit.simulation.noise import draw_smooth_noise
from bmdkit.simulation.population import Sex
from bmdkit.simulation.procedural_anatomy import Anatomy
from bmdkit.simulation.solids import REACH_MM
from bmdkit.simulation.true_landmarks import Inside, find_true_head, interpolate_depth, place_landmarks

logger = logging.getLogger(__name__)

NAMES = ("pelvis", "femur", "femur_L", "femur_R", "sacrum", "spine", "axial", "muscle", "body")
"""What a value of a map may be called."""

PELVIC_ANNOTATION = {"pelvis": [1], "femur": [2], "sacrum": [3], "spine": [4], "muscle": list(range(5, 29))}
"""Values of the public annotations of the TCIA Pelvic Reference Data, taken for a map that nothing names."""

_HELD_MM = (34.0, 64.0)  # from a head's centre: held as one piece within the first, free beyond the second
_SIZES: Mapping[Sex | None, float] = {None: 1.0, "female": 0.96, "male": 1.04}
_CARRYING_STEPS = 20  # the displacements change slowly in space: each step takes away most of what is left
_CARRIED_WITHIN_MM = 5.0  # how far from where it is carried to a lesser trochanter is looked for
_SKIN_MM = 4.0  # what lies at least over a bone
_BODY_REACH_MM = 60.0
_BODY_BEYOND_BONE_MM = 45.0


@dataclass(frozen=True, eq=False)
class Shapes:
    """The depth of each structure of a label map, before a patient is drawn from it.

    Attributes:
        depths: Depths as in an anatomy, float32, on the map's own voxels turned to LPS.
        grid: Grid on which they lie.
        target: Axis-aligned grid of cubic voxels over the same extent.
        heads_mm: Centres of the femoral heads, LPS.
        lesser_mm: Lesser trochanters, LPS.
    """

    depths: Mapping[str, np.ndarray]
    grid: Grid
    target: Grid
    heads_mm: Mapping[Side, np.ndarray]
    lesser_mm: Mapping[Side, np.ndarray]


def read_shapes(path: Path, names: Sequence[str] = (), grid_mm: float = 1.5, room_mm: float = 0.0) -> Shapes:
    """Read a label map as anatomy.

    Names come from `names` ("femur=2", "muscle=5-28"), else from the map itself as in a cohort's `labels`; a map that
    nothing names is taken for one of the public pelvic annotations if its values 1 to 4 fit. A file `mask.*` beside
    the map, or its value "body", is the body; else one is made around the bones.

    Args:
        path: The map.
        names: Names of its values.
        grid_mm: Edge of the voxels of the patients' anatomy.
        room_mm: Room around the body, for patients of more girth.

    Raises:
        PreflightError: BMD-SIM-002, unreadable or unnamed; BMD-SIM-003, the pelvis or a femur is not there.
    """
    path = Path(path)
    masks, grid = _read_masks(path, names)
    for name in ("pelvis", "femur_L", "femur_R"):
        if name not in masks or not masks[name].any():
            raise PreflightError("BMD-SIM-003", f"no voxel of {name}.", file=path.name)
    if "body" not in masks:
        body = _find_body_beside(path, grid)
        masks["body"] = _make_body_around(masks, grid) if body is None else body
    box = bounding_box(masks["body"], 2)
    masks = {name: mask[box] for name, mask in masks.items()}
    grid = grid.crop(box)
    if room_mm:
        masks, grid = _make_room(masks, grid, room_mm)
    depths = {
        name: _measure_depth(mask, grid, _BODY_REACH_MM if name == "body" else REACH_MM) for name, mask in masks.items()
    }
    target = _make_upright_grid(grid, grid_mm)
    places = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in target.shape], indexing="ij"))
    index = _find_indices(grid, target, places)
    heads, lesser = {}, {}
    for side in SIDES:
        femur = _sample_depth(depths[f"femur_{side}"], index)
        head = _find_head(femur, target, side, path)
        heads[side] = head.centre_mm
        is_inside, lowest = _above_zero(interpolate_depth(femur, target)), _find_lowest(femur, target)
        _, lesser[side] = place_landmarks(is_inside, side, head.centre_mm, head.radius_mm, lowest)
    return Shapes(depths, grid, target, heads, lesser)


def _make_room(masks: Mapping[str, np.ndarray], grid: Grid, room_mm: float) -> tuple[dict[str, np.ndarray], Grid]:
    """Masks with empty rows and columns on all sides, and their grid."""
    columns, rows = (int(np.ceil(room_mm / spacing)) for spacing in grid.spacing_mm[:2])
    wide = {name: np.pad(mask, ((0, 0), (rows, rows), (columns, columns))) for name, mask in masks.items()}
    return wide, replace(grid, shape=wide["body"].shape, origin_mm=grid.points((0, -rows, -columns)))


def draw_from_shapes(
    shapes: Shapes, rng: np.random.Generator, warp_mm: float = 3.0, sex: Sex | None = None, variation: float = 0.0
) -> Anatomy:
    """A patient like the one of the map: scaled along each axis and smoothly deformed at random.

    Args:
        shapes: Shapes of the map's structures.
        rng: Generator of the patient's random draws.
        warp_mm: Standard deviation of the deformation.
        sex: Group whose size, beside that of the other, the patient has; None: the map's own.
        variation: How far the girth differs from the map's; 0: not beyond the scale.

    Raises:
        PreflightError: BMD-SIM-003, the femurs end above the level of the landmarks.
    """
    target, step = shapes.target, float(shapes.target.spacing_mm[0])
    scale = np.clip(rng.normal(1, 0.04, 3), 0.9, 1.1) if warp_mm else np.ones(3)
    scale = scale * _SIZES[sex]
    where = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in target.shape], indexing="ij"))
    centre = (np.array(target.shape) - 1) / 2
    moves = []
    for axis in range(3):
        move = draw_smooth_noise(target, 90.0, rng) * np.float32(warp_mm / step)
        moves.append(move + (where[axis] - np.float32(centre[axis])) * np.float32(1 / scale[axis] - 1))
    for head in shapes.heads_mm.values():
        _hold_head(moves, where, target.indices(head), step)
    lesser = {side: _carry(point, moves, target) for side, point in shapes.lesser_mm.items()}
    where += moves
    index = _find_indices(shapes.grid, target, where)
    depths = {name: _sample_depth(depth, index) for name, depth in shapes.depths.items()}
    depths["pelvis"] = np.minimum(depths["pelvis"], -np.maximum(depths["femur_L"], depths["femur_R"]))
    if variation:
        bone = np.maximum.reduce([depths[name] for name in STRUCTURES if name in depths])
        depths["body"] = np.maximum(depths["body"] + np.float32(draw_more_girth(rng, variation)), bone + _SKIN_MM)
    return _make_anatomy(depths, target, lesser)


def _carry(point_mm: np.ndarray, moves: Sequence[np.ndarray], grid: Grid) -> np.ndarray:
    """Where a point of the map lies in the patient: the voxel that a field of displacements (voxels) takes it from."""
    goal = grid.indices(point_mm)
    place = goal
    for _ in range(_CARRYING_STEPS):
        moved = [ndimage.map_coordinates(move, place[:, None], order=1, mode="nearest")[0] for move in moves]
        place = goal - np.array(moved)
    return grid.points(place)


def _hold_head(moves: list[np.ndarray], where: np.ndarray, head: np.ndarray, step_mm: float) -> None:
    """Make a field of displacements (voxels) constant about a femoral head, in place: it and its socket stay round."""
    middle = tuple(np.rint(head).astype(int))
    reach = int(np.ceil(_HELD_MM[1] / step_mm))
    box = tuple(slice(max(m - reach, 0), m + reach + 1) for m in middle)
    apart = [(where[axis][box] - np.float32(head[axis])) ** 2 for axis in range(3)]
    far = np.clip((np.sqrt(sum(apart)) * step_mm - _HELD_MM[0]) / (_HELD_MM[1] - _HELD_MM[0]), 0, 1)
    far = far * far * (3 - 2 * far)
    for move in moves:
        there = move[middle]
        move[box] = far * move[box] + (1 - far) * there


def _find_indices(grid: Grid, target: Grid, where: np.ndarray) -> np.ndarray:
    """Fractional array indices of a grid, (3, ...), where those of the target grid are `where`."""
    flip = np.eye(4)[[2, 1, 0, 3]]
    matrix = (flip @ grid.ijk_from_lps @ target.lps_from_ijk @ flip).astype(np.float32)
    return np.tensordot(matrix[:3, :3], where, axes=(1, 0)) + matrix[:3, 3, None, None, None]


def _sample_depth(depth: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A depth at fractional array indices (3, ...), linearly interpolated where it is not the least on all sides."""
    least = depth.min()
    inside = np.ones(index.shape[1:], bool)
    if not (depth > least).any():
        return np.full(inside.shape, least, np.float32)
    near = bounding_box(depth > least, 1)
    for axis, (part, size) in enumerate(zip(near, depth.shape, strict=True)):
        if part.start > 0:
            inside &= index[axis] > part.start
        if part.stop < size:
            inside &= index[axis] < part.stop - 1
    out = np.full(inside.shape, least, np.float32)
    out[inside] = ndimage.map_coordinates(depth, index[:, inside], order=1, mode="nearest")
    return out


def _find_head(femur: np.ndarray, grid: Grid, side: Side, path: Path | None = None) -> FemoralHead:
    try:
        return find_true_head(femur, grid, side)
    except CaseError as error:
        raise PreflightError("BMD-SIM-003", error.message, file=path and path.name) from error


def _find_lowest(femur: np.ndarray, grid: Grid) -> float:
    """Height of the distal end of a femur that is known by its depth, LPS, mm."""
    return float(grid.points((np.flatnonzero((femur > 0).any((1, 2)))[0], 0, 0))[2])


def _make_anatomy(depths: dict[str, np.ndarray], grid: Grid, lesser_mm: Mapping[Side, np.ndarray]) -> Anatomy:
    depths.setdefault("axial", np.full(grid.shape, -REACH_MM, np.float32))
    heads, radii, landmarks, lesser = {}, {}, {}, {}
    for side in SIDES:
        femur = depths[f"femur_{side}"]
        head = _find_head(femur, grid, side)
        heads[side], radii[side] = head.centre_mm, head.radius_mm
        lowest = _find_lowest(femur, grid)
        is_inside = _above_zero(interpolate_depth(femur, grid))
        landmarks[side], lesser[side] = place_landmarks(
            is_inside, side, heads[side], radii[side], lowest, lesser_mm[side], _CARRIED_WITHIN_MM
        )
        if missing := landmarks[side].missing():
            raise PreflightError(
                "BMD-SIM-003", f"femur_{side} ends {heads[side][2] - lowest:.0f} mm below its head: no {missing[0]}."
            )
    return Anatomy(depths, grid, heads, radii, landmarks, lesser)


def _above_zero(depth: Callable[[np.ndarray], np.ndarray]) -> Inside:
    return lambda points_mm: depth(points_mm) > 0


def _read_masks(path: Path, names: Sequence[str]) -> tuple[dict[str, np.ndarray], Grid]:
    """Masks of what the map holds, its array turned so that i, j, k run to L, P, S."""
    try:
        if not names:
            try:
                labels = read_labels(path)
                array, grid = turn_to_axial(labels.array, labels.grid)
                return {name: array == labels.values[name] for name in STRUCTURES}, grid
            except CaseError as error:
                if error.code != "BMD-MAP-002":
                    raise
        array, grid, _ = read_array(path)
    except CaseError as error:
        raise PreflightError("BMD-SIM-002", error.message, file=path.name) from error
    array, grid = turn_to_axial(array, grid)
    values = _parse_values(names) if names else _guess_values(array, path)
    masks = {name: np.isin(array, numbers) for name, numbers in values.items()}
    axial_parts = [masks.pop(name) for name in ("axial", "sacrum", "spine") if name in masks]
    if axial_parts:
        masks["axial"] = np.logical_or.reduce(axial_parts)
    if "femur" in masks:
        femur, pelvis = masks.pop("femur"), masks.get("pelvis")
        masks["femur_L"], masks["femur_R"] = _split_sides(femur, pelvis)
    return masks, grid


def _parse_values(names: Sequence[str]) -> dict[str, list[int]]:
    values: dict[str, list[int]] = {}
    for text in names:
        name, _, numbers = text.partition("=")
        if name not in NAMES:
            raise PreflightError("BMD-SIM-002", f"{text!r}: expected NAME=VALUE with a name of {', '.join(NAMES)}.")
        found = values.setdefault(name, [])
        for part in numbers.split(","):
            low, _, high = part.partition("-")
            if not low.isdigit() or (high and not high.isdigit()):
                raise PreflightError("BMD-SIM-002", f"{text!r}: expected whole numbers such as 3, 3,4 or 5-28.")
            found += range(int(low), int(high or low) + 1)
    return values


def _guess_values(array: np.ndarray, path: Path) -> dict[str, list[int]]:
    """The public pelvic annotation's values, if value 2 lies on both sides of value 1 and below 3 and 4."""
    columns = {}
    for value in (1, 2, 3):
        hit = array == value
        if not hit.any():
            raise PreflightError("BMD-SIM-002", "nothing says which value is which structure.", file=path.name)
        columns[value] = np.flatnonzero(hit.any((0, 1)))[[0, -1]], np.flatnonzero(hit.any((1, 2)))[[0, -1]]
    (sacrum_x, sacrum_z), (femur_x, femur_z) = columns[3], columns[2]
    if not (femur_x[0] < sacrum_x[0] and femur_x[1] > sacrum_x[1] and femur_z[0] < sacrum_z[0]):
        raise PreflightError("BMD-SIM-002", "nothing says which value is which structure.", file=path.name)
    logger.info("values taken as pelvis 1, femur 2, sacrum 3, spine 4, muscles 5 to 28")
    return PELVIC_ANNOTATION


def _split_sides(femur: np.ndarray, pelvis: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The left and the right femur: the largest part on either side of the pelvis' middle."""
    middle = np.flatnonzero((femur if pelvis is None else pelvis).any((0, 1)))[[0, -1]].mean()
    left = femur.copy()
    left[:, :, : int(np.ceil(middle))] = False  # i runs to the patient's left
    return keep_largest_component(left), keep_largest_component(femur & ~left)


def _find_body_beside(path: Path, grid: Grid) -> np.ndarray | None:
    """The file `mask.*` beside a map, if it lies on the same voxels."""
    folder = path if path.is_dir() else path.parent
    for file in sorted(folder.glob("mask.*")):
        if file != path and find_stem(file) == "mask" and any(file.name.lower().endswith(s) for s in VOLUME_SUFFIXES):
            array, here = turn_to_axial(*read_array(file)[:2])
            if here.is_near(grid, tolerance_mm=0.1):
                return array > 0
            logger.warning("%s does not lie on the map's voxels and is left out", file.name)
    return None


def _make_body_around(masks: Mapping[str, np.ndarray], grid: Grid) -> np.ndarray:
    """A body made around the bones, in slices of rounded outline."""
    known = np.logical_or.reduce(list(masks.values()))
    factor = np.maximum(np.rint(5.0 / grid.spacing_mm[::-1]).astype(int), 1)
    coarse = known[:: factor[0], :: factor[1], :: factor[2]]
    margin = [int(np.ceil(_BODY_BEYOND_BONE_MM / s)) for s in factor * grid.spacing_mm[::-1]]
    padded = np.pad(coarse, [(0, 0), *[(m, m) for m in margin[1:]]])
    away = ndimage.distance_transform_edt(~padded, sampling=factor * grid.spacing_mm[::-1])
    body = ndimage.binary_closing(away < _BODY_BEYOND_BONE_MM, iterations=8, border_value=0) | (away < 20)
    inner = (slice(None), slice(margin[1], -margin[1]), slice(margin[2], -margin[2]))
    smooth = ndimage.gaussian_filter(body.astype(np.float32), 2.0)[inner]
    index = np.ix_(
        *[np.minimum(np.arange(n) // f, c - 1) for n, f, c in zip(known.shape, factor, smooth.shape, strict=True)]
    )
    return (smooth[index] > 0.5) | known


def _measure_depth(mask: np.ndarray, grid: Grid, reach_mm: float) -> np.ndarray:
    """Signed distance to the faces between inside and outside, mm, clipped, float32."""
    depth = np.full(mask.shape, -reach_mm, np.float32)
    if not mask.any():
        return depth
    spacing = grid.spacing_mm[::-1]
    across, along, up = (int(np.ceil(reach_mm / s)) for s in spacing)
    box = bounding_box(mask, (across, along, up))
    part = np.pad(mask[box], 1, mode="edge")
    half = grid.spacing_mm.min() / 2
    within = ndimage.distance_transform_edt(part, sampling=spacing) - half
    beyond = ndimage.distance_transform_edt(~part, sampling=spacing) - half
    signed = np.where(part, within, -beyond)[1:-1, 1:-1, 1:-1]
    depth[box] = np.clip(signed, -reach_mm, reach_mm)
    return depth


def _make_upright_grid(grid: Grid, step_mm: float) -> Grid:
    """Cubic voxels along LPS over the extent of a grid."""
    corners = grid.corners()
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.floor((high - low) / step_mm).astype(int)[::-1] + 1
    return Grid(tuple(shape), np.full(3, step_mm), low, np.eye(3))
