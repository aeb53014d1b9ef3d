"""How far a build has come, from what lies in its folder."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bmdkit.dataset.assemble import DESCRIPTION
from bmdkit.dataset.commit import CASES, read_meta
from bmdkit.dataset.integrity import SUMS
from bmdkit.dataset.manifest import MANIFEST_CSV, problems_of
from bmdkit.dataset.preflight import RUN_FILE
from bmdkit.errors import PreflightError
from bmdkit.jobs import lock


@dataclass(frozen=True)
class BuildState:
    """Where a build stands.

    Attributes:
        patients: Of the cohort; None when it is not known.
        ok, quarantined, failed: Cases by status.
        waiting: Identifiers of the cases that are not there yet.
        problems: Of `manifest.problems_of`, all cases.
        running: Whether a run holds the folder now.
        finished: Whether manifest and checksums are there.
    """

    patients: int | None
    ok: int
    quarantined: int
    failed: int
    waiting: tuple[str, ...]
    problems: tuple[tuple[str, str, str], ...]
    running: bool
    finished: bool


def read_state(out: Path) -> BuildState:
    """Read the state of a build, running or not; hashes nothing.

    Raises:
        PreflightError: The folder is no dataset of ours (BMD-RUN-035).
    """
    require_dataset(out)
    try:
        expected = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))["patients"]
    except (OSError, ValueError, KeyError, TypeError):
        expected = None
    folder = out / CASES
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    metas = {name: meta for name in names if (meta := read_meta(out, name)) is not None}
    states = Counter(meta["status"] for meta in metas.values())
    problems = tuple(problem for meta in metas.values() for problem in problems_of(meta["pairs"]))
    return BuildState(
        None if expected is None else len(expected),
        states["ok"],
        states["quarantined"],
        states["failed"],
        tuple(name for name in expected or () if name not in metas),
        problems,
        lock.is_held(out),
        (out / MANIFEST_CSV).exists() and (out / SUMS).exists(),
    )


def require_dataset(out: Path) -> None:
    """Make sure that a folder is, or is about to become, a dataset.

    Raises:
        PreflightError: It is not (BMD-RUN-035).
    """
    if not any((out / name).exists() for name in (DESCRIPTION, RUN_FILE, CASES, SUMS)):
        raise PreflightError("BMD-RUN-035", "it has neither dataset.json nor cases.", file=out.absolute().name)
