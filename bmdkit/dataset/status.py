"""How far a build has come, from what lies in its folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bmdkit.dataset.case_meta import CaseMeta, find_damage, read_meta
from bmdkit.dataset.integrity import Finding
from bmdkit.dataset.layout import CASES, DESCRIPTION, MANIFEST_CSV, RUN_FILE, SUMS, list_patients
from bmdkit.dataset.manifest import list_problems
from bmdkit.errors import PreflightError
from bmdkit.jobs import lock


@dataclass(frozen=True)
class BuildStatus:
    """Where a build stands.

    Attributes:
        patients: Number of patients of the cohort; None when it is not known.
        ok, quarantined, failed: Number of cases by status.
        waiting: Identifiers of the cases that are not built yet.
        problems: Pair, code and reason of what is left out, see `manifest.list_problems`.
        running: Whether a run holds the folder now.
        assembled: Whether manifest and checksums are there, for the cases that are built.
        finished: Whether they are there and no case is waiting.
    """

    patients: int | None
    ok: int
    quarantined: int
    failed: int
    waiting: tuple[str, ...]
    problems: tuple[tuple[str, str, str], ...]
    running: bool
    assembled: bool
    finished: bool

    @property
    def built(self) -> int:
        """Number of cases that a build has been through."""
        return self.ok + self.quarantined + self.failed

    def describe(self) -> str:
        """Say in one sentence whether the build is finished, and what to do if it is not."""
        if self.running:
            return "running now"
        if self.finished:
            return "finished: manifest and checksums are there"
        if self.assembled:
            them = "the one that is" if self.built == 1 else f"the {self.built} that are"
            return (
                f"built in part: manifest and checksums cover {them} there; "
                "run build-dataset without --only for the others"
            )
        if not self.built:
            return "started, and no case is built yet: run build-dataset again"
        if self.patients is not None and not self.waiting:
            return "all cases are built, the manifest is not written yet: run build-dataset without --shard, it resumes"
        return "not finished, and no manifest yet: run build-dataset again, it resumes"


def read_status(out: Path) -> BuildStatus:
    """Read how far a build has come, whether it is running or not; nothing is hashed.

    Raises:
        PreflightError: The folder is no dataset of ours (BMD-RUN-035).
    """
    require_dataset(out)
    try:
        expected = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))["patients"]
    except (OSError, ValueError, KeyError, TypeError):
        expected = None
    metas = _read_metas(out)
    statuses = Counter(meta.status for meta in metas.values())
    problems = tuple(problem for meta in metas.values() for problem in list_problems(meta.pairs))
    waiting = tuple(name for name in expected or () if name not in metas)
    assembled = (out / MANIFEST_CSV).exists() and (out / SUMS).exists()
    return BuildStatus(
        None if expected is None else len(expected),
        statuses["ok"],
        statuses["quarantined"],
        statuses["failed"],
        waiting,
        problems,
        lock.is_held(out),
        assembled,
        assembled and not waiting,
    )


def check_built_cases(out: Path) -> tuple[int, list[Finding]]:
    """Hash every file of the cases of a build that has no checksums over the whole yet.

    Args:
        out: Folder of the dataset.

    Returns:
        The number of files, and what is missing or damaged, by path.
    """
    metas = _read_metas(out).values()
    return sum(len(meta.outputs) for meta in metas), sorted(_list_damage(out, metas), key=lambda found: found.path)


def is_unfinished(out: Path) -> bool:
    """Whether a build has written neither manifest nor checksums yet: an interrupted one, or a shard."""
    return not (out / MANIFEST_CSV).exists() and not (out / SUMS).exists()


def require_dataset(out: Path) -> None:
    """Make sure that a folder is, or is about to become, a dataset.

    Raises:
        PreflightError: It is not (BMD-RUN-035).
    """
    if not any((out / name).exists() for name in (DESCRIPTION, RUN_FILE, CASES, SUMS)):
        raise PreflightError("BMD-RUN-035", "it has neither dataset.json nor cases.", file=out.absolute().name)


def require_built_case(out: Path) -> None:
    """Make sure that a build has come far enough to be looked at.

    Raises:
        PreflightError: The folder is no dataset of ours (BMD-RUN-035), or no case is built yet (BMD-RUN-041).
    """
    require_dataset(out)
    if not (out / MANIFEST_CSV).exists() and not list_patients(out):
        raise PreflightError("BMD-RUN-041", "the build was started and ended before.", file=out.absolute().name)


def _read_metas(out: Path) -> dict[str, CaseMeta]:
    """What every published case says of itself, by patient."""
    return {name: meta for name in list_patients(out) if (meta := read_meta(out, name)) is not None}


def _list_damage(out: Path, metas: Iterable[CaseMeta]) -> Iterable[Finding]:
    for meta in metas:
        for name in find_damage(out, meta):
            yield Finding("damaged" if (out / name).exists() else "missing", name)
