"""What `bmdkit register` reads before it registers: CT, radiographs with their cameras, bones, and a start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    import numpy as np

    from bmdkit.core.anatomy import Side
    from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
    from bmdkit.core.volume import LabelMap
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.dataset.stages import PointPairs
    from bmdkit.io.ct import CtScan
    from bmdkit.registration.bodies import Body
    from bmdkit.registration.settings import StartSpread
    from bmdkit.registration.staging import Shown


@dataclass(frozen=True)
class StartFiles:
    """Where the user lets the search begin.

    Attributes:
        pose: Registration, pose file or transform.
        sd: How sure it is: standard deviations of turns, degrees, of moves in the plane, and in depth, mm.
        points: Points of the CT and of the radiograph.
    """

    pose: Path | None = None
    sd: tuple[float, float, float] | None = None
    points: tuple[Path, Path] | None = None


@dataclass(frozen=True, eq=False)
class RegistrationInputs:
    """All that a registration works with.

    Attributes:
        scan: The CT.
        shown: Radiographs with their cameras.
        bones: Bones that are registered.
        shapes: Label map that they were cut out by.
        start: Pose that the search begins with; None: it finds one.
        start_spread: How sure that pose is.
    """

    scan: CtScan
    shown: list[Shown]
    bones: tuple[Body, ...]
    shapes: LabelMap
    start: RigidTransform | None
    start_spread: StartSpread | None


def read_inputs(
    ct: Path,
    xrays: tuple[Path, ...],
    labels: Path,
    settings: BuildConfig,
    *,
    structures: tuple[str, ...],
    cameras: Path | None,
    calibration: Path | None,
    side: Side | Literal["both"],
    start: StartFiles,
) -> RegistrationInputs:
    """Read and prepare what is registered; nothing is written.

    Args:
        ct: CT, a folder or a file.
        xrays: Radiographs.
        labels: Label map, or folder of masks.
        settings: All settings.
        structures: Structures to register instead of the hips.
        cameras: File with the cameras of the radiographs.
        calibration: Calibration to use instead of a phantom.
        side: Femurs to register.
        start: Where the search begins.

    Raises:
        CaseError: An image cannot be used.
        click.UsageError: The files do not go together.
    """
    from bmdkit.dataset.stages import find_start
    from bmdkit.io.ct import read_ct

    scan = read_ct(ct, config=settings.ct)
    shown = _read_radiographs(xrays, cameras, scan, settings)
    bones, shapes = _prepare_bones(scan, labels, structures, calibration, side, settings)
    camera, begun = read_start(start.pose, start.points, shown[0].find_geometry())
    shown[0] = replace(shown[0], geometry=camera)
    found = find_start(begun, bones, camera, settings.registration)
    return RegistrationInputs(scan, shown, bones, shapes, found, _make_spread(start.sd))


def _make_spread(sd: tuple[float, float, float] | None) -> StartSpread | None:
    from bmdkit.registration.settings import StartSpread

    try:
        return None if sd is None else StartSpread(*sd)
    except ValueError as error:
        raise click.UsageError(f"--init-sd: {error}") from error


def _prepare_bones(
    scan: CtScan,
    labels: Path,
    structures: tuple[str, ...],
    calibration: Path | None,
    side: Side | Literal["both"],
    settings: BuildConfig,
) -> tuple[tuple[Body, ...], LabelMap]:
    """Cut the bones that are to be registered out of the CT, and say where they lie."""
    from bmdkit.core.anatomy import SIDES
    from bmdkit.dataset.stages import calibrate_ct, prepare_bones, prepare_structures, read_bones
    from bmdkit.io.structures import read_structures

    line = calibrate_ct(scan.volume, calibration, settings.calibration)
    if structures:
        wanted = read_structures(labels, structures)
        return prepare_structures(scan.volume, wanted, line, config=settings.registration), wanted
    femurs: tuple[Side, ...] = SIDES if side == "both" else (side,)
    hips = read_bones(labels, scan.volume, settings.labels)
    return prepare_bones(scan.volume, hips, line, sides=femurs, config=settings.registration), hips


def _read_radiographs(
    xrays: tuple[Path, ...], cameras: Path | None, scan: CtScan, settings: BuildConfig
) -> list[Shown]:
    """Read the radiographs with their cameras."""
    from bmdkit.core.geometry import GeometryError
    from bmdkit.io.camera_files import read_cameras
    from bmdkit.io.patient_identity import check_same_patient
    from bmdkit.io.positioner import read_positioner
    from bmdkit.io.xray import read_radiograph, require_geometry
    from bmdkit.registration.staging import Shown

    if len({xray.stem for xray in xrays}) < len(xrays):
        raise click.UsageError("XRAY: expected files of different names, as the results are named after them")
    entries = {} if cameras is None else read_cameras(cameras)
    missing = [xray.name for xray in xrays if cameras and xray.stem not in entries and xray.name not in entries]
    if missing:
        raise click.UsageError(f"--cameras: no camera of {', '.join(missing)}; the file has {', '.join(entries)}")
    shown = []
    for xray in xrays:
        radiograph = read_radiograph(xray, config=settings.xray)
        camera = radiograph.camera
        if entries:
            try:
                camera = (entries.get(xray.stem) or entries[xray.name]).fit(*radiograph.shape)
            except GeometryError as error:
                raise click.UsageError(f"--cameras: {xray.name}: {error}") from error
        if camera is None:
            require_geometry(radiograph, file=xray.name)
        if len(xrays) > 1 and (camera is None or camera.camera_from_world is None):
            camera = read_positioner(xray, radiograph.geometry())
            if camera is None:
                raise click.UsageError(f"{xray.name}: its place is not known; give --cameras, as there are several")
        for warning in check_same_patient(
            scan.patient_key, radiograph.patient_key, rule=settings.same_person, file=xray.name
        ):
            click.echo(f"warning: {warning}", err=True)
        shown.append(Shown(radiograph, camera, None, xray.stem))
    return shown


def read_start(
    initial: Path | None, points: tuple[Path, Path] | None, camera: ProjectionGeometry
) -> tuple[ProjectionGeometry, RigidTransform | PointPairs | None]:
    """Where the user lets the search begin, and the camera: as it is, or of a PA view where the given pose is of one.

    Raises:
        click.UsageError: A file does not say it.
    """
    from bmdkit.core.pose_json import read_poses
    from bmdkit.dataset.stages import PointPairs
    from bmdkit.io.markups import read_points
    from bmdkit.slicer.transform_files import SUFFIXES, read_transform

    option = "--init" if initial else "--init-points"
    try:
        if initial and initial.suffix.lower() in SUFFIXES:
            return camera, read_transform(initial)
        if initial:
            recorded = read_poses(initial)
            is_pa = (recorded.camera or camera).reversed_columns
            return replace(camera, reversed_columns=is_pa), recorded.first()
        return camera, PointPairs(read_points(points[0]), read_pixels(points[1], camera)) if points else None
    except ValueError as error:  # also of JSON
        raise click.UsageError(f"{option}: {error}") from error


def read_pixels(path: Path, camera: ProjectionGeometry) -> dict[str, np.ndarray]:
    """Points of a radiograph, pixels (column, row); markups hold mm from its first pixel, as 3D Slicer places them."""
    import json

    import numpy as np

    from bmdkit.io.markups import read_points

    if path.suffix.lower() == ".json" and "markups" not in (data := json.loads(path.read_text(encoding="utf-8"))):
        return {name: np.array(uv, float) for name, uv in data.items()}
    spacing = np.array([camera.column_spacing_mm, camera.row_spacing_mm])
    return {name: point[:2] / spacing for name, point in read_points(path).items()}
