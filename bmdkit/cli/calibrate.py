"""`bmdkit calibrate`: the line from HU to mg/cm3 of one CT."""

from __future__ import annotations

from pathlib import Path

import click

from bmdkit.cli import options


@click.command("calibrate")
@click.argument("ct", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--mode", type=click.Choice(["phantom", "phantomless", "none"]), help="Source of the calibration line.")
@click.option(
    "--phantom",
    type=click.Choice(["auto", "b-mas200", "qrm-bdc-3", "qrm-bdc-6", "mindways-3", "custom"]),
    help="Phantom to look for; custom takes calibration.densities_mg_cm3 from the recipe.",
)
@click.option("--series-uid", help="UID of the DICOM series to take.")
@options.common
def command(
    ct: Path,
    out: Path,
    mode: str | None,
    phantom: str | None,
    series_uid: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
) -> None:
    """Find the phantom in CT and fit the line; writes calibration.json and calibration.png."""
    import logging

    from bmdkit import config
    from bmdkit.dataset.layout import calibration_file
    from bmdkit.dataset.qc_pictures import draw_rods
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.dataset.stages import calibrate_ct
    from bmdkit.io.ct import read_ct
    from bmdkit.io.images import write_png
    from bmdkit.io.results import write_json

    log = logging.getLogger("bmdkit.cli.calibrate")
    chosen = {key: value for key, value in (("mode", mode), ("phantom", phantom)) if value is not None}
    settings = options.settings(BuildConfig, recipe=recipe, overrides=overrides, calibration=chosen or None)
    scan = read_ct(ct, series_uid=series_uid, config=settings.ct)
    line = calibrate_ct(scan.volume, config=settings.calibration)
    out.mkdir(parents=True, exist_ok=True)
    if any(rod.center_lps_mm is not None for rod in line.rods):
        write_png(out / "calibration.png", draw_rods(scan.volume, line.rods))
    write_json(out / "calibration_settings.json", config.to_dict(settings.calibration))
    write_json(calibration_file(out), line.to_dict())
    log.info("density = %.5f HU %+.3f mg/cm3 (%s)", line.slope_mg_cm3_per_hu, line.intercept_mg_cm3, line.source)
    for rod in line.rods:
        log.info("%7.1f mg/cm3: %8.2f HU, off by %+.2f mg/cm3", *rod_row(line, rod))
    if line.correlation is not None:
        log.info("%s: r %.5f, residual %.2f mg/cm3", line.verdict, line.correlation, line.residual_mg_cm3)
    for note in line.notes:
        log.warning("%s", note)


def rod_row(line, rod) -> tuple[float, float, float]:
    """Known density, HU and distance from the line of one rod."""
    return rod.density_mg_cm3, rod.hu, line.density_at(rod.hu) - rod.density_mg_cm3
