"""`bmdkit build-dataset`: from a cohort to the paired datasets A and B."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from bmdkit.cli import options

if TYPE_CHECKING:
    from bmdkit.dataset.cohort_build import BuildSummary


@click.command("build-dataset")
@click.argument("cohort", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the dataset.")
@click.option("--dataset", type=click.Choice(["A", "B", "both"]), help="A: pelvis and femur; B: proximal femur.")
@click.option(
    "--segmentation",
    type=click.Choice(["auto", "labels", "model", "totalsegmentator"]),
    help="Where labels come from: the cohort, the network (segmentation.model, or the shipped one), your own "
    "TotalSegmentator; auto: the cohort, else the network.",
)
@click.option("--only", multiple=True, metavar="PATIENT", help="Build this patient only (repeatable).")
@click.option("--shard", metavar="I/N", help="Build every N-th case, from the I-th; a run without it finishes.")
@options.n_jobs
@click.option(
    "--timeout-per-case",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time that one case may take.",
)
@click.option(
    "--memory-per-case",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="Memory that one case may use.  [default: all of it]",
)
@click.option("--dask", metavar="ADDRESS", help="Build on the workers of this Dask scheduler.")
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for temporary files.",
)
@click.option("--overwrite", is_flag=True, help="Build every case anew; remove cases that the cohort does not have.")
@options.dry_run()
@click.option("--fail-fast", is_flag=True, help="Stop at the first case that fails or is quarantined.")
@click.option("--pseudonymise", is_flag=True, help="Name cases by a keyed hash; the key map is OUT.keys.csv.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write the HTML report at the end.")
@options.common
def command(cohort, out, recipe, overrides, device, seed, **flags):
    """Build the paired datasets of COHORT, or go on building them.

    Every case goes through every stage; one that fails never stops the rest. Running again resumes: what is there is
    verified and kept, what has changed is built anew. Exit code 3: finished, some cases failed or are quarantined.
    """
    from bmdkit.cli import interrupts
    from bmdkit.dataset.settings import BuildConfig

    given = click.get_current_context().get_parameter_source("seed") is not ParameterSource.DEFAULT
    source = None if flags["segmentation"] is None else {"source": flags["segmentation"]}
    chosen = {"dataset": flags["dataset"], "segmentation": source, "seed": seed if given else None}
    config = options.settings(BuildConfig, recipe=recipe, overrides=overrides, **chosen)
    with interrupts.ending_cleanly():
        raise SystemExit(_build(cohort, out, config, device, flags))


def _build(cohort, out, config, device, flags) -> int:
    from bmdkit.cli.progress import cases_bar, counting_bar
    from bmdkit.dataset.cohort_build import RunOptions, build_cases, plan_build
    from bmdkit.dataset.input_checksums import read_input_checksums
    from bmdkit.io.cohort import read_cohort, write_keys
    from bmdkit.io.pseudonyms import KEYS_ENDING, keep_key, name_beside
    from bmdkit.jobs.processes import RunnerConfig

    key = keep_key(out, dry=flags["dry_run"]) if flags["pseudonymise"] else None
    checksums = read_input_checksums(cohort)
    table = read_cohort(cohort, pseudonymise_key=key)
    run = RunOptions(
        runner=RunnerConfig(flags["n_jobs"], flags["timeout_per_case"], memory_gb=flags["memory_per_case"]),
        only=flags["only"],
        shard=_shard(flags["shard"]),
        overwrite=flags["overwrite"],
        fail_fast=flags["fail_fast"],
        work_dir=flags["work_dir"],
        anonymous=flags["pseudonymise"],
        device=device,
        dask=flags["dask"],
    )
    if flags["dry_run"]:
        for patient, action in plan_build(table.cases, out, run, config):
            click.echo(f"{patient}  {action}")
        return 0
    if key is not None:
        write_keys(name_beside(out, KEYS_ENDING), table)
    with cases_bar() as tell:
        summary = build_cases(
            table.cases,
            out,
            config,
            run,
            checksums=checksums,
            on_case=tell.on_case,
            on_stage=tell.on_stage,
            on_work=tell.on_work,
        )
    if summary.assembled and flags["report"]:
        from bmdkit.core.disk import name_full_disk
        from bmdkit.dataset.integrity import record_report
        from bmdkit.report.pages import write_report

        with name_full_disk(out), counting_bar("pages of the report") as on_page:
            write_report(out, progress=on_page)
            record_report(out)
    _show_summary(summary, out)
    return summary.exit_code


def _show_summary(summary: BuildSummary, out: Path) -> None:
    """Say how the build ended, and log what is left out."""
    import logging

    from bmdkit.dataset.layout import MANIFEST_CSV

    statuses = [report.status for report in summary.reports]
    reused = sum(report.reused for report in summary.reports)
    kept = sum(report.kept for report in summary.reports)
    click.echo(
        f"{len(statuses)} cases: {statuses.count('ok')} complete, "
        f"{statuses.count('quarantined')} with something left out, "
        f"{statuses.count('failed')} failed ({reused} kept from before)."
    )
    if kept:
        click.echo(f"kept although a new build failed: {kept}")
    if summary.assembled:
        click.echo(f"{summary.pairs_ok} pairs, {summary.pairs_left_out} left out: {out / MANIFEST_CSV}")
        if summary.pairs_kept_rejected:
            click.echo(f"kept although rejected: {summary.pairs_kept_rejected}")
    else:
        click.echo("This was a shard: run once more without --shard to write the manifest.")
    logger = logging.getLogger("bmdkit.build")
    for report in summary.reports:
        for what, code, reason in report.problems:
            logger.warning("%s: %s %s", what, code, reason, extra={"case": report.patient_id, "code": code})


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise click.BadParameter(f"expected I/N with 1 <= I <= N, got {text!r}", param_hint="--shard")
    return int(index), int(count)
