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
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.dataset.stages import PointPairs
    from bmdkit.registration.bodies import Body
    from bmdkit.registration.result import RegistrationResult

logger = logging.getLogger(__name__)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("register")
@click.argument("ct", type=click.Path(exists=True, path_type=Path))
@click.argument("xray", type=_FILE)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--labels", type=click.Path(exists=True, path_type=Path), help="Label map, or folder of masks.")
@click.option("--calibration", type=_FILE, help="File calibration.json to use instead of a phantom.")
@click.option(
    "--side", type=click.Choice(["L", "R", "both"]), default="both", show_default=True, help="Femurs to register."
)
@click.option("--init", "initial", type=_FILE, help="Registration or pose file to start from.")
@click.option(
    "--init-points",
    "points",
    type=(_FILE, _FILE),
    metavar="CT XRAY",
    help="Start from pairs of points: .mrk.json or .fcsv of the CT; the radiograph's may be {name: [column, row]} too.",
)
@options.common
def command(
    ct: Path,
    xray: Path,
    out: Path,
    labels: Path | None,
    calibration: Path | None,
    side: Side | Literal["both"],
    initial: Path | None,
    points: tuple[Path, Path] | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
) -> None:
    """Register pelvis and femurs of CT to XRAY; writes registration_<xray>.json and pictures."""
    from bmdkit.core.anatomy import SIDES
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.dataset.stages import calibrate_ct, prepare_bones, read_bones, register_bones
    from bmdkit.io.ct import read_ct
    from bmdkit.io.patient_identity import check_same_patient
    from bmdkit.io.xray import read_radiograph, require_geometry
    from bmdkit.jobs.machine import MachineNeeds, check_machine

    settings = options.settings(BuildConfig, recipe=recipe, overrides=overrides)
    if labels is None:
        raise click.UsageError("give --labels: a label map with pelvis and femurs, or a folder of masks")
    device = check_machine(MachineNeeds(device=device, renders=True, out=out))
    scan = read_ct(ct, config=settings.ct)
    radiograph = read_radiograph(xray, config=settings.xray)
    require_geometry(radiograph, file=xray.name)
    camera = radiograph.geometry()
    told = check_same_patient(scan.patient_key, radiograph.patient_key, rule=settings.same_person, file=xray.name)
    for warning in told:
        click.echo(f"warning: {warning}", err=True)
    line = calibrate_ct(scan.volume, calibration, settings.calibration)
    structures = read_bones(labels, scan.volume, settings.labels)
    femurs: tuple[Side, ...] = SIDES if side == "both" else (side,)
    bones = prepare_bones(scan.volume, structures, line, sides=femurs, config=settings.registration)
    camera, start = _read_start(initial, points, camera)
    result = register_bones(
        bones,
        radiograph,
        geometry=camera,
        start=start,
        config=settings.registration,
        seed=seed,
        device=device,
    )
    _write(out, xray.stem, result, radiograph, bones, settings, seed)
    if result.verdict == "reject":
        raise click.exceptions.Exit(3)


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

    option = "--init" if initial else "--init-points"
    try:
        if initial:
            recorded = read_poses(initial)
            is_pa = recorded.camera is not None and recorded.camera.reversed_columns
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
