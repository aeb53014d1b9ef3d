"""logs/ of a dataset: what a run is, what became of every case and how long it took, and a file per crash."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bmdkit import __version__
from bmdkit.config import to_dict
from bmdkit.core.case import Case
from bmdkit.dataset import assemble, preflight
from bmdkit.dataset.build_run import CaseReport, RunOptions
from bmdkit.dataset.commit import hash_input
from bmdkit.dataset.context import BuildContext, CaseResult
from bmdkit.dataset.layout import LOGS, RUN_FILE
from bmdkit.io.results import write_json
from bmdkit.jobs.processes import Outcome

_LEVELS = {"ok": "INFO", "quarantined": "WARNING"}


class Journal:
    """The logs of one run.

    Args:
        context: What all cases of the build share.
        cases: All cases of the cohort.
        options: How the build is run.
    """

    def __init__(self, context: BuildContext, cases: Sequence[Case], options: RunOptions) -> None:
        """Make the folder, and write down which run this is."""
        self.cases = {case.patient_id: case for case in cases}
        self.folder = context.out / LOGS
        self.folder.mkdir(exist_ok=True)
        self.runner = options.runner
        write_json(
            context.out / RUN_FILE,
            {
                "pid": os.getpid(),
                "started": _read_clock(),
                "n_jobs": options.runner.n_jobs,
                "patients": list(self.cases),
            },
        )

    def add(self, report: CaseReport, result: CaseResult) -> None:
        """Write down what became of a case."""
        entry: dict[str, Any] = {
            "time": _read_clock(),
            "level": _LEVELS.get(report.status, "ERROR"),
            "case": report.patient_id,
            "status": report.status,
            "reused": report.reused,
            "codes": sorted({code for _, code, _ in report.problems}),
            "seconds": round(report.seconds, 3),
            "stages": {stage: round(spent.seconds, 3) for stage, spent in result.spent.items()},
            "problems": [{"pair": what, "code": code, "reason": reason} for what, code, reason in report.problems],
            "notes": list(result.notes),
        }
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if not report.reused:
            with (self.folder / "timings.csv").open("a", encoding="utf-8") as file:
                if file.tell() == 0:
                    file.write("patient_id,stage,seconds,cpu_seconds\n")
                file.writelines(
                    f"{report.patient_id},{stage},{spent.seconds:.3f},{spent.cpu_seconds:.3f}\n"
                    for stage, spent in result.spent.items()
                )

    def add_crash(self, outcome: Outcome, context: BuildContext) -> None:
        """Write down enough to reproduce a failure from the same cohort, and nothing that identifies a person.

        Inputs are told by their role, size and hash; the traceback has places and kinds of errors but no messages.
        """
        case = self.cases[outcome.name]
        write_json(
            self.folder / f"crash_{outcome.name}.json",
            {
                "case": outcome.name,
                "code": outcome.code,
                "reason": outcome.reason,
                "traceback": outcome.detail,
                "bmdkit": __version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "libraries": assemble.list_library_versions(),
                "configuration": to_dict(context.config),
                "device": context.device,
                "timeout_s": self.runner.timeout_s,
                "memory_gb": self.runner.memory_gb,
                "inputs": _describe_inputs(case),
                "sides": list(case.sides),
                "reproduce": f"bmdkit build-dataset COHORT --out EMPTY --only {outcome.name} --device {context.device} "
                "with `configuration` as --recipe",
            },
        )


def _describe_inputs(case: Case) -> dict[str, dict[str, Any]]:
    """Role -> size and SHA-256 of each input, null where it cannot be read."""
    found: dict[str, dict[str, Any]] = {}
    for role, path in case.inputs.items():
        try:
            found[role] = {"bytes": preflight.measure_bytes(Path(path)), "sha256": hash_input(path)}
        except OSError:
            found[role] = {"bytes": None, "sha256": None}
    return found


def _read_clock() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
