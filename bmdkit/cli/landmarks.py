"""`bmdkit landmarks`: the eight landmarks of each proximal femur of one CT."""

from __future__ import annotations

from pathlib import Path

import click

from bmdkit.cli import options


@click.command("landmarks")
@click.argument("ct", type=click.Path(exists=True, path_type=Path))
@click.option("--labels", type=click.Path(exists=True, path_type=Path), required=True, help="Label map, or its folder.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--side", type=click.Choice(["L", "R", "both"]), default="both", show_default=True, help="Which hips.")
@click.option("--series-uid", help="The DICOM series to take.")
@options.common
def command(
    ct: Path,
    labels: Path,
    out: Path,
    side: str,
    series_uid: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
) -> None:
    """Find the landmarks; writes landmarks_<side>.mrk.json for 3D Slicer, their confidence and a picture."""
    import logging

    from bmdkit.core.anatomy import SIDES
    from bmdkit.dataset.ct_stage import Hip
    from bmdkit.dataset.qc_pictures import draw_planes
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.errors import CaseError
    from bmdkit.io.ct import read_ct
    from bmdkit.io.images import write_png
    from bmdkit.io.label_maps import read_labels
    from bmdkit.io.markups import write_landmarks
    from bmdkit.io.results import write_json
    from bmdkit.regions import check_hip, find_landmarks, proximal_femur
    from bmdkit.segmentation import prepare_labels

    log = logging.getLogger("bmdkit.cli.landmarks")
    settings = options.settings(BuildConfig, recipe=recipe, overrides=overrides)
    scan = read_ct(ct, series_uid=series_uid)
    bones = prepare_labels(read_labels(labels), scan.volume, settings.labels)
    out.mkdir(parents=True, exist_ok=True)
    findings, refused = {}, False
    for one in SIDES if side == "both" else (side,):
        try:
            found = find_landmarks(bones, one)
        except CaseError as error:
            flags = check_hip(scan.volume, bones, one)
            findings[one] = {"refused": error.code, "reason": error.message, "flags": [vars(flag) for flag in flags]}
            log.error("hip %s: %s", one, error)
            refused = True
            continue
        flags = (*found.flags, *check_hip(scan.volume, bones, one, found.landmarks))
        findings[one] = found.to_dict() | {"flags": [vars(flag) for flag in flags]}
        write_landmarks(out / f"landmarks_{one}.mrk.json", found.landmarks)
        region = proximal_femur(bones, found.landmarks)
        write_png(out / f"landmarks_{one}.png", draw_planes(scan.volume, bones, Hip(one, found.landmarks, region)))
        log.info(
            "hip %s: head %.1f mm, neck-shaft angle %.0f degrees, least confidence %.2f",
            one,
            found.head_radius_mm,
            found.neck_shaft_angle_deg,
            min(found.confidence.values()),
        )
        for flag in flags:
            log.warning("hip %s: %s %s", one, flag.code, flag.message)
    write_json(out / "landmarks.json", findings)
    if refused:
        raise click.exceptions.Exit(3)
