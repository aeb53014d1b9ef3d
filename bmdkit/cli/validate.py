"""`bmdkit validate`: every problem of every row in one pass; touches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bmdkit.cli import options
from bmdkit.cli.recipe_files import Recipe

if TYPE_CHECKING:
    from bmdkit.core.case import Case
    from bmdkit.dataset.input_checksums import InputChecksums
    from bmdkit.dataset.validation import ValidationConfig
    from bmdkit.io.cohort import Problem


@click.command("validate")
@click.argument("cohort", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--pseudonymise", is_flag=True, help="Accept any patient_id, as build-dataset --pseudonymise does.")
@click.option("--table-only", is_flag=True, help="Do not open the files that the table names.")
@click.option(
    "--recipe",
    type=Recipe(),
    help="Recipe of the build, a name or a YAML file; its sections xray and labels are used.",
)
@click.option("--series-uid", metavar="UID", help="UID of the CT series to take where a folder holds several.")
@options.n_jobs_per_processor
@click.option(
    "--timeout-per-case",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time after which the files of a case count as unreadable.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="File to write all problems to."
)
def command(
    cohort: Path,
    pseudonymise: bool,
    table_only: bool,
    recipe: Path | None,
    series_uid: str | None,
    n_jobs: int | None,
    timeout_per_case: float,
    json_file: Path | None,
) -> None:
    """Check cohort.csv and every file that it names; exit 4 if anything is wrong.

    CT, radiographs, label maps, landmarks and calibrations are opened and held against each other and against the
    table. Problems are grouped by their kind; a warning alone leaves the cohort sound.
    """
    import logging

    logging.getLogger("bmdkit").setLevel(logging.ERROR)  # the warnings of the table are in the list
    settings = _read_settings(recipe, series_uid)
    problems, cases, checksums = _check_table(cohort, pseudonymise)
    if cases and not table_only:
        from bmdkit.dataset.validation import check_cases

        problems += check_cases(cases, settings, n_jobs=n_jobs, timeout_s=timeout_per_case, checksums=checksums)
    checked = "table only" if table_only else _count(cases)
    if json_file is not None:
        _write_json(json_file, problems, cases)
    for line in list_problems(problems):
        click.echo(line)
    errors = sum(not problem.is_warning for problem in problems)
    if not errors:
        click.echo(f"sound: {checked}")
        return
    click.echo(f"{errors} problem" + ("" if errors == 1 else "s"), err=True)
    raise click.exceptions.Exit(4)


def list_problems(problems: Iterable[Problem]) -> Iterator[str]:
    """The lines that tell all problems: one paragraph for each code, the same words of several lines said once."""
    from bmdkit.errors import CODES

    groups: dict[str, dict[tuple[str, str], list[int]]] = {}
    warnings = set()
    for problem in sorted(problems, key=lambda problem: (problem.is_warning, problem.code, problem.line)):
        places = groups.setdefault(problem.code, {})
        places.setdefault((problem.column, problem.message), []).append(problem.line)
        if problem.is_warning:
            warnings.add((problem.column, problem.message))
    for code, places in groups.items():
        count = sum(map(len, places.values()))
        kind = "warning" if all(place in warnings for place in places) else "problem"
        yield f"{code}: {count} {kind}{'' if count == 1 else 's'}. {CODES[code].cause}"
        for (column, message), lines in places.items():
            where = ", ".join(part for part in (_say_lines(lines), column) if part)
            yield f"  {where or 'cohort.csv'}: {_make_printable(message)}"
        yield f"  Remedy: {CODES[code].remedy}"
        yield ""


def _say_lines(lines: Sequence[int]) -> str:
    """`line 3`, or `lines 3-5, 9`; nothing for the table as a whole."""
    numbers = sorted({line for line in lines if line > 0})
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return "" if not parts else f"line{'' if len(numbers) == 1 else 's'} {', '.join(parts)}"


def _make_printable(text: str) -> str:
    """A text whose signs do nothing to a terminal."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _read_settings(recipe: Path | None, series_uid: str | None) -> ValidationConfig:
    from dataclasses import replace

    from bmdkit import config
    from bmdkit.dataset.validation import VALIDATED, ValidationConfig

    try:
        sections = config.read_recipe(recipe) if recipe else {}
        known = {name: sections[name] for name in VALIDATED if sections.get(name) is not None}
        return replace(config.build(ValidationConfig, known), series_uid=series_uid)
    except config.ConfigError as error:
        raise click.UsageError(str(error)) from error


def _check_table(cohort: Path, pseudonymise: bool) -> tuple[list[Problem], tuple[Case, ...], InputChecksums | None]:
    """What is wrong with the table; if nothing is, its cases and the checksums that their files must have."""
    import secrets

    from bmdkit.dataset.input_checksums import read_input_checksums
    from bmdkit.dataset.manifest import list_carried_columns
    from bmdkit.dataset.splits import choose_folds
    from bmdkit.errors import PreflightError
    from bmdkit.io.cohort import Problem, check_cohort, read_cohort

    key = secrets.token_bytes(32) if pseudonymise else None
    problems = check_cohort(cohort, pseudonymise_key=key)
    if any(not problem.is_warning for problem in problems):
        return problems, (), None
    cases = read_cohort(cohort, pseudonymise_key=key).cases
    try:
        list_carried_columns(cases)
        choose_folds(cases, seed=0)
        return problems, cases, read_input_checksums(cohort)
    except PreflightError as error:
        message = f"{error.case}: {error.message}" if error.case else error.message
        return [*problems, Problem(0, "", error.code, message)], (), None


def _count(cases: Sequence[Case]) -> str:
    from bmdkit.dataset.validation import count_radiographs

    return f"{len(cases)} patients, {count_radiographs(cases)} radiographs"


def _write_json(path: Path, problems: Sequence[Problem], cases: Sequence[Case]) -> None:
    from bmdkit.dataset.validation import count_radiographs
    from bmdkit.errors import CODES
    from bmdkit.io.results import write_json

    listed = [
        {
            "line": problem.line,
            "column": problem.column,
            "code": problem.code,
            "message": problem.message,
            "remedy": CODES[problem.code].remedy,
            "is_warning": problem.is_warning,
        }
        for problem in problems
    ]
    errors = sum(not problem.is_warning for problem in problems)
    write_json(
        path,
        {
            "is_sound": not errors,
            "patients": len(cases),
            "radiographs": count_radiographs(cases),
            "errors": errors,
            "warnings": len(problems) - errors,
            "problems": listed,
        },
    )
