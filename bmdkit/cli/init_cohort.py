"""`bmdkit init-cohort`: a cohort's table from a tree of DICOM exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bmdkit.cli import options

if TYPE_CHECKING:
    from bmdkit.intake.cohort_draft import CohortDraft

_SHOWN = 20


@click.command("init-cohort")
@click.argument(
    "dicom_dirs",
    metavar="DICOM_DIR ...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the cohort to be."
)
@click.option("--max-days", type=click.IntRange(min=0), help="Most days between a CT and a radiograph.  [default: 180]")
@click.option("--pseudonymise", is_flag=True, help="Call everybody sub-001, sub-002 ..., whatever PatientID is.")
@click.option(
    "--files",
    type=click.Choice(["link", "copy", "paths"]),
    default="link",
    show_default=True,
    help="link or copy the images under names that tell nobody; paths: name them where they are, in cohort.csv, with "
    "whatever names their folders bear.",
)
@options.n_jobs_per_processor
@click.option("--overwrite", is_flag=True, help="Replace an earlier cohort.csv of OUT, with what was corrected in it.")
@options.dry_run("Say what would be written, and write nothing.")
@options.recipe_options
@options.logging_options
def command(
    dicom_dirs: tuple[Path, ...],
    out: Path,
    max_days: int | None,
    pseudonymise: bool,
    files: Literal["link", "copy", "paths"],
    n_jobs: int | None,
    overwrite: bool,
    dry_run: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Find the CTs and radiographs below DICOM_DIR by their headers, and write a cohort.csv to go on with.

    Images are paired by patient and day; an AP pelvis gives a row for L and one for R. What could not be told is left
    empty and listed in OUT/open_questions.csv. PatientID names a case where it is plain and tells no name; everybody
    else is sub-001, sub-002 ..., and OUT.keys.csv, readable by you only, says who that is.
    """
    from bmdkit.cli.progress import counting_bar
    from bmdkit.errors import PreflightError
    from bmdkit.intake.cohort_draft import draft_cohort
    from bmdkit.intake.cohort_files import read_known_names, write_draft
    from bmdkit.intake.header_scan import scan_tree
    from bmdkit.intake.settings import IntakeConfig
    from bmdkit.io.cohort_table import TABLE
    from bmdkit.jobs.local_pool import count_processors

    config = options.settings(IntakeConfig, recipe=recipe, overrides=overrides, max_days=max_days)
    n_jobs = n_jobs or count_processors()
    if (out / TABLE).exists() and not (overwrite or dry_run):
        raise PreflightError("BMD-COH-017", "it may hold corrections by hand.", file=TABLE)
    with counting_bar("reading headers") as on_progress:
        scan = scan_tree(dicom_dirs, n_jobs=n_jobs, on_progress=on_progress)
    with counting_bar("looking at radiographs") as on_progress:
        draft = draft_cohort(
            scan,
            config,
            known=read_known_names(out),
            pseudonymise=pseudonymise,
            n_jobs=n_jobs,
            on_progress=on_progress,
        )
    if not draft.rows:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in draft.count_left_out()[:5])
        raise PreflightError("BMD-COH-016", f"{len(scan.files)} DICOM images ({reasons or 'no file is DICOM'}).")
    if not dry_run:
        with counting_bar("linking files") as on_progress:
            write_draft(draft, out, placement=files, overwrite=overwrite, on_progress=on_progress)
    _show(draft, out, dry_run=dry_run)


def _show(draft: CohortDraft, out: Path, *, dry_run: bool) -> None:
    """Say what was found, what is open, and what to do next."""
    from bmdkit.intake.cohort_files import QUESTIONS, SOURCES_ENDING
    from bmdkit.io.pseudonyms import KEYS_ENDING, name_beside

    click.echo(f"{draft.persons} patients, {draft.radiographs} radiographs, {len(draft.rows)} rows")
    for reason, count in draft.count_left_out():
        click.echo(f"  left out: {count} x {reason}")
    if draft.questions:
        click.echo(f"{len(draft.questions)} questions are open:")
        for question in draft.questions[:_SHOWN]:
            where = question.xray or question.patient_id
            click.echo(f"  {where}, {question.column}: {question.text}")
        if len(draft.questions) > _SHOWN:
            click.echo(f"  and {len(draft.questions) - _SHOWN} more")
    if dry_run:
        return
    click.echo(f"Table: {out / 'cohort.csv'}   open questions: {out / QUESTIONS}")
    beside = [KEYS_ENDING] if draft.keys else []
    names = ", ".join(name_beside(out, ending).name for ending in (*beside, SOURCES_ENDING))
    click.echo(f"Who is who, for you only: {names} beside it")
    click.echo(f"Next: fill what is empty, then  bmdkit validate {out}")
