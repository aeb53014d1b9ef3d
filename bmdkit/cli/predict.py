"""`bmdkit predict`: BMD of new radiographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from bmdkit.cli import options

if TYPE_CHECKING:
    from bmdkit.inference.prediction import PredictionPlan
    from bmdkit.inference.prediction_folder import PredictionRow


@click.command("predict")
@click.argument(
    "xrays", nargs=-1, required=True, metavar="XRAY [XRAY ...]", type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--run",
    "runs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a finished decomposition of dataset B, or of a regression; of both, if repeated: BMD by the "
    "regression, the projection by the decomposition; of several decompositions, the mean of what they tell.  "
    "[default: the networks that come with bmdkit, which have "
    "learnt from simulated images alone and are not for patients]",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option("--side", type=click.Choice(["L", "R"]), help="Hip of the patient.  [default: as the file says, or both]")
@options.device
@click.option(
    "--reference",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file with name, mean_g_cm2 and sd_g_cm2 of young adults; adds T-scores.",
)
@click.option(
    "--known",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV file with patient_id, xray, side and dxa_bmd of hips of the same place whose DXA-BMD is known, of four "
    "patients or more, such as the cohort.csv of a cohort. DXA-BMD is then told by the line that they give.",
)
@options.dicom_objects("projection, picture and BMD")
@click.option("--overwrite", is_flag=True, help="Replace predictions of another run, of other files or settings.")
@options.dry_run()
@options.logging_options
def command(
    xrays: tuple[Path, ...],
    runs: tuple[Path, ...],
    out: Path,
    side: Literal["L", "R"] | None,
    device: str,
    reference: Path | None,
    known: Path | None,
    dicom: bool,
    pseudonymise: bool,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Estimate BMD from AP hip radiographs: files, or folders of them. For research only.

    Each hip gets its BMD with a 90 % interval, the projection that it was read from (TIFF), a picture of it on the
    radiograph, and a quality: accept, review or reject. An interrupted prediction is resumed, a finished one kept.
    Ends with status 3 if a file could not be read. Without --run all outputs say "simulated training only; not for
    patients".
    """
    from bmdkit.cli.interrupts import ending_cleanly
    from bmdkit.cli.progress import counting_bar
    from bmdkit.inference.prediction import plan_prediction, predict_files
    from bmdkit.inference.t_score import Reference
    from bmdkit.training.shipped import SIMULATED_USE

    options.require_dicom(dicom=dicom, pseudonymise=pseudonymise)
    runs, xrays = _sort_arguments(runs, xrays)
    table = None if reference is None else options.settings(Reference, recipe=reference, overrides=())
    chosen: dict[str, Any] = {"side": side, "device": device, "reference": table, "overwrite": overwrite}
    chosen |= {"known": known, "dicom": dicom, "pseudonymise": pseudonymise}
    if dry_run:
        _show_plan(plan_prediction(runs or None, xrays, out, **chosen), out, dicom=dicom)
        return
    with ending_cleanly(), counting_bar("radiographs") as on_radiograph:
        rows = predict_files(runs or None, xrays, out, **chosen, progress=on_radiograph)
    for row in rows:
        click.echo(f"{row.name}: {_describe(row)}")
    if any(row.intended_use == SIMULATED_USE for row in rows):
        click.echo(f"These numbers: {SIMULATED_USE}.")
    click.echo(f"Written to {out}")
    if any(row.status != "ok" for row in rows):
        raise click.exceptions.Exit(3)


def _sort_arguments(runs: tuple[Path, ...], xrays: tuple[Path, ...]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The runs and the radiographs, also where the run is the first argument, as earlier versions had it.

    No run stands for the networks that come with the package.
    """
    import logging

    from bmdkit.inference.predictor import load_predictor
    from bmdkit.inference.radiograph_files import is_run_folder

    if runs or not is_run_folder(xrays[0]):
        return runs, xrays
    log = logging.getLogger("bmdkit.cli.predict")
    log.warning("the run as the first argument is the old order; write bmdkit predict XRAY ... --run RUN --out DIR")
    runs, xrays = xrays[:1], xrays[1:]
    if not xrays:
        load_predictor(runs)  # a broken run is told first
        raise click.UsageError("Missing argument 'XRAY [XRAY ...]'.")
    return runs, xrays


def _show_plan(plan: PredictionPlan, out: Path, *, dicom: bool) -> None:
    """Say what would be predicted, and what is there already."""
    count, kept = len(plan.radiographs), len(plan.kept)
    click.echo(f"Radiographs: {count}, of which {kept} were predicted earlier and would be kept.")
    if plan.is_finished:
        click.echo(f"The prediction in {out} is finished: it would be kept as it is.")
        return
    click.echo(f"The network {plan.network} would predict {count - kept} of them, on {plan.device}.")
    if plan.known_hips:
        click.echo(f"First come {plan.known_hips} radiographs of known hips, which give the line of DXA-BMD.")
    each = [*["a projection"] * plan.has_projections, "a picture", *["DICOM objects"] * dicom]
    click.echo(f"It would write to {out}: predictions.csv, predictions.json, and of each hip {', '.join(each)}.")
    click.echo("Whether a radiograph can be read is not known before.")


def _describe(row: PredictionRow) -> str:
    from bmdkit.inference.predictor import SOURCES

    if row.status != "ok":
        return f"{row.code} {row.reason}"
    texts = [
        _describe_bmd("DXA-BMD g/cm2", row.dxa_bmd_g_cm2, row.dxa_bmd_g_cm2_low, row.dxa_bmd_g_cm2_high, ".3f"),
        _describe_bmd("QCT-BMD mg/cm3", row.qct_bmd_mg_cm3, row.qct_bmd_mg_cm3_low, row.qct_bmd_mg_cm3_high, ".0f"),
    ]
    if SOURCES["train"] in (row.interval_from or ""):
        texts.append("intervals from training patients, too narrow for others")
    if row.t_score is not None:
        texts.append(f"T-score {row.t_score:+.1f}")
    texts.append(f"{row.quality}" + (f": {row.reason}" if row.reason else ""))
    return ", ".join(text for text in texts if text)


def _describe_bmd(title: str, value: float | None, low: float | None, high: float | None, form: str) -> str:
    if value is None:
        return ""
    interval = "" if low is None or high is None else f" ({low:{form}} to {high:{form}})"
    return f"{title} {value:{form}}{interval}"
