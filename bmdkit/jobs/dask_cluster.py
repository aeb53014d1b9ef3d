"""Many cases at once on the workers of a Dask cluster, each in a child of the worker that runs it.

A case that crashes, hangs or runs out of memory fails alone, and so does one whose worker dies again and again; a case
of a worker that dies is given to another one. All machines must see the output, and the cohort, under the same paths.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from pathlib import Path
from typing import Any

from bmdkit import __version__
from bmdkit.errors import BmdkitError, DiskFullError, PreflightError
from bmdkit.jobs.child import run_in_child
from bmdkit.jobs.processes import Outcome, RunnerConfig, describe_frames

_ANSWER_WITHIN_S = 20.0
_JOBS_PER_THREAD = 2  # given out at once


def run_on_dask(
    function: Callable[..., Any],
    jobs: Iterable[tuple[str, tuple]],
    config: RunnerConfig,
    *,
    address: str,
    alive: Path,
    on_wait: Callable[[], None] | None = None,
) -> Generator[Outcome, None, None]:
    """Call `function(*arguments)` for every job on a cluster, and yield the outcomes as the jobs end.

    Args:
        function: Function that is importable on the workers.
        jobs: Name and arguments of every job.
        config: Limits of a job, and the number of retries; the cluster decides how many run at once.
        address: Address of the scheduler, such as tcp://host:8786.
        alive: Folder that exists as long as the run goes on, seen by all workers: jobs end when it is gone.
        on_wait: Function that is called again and again while jobs run, once a second at least.

    Yields:
        The outcome of each job, in the order in which they end.

    Raises:
        PreflightError: Dask is not installed, or the scheduler does not answer.
        BmdkitError: The scheduler has gone; the run can be resumed.
        DiskFullError: A job met a full disk; there is no use in going on.
    """
    with contextlib.closing(_connect(address)) as client:
        executor = client.get_executor(retries=config.retries, pure=False)
        pending: dict[Any, str] = {}
        waiting = iter(jobs)
        try:
            while True:
                room = _JOBS_PER_THREAD * max(_count_threads(client), 1) - len(pending)
                for _, (name, arguments) in zip(range(room), waiting, strict=False):
                    future = executor.submit(_on_worker, function, arguments, config, str(alive), __version__)
                    pending[future] = name
                if not pending:
                    return
                done, _ = wait(pending, return_when=FIRST_COMPLETED, timeout=1.0)
                if on_wait is not None:
                    on_wait()
                for future in done:
                    yield _read_outcome(pending.pop(future), future)
        finally:
            executor.shutdown(wait=False)


def _connect(address: str):
    try:
        from distributed import Client
    except ImportError as error:
        raise PreflightError("BMD-RUN-038", "Dask is not installed: `pip install bmdkit[dask]`.") from error
    try:
        return Client(address, timeout=_ANSWER_WITHIN_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise PreflightError("BMD-RUN-038", f"{address} does not answer ({type(error).__name__}).") from error


def _count_threads(client: Any) -> int:
    """Count the threads of all workers now; wait a while for a scheduler that is gone to come back."""
    until = time.monotonic() + _ANSWER_WITHIN_S
    while client.status == "connecting" and time.monotonic() < until:
        time.sleep(0.2)
    try:
        if client.status != "running":
            raise ConnectionError
        return sum(client.sync(client.scheduler.ncores, callback_timeout=_ANSWER_WITHIN_S).values())
    except (OSError, TimeoutError, AttributeError, RuntimeError) as error:
        raise BmdkitError("BMD-RUN-038", "the scheduler is gone; what was finished is safe.") from error


def _on_worker(function: Callable[..., Any], arguments: tuple, config: RunnerConfig, alive: str, version: str):
    """Run the job in a child of a worker. What is raised here is tried again, on another worker if there is one."""
    if version != __version__:
        raise BmdkitError("BMD-RUN-039", f"{socket.gethostname()} has bmdkit {__version__}, the run {version}.")
    folder = Path(alive)
    if not folder.is_dir():
        raise BmdkitError("BMD-RUN-039", f"{socket.gethostname()} does not see the folder where cases are staged.")
    try:
        return run_in_child(function, arguments, config, may_continue=folder.is_dir)
    except DiskFullError as error:
        return error  # to be raised where the run is; tried again it would be in vain


def _read_outcome(name: str, future) -> Outcome:
    from distributed import KilledWorker

    try:
        result = future.result()
    except KilledWorker:
        return Outcome(name, code="BMD-RUN-001", reason="every worker that was given it died")
    except CancelledError as error:
        raise BmdkitError("BMD-RUN-038", "the scheduler is gone; what was finished is safe.") from error
    except BmdkitError as error:
        return Outcome(name, code=error.code, reason=error.message)
    except Exception as error:
        return Outcome(name, code="BMD-RUN-004", reason=type(error).__name__, detail=describe_frames(error))
    if isinstance(result, DiskFullError):
        raise result
    return Outcome(name, result.value, result.code, result.reason, result.detail, result.seconds)
