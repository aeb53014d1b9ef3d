"""`bmdkit validate`: every problem of every row in one pass; touches nothing."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("validate")
@click.argument("cohort", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--pseudonymise", is_flag=True, help="Accept any patient_id, as build-dataset --pseudonymise does.")
@click.option("--table-only", is_flag=True, help="Do not open the images.")
@click.option(
    "--recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML with an xray section."
)
@click.option("--series-uid", metavar="UID", help="The CT series to take where a folder holds several.")
@click.option(
    "--timeout-per-case",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
)
def command(
    cohort: Path,
    pseudonymise: bool,
    table_only: bool,
    recipe: Path | None,
    series_uid: str | None,
    timeout_per_case: float,
) -> None:
    """Check cohort.csv, and the headers of every CT and radiograph that it names; exit 4 if anything is wrong."""
    import logging
    import secrets

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from bmdkit import config
    from bmdkit.dataset.input_checksums import read_input_checksums
    from bmdkit.dataset.preflight import check_columns
    from bmdkit.errors import CODES, PreflightError
    from bmdkit.io.cohort import Problem, check_cohort, read_cohort
    from bmdkit.io.xray_settings import XrayConfig

    logging.getLogger("bmdkit").setLevel(logging.ERROR)
    key = secrets.token_bytes(32) if pseudonymise else None
    try:
        section = config.read_recipe(recipe).get("xray") or {} if recipe else {}
        settings = config.build(XrayConfig, section, "xray")
    except config.ConfigError as error:
        raise click.UsageError(str(error)) from error
    problems = check_cohort(cohort, pseudonymise_key=key)
    checked = "table only"
    cases = (
        () if any(not problem.is_warning for problem in problems) else read_cohort(cohort, pseudonymise_key=key).cases
    )
    checksums = None
    try:
        check_columns(cases)
        checksums = read_input_checksums(cohort) if cases else None
    except PreflightError as error:
        problems += [Problem(0, "", error.code, f"{error.case}: {error.message}" if error.case else error.message)]
    if cases and not table_only:
        problems += _check_apart(cases, settings, series_uid, timeout_per_case)
        problems += [] if checksums is None else _broken(cases, checksums)
        checked = f"{len(cases)} patients, {sum(len(case.xrays) for case in cases)} radiographs"
    out = Console()
    if not problems:
        out.print(f"[green]sound[/]: {checked}")
        return
    table = Table("line", "column", "code", "what", "remedy", show_lines=False)
    for problem in problems:
        line = str(problem.line) if problem.line else ""
        table.add_row(line, problem.column, problem.code, escape(problem.message), escape(CODES[problem.code].remedy))
    out.print(table)
    click.echo(f"{len(problems)} problem" + ("" if len(problems) == 1 else "s"), err=True)
    if any(not problem.is_warning for problem in problems):
        raise click.exceptions.Exit(4)


def _broken(cases, checksums) -> list:
    """What of each case is not as the cohort was sealed."""
    from bmdkit.dataset.input_checksums import hash_files
    from bmdkit.io.cohort import Problem

    problems = []
    for case in cases:
        line = case.rows[0].line
        for role, what in checksums.broken(case.inputs, hash_files(case)).items():
            problems.append(Problem(line, role.partition("_")[0], "BMD-SUM-001", f"{what}."))
    return problems


def _check_apart(cases, settings, series_uid: str | None, timeout_s: float) -> list:
    """Headers are read in a child: one that makes a parser crash, hang or eat memory is a problem like any other."""
    from functools import partial

    from bmdkit.io.cohort import Problem
    from bmdkit.io.header_check import check_images
    from bmdkit.jobs.processes import RunnerConfig, run_jobs

    check = partial(check_images, config=settings, series_uid=series_uid)
    jobs = ((case.patient_id, ((case,),)) for case in cases)
    lines = {case.patient_id: case.rows[0].line for case in cases}
    problems = []
    for outcome in run_jobs(check, jobs, RunnerConfig(timeout_s=timeout_s)):
        if outcome.code is None:
            problems += outcome.value
        else:
            problems.append(Problem(lines[outcome.name], "", outcome.code, f"{outcome.reason}."))
    return sorted(problems, key=lambda problem: (problem.line, problem.code, problem.column))
