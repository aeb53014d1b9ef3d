"""A small skeleton of spheres, shells and tubes, and a radiograph of it with known poses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.pose import View, standard_view
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.registration.bodies import Body
from bmdkit.registration.settings import RegistrationConfig, SearchConfig

HEADS = {"L": np.array([85.0, 10.0, 20.0]), "R": np.array([-85.0, 14.0, 16.0])}
CONFIG = replace(
    RegistrationConfig(),
    coarse_pixel_mm=6.0,
    coarse_voxel_mm=6.0,
    fine_pixel_mm=3.0,
    fine_voxel_mm=3.0,
    pelvis=SearchConfig(sigma=0.8, population=12, evaluations=240),
    femur=SearchConfig(sigma=0.3, population=8, evaluations=48),
)
"""Settings of a registration for images of a few thousand pixels."""
CAMERA = ProjectionGeometry(1000.0, 1.0, 1.0, 400, 340)


def skeleton() -> tuple[Volume, LabelMap]:
    """Density and labels on a 3 mm grid: an asymmetric ring with wings, and two femurs."""
    grid = Grid((84, 50, 110), (3.0, 3.0, 3.0), (-163.5, -75.0, -125.0), np.eye(3))
    z, y, x = np.moveaxis(grid.points(np.moveaxis(np.indices(grid.shape), 0, -1)), -1, 0)[::-1]
    labels = np.zeros(grid.shape, np.uint8)
    wide = np.hypot(x / 1.2, (z - 40) / 0.8)
    pelvis = (wide > 52) & (wide < 72) & (np.abs(y - 10 - 0.2 * z) < 14)
    for side, tilt in ((1, 0.35), (-1, 0.25)):
        pelvis |= (np.abs(x - side * (95 + tilt * (z - 60))) < 8) & (z > 60) & (z < 115) & (np.abs(y + 5) < 40)
        pelvis |= ((x - side * 45) ** 2 + (z + 15) ** 2 < 18**2) & (np.abs(y - 18) < 10)
    labels[pelvis] = LABEL_VALUES["pelvis"]
    labels[(np.hypot(x - 4, y - 25) < 24) & (z > 70)] = LABEL_VALUES["axial"]
    for side, head in HEADS.items():
        out = 1 if side == "L" else -1
        ball = ((x - head[0]) ** 2 + (y - head[1]) ** 2 + (z - head[2]) ** 2) < 23**2
        along = (x - head[0]) * out
        neck = (along > 0) & (along < 45) & (np.hypot(y - head[1], z - head[2] + along * 0.6) < 13)
        shaft = (np.hypot(x - head[0] - out * 42, y - head[1] - 6) < 15) & (z < head[2] - 5)
        femur = ball | neck | shaft
        labels[ndimage.binary_dilation(ball) & (labels == LABEL_VALUES["pelvis"])] = 0
        labels[femur] = LABEL_VALUES[f"femur_{side}"]
    depth = ndimage.distance_transform_edt(labels > 0, sampling=3.0)
    density = np.where(labels > 0, np.where(depth < 5, 800.0, 200.0), 20.0).astype(np.float32)
    return Volume(density, grid, "density_mg_cm3"), LabelMap(labels, grid, LABEL_VALUES)


@dataclass(frozen=True)
class Shown:
    """A radiograph, and where the bones truly are."""

    radiograph: Radiograph
    poses: dict[str, RigidTransform]


def expose(
    bodies: tuple[Body, ...], rng: np.random.Generator, *, camera: ProjectionGeometry = CAMERA, view: View = "ap"
) -> Shown:
    """Bones under random poses in soft tissue, through a display curve, with noise."""
    middle = (HEADS["L"] + HEADS["R"]) / 2
    towards = standard_view(view, middle, camera, object_to_detector_mm=140)
    turn = Rotation.from_euler("xyz", rng.normal(0, (4, 2, 2)), degrees=True).as_matrix()
    pelvis = towards @ RigidTransform.about(middle, turn, rng.normal(0, 6, 3))
    poses = {"pelvis": pelvis}
    for side, head in HEADS.items():
        bend = Rotation.from_euler("xyz", rng.normal(0, 5, 3), degrees=True).as_matrix()
        poses[f"femur_{side}"] = pelvis @ RigidTransform.about(head, bend, rng.normal(0, 0.4, 3))
    drr = sum(b.project(poses[b.name].matrix[None], camera, 1, "cpu")[0] for b in bodies)
    row, column = np.indices(camera.shape)
    tissue = 4 - ((column - 190) / 150.0) ** 2 - 0.5 * (row / 300.0)
    image = np.clip((0.35 * drr + 0.25 * tissue + rng.normal(0, 0.01, drr.shape)) / 3, 0, 1) ** 0.9
    return Shown(Radiograph(image.astype(np.float32), np.ones(camera.shape, bool), 1.0, 1.0, camera.sdd_mm), poses)
