"""`bmdkit register`: the poses of the bones of one CT in one radiograph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bmdkit.cli import options

if TYPE_CHECKING:
    from bmdkit.cli.registration_inputs import RegistrationInputs
    from bmdkit.core.anatomy import Side
    from bmdkit.core.radiograph import Radiograph
    from bmdkit.core.volume import LabelMap, Volume
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.registration.bodies import Body
    from bmdkit.registration.result import RegistrationResult
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
@options.dry_run()
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
    dry_run: bool,
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

    from bmdkit.cli.registration_inputs import StartFiles, read_inputs
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.jobs.machine import MachineNeeds, check_machine
    from bmdkit.registration.register_bodies import register_views

    settings = options.settings(BuildConfig, recipe=recipe, overrides=overrides)
    if labels is None:
        raise click.UsageError("give --labels: a label map with pelvis and femurs, or a folder of masks")
    if init_sd is not None and initial is None:
        raise click.UsageError("--init-sd says how sure --init is: give both")
    device = check_machine(MachineNeeds(device=device, renders=True, out=out))
    given = read_inputs(
        ct,
        xrays,
        labels,
        settings,
        structures=structures,
        cameras=cameras,
        calibration=calibration,
        side=side,
        start=StartFiles(initial, init_sd, points),
    )
    if dry_run:
        _show_plan(given, out, device, slicer=slicer)
        return
    shown, bones = given.shown, given.bones
    results = register_views(
        bones,
        shown,
        start=given.start,
        start_spread=given.start_spread,
        config=settings.registration,
        rng=np.random.default_rng(seed),
        device=device,
    )
    for each, result in zip(shown, results, strict=True):
        _write(out, each.name, result, each.radiograph, bones, settings, seed)
    if slicer:
        _write_scene(out, given.scan.volume, given.shapes, shown, results)
    if any(result.verdict == "reject" for result in results):
        raise click.exceptions.Exit(3)


def _show_plan(given: RegistrationInputs, out: Path, device: str, *, slicer: bool) -> None:
    """Say what would be registered, and which files would be written."""
    click.echo(f"CT: {options.describe_grid(given.scan.volume.grid)}.")
    for each in given.shown:
        rows, columns = each.radiograph.shape
        camera = each.find_geometry()
        spacing = f"{camera.row_spacing_mm:.3f} x {camera.column_spacing_mm:.3f} mm"
        click.echo(
            f"Radiograph {each.name}: {rows} x {columns} pixels of {spacing}, {camera.sdd_mm:.0f} mm from its source."
        )
    click.echo(f"It would register {', '.join(bone.name for bone in given.bones)}, on {device}.")
    begins = "a search of all poses" if given.start is None else "the given start"
    click.echo(f"It would begin with {begins}.")
    files = [file for each in given.shown for file in _name_files(out, each.name).values()]
    files += [_scene_folder(out, given.shown[0].name)] if slicer else []
    options.show_files(files, out)


def _name_files(out: Path, name: str) -> dict[str, Path]:
    """The files of the radiograph `name`."""
    from bmdkit.dataset.layout import registration_file

    file = registration_file(out, name)
    pictures = {kind: out / f"{file.stem}_{kind}.png" for kind in ("edges", "checkerboard", "difference", "trace")}
    return {"result": file, "settings": out / f"settings_{name}.json"} | pictures


def _scene_folder(out: Path, name: str) -> Path:
    """Folder of the scene of 3D Slicer, by the name of the first radiograph."""
    from bmdkit.dataset.layout import registration_file

    return out / f"{registration_file(out, name).stem}_slicer"


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
    from bmdkit.io.images import write_png
    from bmdkit.io.results import write_json
    from bmdkit.registration import overlays

    files = _name_files(out, name)
    write_json(files["result"], result.to_dict(seed=seed))
    write_json(files["settings"], config.to_dict(settings))
    write_png(files["edges"], overlays.draw_edge_overlay(radiograph, bones, result))
    write_png(files["checkerboard"], overlays.draw_checkerboard(radiograph, bones, result))
    write_png(files["difference"], overlays.draw_difference(radiograph, bones, result))
    write_png(files["trace"], overlays.draw_trace_chart(result))
    for bone, body in result.bodies.items():
        logger.info("%s: %s, similarity %.3f, spread %.2f mm", bone, body.verdict, body.similarity, body.spread)
    logger.info("%d DRRs, %.1f s of CPU time; written to %s", result.evaluations, result.seconds, out)


def _write_scene(
    out: Path, ct: Volume, shapes: LabelMap, shown: Sequence[Shown], results: Sequence[RegistrationResult]
) -> None:
    """Write the scene of 3D Slicer of radiographs that were registered together."""
    from bmdkit.slicer.registration_scene import SceneView, make_scene_bodies, write_registration_scene

    views = [
        SceneView(
            each.name, each.radiograph, result.camera, {pose.body: pose.camera_from_ct for pose in result.poses()}
        )
        for each, result in zip(shown, results, strict=True)
    ]
    folder = _scene_folder(out, shown[0].name)
    scene = write_registration_scene(folder, ct, make_scene_bodies(shapes, results[0].bodies), views)
    logger.info("scene of 3D Slicer: %s", scene)
