"""A draft on the disk: files under names that say nothing, the table, what is open, and who is who."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from bmdkit.core.disk import name_full_disk
from bmdkit.errors import PreflightError
from bmdkit.intake.cohort_draft import COLUMNS, CohortDraft
from bmdkit.io.cohort_table import TABLE
from bmdkit.io.pseudonyms import add_to_key_map, name_beside, read_key_map
from bmdkit.io.results import write_csv

QUESTIONS = "open_questions.csv"
SOURCES_ENDING = ".sources.csv"
"""Ending of the file beside the cohort that tells where its files come from; readable by its owner only."""

Placement = Literal["link", "copy", "paths"]
"""Files are linked, or copied, under new names; or the table names them where they are."""


def read_known_names(cohort: Path) -> dict[str, str]:
    """PatientID -> name in the cohort, as an earlier draft wrote them; empty without one."""
    return {given: name for name, given in read_key_map(cohort).items()}


def write_draft(
    draft: CohortDraft,
    cohort: Path,
    *,
    placement: Placement = "link",
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a draft as a cohort; the table last.

    Args:
        draft: What to write.
        cohort: Its folder.
        placement: "link": hard links, where the disk has none symbolic ones; "copy"; "paths": the table names the
            files of the export, whose paths may hold a person's name.
        overwrite: Whether an earlier table is replaced; files of the same names are replaced with it.
        on_progress: Called with the number of files that are in their place, and of all.

    Raises:
        PreflightError: There is a table, and `overwrite` is not given (BMD-COH-017).
        DiskFullError: The disk is full.
    """
    table = cohort / TABLE
    if table.exists() and not overwrite:
        raise PreflightError("BMD-COH-017", "it may hold corrections by hand.", file=TABLE)
    with name_full_disk(cohort):
        cohort.mkdir(parents=True, exist_ok=True)
        rows = draft.rows if placement != "paths" else _name_in_place(draft, cohort)
        if placement != "paths":
            for number, (place, source) in enumerate(draft.files.items(), start=1):
                put_file(source, cohort / place, copy=placement == "copy")
                if on_progress is not None:
                    on_progress(number, len(draft.files))
        if draft.keys:
            add_to_key_map(cohort, draft.keys)
        write_csv(name_beside(cohort, SOURCES_ENDING), _list_sources(draft), ("source", "file", "why"), mode=0o600)
        questions = [vars(question) for question in draft.questions]
        write_csv(cohort / QUESTIONS, questions, ("patient_id", "xray", "column", "text"))
        write_csv(table, rows, COLUMNS)


def put_file(source: Path, target: Path, *, copy: bool) -> None:
    """Make a file of an export appear under another name: as a hard link, a symbolic one, or a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    source = source.resolve()
    if not copy:
        for link in (os.link, os.symlink):
            try:
                link(source, target)
            except (OSError, NotImplementedError):
                continue
            return
    shutil.copyfile(source, target)


def _list_sources(draft: CohortDraft) -> list[dict[str, str]]:
    used = [{"source": str(source), "file": place, "why": ""} for place, source in draft.files.items()]
    return used + [{"source": str(path), "file": "", "why": reason} for path, reason in draft.left_out]


def _name_in_place(draft: CohortDraft, cohort: Path) -> list[dict[str, object]]:
    """The rows with the paths of the export, relative to the cohort where they can be."""
    folders = {place.rpartition("/")[0]: source.parent for place, source in draft.files.items()}

    def name(cell: object) -> object:
        path = draft.files.get(str(cell)) or folders.get(str(cell))
        if path is None:
            return cell
        try:
            return Path(os.path.relpath(path.resolve(), cohort.resolve())).as_posix()
        except ValueError:  # another drive of Windows
            return path.resolve().as_posix()

    return [{**row, "ct": name(row["ct"]), "xray": name(row["xray"])} for row in draft.rows]
