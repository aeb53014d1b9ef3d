"""Calibrated biplane radiographs of bones with their CTs, as Autoscoper's sample data: read here, measured elsewhere.

A folder is read as its publisher lays it out (Calibration/, Models/, XMA_UND/ ...) or flat, with `_` for `/` in the
names. `truth.json` beside it holds poses; it is not needed.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from bmdkit.core.calibrated_camera import CalibratedCamera
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import Volume
from bmdkit.io.camera_files import CameraEntry, read_cameras
from bmdkit.io.tiff_pages import decode_page
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.registration.bodies import Body

NAMES = {"rad": "radius", "uln": "ulna", "mc3": "metacarpal_3"}
"""Names of the models in the files -> names of the bones; models of several bones are left out."""

VOXEL_MM = (0.39625, 0.39625, 0.625)
"""Voxels of the sample's models, columns, rows and pages; a .cfg beside them overrules it."""

WATER = 1024.0
"""Stored value of water."""

_CALIBRATION = re.compile(r"calibration.*cam(\d+)\.txt$", re.IGNORECASE)
_MODEL = re.compile(r"models.*?([a-z0-9_]+)_dcm_cropped\.tif$", re.IGNORECASE)
_FRAME = re.compile(r"cam(\d+)_UND\.(\d+)\.tif$", re.IGNORECASE)
_VOXEL = re.compile(r"VoxelSize\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Shot:
    """One radiograph of one frame, and its camera."""

    frame: str
    camera_name: str
    radiograph: Radiograph
    camera: CalibratedCamera


@dataclass(frozen=True, eq=False)
class Biplane:
    """A folder of biplane radiographs.

    Attributes:
        bodies: Bones by name.
        frames: Frame -> its radiographs, in the order of the cameras.
        truth: (bone, frame, camera) -> camera_from_ct; empty where there is no truth.json.
    """

    bodies: dict[str, Body]
    frames: dict[str, tuple[Shot, ...]]
    truth: dict[tuple[str, str, str], RigidTransform]


def read_biplane(folder: Path) -> Biplane:
    """Read a folder of biplane radiographs.

    Raises:
        ValueError: It holds no calibration, no model or no frame.
    """
    files = {"_".join(path.relative_to(folder).parts): path for path in sorted(folder.rglob("*")) if path.is_file()}
    cameras = {
        f"cam{int(found[1])}": next(iter(read_cameras(path).values()))
        for name, path in files.items()
        if (found := _CALIBRATION.search(name))
    }
    voxel_mm = VOXEL_MM
    for name, path in files.items():
        if name.endswith(".cfg") and (found := _VOXEL.search(path.read_text(encoding="utf-8", errors="replace"))):
            voxel_mm = (float(found[1]), float(found[2]), float(found[3]))
    bodies = {}
    for name, path in files.items():
        if (found := _MODEL.search(name)) and (model := found[1].removeprefix("_")) in NAMES:
            bodies[NAMES[model]] = read_model(path, voxel_mm, NAMES[model])
    frames: dict[str, list[Shot]] = {}
    for name, path in files.items():
        if (found := _FRAME.search(name)) and (camera := f"cam{int(found[1])}") in cameras:
            frame = f"frame_{found[2]}"
            frames.setdefault(frame, []).append(read_shot(path, frame, camera, cameras[camera]))
    if not cameras or not bodies or not frames:
        raise ValueError(f"{folder}: expected calibrations, models and frames, got {list(files)[:9]}")
    truth = folder / "truth.json"
    return Biplane(
        bodies,
        {frame: tuple(sorted(shots, key=lambda s: s.camera_name)) for frame, shots in sorted(frames.items())},
        read_truth(truth) if truth.exists() else {},
    )


def read_model(path: Path, voxel_mm: tuple[float, float, float], name: str) -> Body:
    """Read the CT of one bone, everything else of it set to 0; HU above water are taken for the density."""
    with tifffile.TiffFile(path) as file:
        stack = np.stack([decode_page(path, page) for page in file.pages]).astype(np.float32)
    volume = Volume(np.maximum(stack - WATER, 0), Grid(stack.shape, voxel_mm, np.zeros(3), np.eye(3)), "density_mg_cm3")
    return Body.from_mask(volume, stack > 0, name)


def read_shot(path: Path, frame: str, camera_name: str, entry: CameraEntry) -> Shot:
    """Read one radiograph, on which bone is dark, through a side-car that holds its camera."""
    if entry.matrix is None or entry.camera_from_world is None:
        raise ValueError(f"{camera_name}: expected K and the camera's place")
    with tempfile.TemporaryDirectory() as place:
        image = Path(place) / "x.tif"
        image.symlink_to(path.resolve())
        side_car = {
            "K": entry.matrix.tolist(),
            "camera_from_world": entry.camera_from_world.matrix.tolist(),
            "brighter_is_denser": False,
        }
        image.with_suffix(".json").write_text(json.dumps(side_car), encoding="utf-8")
        radiograph = read_radiograph(image, config=XrayConfig(polarity="bone_dark"))
    if radiograph.camera is None:
        raise ValueError(f"{path.name}: expected a camera")
    return Shot(frame, camera_name, radiograph, radiograph.camera)


def read_truth(path: Path) -> dict[tuple[str, str, str], RigidTransform]:
    """Read known poses, camera_from_ct by bone, frame and camera."""
    bones = json.loads(path.read_text(encoding="utf-8"))["bones"]
    return {
        (bone, frame, camera): RigidTransform(np.array(matrix))
        for bone, frames in bones.items()
        for frame, entry in frames.items()
        for camera, matrix in entry["camera_from_ct"].items()
    }
