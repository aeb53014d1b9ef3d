"""One job in a child process of its own, started as a fresh interpreter: for a worker that may have no children.

The workers of a cluster are daemons, which `multiprocessing` allows no children; and a case that takes its process down
must not take a worker with it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bmdkit.errors import BmdkitError
from bmdkit.jobs.processes import ONE_THREAD, Outcome, RunnerConfig, prepare_worker, run_timed

_POLL_S = 0.2
_PROGRAM = "from bmdkit.jobs.child import main; main()"


def run_in_child(
    function: Callable[..., Any],
    arguments: tuple,
    config: RunnerConfig,
    *,
    may_continue: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Call `function(*arguments)` in a fresh child with one thread, `config.timeout_s` and `config.memory_gb`.

    Args:
        function: Function that is importable in the child.
        arguments: Arguments that can be pickled.
        config: Limits of time and memory.
        may_continue: Function that is asked several times a second; the child is ended when it returns False.

    Returns:
        The value, or what became of the child; the outcome has no name.

    Raises:
        BmdkitError: What ends a whole run, such as a full disk.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bmdkit-job-") as folder:
        job_file, outcome_file = Path(folder) / "job", Path(folder) / "outcome"
        job_file.write_bytes(pickle.dumps((function, arguments, config.memory_gb)))
        environment = os.environ | dict.fromkeys(ONE_THREAD, "1")
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        command = [sys.executable, "-c", _PROGRAM, str(os.getpid()), str(job_file), str(outcome_file)]
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as child:
            try:
                failure = _wait_for(child, start, config.timeout_s, may_continue)
            finally:
                child.kill()
        seconds = time.monotonic() - start
        if failure is not None:
            return Outcome("", code=failure[0], reason=failure[1], seconds=seconds)
        if not outcome_file.exists():
            reason = f"its process ended with exit code {child.returncode}"
            return Outcome("", code="BMD-RUN-001", reason=reason, seconds=seconds)
        found = pickle.loads(outcome_file.read_bytes())  # noqa: S301 (of our own child, in a private folder)
    if isinstance(found, BmdkitError):
        raise found
    return found


def main() -> None:
    """Run the job in the child; the arguments are PARENT JOB OUTCOME, and the outcome appears whole or not at all."""
    parent, job_file, outcome_file = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    function, arguments, memory_gb = pickle.loads(job_file.read_bytes())  # noqa: S301 (of our parent)
    prepare_worker(parent, memory_gb)
    try:
        found: Outcome | BmdkitError = run_timed(function, arguments)
    except BmdkitError as error:
        found = error
    part = outcome_file.with_name("part")
    part.write_bytes(pickle.dumps(found))
    part.replace(outcome_file)


def _wait_for(
    child: subprocess.Popen, start: float, timeout_s: float | None, may_continue: Callable[[], bool]
) -> tuple[str, str] | None:
    """Wait for the child's end; (code, reason) if it had to be ended."""
    while True:
        try:
            child.wait(_POLL_S)
            return None
        except subprocess.TimeoutExpired:
            if timeout_s is not None and time.monotonic() - start > timeout_s:
                return "BMD-RUN-002", "it took longer than --timeout-per-case"
            if not may_continue():
                return "BMD-RUN-001", "the run that asked for it is over"
