"""Registration of drawn bones of many kinds and sizes, one view and two: errors, cost, and what the verdicts say.

    python benchmarks/registration_solids.py [--bones N] [--kinds ...] [--rows FILE] [--json FILE]
    python benchmarks/registration_solids.py --kinds lumbar --spine MAP --value N --discs Z Z Z ... [--every-run]

Vertebrae, tibiae, metacarpals and short bones are drawn anew for every seed, 20 to 250 mm long; `tibia` is a long bone
of round sections, `proximal_tibia` has a plateau, a tuberosity and a three-sided shaft. Lumbar vertebrae are cut from a
label map between the discs, each scaled anew, and stand between their neighbours. The radiograph is made
of a finer solid than the CT: cancellous texture, bones alike beside it, soft tissue, blur, noise, a tone curve, 8 bits
and sometimes a field that cuts the bone; the CT has slices, noise and masks that are a voxel off. One in eight
radiographs shows other bones only. Starts are 3 degrees, 2 mm, 8 mm and 8 degrees, 6 mm, 25 mm off (standard
deviations; lengths for a metacarpal, more for what is larger), and far ones. The rows hold the evidence of every pose,
from which verdicts of small bodies can be fitted. No real image is used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from figure_files import write_figures, write_rows
from label_vertebrae import VOXEL_MM, cut_vertebrae
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bmdkit.core.calibrated_camera import CalibratedCamera
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import Volume
from bmdkit.evaluation.registration_error import pose_error
from bmdkit.registration.bodies import FINE, Body
from bmdkit.registration.pose_parameters import PoseParameters
from bmdkit.registration.register_bodies import register_views
from bmdkit.registration.settings import StartSpread
from bmdkit.registration.staging import Shown

LENGTHS_MM = {"vertebra": (65, 95), "tibia": (140, 250), "metacarpal": (40, 75), "short": (20, 40)}
"""Kinds of bones that the verdicts are fitted to, and how long they are."""

FURTHER_MM = {"proximal_tibia": (140, 250), "lumbar": (95, 105)}
"""Further kinds: nothing is fitted to them."""

STARTS = {"narrow": (3.0, 2.0, 8.0), "wide": (8.0, 6.0, 25.0), "far": (25.0, 15.0, 60.0)}
"""Standard deviations of the starts, degrees and mm, for a bone a quarter of a pelvis's size."""

QUARTER, PIXELS = 0.25, 400
WRONG_MM, WRONG_DEG, NEAR_MM = 4.0, 5.0, 2.0
"""What misleads: off in plane by so much for a body of a pelvis's size, or turned by so much. What is near."""


@dataclass(frozen=True)
class Row:
    """One registration."""

    kind: str
    seed: int
    views: int
    start: str
    is_there: bool
    mtre_mm: float
    in_plane_mm: float
    depth_mm: float
    projection_mm: float
    rotation_deg: float
    seconds: float
    verdict: str
    similarity: float
    spread_mm: float
    curvature_mm: float
    prior: float
    visible: float
    scale: float
    depth_sd_mm: float
    across_mm: float
    spread_across_mm: float
    lead: float
    rotation_sd_deg: float
    spread_rotation_deg: float
    attainable: float = 1.0

    @property
    def is_wrong(self) -> bool:
        """Whether the pose misleads, apart from its depth."""
        return not self.is_there or self.in_plane_mm > WRONG_MM * self.scale or self.rotation_deg > WRONG_DEG


def draw_solid(kind: str, length_mm: float, rng: np.random.Generator) -> Volume:
    """Density of one bone, mg/cm3, with a cortex and cancellous texture; 0 elsewhere."""
    voxel = length_mm / 81  # voxels along a long bone
    half = _HALVES[kind]
    z, y, x = (np.linspace(-n, n, int(1.4 * n) + 1)[s] for n, s in zip(half, _AXES, strict=True))
    a, b, c = rng.uniform(0.85, 1.15, 3)
    if kind == "vertebra":
        waist = 1 - 0.12 * a * np.cos(np.pi * np.clip(z / 26, -1, 1) / 2)
        solid = ((x / (28 * a * waist)) ** 2 + ((y + 22) / (20 * b * waist)) ** 2 < 1) & (abs(z) < 24 * c)
        ring = np.hypot(x / 1.1, y - 8)
        solid |= (ring > 10) & (ring < 17 * a) & (abs(z - 3) < 12) & (y > -6)
        solid |= (abs(z - 4) < 6 * b) & (abs(y - 12 - 0.1 * abs(x)) < 5) & (abs(x) < 52 * a)
        solid |= (abs(x) < 4 * b) & (y > 14) & (y < 54 * c) & (abs(z + 6 + 0.3 * (y - 30)) < 9)
    elif kind == "short":
        angles = np.arctan2(y, x)
        radius = 30 * (1 + 0.15 * a * np.cos(angles + b) + 0.12 * np.cos(2 * angles + 4 * c + z / 25))
        solid = ((x + 6 * np.sin(z / 22)) / 1.25) ** 2 + y**2 < (
            radius * np.sqrt(np.clip(1 - (z / 55) ** 2, 0, 1))
        ) ** 2
        solid &= np.hypot(x - 34, y - 10) > 14 * b
    elif kind == "proximal_tibia":  # z upwards, y backwards
        along = z / 60
        up = np.clip((along - 0.35) / 0.6, 0, 1) ** 1.5
        angles = np.arctan2(y, x) - 0.35 * along
        shaft = 8.5 * c * (1 + 0.16 * np.cos(3 * (angles + np.pi / 2)))
        wide, deep = shaft + (21 * a - 8.5) * up, shaft + (14 * b - 8.5) * up
        solid = ((x - 1.5 * up) / wide) ** 2 + ((y - 2.5 * up) / deep) ** 2 < 1
        solid |= (np.hypot(x, (y + 8 * a) / 1.3) < 5 * b) & (abs(along - 0.55) < 0.14)  # tuberosity
        solid |= (np.hypot(x - 2, y - 3) < 3) & (along > 0.9)  # between the condyles
        solid &= (abs(along) < 0.97) & ~((along > 0.93) & (np.hypot(x - 2, y - 3) > 3))
    else:
        thick = 8 if kind == "metacarpal" else 9
        along = z / 60
        head, base = np.clip((along - 0.55) / 0.45, 0, 1), np.clip((-along - 0.5) / 0.5, 0, 1)
        radius = thick * (0.8 + 0.55 * a * np.sin(np.pi * head / 1.35) + 0.75 * b * base)
        middle = 5 * c * (along**2 - 0.5)
        solid = ((x - middle) / (1 + 0.25 * base)) ** 2 + ((y - 2 * base) * (1 + 0.2 * head)) ** 2 < radius**2
        solid |= (np.hypot(x - 9 * a, y - 6) < 4.5 * b) & (abs(along + 0.7) < 0.15)
        solid &= abs(along) < 0.97
    return fill_solid(solid, Grid(solid.shape, np.full(3, voxel), np.zeros(3), np.eye(3)), length_mm, rng)


_HALVES = {
    "vertebra": (40, 60, 60),
    "tibia": (60, 24, 24),
    "metacarpal": (60, 20, 20),
    "short": (60, 52, 46),
    "proximal_tibia": (60, 24, 28),
}
_AXES = (np.s_[:, None, None], np.s_[None, :, None], np.s_[None, None, :])


def fill_solid(solid: np.ndarray, grid: Grid, length_mm: float, rng: np.random.Generator) -> Volume:
    """Density of a solid [z, y, x]: a cortex about spongy bone."""
    inner = ndimage.distance_transform_edt(solid, sampling=grid.spacing_mm[::-1])
    texture = ndimage.gaussian_filter(rng.standard_normal(solid.shape), 1.5)
    cancellous = 300 * (1 + 0.5 * texture / texture.std())
    cortex = rng.uniform(1.0, 2.5) * length_mm / 80
    values = np.where(solid, np.where(inner < cortex, 1150.0, np.clip(cancellous, 0, 900)), 0).astype(np.float32)
    return Volume(values, grid, "density_mg_cm3")


@dataclass(frozen=True, eq=False)
class Drawn:
    """A bone and what stands beside it.

    Attributes:
        length_mm: Its length.
        bone: Its density.
        others: Densities of other bones.
    """

    length_mm: float
    bone: Volume
    others: tuple[Volume, ...]


def draw_bone(kind: str, rng: np.random.Generator) -> Drawn:
    """A bone of a kind, and another alike."""
    length = rng.uniform(*(LENGTHS_MM | FURTHER_MM)[kind])
    bone, other = (draw_solid(kind, length * factor, rng) for factor in (1.0, rng.uniform(0.9, 1.1)))
    return Drawn(length, bone, (other, other))


def draw_vertebra(spine: Sequence[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> Drawn:
    """One of the vertebrae of `cut_vertebrae`, scaled along each axis, and its neighbours."""
    length, scale = rng.uniform(*FURTHER_MM["lumbar"]), np.exp(rng.normal(0, 0.05, 3))
    number = int(rng.integers(len(spine)))
    wanted = [number, *(k for k in (number - 1, number + 1) if 0 <= k < len(spine))]
    grids = [Grid(mask.shape, VOXEL_MM * scale, origin * scale, np.eye(3)) for mask, origin in spine]
    bone, *others = (fill_solid(spine[k][0], grids[k], length, rng) for k in wanted)
    return Drawn(length, bone, tuple(others))


def scan_solid(solid: Volume, rng: np.random.Generator) -> Body:
    """The bone as its CT shows it: slices, blur, noise, and a mask that may be a voxel off."""
    spacing = solid.grid.spacing_mm * [1.2, 1.2, rng.uniform(1.2, 2.5)]
    blurred = ndimage.gaussian_filter(solid.array, 0.4 * (spacing / solid.grid.spacing_mm)[::-1])
    seen = Volume(blurred, solid.grid, solid.quantity).resample(solid.grid.with_spacing(spacing))
    mask = seen.array > 120
    change = rng.integers(-1, 2)
    if change:
        mask = (ndimage.binary_dilation if change > 0 else ndimage.binary_erosion)(mask)
    noisy = np.maximum(seen.array + rng.normal(0, 30, seen.array.shape), 0).astype(np.float32)
    return Body.from_mask(Volume(noisy, seen.grid, seen.quantity), mask, "bone")


def make_cameras(length_mm: float, rng: np.random.Generator) -> list[CalibratedCamera]:
    """Two cameras, 30 to 90 degrees apart, in whose images the bone is a fifth to two fifths of the side."""
    sdd, share = rng.uniform(950, 1400), rng.uniform(0.2, 0.4)
    depth = sdd * rng.uniform(0.72, 0.9)
    pixel = length_mm * sdd / depth / share / PIXELS
    point = PIXELS / 2 + rng.normal(0, 12, 2)
    geometry = ProjectionGeometry(sdd, pixel, pixel, PIXELS, PIXELS, point)
    found = []
    for angle in (0.0, rng.uniform(30, 90)):
        turn = Rotation.from_euler("y", -angle, degrees=True).as_matrix() @ _FACING
        found.append(CalibratedCamera(geometry, RigidTransform.from_parts(turn, np.array([0.0, 0.0, depth]))))
    return found


_FACING = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def expose(
    solids: Sequence[Body], poses: Sequence[RigidTransform], camera: CalibratedCamera, rng: np.random.Generator
) -> Radiograph:
    """One radiograph of bones, world_from_ct, in soft tissue: from clean to hardly readable."""
    place = camera.camera_from_world
    if place is None:
        raise ValueError("camera: expected its place")
    image = sum(
        solid.project((place @ pose).matrix[None], camera.geometry, FINE, "cpu")[0]
        for solid, pose in zip(solids, poses, strict=True)
    )
    top = np.quantile(image[image > 0], 0.95) if (image > 0).any() else 1.0
    hard = rng.uniform(0, 1)
    for sigma, amount in ((25, rng.uniform(0.1, 0.5 + hard)), (6, hard * rng.uniform(0.0, 0.4))):
        rough = ndimage.gaussian_filter(rng.standard_normal(image.shape), sigma)
        image = image + top * amount * rough / rough.std()
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.5 + 1.5 * hard))
    grain = ndimage.gaussian_filter(rng.standard_normal(image.shape), hard * rng.uniform(0, 1.5))
    image = image + top * (0.01 + 0.2 * hard * rng.uniform(0, 1)) * grain / grain.std()
    image = np.clip((image - image.min()) / np.ptp(image), 0, 1) ** rng.uniform(0.6, 1.4)
    mask = np.ones(image.shape, bool)
    if rng.random() < 0.2:
        mask[:, : int(rng.uniform(0.2, 0.5) * PIXELS)] = False
    pixel, sdd = camera.geometry.column_spacing_mm, camera.geometry.sdd_mm
    return Radiograph(np.rint(255 * image) / 255, mask, pixel, pixel, sdd, camera=camera)


def measure_bone(
    kind: str,
    seed: int,
    device: str,
    spine: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    *,
    every_run: bool = False,
) -> list[Row]:
    """All registrations of one drawn bone; two views of every other one unless every run is wanted."""
    rng = np.random.default_rng([seed, *map(ord, kind)])
    drawn = draw_vertebra(spine, rng) if kind == "lumbar" else draw_bone(kind, rng)
    length = drawn.length_mm
    solid, *others = (Body.from_mask(each, each.array > 0, "bone") for each in (drawn.bone, *drawn.others))
    body, cameras = scan_solid(drawn.bone, rng), make_cameras(length, rng)
    turn = Rotation.from_rotvec(rng.normal(0, 0.35, 3)).as_matrix()
    pose = RigidTransform.from_parts(turn, rng.normal(0, 0.05 * length, 3) - turn @ body.points_mm.mean(0))
    if kind == "lumbar":  # neighbours stand where they do, turned a little
        turns = Rotation.from_rotvec(rng.normal(0, 0.05, (len(others), 3))).as_matrix()
        middles = [pose.apply(other.points_mm.mean(0)) for other in others]
        beside = [RigidTransform.about(middle, small) @ pose for middle, small in zip(middles, turns, strict=True)]
    else:
        away = rng.uniform(0.1, 0.7) * length * (1.6 if kind in ("vertebra", "short") else 1.0)
        steps = [np.array([sign * away, 0.1 * away, 0.0]) for sign in (-1, 1)]
        turns = Rotation.from_rotvec(rng.normal(0, 0.15, (2, 3))).as_matrix()
        middle = turn @ body.points_mm.mean(0) + pose.translation_mm
        beside = [RigidTransform.about(middle, small, step) @ pose for step, small in zip(steps, turns, strict=True)]
    is_there = rng.random() > 0.125
    shown_solids = ([solid] if is_there else []) + others
    shown_poses = ([pose] if is_there else []) + beside
    shots = [Shown(expose(shown_solids, shown_poses, c, rng), c, None, f"view{n}") for n, c in enumerate(cameras)]
    rows = []
    runs = [(1, "narrow"), (1, "wide")]
    if every_run or seed % 2 == 0:
        runs += [(1, "far"), (2, "wide")]
    for views, start in runs:
        rows.append(_measure_run(kind, seed, body, shots[:views], pose, start, is_there, rng, device))
    return rows


def _measure_run(kind, seed, body, shots, pose, start, is_there, rng, device) -> Row:
    camera = shots[0].camera
    true = camera.camera_from_world @ pose
    turn, plane, deep = STARTS[start]
    size = max(body.scale / QUARTER, 0.5)
    spread = StartSpread(turn, plane * size, deep * size)
    sizes = [np.radians(turn)] * 3 + [plane * size] * 2 + [deep * size]
    begun = PoseParameters(true, body.centre_mm, np.ones(6)).pose(rng.standard_normal(6) * sizes)
    found = register_views([body], shots, start=begun, start_spread=spread, rng=rng, device=device)[0]
    result = found.bodies["bone"]
    error = pose_error(
        result.camera_from_ct, true, body.points_mm, found_camera=camera.geometry, true_camera=camera.geometry
    )
    facts = {name: value for name, value in asdict(result.evidence).items() if name != "mirrored"}
    row = Row(
        kind, seed, len(shots), start, is_there, **asdict(error), seconds=found.seconds, verdict=result.verdict, **facts
    )
    print(
        f"  {kind} {seed} {len(shots)} {start} {'' if is_there else 'absent '}in plane {row.in_plane_mm:.2f} mm, "
        f"{row.rotation_deg:.1f} degrees, {row.mtre_mm:.1f} mm, {row.verdict}, {row.similarity:.2f} {row.lead:.2f}, "
        f"{row.seconds:.1f} s",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    return row


_COLUMNS = {"plane": "in_plane_mm", "rot.": "rotation_deg", "depth": "depth_mm", "s": "seconds"}


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """Print a table of errors by kind and views, and how the verdicts sorted them; returns the numbers, flat."""
    flat: dict[str, float] = {}
    heads = " ".join(f"{name:>6s}" for name in _COLUMNS)
    print(f"{'kind':14s} {'views':>5s} {'start':7s} {'n':>4s} {'<2mm %':>7s} {'proj<2':>7s} {heads}")
    there = [row for row in rows if row.is_there]
    for key in dict.fromkeys((row.kind, row.views, row.start) for row in there):
        part = [row for row in there if (row.kind, row.views, row.start) == key]
        below = 100 * float(np.mean([row.mtre_mm < NEAR_MM for row in part]))
        projected = 100 * float(np.mean([row.projection_mm < NEAR_MM for row in part]))
        middle = {name: float(np.median([getattr(row, name) for row in part])) for name in _COLUMNS.values()}
        told = " ".join(f"{value:6.2f}" for value in middle.values())
        print(f"{key[0]:14s} {key[1]:5d} {key[2]:7s} {len(part):4d} {below:7.0f} {projected:7.0f} {told}")
        name = f"{key[0]}_{key[1]}_{key[2]}"
        flat |= {f"{name}_n": len(part), f"{name}_below_2mm_pct": below}
        flat[f"{name}_projection_below_2mm_pct"] = projected
        flat |= {f"{name}_{column}_median": value for column, value in middle.items()}
    accepted, right = [row for row in rows if row.verdict == "accept"], [row for row in rows if not row.is_wrong]
    flat |= {
        "registrations": len(rows),
        "wrong": sum(row.is_wrong for row in rows),
        "accepted": len(accepted),
        "accepted_wrong": sum(row.is_wrong for row in accepted),
        "accepted_of_right_pct": 100 * float(np.mean([row.verdict == "accept" for row in right])) if right else 0.0,
    }
    for name in ("registrations", "wrong", "accepted", "accepted_wrong", "accepted_of_right_pct"):
        print(f"{name}: {flat[name]:.4g}")
    return flat


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bones", type=int, default=4, help="bones of each kind")
    kinds = [*LENGTHS_MM, *FURTHER_MM]
    parser.add_argument("--kinds", nargs="+", default=list(LENGTHS_MM), choices=kinds)
    parser.add_argument("--every-run", action="store_true", help="two views and far starts of every bone")
    parser.add_argument("--spine", type=Path, help="label map of a spine, for the kind `lumbar`")
    parser.add_argument("--value", type=int, default=4, help="value of the spine in it")
    parser.add_argument("--discs", type=float, nargs="+", help="heights (LPS z) of the discs' middles in it, rising")
    parser.add_argument("--seed", type=int, default=0, help="of the first bone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=Path, help="write one line per registration as CSV, evidence and errors")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    if "lumbar" in args.kinds and not (args.spine and args.discs):
        parser.error("--kinds lumbar: expected --spine and --discs")
    spine = cut_vertebrae(args.spine, args.value, args.discs) if args.spine else ()
    rows: list[Row] = []
    for seed in range(args.seed, args.seed + args.bones):
        for kind in args.kinds:
            rows += measure_bone(kind, seed, args.device, spine, every_run=args.every_run)
            if args.rows:
                write_rows(args.rows, Row, rows)
    flat = summarise(rows)
    if args.json:
        write_figures(args.json, flat, args.device)


if __name__ == "__main__":
    main()
