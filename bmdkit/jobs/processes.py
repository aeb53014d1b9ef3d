"""Many cases at once, each in a child process: what a case does to its process, it does to itself alone."""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from bmdkit.core.disk import name_full_disk
from bmdkit.errors import BmdkitError, DiskFullError

if sys.platform == "linux":
    import resource

logger = logging.getLogger(__name__)

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Environment variables by which numeric libraries are told to use one thread."""

_MOST_CAUSES = 8
_MOST_LOST_POOLS = 3  # one after the other, without a job done
_PARENT_CHECK_S = 0.5


_Job = tuple[str, tuple]


@dataclass(frozen=True)
class RunnerConfig:
    """How cases are spread over processes; none of this changes a result.

    Attributes:
        n_jobs: Number of cases at once.
        timeout_s: Time after which a case is ended and fails; None: no limit.
        recycle_after: Number of cases after which a process is replaced, which bounds what a leak can take.
        memory_gb: Memory that a case may allocate, GB of 1e9 bytes; a case that asks for more fails. None: what the
            machine has. Linux alone can hold a process to it; elsewhere a warning says that it does not hold.
        retries: Number of times that a cluster tries a case again that its worker could not run at all
            (`dask_cluster.run_on_dask`).
    """

    n_jobs: int = 1
    timeout_s: float | None = None
    recycle_after: int = 50
    memory_gb: float | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.n_jobs < 1 or self.recycle_after < 1:
            raise ValueError(f"n_jobs, recycle_after: expected at least 1, got {self.n_jobs}, {self.recycle_after}")
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise ValueError(f"timeout_s: expected a positive number, got {self.timeout_s}")
        if self.memory_gb is not None and self.memory_gb <= 0:
            raise ValueError(f"memory_gb: expected a positive number, got {self.memory_gb}")
        if self.retries < 0:
            raise ValueError(f"retries: expected 0 or more, got {self.retries}")


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Attributes:
        name: Name of the job.
        value: Value that the job returned, if it did.
        code, reason: Code of `bmdkit.errors` and a sentence that say why it did not.
        detail: Traceback for the crash file.
        seconds: Wall time of the job.
    """

    name: str
    value: Any = None
    code: str | None = None
    reason: str | None = None
    detail: str | None = None
    seconds: float = 0.0


def run_jobs(
    function: Callable[..., Any],
    jobs: Iterable[tuple[str, tuple]],
    config: RunnerConfig,
    *,
    on_wait: Callable[[], None] | None = None,
) -> Generator[Outcome, None, None]:
    """Call `function(*arguments)` for every job in child processes, and yield the outcomes as the jobs end.

    A job that raises, hangs or takes its process down fails alone. A process that dies before it has taken a job ends
    its whole pool: the jobs go on in a new one. Closing the generator ends all children.

    Args:
        function: Function that is importable in a child.
        jobs: Name and arguments of every job.
        config: Number of processes, and limits of a job.
        on_wait: Function that is called again and again while jobs run, once a second at least.

    Yields:
        The outcome of each job, in the order in which they end.

    Raises:
        DiskFullError: A job met a full disk; there is no use in going on.
    """
    if config.memory_gb is not None and sys.platform != "linux":
        logger.warning("a limit of memory does not hold on this operating system: cases may allocate more")
    waiting, pools_lost = iter(jobs), 0
    while True:
        ended = 0
        lost: list[_Job] = []
        with contextlib.closing(_run_in_pool(function, waiting, config, lost, on_wait)) as outcomes:
            for outcome in outcomes:
                ended += 1
                yield outcome
        if not lost:
            return
        pools_lost = 1 if ended else pools_lost + 1
        if pools_lost < _MOST_LOST_POOLS:
            waiting = itertools.chain(lost, waiting)
        else:
            for name, _ in lost:
                yield Outcome(name, code="BMD-RUN-001", reason="the processes end before they have begun anything")


def _run_in_pool(
    function: Callable[..., Any],
    waiting: Iterator[_Job],
    config: RunnerConfig,
    lost: list[_Job],
    on_wait: Callable[[], None] | None,
) -> Generator[Outcome, None, None]:
    """Yield the outcomes of the jobs that end; `lost` gets those that go down with the pool."""
    from pebble import ProcessPool

    pool = ProcessPool(
        max_workers=config.n_jobs,
        max_tasks=config.recycle_after,
        initializer=prepare_worker,
        initargs=(os.getpid(), config.memory_gb),
        context=multiprocessing.get_context("spawn"),
    )
    pending: dict[Any, _Job] = {}
    try:
        with _one_thread_for_children():
            _schedule_jobs(pool, function, waiting, pending, lost, config)
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED, timeout=1.0)
                if on_wait is not None:
                    on_wait()
                for future in done:
                    job = pending.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        lost.append(job)
                    else:
                        yield _read_outcome(job[0], future)
                if not lost:
                    _schedule_jobs(pool, function, waiting, pending, lost, config)
        pool.close()
    finally:
        pool.stop()
        pool.join()


def call_seldom(function: Callable[[], None], every_s: float) -> Callable[[], None]:
    """Make a function that calls another only if so much time has passed since it last did.

    Args:
        function: Function to be called.
        every_s: Time between two calls.
    """
    last = -every_s

    def call() -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= every_s:
            last = now
            function()

    return call


def _schedule_jobs(
    pool,
    function: Callable[..., Any],
    waiting: Iterator[_Job],
    pending: dict[Any, _Job],
    lost: list[_Job],
    config: RunnerConfig,
) -> None:
    """Give the pool as many jobs as keep it busy; a job that an ended pool does not take is lost."""
    while len(pending) < 2 * config.n_jobs:
        job = next(waiting, None)
        if job is None:
            return
        try:
            future = pool.schedule(run_timed, args=(function, job[1]), timeout=config.timeout_s)
        except RuntimeError:
            lost.append(job)
            return
        pending[future] = job


def run_timed(function: Callable[..., Any], arguments: tuple) -> Outcome:
    """Run a job in the child and return its value or its error, with its time."""
    start = time.monotonic()
    try:
        with name_full_disk(Path("the output")):
            value, error, detail = function(*arguments), None, None
    except DiskFullError:
        raise
    except MemoryError as caught:
        error = ("BMD-RUN-003", "it asked for more memory than it may have")
        value, detail = None, describe_frames(caught)
    except BmdkitError as caught:
        value, error, detail = None, (caught.code, caught.message), describe_frames(caught)
    except OSError as caught:  # its message names a file, which may tell a person
        why = caught.strerror or type(caught).__name__
        value, error, detail = None, ("BMD-RUN-005", why), describe_frames(caught)
    except Exception as caught:
        value, error, detail = None, ("BMD-RUN-004", type(caught).__name__), describe_frames(caught)
    code, reason = error or (None, None)
    return Outcome("", value, code, reason, detail, time.monotonic() - start)


def _read_outcome(name: str, future) -> Outcome:
    from pebble import ProcessExpired

    try:
        result = future.result()
    except (TimeoutError, FutureTimeoutError):  # two classes before Python 3.11
        return Outcome(name, code="BMD-RUN-002", reason="it took longer than --timeout-per-case")
    except ProcessExpired as expired:
        return Outcome(name, code="BMD-RUN-001", reason=f"its process ended with exit code {expired.exitcode}")
    except DiskFullError:
        raise
    except Exception as error:
        return Outcome(name, code="BMD-RUN-004", reason=type(error).__name__, detail=describe_frames(error))
    return Outcome(name, result.value, result.code, result.reason, result.detail, result.seconds)


def describe_frames(error: BaseException) -> str:
    """Say where an error was raised and of what kind it is, without its message: that may quote a file."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(parts) < _MOST_CAUSES:
        frames = "".join(
            f"  {Path(frame.filename).name}:{frame.lineno} in {frame.name}\n"
            for frame in traceback.extract_tb(seen.__traceback__)
        )
        parts.append(f"{frames}{type(seen).__module__}.{type(seen).__name__}")
        seen = seen.__cause__ or seen.__context__
    return "\nraised from\n".join(parts)


@contextlib.contextmanager
def _one_thread_for_children() -> Iterator[None]:
    """Set the variables that numeric libraries read once, when they are loaded; children inherit them."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def prepare_worker(parent: int, memory_gb: float | None = None) -> None:
    """Prepare a fresh child: Ctrl-C is left to the parent, it ends with the parent, and its memory is limited.

    The limit is on private writable memory (RLIMIT_DATA), which the address space that CUDA reserves is not.

    Args:
        parent: Process identifier of the parent.
        memory_gb: Limit in GB of 1e9 bytes; None: what the machine has. It holds on Linux alone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        wanted = total if memory_gb is None else int(memory_gb * 1e9)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the patient's images
    watch_parent(parent)


@cache
def watch_parent(parent: int) -> None:
    """End this process as soon as its parent is gone, however that ended; asked for again, nothing more is done.

    Args:
        parent: Process identifier of the parent.
    """
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent and psutil.pid_exists(parent):  # Windows goes on naming a parent that is gone
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)
