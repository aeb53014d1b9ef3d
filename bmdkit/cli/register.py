"""`bmdkit register`: the poses of the bones of one CT in one radiograph."""

from __future__ import annotations

from pathlib import Path

import click

from bmdkit.cli import options

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("register")
@click.argument("ct", type=click.Path(exists=True, path_type=Path))
@click.argument("xray", type=_FILE)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--labels", type=click.Path(exists=True, path_type=Path), help="Label map, or folder of masks.")
@click.option("--calibration", type=_FILE, help="calibration.json to use instead of a phantom.")
@click.option("--side", type=click.Choice(["L", "R", "both"]), default="both", show_default=True, help="Which femurs.")
@click.option("--init", "initial", type=_FILE, help="Start: a registration or pose file.")
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
    side: str,
    initial: Path | None,
    points: tuple[Path, Path] | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
) -> None:
    """Register pelvis and femurs of CT to XRAY; writes registration_<xray>.json and pictures."""
    import json
    import logging

    import numpy as np

    from bmdkit import config
    from bmdkit.calibration.line import read_calibration
    from bmdkit.calibration.modes import calibrate
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.io.ct import read_ct
    from bmdkit.io.images import write_png
    from bmdkit.io.label_maps import read_labels
    from bmdkit.io.markups import read_points
    from bmdkit.io.patient_identity import check_same_patient
    from bmdkit.io.results import write_json
    from bmdkit.io.xray import read_radiograph, require_geometry
    from bmdkit.jobs.machine import MachineNeeds, check_machine
    from bmdkit.registration import overlays
    from bmdkit.registration.bodies import prepare_bodies
    from bmdkit.registration.initialisation import default_start, start_from_dict, start_from_points
    from bmdkit.registration.register_bodies import register_bodies
    from bmdkit.segmentation.labels import prepare_labels

    log = logging.getLogger("bmdkit.cli.register")
    settings = options.settings(BuildConfig, recipe=recipe, overrides=overrides)
    if labels is None:
        raise click.UsageError("give --labels: a label map with pelvis and femurs, or a folder of masks")
    device = check_machine(MachineNeeds(device=device, renders=True, out=out))
    scan = read_ct(ct)
    radiograph = read_radiograph(xray, config=settings.xray)
    camera = require_geometry(radiograph, file=xray.name)
    check_same_patient(scan.patient_key, radiograph.patient_key, file=xray.name)
    if calibration:
        line = read_calibration(calibration)
    else:
        line = calibrate(scan.volume, settings.calibration)
    bones = prepare_labels(read_labels(labels), scan.volume, settings.labels)
    bodies = prepare_bodies(line.apply(scan.volume), bones, None, settings.registration)
    bodies = tuple(b for b in bodies if side == "both" or not b.name.startswith("femur") or b.name.endswith(side))
    start = None
    try:
        if initial:
            start = start_from_dict(json.loads(initial.read_text(encoding="utf-8")))
        elif points:
            pixels = _pixels(points[1], camera)
            guess = default_start(bodies, camera, settings.registration)
            start = start_from_points(read_points(points[0]), pixels, camera, guess)
    except ValueError as error:  # also of JSON
        raise click.UsageError(f"{'--init' if initial else '--init-points'}: {error}") from error
    result = register_bodies(
        bodies,
        radiograph,
        geometry=camera,
        start=start,
        config=settings.registration,
        rng=np.random.default_rng(seed),
        device=device,
    )
    stem = f"registration_{xray.stem}"
    write_json(out / f"{stem}.json", result.to_dict(seed=seed))
    write_json(out / f"settings_{xray.stem}.json", config.to_dict(settings))
    write_png(out / f"{stem}_edges.png", overlays.edge_overlay(radiograph, bodies, result))
    write_png(out / f"{stem}_checkerboard.png", overlays.checkerboard(radiograph, bodies, result))
    write_png(out / f"{stem}_difference.png", overlays.difference(radiograph, bodies, result))
    write_png(out / f"{stem}_trace.png", overlays.trace_chart(result))
    for name, body in result.bodies.items():
        log.info("%s: %s, similarity %.3f, spread %.2f mm", name, body.verdict, body.similarity, body.spread)
    log.info("%d DRRs, %.1f s of CPU time; written to %s", result.evaluations, result.seconds, out)
    if result.verdict == "reject":
        raise click.exceptions.Exit(3)


def _pixels(path: Path, camera) -> dict:
    """Points of a radiograph, pixels (column, row); markups hold mm from its first pixel, as 3D Slicer places them."""
    import json

    import numpy as np

    from bmdkit.io.markups import read_points

    if path.suffix.lower() == ".json" and "markups" not in (data := json.loads(path.read_text(encoding="utf-8"))):
        return {name: np.array(uv, float) for name, uv in data.items()}
    spacing = np.array([camera.column_spacing_mm, camera.row_spacing_mm])
    return {name: point[:2] / spacing for name, point in read_points(path).items()}
