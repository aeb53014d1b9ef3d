"""A registration as a scene of 3D Slicer: CT, bones where the radiograph saw them, the radiograph on its detector."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import SIDES, STRUCTURES_OF_BODY, Side, choose_colour
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.naming import make_safe_name
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import LabelMap, Volume, bounding_box
from bmdkit.errors import CaseError
from bmdkit.io.markups import write_landmarks, write_points
from bmdkit.io.nifti import write_nifti
from bmdkit.io.volumes import write_volume
from bmdkit.regions import find_landmarks, proximal_femur
from bmdkit.slicer import segmentation_nrrd, transform_files
from bmdkit.slicer.mrml import SceneFile

logger = logging.getLogger(__name__)

SCENE = "scene.mrml"
_CT_WINDOW = (-200.0, 1200.0)  # HU: soft tissue to cortical bone
_SHOWN_SHARE = 0.5  # per cent of a radiograph's pixels that may be darker, and brighter, than what is shown
_MARGIN = 1  # voxels about a bone, so that its surface is closed
_SOURCE_COLOUR = (255, 220, 0)


@dataclass(frozen=True, eq=False)
class SceneBody:
    """What moves as one piece.

    Attributes:
        name: Name of the body, as in the registration.
        labels: Structures that move with it, as they lie in the CT.
        landmarks: Landmarks that move with it.
        region: Its proximal femur, bool [slice, row, column], on the labels' grid.
    """

    name: str
    labels: LabelMap
    landmarks: Landmarks | None = None
    region: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class SceneView:
    """One radiograph, and where the bodies were in front of its camera.

    Attributes:
        name: Name of the radiograph.
        radiograph: The image.
        camera: Camera that the poses belong to, of its full-resolution pixels.
        poses: Name of the body -> camera_from_ct.
    """

    name: str
    radiograph: Radiograph
    camera: ProjectionGeometry
    poses: Mapping[str, RigidTransform]


def make_scene_bodies(labels: LabelMap, names: Iterable[str]) -> tuple[SceneBody, ...]:
    """Make the bodies of a scene, with the landmarks and the proximal femur of each hip where they are found.

    Args:
        labels: Structures that move with the bodies, fit for use.
        names: Names of the bodies.
    """
    bodies = []
    for name in names:
        kept = np.where(labels.mask(*STRUCTURES_OF_BODY.get(name, (name,))), labels.array, 0)
        landmarks, region = None, None
        side = next((side for side in SIDES if name == f"femur_{side}"), None)
        if side is not None:
            try:
                landmarks = find_landmarks(labels, side).landmarks
                region = proximal_femur(labels, landmarks)
            except CaseError as error:
                logger.warning("hip %s is shown without its proximal femur: %s", side, error)
        bodies.append(SceneBody(name, LabelMap(kept, labels.grid, labels.values), landmarks, region))
    return tuple(bodies)


def place_detector(camera: ProjectionGeometry) -> Grid:
    """Where the pixels of a radiograph lie in front of the source: one slice, in camera coordinates, mm."""
    first = camera.unproject(np.zeros(2), camera.sdd_mm)
    across = np.sign(camera.pixel_step_mm[0])
    direction = np.diag([across, 1.0, across])  # the third axis makes them right-handed
    spacing = (camera.column_spacing_mm, camera.row_spacing_mm, 1.0)
    return Grid((1, camera.rows, camera.columns), np.array(spacing), first, direction)


def write_registration_scene(folder: Path, ct: Volume, bodies: Sequence[SceneBody], views: Sequence[SceneView]) -> Path:
    """Write a scene, and the files that it loads, into one folder that can be moved as a whole.

    The scene's space is the CT as scanned, in which the first body stays. Under `ct_from_camera_<view>` lie radiograph
    and source; under it, `camera_from_ct_<body>` moves the bones of the other bodies to where the radiograph saw them.

    Args:
        folder: Folder to write to.
        ct: CT in HU.
        bodies: The bodies; those that the first view gives no pose are left out.
        views: Radiographs of one moment; the poses of the first move the bodies.

    Returns:
        File of the scene.

    Raises:
        ValueError: No body has a pose in every view.
    """
    shown = [body for body in bodies if all(body.name in view.poses for view in views)]
    if not shown:
        raise ValueError("bodies: expected at least one that every view gives a pose, got none")
    scene = SceneFile()
    write_volume(folder / "ct.nii.gz", ct)
    scene.add_volume("CT", "ct.nii.gz", window=_CT_WINDOW)
    fixed = shown[0].name
    roots = [_add_view(scene, folder, view, view.poses[fixed].inverse(), looks=view is views[0]) for view in views]
    for body in shown:
        _add_body(scene, folder, body, views[0].poses[body.name], root=roots[0])
    scene.write(folder / SCENE)
    return folder / SCENE


def _add_view(scene: SceneFile, folder: Path, view: SceneView, ct_from_camera: RigidTransform, *, looks: bool) -> str:
    """Add radiograph and source under the transform that takes the camera into the CT, and return that."""
    name = make_safe_name(view.name)
    root_file = f"ct_from_camera_{name}{transform_files.SUFFIXES[0]}"
    transform_files.write_transform(folder / root_file, ct_from_camera)
    root = scene.add_transform(f"ct_from_camera {view.name}", root_file)
    pixels, grid = view.radiograph.pixels, place_detector(view.camera)
    seen = pixels[view.radiograph.mask] if view.radiograph.mask.any() else pixels
    low, high = np.percentile(seen, (_SHOWN_SHARE, 100 - _SHOWN_SHARE))
    write_nifti(folder / f"{name}.nii.gz", pixels[None], grid)
    window = (float(low), float(high) if high > low else float(low) + 1.0)
    image = scene.add_volume(view.name, f"{name}.nii.gz", window=window, under=root)
    write_points(folder / f"source_{name}.mrk.json", {f"source {view.name}": np.zeros(3)})
    scene.add_points(f"source {view.name}", f"source_{name}.mrk.json", colour=_SOURCE_COLOUR, under=root)
    if looks:
        _look_along(scene, image, grid, view.camera, ct_from_camera)
    return root


def _look_along(
    scene: SceneFile, image: str, grid: Grid, camera: ProjectionGeometry, ct_from_camera: RigidTransform
) -> None:
    """Show the radiograph in space, and look at it from the source, as the X-rays did."""
    middle = ct_from_camera.apply(grid.centre())
    right, down = (ct_from_camera.rotation @ grid.direction[:, axis] for axis in (0, 1))
    turn = np.column_stack([right, -down, np.cross(right, -down)])
    height = camera.rows * camera.row_spacing_mm
    scene.show_plane(
        image, RigidTransform.from_parts(turn, middle), (camera.columns * camera.column_spacing_mm, height)
    )
    angle = 2 * np.degrees(np.arctan2(height / 2, camera.sdd_mm))
    scene.look_from(ct_from_camera.translation_mm, middle, -down, angle_deg=float(angle))


def _add_body(scene: SceneFile, folder: Path, body: SceneBody, pose: RigidTransform, *, root: str) -> None:
    """Add the bones of a body, and its landmarks, under its pose."""
    name = make_safe_name(body.name, otherwise="body")
    pose_file = f"camera_from_ct_{name}{transform_files.SUFFIXES[0]}"
    transform_files.write_transform(folder / pose_file, pose)
    moved = scene.add_transform(f"camera_from_ct {body.name}", pose_file, under=root)
    box = bounding_box(body.labels.array > 0, _MARGIN)
    regions: dict[Side, np.ndarray] = {}
    if body.region is not None and body.landmarks is not None:
        regions[body.landmarks.side] = body.region[box]
    file = f"{name}{segmentation_nrrd.SUFFIX}"
    segmentation_nrrd.write_slicer_segmentation(folder / file, body.labels.crop(box), regions=regions)
    scene.add_segmentation(body.name, file, under=moved)
    if body.landmarks is not None:
        points = f"landmarks_{body.landmarks.side}.mrk.json"
        write_landmarks(folder / points, body.landmarks)
        colour = choose_colour(f"proximal_femur_{body.landmarks.side}")
        scene.add_points(f"landmarks {body.landmarks.side}", points, colour=colour, under=moved)
