"""`bmdkit predict`: BMD of new radiographs."""

from __future__ import annotations

from pathlib import Path

import click

from bmdkit.cli import options


@click.command("predict")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument(
    "xrays", nargs=-1, required=True, metavar="XRAY [XRAY ...]", type=click.Path(exists=True, path_type=Path)
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where to write.")
@click.option("--side", type=click.Choice(["L", "R"]), help="The patient's hip.  [default: as the file says, or both]")
@options.device
@click.option(
    "--reference",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with name, mean_g_cm2 and sd_g_cm2 of young adults: adds T-scores.",
)
@click.option("--dicom", is_flag=True, help="Write the projections as DICOM secondary captures, too.")
@options.logging_options
def command(
    run: Path,
    xrays: tuple[Path, ...],
    out: Path,
    side: str | None,
    device: str,
    reference: Path | None,
    dicom: bool,
) -> None:
    """Estimate BMD from AP hip radiographs with RUN, a decomposition trained on dataset B. For research only.

    Each hip gets its BMD with a 95 % interval, the projection that it was read from (TIFF), a picture of it on the
    radiograph, and a quality: accept, review or reject. Ends with status 3 if a file could not be read.
    """
    from bmdkit.inference.prediction import Reference, predict_files

    table = None if reference is None else options.settings(Reference, recipe=reference, overrides=())
    rows = predict_files(run, xrays, out, side=side, device=device, reference=table, dicom=dicom)
    for row in rows:
        click.echo(f"{row['name']}: {_said(row)}")
    click.echo(f"Written to {out}")
    if any(row["status"] != "ok" for row in rows):
        raise click.exceptions.Exit(3)


def _said(row: dict) -> str:
    from bmdkit.inference.prediction import SOURCES

    if row["status"] != "ok":
        return f"{row['code']} {row['reason']}"
    texts = []
    for column, title, form in (("dxa_bmd_g_cm2", "DXA-BMD g/cm2", ".3f"), ("qct_bmd_mg_cm3", "QCT-BMD mg/cm3", ".0f")):
        if column in row:
            ends = [format(row[f"{column}_{end}"], form) for end in ("low", "high") if f"{column}_{end}" in row]
            texts.append(f"{title} {row[column]:{form}}" + (f" ({' to '.join(ends)})" if ends else ""))
    if row.get("interval_from") == SOURCES["train"]:
        texts.append("intervals from training patients, too narrow for others")
    if "t_score" in row:
        texts.append(f"T-score {row['t_score']:+.1f}")
    texts.append(row["quality"] + (f": {row['reason']}" if row["reason"] else ""))
    return ", ".join(texts)
