"""`bmdkit landmarks`: the eight landmarks of each proximal femur of one CT."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from bmdkit.cli import options

if TYPE_CHECKING:
    from bmdkit.core.anatomy import Side
    from bmdkit.core.volume import LabelMap, Volume
    from bmdkit.dataset.stages import LocatedHip

logger = logging.getLogger(__name__)


@click.command("landmarks")
@click.argument("ct", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--labels", type=click.Path(exists=True, path_type=Path), required=True, help="Label map, or folder of masks."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--side", type=click.Choice(["L", "R", "both"]), default="both", show_default=True, help="Hips to look at."
)
@click.option("--series-uid", help="UID of the DICOM series to take.")
@options.common
def command(
    ct: Path,
    labels: Path,
    out: Path,
    side: Side | Literal["both"],
    series_uid: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
) -> None:
    """Find the landmarks; writes landmarks_<side>.mrk.json for 3D Slicer, their confidence and a picture."""
    from bmdkit.core.anatomy import SIDES
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.dataset.stages import locate_hip, read_bones
    from bmdkit.io.ct import read_ct
    from bmdkit.io.results import write_json

    settings = options.settings(BuildConfig, recipe=recipe, overrides=overrides)
    scan = read_ct(ct, series_uid=series_uid, config=settings.ct)
    bones = read_bones(labels, scan.volume, settings.labels)
    out.mkdir(parents=True, exist_ok=True)
    wanted: tuple[Side, ...] = SIDES if side == "both" else (side,)
    findings = {}
    for one in wanted:
        hip = locate_hip(scan.volume, bones, one)
        findings[one] = _write_hip(out, scan.volume, bones, hip)
    write_json(out / "landmarks.json", findings)
    if any("refused" in found for found in findings.values()):
        raise click.exceptions.Exit(3)


def _write_hip(out: Path, ct: Volume, bones: LabelMap, hip: LocatedHip) -> dict[str, Any]:
    """Write the landmarks of one hip and a picture, and return what landmarks.json says of it."""
    from bmdkit.dataset.ct_stage import Hip
    from bmdkit.dataset.layout import landmarks_file
    from bmdkit.dataset.qc_pictures import draw_planes
    from bmdkit.io.images import write_png
    from bmdkit.io.markups import write_landmarks
    from bmdkit.regions import proximal_femur

    found = hip.detected
    if found is None:
        logger.error("hip %s: %s", hip.side, hip.error)
        refused = {} if hip.error is None else {"refused": hip.error.code, "reason": hip.error.message}
        return {**refused, "flags": [vars(flag) for flag in hip.flags]}
    flags = (*found.flags, *hip.flags)
    write_landmarks(landmarks_file(out, hip.side), found.landmarks)
    region = proximal_femur(bones, found.landmarks)
    write_png(out / f"landmarks_{hip.side}.png", draw_planes(ct, bones, Hip(hip.side, found.landmarks, region)))
    logger.info(
        "hip %s: head %.1f mm, neck-shaft angle %.0f degrees, least confidence %.2f",
        hip.side,
        found.head_radius_mm,
        found.neck_shaft_angle_deg,
        min(found.confidence.values()),
    )
    for flag in flags:
        logger.warning("hip %s: %s %s", hip.side, flag.code, flag.message)
    return found.to_dict() | {"flags": [vars(flag) for flag in flags]}
