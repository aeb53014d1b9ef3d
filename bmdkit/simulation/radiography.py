"""Radiographs of a digital patient: poses of the bodies, line integrals, exposure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bmdkit.core.anatomy import BODIES, SIDES, STRUCTURES_OF_BODY
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.pose import View, standard_view
from bmdkit.core.units import MG_CM3_MM_TO_G_CM2
from bmdkit.core.volume import Volume
from bmdkit.drr.channels import Channels, prepare_channels
from bmdkit.drr.render import render
from bmdkit.simulation.collimator import collimate, draw_field
from bmdkit.simulation.exposure import ExposureSettings, expose
from bmdkit.simulation.exposure_site import Site
from bmdkit.simulation.finer_voxels import average_parts
from bmdkit.simulation.presentation import present
from bmdkit.simulation.procedural_anatomy import Anatomy
from bmdkit.simulation.tissue import Tissue, draw_bowel_gas

FEMUR_ANGLES_DEG = {
    "standing": (0.0, 0.0, 0.0),
    "supine": (0.0, 2.0, -10.0),
    "abduction": (0.0, 20.0, 0.0),
    "adduction": (0.0, -12.0, 0.0),
}
"""Mean flexion, abduction and external rotation of the femur against its place in the CT, by pose."""

_FEMUR_SPREAD_DEG = (6.0, 3.0, 7.0)
_PELVIS_SPREAD_DEG = (6.0, 2.5, 2.5)
_JOINT_PLAY_MM = 0.6
_FIELD_MM = (360.0, 430.0)  # rows, columns


@dataclass(frozen=True, eq=False)
class Exposed:
    """One radiograph and its truth.

    Attributes:
        signal: (rows, columns), float32, dose at the detector, 1 without patient.
        camera_from_ct: Body -> pose.
        geometry: Geometry of the detector.
        kvp: Tube voltage.
        field: What a collimator leaves open, (rows, columns), bool; None without one.
        soft_g_cm2: Areal density of soft tissue, (rows, columns).
        bones_g_cm2: Body -> areal density of its mineral, (rows, columns).
        stress: Difficulties that were added.
    """

    signal: np.ndarray
    camera_from_ct: Mapping[str, RigidTransform]
    geometry: ProjectionGeometry
    kvp: float
    soft_g_cm2: np.ndarray
    bones_g_cm2: Mapping[str, np.ndarray]
    field: np.ndarray | None = None
    stress: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RadiographSettings:
    """How the radiographs of one patient are taken.

    Attributes:
        pixel_mm: Pixel size at the detector.
        site: Where they are taken; None: each has an exposure and a processing of its own.
        stress: Words among "offcentre", "pa", "marker", "collimation" and "blades" to add; other words are for the CT.
        stress_probability: Chance with which each of them is added to a radiograph.
        pose_spread: Factor of the spread of pelvis and femurs about the mean of a pose.
    """

    pixel_mm: float
    site: Site | None = None
    stress: tuple[str, ...] = ()
    stress_probability: float = 1.0
    pose_spread: float = 1.0


def draw_geometry(
    rng: np.random.Generator, pixel_mm: float, off_centre: bool = False, sdd_mm: float | None = None
) -> ProjectionGeometry:
    """A detector of 43 x 36 cm at a usual distance or a given one; off centre, the central ray misses its middle."""
    rows, columns = (int(size / pixel_mm) for size in _FIELD_MM)
    usual = float(rng.choice([1000.0, 1100.0, 1200.0]))  # drawn in any case: the patient is the same at every site
    sdd = usual if sdd_mm is None else sdd_mm
    middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
    shift = rng.normal(0, 12, 2) / pixel_mm
    return ProjectionGeometry(sdd, pixel_mm, pixel_mm, columns, rows, middle + shift * off_centre)


def draw_poses(
    anatomy: Anatomy, pose: str, geometry: ProjectionGeometry, rng: np.random.Generator, spread: float = 1.0
) -> dict[str, RigidTransform]:
    """camera_from_ct of every body in a frontal view: the pelvis tilted, the femurs turned about their heads.

    Args:
        anatomy: Shapes of the patient.
        pose: Pose, a key of `FEMUR_ANGLES_DEG`.
        geometry: Camera.
        rng: Random generator of this radiograph.
        spread: Factor of the spread of all angles about the pose's means.
    """
    focus = np.add(anatomy.hip_centre(), (0, 0, 10.0))
    direction: View = "pa" if geometry.reversed_columns else "ap"
    view = standard_view(direction, focus, geometry, object_to_detector_mm=rng.uniform(110, 190))
    tilt = Rotation.from_euler("xyz", spread * rng.normal(0, _PELVIS_SPREAD_DEG), degrees=True).as_matrix()
    pelvis = view @ RigidTransform.about(focus, tilt, rng.normal(0, (10, 0, 10)))
    poses = {"pelvis": pelvis}
    for side in SIDES:
        flexion, abduction, rotation = np.array(FEMUR_ANGLES_DEG[pose]) + spread * rng.normal(0, _FEMUR_SPREAD_DEG)
        mirror = 1.0 if side == "L" else -1.0
        # positive turns about +x bring the knee forward, about -y (left leg) away from the middle, about +z outward
        angles = (flexion, -mirror * abduction, mirror * rotation)
        turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        play = rng.normal(0, _JOINT_PLAY_MM, 3)
        poses[f"femur_{side}"] = pelvis @ RigidTransform.about(anatomy.heads_mm[side], turn, play)
    return poses


def mineral_channels(tissue: Tissue) -> dict[str, Channels]:
    """What each body casts: its mineral, mg/cm3, on voxels as fine as those of its bones."""
    channels = {}
    for body in BODIES:
        parts = [tissue.fine_mineral[name] for name in STRUCTURES_OF_BODY[body] if name in tissue.fine_mineral]
        channels[body] = prepare_channels(_add_up(parts), names=(body,))
    return channels


def _add_up(volumes: Sequence[Volume]) -> Volume:
    """The sum of volumes on parts of one grid, over the box around them."""
    spacing = volumes[0].grid.spacing_mm
    origin = np.min([volume.grid.origin_mm for volume in volumes], axis=0)
    firsts = [np.rint((volume.grid.origin_mm - origin) / spacing).astype(int)[::-1] for volume in volumes]
    shape = np.max([first + volume.grid.shape for first, volume in zip(firsts, volumes, strict=True)], axis=0)
    total = np.zeros(tuple(shape), np.float32)
    for first, volume in zip(firsts, volumes, strict=True):
        box = tuple(slice(start, start + size) for start, size in zip(first, volume.grid.shape, strict=True))
        total[box] += volume.array
    return Volume(total, Grid(total.shape, spacing, origin, np.eye(3)), volumes[0].quantity)


def soft_channels(anatomy: Anatomy, tissue: Tissue, rng: np.random.Generator) -> dict[str, Channels]:
    """Soft tissue on the day of the radiograph, mg/cm3 of water: other bowel gas and another girth than in the CT.

    It is shared out to the bodies that it moves with: a thigh follows its femur, gradually from the groin down.
    """
    gas = draw_bowel_gas(anatomy, tissue.room_for_gas, rng)
    water = np.clip(1000 + tissue.soft_hu, 0, None) * np.float32(rng.uniform(0.97, 1.1))
    water[gas] = 150.0
    halved = average_parts(water, 2)
    wide = Grid(halved.shape, 2 * anatomy.grid.spacing_mm, anatomy.grid.points(np.full(3, 0.5)), anatomy.grid.direction)
    array, grid = _extended(halved, wide)
    i, k = (np.arange(grid.shape[axis], dtype=np.float32) for axis in (2, 0))
    x = grid.origin_mm[0] + i * grid.spacing_mm[0] - anatomy.hip_centre()[0]
    z = grid.origin_mm[2] + k * grid.spacing_mm[2] - anatomy.hip_centre()[2]
    below = _smooth_step((-z - 30.0) / 100.0)[:, None, None]
    left = _smooth_step(x / 16.0 + 0.5)[None, None, :]
    shares = {"pelvis": 1 - below, "femur_L": below * left, "femur_R": below * (1 - left)}
    channels = {}
    for body, share in shares.items():
        part = Volume((array * share).astype(np.float32), grid, "density_mg_cm3")
        channels[body] = prepare_channels(part, names=(body,))
    return channels


def soft_poses(camera_from_ct: Mapping[str, RigidTransform]) -> dict[str, RigidTransform]:
    """Poses of the soft tissue of each body: a thigh follows its femur outward, but never into the other thigh."""
    pelvis = camera_from_ct["pelvis"]
    poses = {"pelvis": pelvis}
    for side in SIDES:
        femur = camera_from_ct[f"femur_{side}"]
        down = (pelvis.inverse() @ femur).rotation @ (0, 0, -1.0)
        outward = down[0] if side == "L" else -down[0]
        poses[f"femur_{side}"] = femur if outward > 0 else pelvis
    return poses


def areal_densities(
    soft: Mapping[str, Channels],
    mineral: Mapping[str, Channels],
    camera_from_ct: Mapping[str, RigidTransform],
    geometry: ProjectionGeometry,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Areal density of soft tissue and of each body's mineral under its own pose, g/cm2, (rows, columns)."""
    bones = {
        body: render(channels, [camera_from_ct[body]], geometry)[0, 0] * MG_CM3_MM_TO_G_CM2
        for body, channels in mineral.items()
    }
    coarse = geometry.resized(max(geometry.rows // 2, 1), max(geometry.columns // 2, 1))  # soft tissue is smooth
    image = np.zeros(coarse.shape, np.float32)
    follows = soft_poses(camera_from_ct)
    for body, channels in soft.items():
        image += render(channels, [follows[body]], coarse)[0, 0] * MG_CM3_MM_TO_G_CM2
    scale = np.array(image.shape) / geometry.shape
    water = ndimage.affine_transform(
        image, scale, offset=(scale - 1) / 2, output_shape=geometry.shape, order=1, mode="nearest"
    )
    return water, bones


def take_radiograph(
    anatomy: Anatomy,
    tissue: Tissue,
    mineral: Mapping[str, Channels],
    pose: str,
    pixel_mm: float,
    rng: np.random.Generator,
    *,
    off_centre: bool = False,
    from_behind: bool = False,
    site: Site | None = None,
    pose_spread: float = 1.0,
) -> Exposed:
    """Pose the patient, expose the detector.

    Args:
        anatomy: Shapes of the patient.
        tissue: Tissue of the patient.
        mineral: Mineral of each body, of `mineral_channels`, shared by all radiographs of the patient.
        pose: Pose, a key of `FEMUR_ANGLES_DEG`.
        pixel_mm: Pixel size at the detector.
        rng: Random generator of this radiograph.
        off_centre: Whether the central ray misses the middle of the image.
        from_behind: Whether the source is behind the patient (PA); it is displayed as usual, the patient's left on the
            image's right.
        site: Where it is taken; without one, tube, grid and dose are drawn for this radiograph alone.
        pose_spread: Factor of the spread of the angles.
    """
    plain = draw_geometry(rng, pixel_mm, off_centre, None if site is None else site.sdd_mm)
    geometry = replace(plain, reversed_columns=from_behind)
    poses = draw_poses(anatomy, pose, geometry, rng, pose_spread)
    soft, bones = areal_densities(soft_channels(anatomy, tissue, rng), mineral, poses, geometry)
    settings = _draw_exposure(rng) if site is None else site.vary_exposure(rng)
    signal = expose(soft, np.sum(list(bones.values()), axis=0), pixel_mm, settings, rng)
    return Exposed(signal, poses, geometry, settings.kvp, soft, bones)


def _draw_exposure(rng: np.random.Generator) -> ExposureSettings:
    return ExposureSettings(
        kvp=float(rng.choice([70, 80, 90])),
        scatter_to_primary=float(rng.uniform(0.15, 0.4)),
        photons=float(10 ** rng.uniform(5.2, 6.0)),
    )


def _extended(array: np.ndarray, grid: Grid, by_mm: float = 60.0) -> tuple[np.ndarray, Grid]:
    """With its first and last slice repeated: the patient goes on where the anatomy ends."""
    count = int(np.ceil(by_mm / grid.spacing_mm[2]))
    padded = np.pad(array, ((count, count), (0, 0), (0, 0)), mode="edge")
    return padded, Grid(padded.shape, grid.spacing_mm, grid.points((-count, 0, 0)), grid.direction)


def _smooth_step(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 over the unit interval."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def take_stored(
    anatomy: Anatomy,
    tissue: Tissue,
    mineral: Mapping[str, Channels],
    pose: str,
    rng: np.random.Generator,
    settings: RadiographSettings,
) -> tuple[Exposed, np.ndarray]:
    """`take_radiograph`, then `present`, both from one generator.

    Args:
        anatomy: Shapes of the patient.
        tissue: Tissue of the patient.
        mineral: Mineral of each body, of `mineral_channels`.
        pose: Pose, a key of `FEMUR_ANGLES_DEG`.
        rng: Random generator of this radiograph.
        settings: Pixels, site, difficulties.
    """
    site, pixel_mm, stress = settings.site, settings.pixel_mm, set(settings.stress)
    if settings.stress_probability < 1:
        stress = {word for word in settings.stress if rng.random() < settings.stress_probability}
    exposed = take_radiograph(
        anatomy,
        tissue,
        mineral,
        pose,
        pixel_mm,
        rng,
        off_centre="offcentre" in stress,
        from_behind="pa" in stress,
        site=site,
        pose_spread=settings.pose_spread,
    )
    if "blades" in stress:
        drawn = draw_field(exposed.signal.shape, pixel_mm, rng)
        signal = collimate(exposed.signal, drawn, pixel_mm, rng)
        exposed = replace(exposed, signal=signal, field=drawn.is_open)
    stored = present(
        exposed.signal,
        pixel_mm,
        rng,
        marker="marker" in stress,
        collimation="collimation" in stress,
        field=exposed.field,
        processing=None if site is None else site.processing.vary(rng),
    )
    return replace(exposed, stress=frozenset(stress)), stored
