"""One patient's noise-free shape: the depth of every structure on a grid, the heads, the landmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.core.anatomy import LABEL_VALUES, SIDES, STRUCTURES, Side
from bmdkit.core.grid import Grid, frozen
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap
from bmdkit.simulation import bones
from bmdkit.simulation.hip_variation import BoneShapes, Frame, draw_bone_shapes, draw_frame
from bmdkit.simulation.population import Sex
from bmdkit.simulation.solids import REACH_MM
from bmdkit.simulation.true_landmarks import place_landmarks

_SKIN_MM = 6.0
_MOST_DRAWS = 10
_UP_MM, _DOWN_MM = 200.0, 178.0
"""How far the grid reaches above and below the hip centres: from L3 to the middle of the thigh."""


@dataclass(frozen=True)
class _Build:
    """What differs between groups of patients: mean and SD of the stature, width of the pelvis, size of the heads."""

    stature: float = 1.0
    stature_sd: float = 0.05
    width: float = 1.0
    heads: float = 1.0


_BUILDS: Mapping[Sex | None, _Build] = {
    None: _Build(),
    "female": _Build(0.965, 0.035, 1.025, 0.955),
    "male": _Build(1.055, 0.04, 0.985, 0.985),
}


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Shapes without density; everything in the CT's LPS, mm.

    Attributes:
        depths: Structure, "body" and perhaps "muscle" -> depth, float32 on the grid: mm from the surface, positive
            inside, clipped. Structures do not overlap.
        grid: Grid of cubic voxels, its axes along LPS.
        heads_mm: Centres of the femoral heads.
        head_radii_mm: Radii of the femoral heads.
        landmarks, lesser_mm: Eight points of each femur, and the tip of the lesser trochanter.
        fat_mm: Thickness of the fat below the skin; None: drawn with the soft tissue.
    """

    depths: Mapping[str, np.ndarray]
    grid: Grid
    heads_mm: Mapping[Side, np.ndarray]
    head_radii_mm: Mapping[Side, float]
    landmarks: Mapping[Side, Landmarks]
    lesser_mm: Mapping[Side, np.ndarray]
    fat_mm: float | None = None

    def __post_init__(self) -> None:
        """Check that all structures are there, on the grid."""
        missing = {*STRUCTURES, "body"} - set(self.depths)
        if missing:
            raise ValueError(f"depths: missing {sorted(missing)}")
        object.__setattr__(self, "depths", {name: frozen(depth, np.float32) for name, depth in self.depths.items()})
        for name, depth in self.depths.items():
            if depth.shape != self.grid.shape:
                raise ValueError(f"depths[{name!r}]: expected shape {self.grid.shape}, got {depth.shape}")

    def labels(self) -> LabelMap:
        """The crisp labels, under the values that bmdkit writes."""
        array = np.zeros(self.grid.shape, np.uint8)
        for name in STRUCTURES:
            array[self.depths[name] > 0] = LABEL_VALUES[name]
        return LabelMap(array, self.grid, LABEL_VALUES)

    def hip_centre(self) -> np.ndarray:
        """(3,), midway between the heads, LPS, mm."""
        return 0.5 * (self.heads_mm["L"] + self.heads_mm["R"])


def draw_anatomy(
    rng: np.random.Generator, grid_mm: float = 1.5, sex: Sex | None = None, variation: float = 0.0
) -> Anatomy:
    """Draw a hip of random size, proportions and asymmetry, lying in a CT scanner.

    Args:
        rng: Random generator of the patient.
        grid_mm: Edge of the voxels.
        sex: Group whose size and proportions the hip has; None: one group between both.
        variation: How far it differs beyond healthy adults of one population; see `hip_variation`.
    """
    anatomy = _draw_once(rng, grid_mm, sex, variation)
    for _ in range(_MOST_DRAWS):
        if not any(anatomy.landmarks[side].missing() for side in SIDES):
            break
        anatomy = _draw_once(rng, grid_mm, sex, variation)  # a shape on which no clinician could place them
    return anatomy


def _draw_once(rng: np.random.Generator, grid_mm: float, sex: Sex | None, variation: float) -> Anatomy:
    own = np.random.default_rng(rng.integers(2**63)) if variation else rng
    frame = draw_frame(own, variation) if variation else Frame()
    build = _BUILDS[sex]
    stature = np.clip(rng.normal(build.stature, build.stature_sd), build.stature - 0.12, build.stature + 0.12)
    stretch = stature * np.clip(rng.normal(1.0, (0.025, 0.03, 0.025)), 0.93, 1.07) * (build.width * frame.width, 1, 1)
    lying_mm = rng.normal(0, (6, 10, 8))  # where the scanner's origin is
    warp = _draw_smooth_warp(rng, stretch, lying_mm, amplitude_mm=1.6 + frame.warp_mm)
    radius = 24.0 * stature * np.clip(rng.normal(1.0, 0.03), 0.94, 1.06) * build.heads
    base = bones.FemurShape(
        head_radius_mm=radius,
        neck_shaft_deg=float(np.clip(rng.normal(128, 4), 119, 137)),
        anteversion_deg=float(np.clip(rng.normal(12, 6), 0, 25)),
        neck_length_mm=54.0 * stature * float(np.clip(rng.normal(1, 0.05), 0.9, 1.1)),
        shaft_radius_mm=14.0 * stature * float(np.clip(rng.normal(1, 0.06), 0.88, 1.12)),
    )
    shapes = draw_bone_shapes(own, base, variation) if variation else BoneShapes.of_usual(base)
    hips, femurs, heads, radii, tips = {}, {}, {}, {}, {}
    for side in SIDES:
        mirror = np.array([1.0 if side == "L" else -1.0, 1, 1])
        heads[side] = warp(bones.HEAD_CENTRE_MM * mirror)
        base = shapes.femurs[side]
        radii[side] = float(base.head_radius_mm * rng.normal(1, 0.006))
        shape = replace(
            base,
            head_radius_mm=radii[side],
            neck_shaft_deg=base.neck_shaft_deg + rng.normal(0, 1.2),
            anteversion_deg=base.anteversion_deg + rng.normal(0, 2.5),
            neck_length_mm=base.neck_length_mm * rng.normal(1, 0.015),
        )
        hip, femur = (
            bones.make_hip_bone(replace(shapes.hip_bones[side], head_radius_mm=radii[side])),
            bones.make_femur(shape),
        )
        if side == "R":
            hip, femur = hip.mirrored(), femur.mirrored()
        hips[side] = hip.moved(warp)
        place = _place_femur(rng, side, bones.HEAD_CENTRE_MM * mirror, heads[side], warp)
        femurs[side] = femur.moved(place)
        tips[side] = place(bones.locate_lesser_trochanter(shape)[None] * mirror)[0] if variation else None
    centre = 0.5 * (heads["L"] + heads["R"])
    reach = np.maximum(stretch, 1.0) if variation else stretch  # a small patient fills the radiograph as well
    grid = _make_grid_about(centre, grid_mm, (*stretch[:2], reach[2]), frame.girth)
    depths = {f"femur_{side}": femurs[side].depth_on(grid) for side in SIDES}
    both = np.maximum(depths["femur_L"], depths["femur_R"])
    pelvis = np.maximum(hips["L"].depth_on(grid), hips["R"].depth_on(grid))
    apart = min(2.0, *(0.6 * shape.joint_gap_mm for shape in shapes.hip_bones.values()))
    depths["pelvis"] = np.minimum(pelvis, -both - apart)  # cartilage keeps the bones apart
    axial = bones.make_axial_skeleton(shapes.axial).moved(warp).depth_on(grid)
    depths["axial"] = np.minimum(axial, -np.maximum(depths["pelvis"], both) - 1.2)
    depths["body"] = _make_body(grid, centre, stretch, rng, frame.girth)
    if variation:  # skin and a little fat over what stands out of a thin body
        depths["body"] = np.maximum(depths["body"], np.maximum(both, depths["pelvis"]) + _SKIN_MM)
    landmarks, lesser = {}, {}
    for side in SIDES:
        landmarks[side], lesser[side] = place_landmarks(
            femurs[side].inside, side, heads[side], radii[side], float(grid.origin_mm[2]), tips[side]
        )
    return Anatomy(depths, grid, heads, radii, landmarks, lesser, frame.fat_mm)


def _draw_smooth_warp(rng, stretch, shift_mm, amplitude_mm: float) -> Callable[[np.ndarray], np.ndarray]:
    """A random smooth map of points that moves each femoral head and its socket as one piece."""
    waves = rng.normal(0, 1, (6, 3))
    waves *= 2 * np.pi / rng.uniform(160, 420, (6, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    phases, weights = rng.uniform(0, 2 * np.pi, 6), rng.normal(0, amplitude_mm, (6, 3))

    def displaced(points):
        return points * (stretch - 1) + np.cos(points @ waves.T + phases) @ weights + shift_mm

    def warp(points_mm):
        points = np.asarray(points_mm, float)
        move = displaced(points)
        for side in (1.0, -1.0):
            head = bones.HEAD_CENTRE_MM * (side, 1, 1)
            far = np.clip((np.linalg.norm(points - head, axis=-1) - 36.0) / 30.0, 0, 1)[..., None]
            far = far * far * (3 - 2 * far)
            move = far * move + (1 - far) * displaced(head)
        return points + move

    return warp


def _place_femur(rng, side: Side, drawn_mm, head_mm, warp) -> Callable[[np.ndarray], np.ndarray]:
    """The warp of one femur, then its turn about the head's centre as the patient happens to lie."""
    mirror = 1.0 if side == "L" else -1.0
    flexion, abduction, rotation = rng.normal((0, 2, 5), (2.5, 2, 5))
    turn = Rotation.from_euler("xyz", (flexion, -mirror * abduction, mirror * rotation), degrees=True)

    def move(points):
        return turn.apply(warp(points) - head_mm) + head_mm

    return move


def _make_grid_about(centre_mm, step_mm: float, stretch, girth: float) -> Grid:
    half = np.array([176.0, 128.0]) * np.asarray(stretch)[:2] * max(girth, 1.0) + (14, 18)
    low = np.array([centre_mm[0] - half[0], centre_mm[1] - half[1], centre_mm[2] - _DOWN_MM * stretch[2]])
    size = np.array([2 * half[0], 2 * half[1], (_UP_MM + _DOWN_MM) * stretch[2]])
    shape = np.ceil(size / step_mm).astype(int)[::-1] + 1
    return Grid(tuple(shape), np.full(3, step_mm), low, np.eye(3))


def _make_body(grid: Grid, centre_mm, stretch, rng, more: float = 1.0) -> np.ndarray:
    """Depth below the skin: a trunk that parts into two thighs, its girth random."""
    girth = np.clip(rng.normal(1.0, 0.05), 0.9, 1.1) * stretch * (more, more, 1.0)
    k, j, i = (np.arange(n, dtype=np.float32) for n in grid.shape)
    x = (grid.origin_mm[0] + i * grid.spacing_mm[0] - centre_mm[0]) / girth[0]
    y = (grid.origin_mm[1] + j * grid.spacing_mm[1] - centre_mm[1]) / girth[1]
    z = (grid.origin_mm[2] + k * grid.spacing_mm[2] - centre_mm[2]) / stretch[2]
    knots = [-180, -110, -70, -30, 0, 50, 100, 140, 180]
    across = np.interp(z, knots, [172, 176, 177, 176, 174, 168, 158, 150, 146])
    front = np.interp(z, knots, [-60, -72, -80, -88, -94, -102, -108, -110, -110])
    back = np.interp(z, knots, [90, 97, 104, 110, 114, 112, 104, 98, 96])
    middle, half = (front + back) / 2, (back - front) / 2
    out = np.empty(grid.shape, np.float32)
    for n in range(grid.shape[0]):
        a, b = across[n], half[n]
        trunk = _ellipse(x[None, :], y[:, None] - middle[n], a, b, 2.6)
        if z[n] < -50:
            gap = np.interp(z[n], (-180, -95, -50), (16.0, 0.0, -24.0))
            thigh = _ellipse(np.abs(x)[None, :] - a / 2 - gap / 4, y[:, None] - middle[n], a / 2 - gap / 4, b, 2.2)
            part = min((-z[n] - 50) / 30, 1.0)
            trunk = (1 - part) * trunk + part * np.minimum(trunk, thigh)
        out[n] = trunk
    return np.clip(out, -REACH_MM, 60.0)


def _ellipse(x, y, a: float, b: float, power: float) -> np.ndarray:
    """About the depth, mm, in a superellipse."""
    return (1 - (np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1 / power)) * min(a, b)
