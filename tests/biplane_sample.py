"""A made bone under two calibrated cameras, in memory and in the layout of Autoscoper's sample data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bmdkit.core.calibrated_camera import CalibratedCamera
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import Volume
from bmdkit.registration.bodies import FINE, Body
from bmdkit.registration.staging import Shown

VOXEL_MM = (1.0, 1.0, 1.5)
PIXELS = 260
FOCAL = 2600.0
WATER = 1024.0

_FACING = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])


def draw_bone() -> tuple[Volume, np.ndarray]:
    """Density and mask of a long bone of 75 mm, thick at one end and bent: no turn maps it onto itself."""
    shape = (54, 34, 34)
    k, j, i = np.indices(shape)
    along = k / (shape[0] - 1)
    centre = 16 + 4 * (along - 0.4) ** 2 * 10
    radius = 5 + 6 * np.clip((along - 0.6) / 0.4, 0, 1) + 2 * np.clip(0.2 - along, 0, 1) * 10
    solid = ((i - centre) / 1.3) ** 2 + (j - 16) ** 2 < radius**2
    solid |= (np.hypot(i - 26, j - 18) < 3.5) & (k > 34) & (k < 46)
    inner = ndimage.distance_transform_edt(solid, sampling=VOXEL_MM[::-1])
    density = np.where(solid, np.where(inner < 2.5, 1100.0, 350.0), 0.0).astype(np.float32)
    return Volume(density, Grid(shape, np.array(VOXEL_MM), np.zeros(3), np.eye(3)), "density_mg_cm3"), solid


def make_bone() -> Body:
    """The bone as a body."""
    return Body.from_mask(*draw_bone(), "radius")


def make_cameras(angle_deg: float = 75.0) -> tuple[CalibratedCamera, ...]:
    """Two cameras whose central rays meet 900 mm from the sources."""
    geometry = ProjectionGeometry(1200.0, 1200 / FOCAL, 1200 / FOCAL, PIXELS, PIXELS, np.array([124.0, 133.0]))
    found = []
    for angle in (0.0, angle_deg):
        turn = Rotation.from_euler("y", -angle, degrees=True).as_matrix() @ _FACING
        found.append(CalibratedCamera(geometry, RigidTransform.from_parts(turn, np.array([2.0, -3.0, 900.0]))))
    return tuple(found)


def pose_bone(body: Body, rng: np.random.Generator) -> RigidTransform:
    """world_from_ct with the bone near the place where the rays meet."""
    turn = Rotation.from_rotvec(rng.normal(0, 0.3, 3)).as_matrix()
    return RigidTransform.from_parts(turn, rng.normal(0, 4, 3) - turn @ body.points_mm.mean(0))


def expose_bone(body: Body, world_from_ct: RigidTransform, rng: np.random.Generator) -> list[Shown]:
    """Radiographs of the bone in soft tissue, with another bone beside it and noise."""
    shown = []
    for number, camera in enumerate(make_cameras(), start=1):
        if camera.camera_from_world is None:
            raise ValueError("camera: expected its place")
        pose = camera.camera_from_world @ world_from_ct
        beside = RigidTransform.from_parts(np.eye(3), np.array([21.0, 4.0, 6.0])) @ pose
        drr = body.project(np.stack([pose.matrix, beside.matrix]), camera.geometry, FINE, "cpu")
        row, column = np.indices(camera.geometry.shape)
        tissue = 1 - ((column - 130) / 140.0) ** 2 + 0.2 * row / PIXELS
        image = drr[0] + 0.7 * drr[1] + 0.6 * tissue + rng.normal(0, 0.01, drr[0].shape)
        image = np.clip((image - image.min()) / np.ptp(image), 0, 1) ** 0.8
        pixel = camera.geometry.column_spacing_mm
        radiograph = Radiograph(image, np.ones(image.shape, bool), pixel, pixel, 1200.0, camera=camera)
        shown.append(Shown(radiograph, camera, None, f"cam{number}"))
    return shown


def write_biplane(folder: Path, *, flat: bool) -> None:
    """Write the bone, its radiographs of one frame, calibrations and truth, flat or as a tree."""
    rng = np.random.default_rng(5)
    volume, mask = draw_bone()
    body = make_bone()
    pose = pose_bone(body, rng)
    stored = np.where(mask, volume.array + WATER, 0).astype(np.uint16)

    def place(*parts: str) -> Path:
        path = folder / "_".join(parts) if flat else folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    tifffile.imwrite(place("sample", "Models", "rad_dcm_cropped.tif"), stored)
    place("sample", "wrist.cfg").write_text("VoxelSize {} {} {}\n".format(*VOXEL_MM))
    found = {}
    for shown in expose_bone(body, pose, rng):
        camera = shown.camera
        if camera is None or camera.camera_from_world is None:
            raise ValueError("camera: expected its place")
        name = f"cam0{shown.name[-1]}"
        dark = 255 - np.rint(shown.radiograph.pixels * 255).astype(np.uint8)
        image = place("sample", "XMA_UND", f"xr_data_{name}", f"xr_{name}_UND.0007.tif")
        Image.fromarray(dark).save(image, compression="tiff_lzw")
        place("sample", "Calibration", f"xr_calib_{name}.txt").write_text(_write_mayacam(camera))
        found[shown.name] = (camera.camera_from_world @ pose).matrix.tolist()
    truth = {"bones": {"radius": {"frame_0007": {"camera_from_ct": found}}}}
    (folder / "truth.json").write_text(json.dumps(truth))


def _write_mayacam(camera: CalibratedCamera) -> str:
    if camera.camera_from_world is None:
        raise ValueError("camera: expected its place")

    def rows(matrix: np.ndarray) -> str:
        return "\n".join(",".join(f"{value:.12g}" for value in np.atleast_1d(row)) for row in matrix)

    pose = camera.camera_from_world
    return (
        f"image size\n{camera.geometry.columns},{camera.geometry.rows}\n\ncamera matrix\n"
        f"{rows(camera.geometry.intrinsics)}\n\nrotation\n{rows(pose.rotation)}\n\ntranslation\n"
        f"{rows(pose.translation_mm)}\n"
    )
