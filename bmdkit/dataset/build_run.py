"""How a build is run, and what it says of itself: nothing here changes the result of a case."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bmdkit.jobs.processes import RunnerConfig


@dataclass(frozen=True)
class RunOptions:
    """What to build and how, none of which changes the result of a case.

    Attributes:
        runner: Number of processes, and limits of a case.
        only: Patients to build; all if empty.
        shard: (I, N), 1-based: every N-th case is built, and manifest and checksums are left to a run over the whole.
        overwrite: Whether every case is built anew, and cases that the cohort does not have are removed.
        fail_fast: Whether the run stops at the first case that fails or is quarantined.
        work_dir: Folder where cases are staged; beside the output if None.
        anonymous: Whether file names of the cohort must not be shown (with pseudonyms).
        device: Device of the cases: auto, cpu or cuda[:N].
        dask: Address of a Dask scheduler whose workers build the cases; None: processes of this machine.
    """

    runner: RunnerConfig = field(default_factory=RunnerConfig)
    only: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None
    overwrite: bool = False
    fail_fast: bool = False
    work_dir: Path | None = None
    anonymous: bool = False
    device: str = "cpu"
    dask: str | None = None


@dataclass(frozen=True)
class CaseReport:
    """One case, as it is told while the build runs.

    Attributes:
        patient_id: Identifier of the case.
        status: ok, quarantined or failed.
        reused: Whether it was verified and kept from an earlier run.
        problems: Pair, code and reason of what is left out, see `manifest.list_problems`.
        seconds: Wall time.
        done, total: Number of cases done so far, and of this run.
        kept: Whether an earlier result stays although the new build failed.
    """

    patient_id: str
    status: str
    reused: bool
    problems: tuple[tuple[str, str, str], ...]
    seconds: float
    done: int
    total: int
    kept: bool = False


@dataclass(frozen=True)
class BuildSummary:
    """How a run ended.

    Attributes:
        reports: One report per case that was done.
        pairs_ok, pairs_left_out: Number of rows of the manifest; 0 for a shard, which writes none.
        pairs_kept_rejected: Number of usable rows whose registration was rejected, which the recipe lets stay.
        assembled: Whether manifest and checksums were written.
    """

    reports: tuple[CaseReport, ...]
    pairs_ok: int = 0
    pairs_left_out: int = 0
    pairs_kept_rejected: int = 0
    assembled: bool = False

    @property
    def problems(self) -> list[tuple[str, str, str]]:
        """Pair, code and reason of everything that is left out."""
        return [problem for report in self.reports for problem in report.problems]

    @property
    def exit_code(self) -> int:
        """0, or 3 when a case failed or something of it is quarantined."""
        return 0 if all(report.status == "ok" for report in self.reports) else 3
