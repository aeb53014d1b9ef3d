"""`bmdkit register`: the poses of the bones of one CT in one radiograph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bmdkit.cli import options

if TYPE_CHECKING:
    import numpy as np

    from bmdkit.core.anatomy import Side
    from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
    from bmdkit.core.radiograph import Radiograph
    from bmdkit.core.volume import LabelMap, Volume
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.dataset.stages import PointPairs
    from bmdkit.io.ct import CtScan
    from bmdkit.registration.bodies import Body
    from bmdkit.registration.result import RegistrationResult
    from bmdkit.registration.settings import StartSpread
    from bmdkit.registration.staging import Shown

logger = logging.getLogger(__name__)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("register")
@click.argument("ct", type=click.Path(exists=True, path_type=Path))
@click.argument("xrays", metavar="XRAY [XRAY2 ...]", type=_FILE, nargs=-1, required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--labels", type=click.Path(exists=True, path_type=Path), help="Label map, or folder of masks.")
@click.option(
    "--structure",
    "structures",
    multiple=True,
    metavar="NAME",
    help="Structure of the labels to register instead of the hips, by its name or value (repeatable).",
)
@click.option(
    "--cameras",
    type=_FILE,
    help="Cameras of the radiographs by their names: {NAME: {K or sdd_mm, ..., camera_from_world, sd}}; of several "
    "radiographs all need one, or the positioner of a C-arm in their DICOM.",
)
@click.option("--calibration", type=_FILE, help="File calibration.json to use instead of a phantom.")
@click.option(
    "--side", type=click.Choice(["L", "R", "both"]), default="both", show_default=True, help="Femurs to register."
)
@click.option(
    "--init",
    "initial",
    type=_FILE,
    help="Registration or pose file to start from, or the transform camera_from_ct_<body> of a scene (--slicer).",
)
@click.option(
    "--init-sd",
    type=(float, float, float),
    metavar="DEGREES MM MM",
    help="How sure --init is: standard deviations of turns, of moves in the image's plane, and in depth.",
)
@click.option(
    "--init-points",
    "points",
    type=(_FILE, _FILE),
    metavar="CT XRAY",
    help="Start from pairs of points: .mrk.json or .fcsv of the CT; the radiograph's may be {name: [column, row]} too.",
)
@click.option(
    "--slicer",
    is_flag=True,
    help="Also write a folder for 3D Slicer: a scene with CT, bones, landmarks, poses, and the radiographs in space.",
)
@options.common
def command(
    ct: Path,
    xrays: tuple[Path, ...],
    out: Path,
    labels: Path | None,
    structures: tuple[str, ...],
    cameras: Path | None,
    calibration: Path | None,
    side: Side | Literal["both"],
    initial: Path | None,
    init_sd: tuple[float, float, float] | None,
    points: tuple[Path, Path] | None,
    slicer: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
) -> None:
    """Register pelvis and femurs of CT, or any structures, to one XRAY or to several of one moment.

    Writes registration_<xray>.json and pictures for each; with --slicer also registration_<xray>_slicer/scene.mrml of
    the first radiograph's name, which 3D Slicer opens.
    """
    import numpy as np

    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.dataset.stages import find_start
    from bmdkit.io.ct import read_ct
    from bmdkit.jobs.machine import MachineNeeds, check_machine
    from bmdkit.registration.register_bodies import register_views

    settings = options.settings(BuildConfig, recipe=recipe, overrides=overrides)
    if labels is None:
        raise click.UsageError("give --labels: a label map with pelvis and femurs, or a folder of masks")
    if init_sd is not None and initial is None:
        raise click.UsageError("--init-sd says how sure --init is: give both")
    device = check_machine(MachineNeeds(device=device, renders=True, out=out))
    scan = read_ct(ct, config=settings.ct)
    shown = _read_radiographs(xrays, cameras, scan, settings)
    bones, shapes = _prepare(scan, labels, structures, calibration, side, settings)
    camera, begun = _read_start(initial, points, shown[0].find_geometry())
    shown[0] = replace(shown[0], geometry=camera)
    results = register_views(
        bones,
        shown,
        start=find_start(begun, bones, camera, settings.registration),
        start_spread=_make_spread(init_sd),
        config=settings.registration,
        rng=np.random.default_rng(seed),
        device=device,
    )
    for each, result in zip(shown, results, strict=True):
        _write(out, each.name, result, each.radiograph, bones, settings, seed)
    if slicer:
        _write_scene(out, scan.volume, shapes, shown, results)
    if any(result.verdict == "reject" for result in results):
        raise click.exceptions.Exit(3)


def _make_spread(sd: tuple[float, float, float] | None) -> StartSpread | None:
    from bmdkit.registration.settings import StartSpread

    try:
        return None if sd is None else StartSpread(*sd)
    except ValueError as error:
        raise click.UsageError(f"--init-sd: {error}") from error


def _prepare(
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


def _read_start(
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
        return camera, PointPairs(read_points(points[0]), _read_pixels(points[1], camera)) if points else None
    except ValueError as error:  # also of JSON
        raise click.UsageError(f"{option}: {error}") from error


def _read_pixels(path: Path, camera: ProjectionGeometry) -> dict[str, np.ndarray]:
    """Points of a radiograph, pixels (column, row); markups hold mm from its first pixel, as 3D Slicer places them."""
    import json

    import numpy as np

    from bmdkit.io.markups import read_points

    if path.suffix.lower() == ".json" and "markups" not in (data := json.loads(path.read_text(encoding="utf-8"))):
        return {name: np.array(uv, float) for name, uv in data.items()}
    spacing = np.array([camera.column_spacing_mm, camera.row_spacing_mm])
    return {name: point[:2] / spacing for name, point in read_points(path).items()}


def _write(
    out: Path,
    name: str,
    result: RegistrationResult,
    radiograph: Radiograph,
    bones: Sequence[Body],
    settings: BuildConfig,
    seed: int,
) -> None:
    """Write the registration of the radiograph `name`, its settings and pictures, and say how it came out."""
    from bmdkit import config
    from bmdkit.dataset.layout import registration_file
    from bmdkit.io.images import write_png
    from bmdkit.io.results import write_json
    from bmdkit.registration import overlays

    file = registration_file(out, name)
    stem = file.stem
    write_json(file, result.to_dict(seed=seed))
    write_json(out / f"settings_{name}.json", config.to_dict(settings))
    write_png(out / f"{stem}_edges.png", overlays.draw_edge_overlay(radiograph, bones, result))
    write_png(out / f"{stem}_checkerboard.png", overlays.draw_checkerboard(radiograph, bones, result))
    write_png(out / f"{stem}_difference.png", overlays.draw_difference(radiograph, bones, result))
    write_png(out / f"{stem}_trace.png", overlays.draw_trace_chart(result))
    for bone, body in result.bodies.items():
        logger.info("%s: %s, similarity %.3f, spread %.2f mm", bone, body.verdict, body.similarity, body.spread)
    logger.info("%d DRRs, %.1f s of CPU time; written to %s", result.evaluations, result.seconds, out)


def _write_scene(
    out: Path, ct: Volume, shapes: LabelMap, shown: Sequence[Shown], results: Sequence[RegistrationResult]
) -> None:
    """Write the scene of 3D Slicer of radiographs that were registered together."""
    from bmdkit.dataset.layout import registration_file
    from bmdkit.slicer.registration_scene import SceneView, make_scene_bodies, write_registration_scene

    views = [
        SceneView(
            each.name, each.radiograph, result.camera, {pose.body: pose.camera_from_ct for pose in result.poses()}
        )
        for each, result in zip(shown, results, strict=True)
    ]
    folder = out / f"{registration_file(out, shown[0].name).stem}_slicer"
    scene = write_registration_scene(folder, ct, make_scene_bodies(shapes, results[0].bodies), views)
    logger.info("scene of 3D Slicer: %s", scene)
