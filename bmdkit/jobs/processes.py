"""Many cases at once, each in a child process: what a case does to its process, it does to itself alone."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmdkit.core.disk import name_full_disk
from bmdkit.errors import BmdkitError, DiskFullError

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
_MOST_CAUSES = 8
_MOST_POOLS = 3  # that end one after the other without a job done


@dataclass(frozen=True)
class RunnerConfig:
    """How cases are spread over processes; none of this changes a result.

    Attributes:
        n_jobs: Cases at once.
        timeout_s: A case that takes longer is ended and fails; None: no limit.
        recycle_after: A process is replaced after so many cases, which bounds what a leak can take.
        memory_gb: What a case may allocate, GB of 1e9 bytes (Linux); a case that asks for more fails. None: what the
            machine has.
        retries: How often the cluster tries a case again that its worker could not run at all (`cluster.run_on_dask`).
    """

    n_jobs: int = 1
    timeout_s: float | None = None
    recycle_after: int = 50
    memory_gb: float | None = None
    retries: int = 3

    def __post_init__(self) -> None:
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
        name: The job's.
        value: What it returned, if it did.
        code, reason: Why it did not, a code of `bmdkit.errors` and a sentence.
        detail: A traceback, for the crash file.
        seconds: Wall time.
    """

    name: str
    value: Any = None
    code: str | None = None
    reason: str | None = None
    detail: str | None = None
    seconds: float = 0.0


def run_jobs(
    function: Callable[..., Any], jobs: Iterable[tuple[str, tuple]], config: RunnerConfig
) -> Iterator[Outcome]:
    """Call `function(*arguments)` for every job (name, arguments) in child processes; yields them as they end.

    A job that raises, hangs or takes its process down fails alone. A process that dies before it has taken a job ends
    its whole pool: the jobs go on in a new one. Closing the iterator ends all children.

    Raises:
        DiskFullError: A job met a full disk; there is no use in going on.
    """
    waiting, pools_lost = iter(jobs), 0
    while True:
        ended, lost = 0, []
        with contextlib.closing(_run_in_pool(function, waiting, config, lost)) as outcomes:
            for outcome in outcomes:
                ended += 1
                yield outcome
        if not lost:
            return
        pools_lost = 1 if ended else pools_lost + 1
        if pools_lost < _MOST_POOLS:
            waiting = itertools.chain(lost, waiting)
        else:
            for name, _ in lost:
                yield Outcome(name, code="BMD-RUN-001", reason="the processes end before they have begun anything")


_Job = tuple[str, tuple]


def _run_in_pool(
    function: Callable[..., Any], waiting: Iterator[_Job], config: RunnerConfig, lost: list[_Job]
) -> Iterator[Outcome]:
    """The jobs that end; `lost` gets those that go with the pool."""
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
            _fill(pool, function, waiting, pending, lost, config)
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED, timeout=1.0)
                for future in done:
                    job = pending.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        lost.append(job)
                    else:
                        yield _outcome(job[0], future)
                if not lost:
                    _fill(pool, function, waiting, pending, lost, config)
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _fill(
    pool,
    function: Callable[..., Any],
    waiting: Iterator[_Job],
    pending: dict[Any, _Job],
    lost: list[_Job],
    config: RunnerConfig,
) -> None:
    """Keep the pool busy; the job that it does not take, because it has ended, is lost."""
    while len(pending) < 2 * config.n_jobs:
        job = next(waiting, None)
        if job is None:
            return
        try:
            future = pool.schedule(timed, args=(function, job[1]), timeout=config.timeout_s)
        except RuntimeError:
            lost.append(job)
            return
        pending[future] = job


def timed(function: Callable[..., Any], arguments: tuple) -> Outcome:
    """In the child: the value or the error of a job, with its time."""
    start = time.monotonic()
    try:
        with name_full_disk(Path("the output")):
            value, error, detail = function(*arguments), None, None
    except DiskFullError:
        raise
    except MemoryError as caught:
        value, error, detail = None, ("BMD-RUN-003", "it asked for more memory than it may have"), frames_of(caught)
    except BmdkitError as caught:
        value, error, detail = None, (caught.code, caught.message), frames_of(caught)
    except OSError as caught:  # its message names a file, which may tell a person
        why = caught.strerror or type(caught).__name__
        value, error, detail = None, ("BMD-RUN-005", why), frames_of(caught)
    except Exception as caught:
        value, error, detail = None, ("BMD-RUN-004", type(caught).__name__), frames_of(caught)
    code, reason = error or (None, None)
    return Outcome("", value, code, reason, detail, time.monotonic() - start)


def _outcome(name: str, future) -> Outcome:
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
        return Outcome(name, code="BMD-RUN-004", reason=type(error).__name__, detail=frames_of(error))
    return Outcome(name, result.value, result.code, result.reason, result.detail, result.seconds)


def frames_of(error: BaseException) -> str:
    """Where an error was raised, and of what kind it and its causes are; not what it says, which may quote a file."""
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
    """Numeric libraries read these once, when they are loaded; children inherit them."""
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
    """In a fresh child: leave Ctrl-C to the parent, end when the parent is gone, and take no more memory than agreed.

    The limit is on private writable memory (RLIMIT_DATA), which the address space that CUDA reserves is not.
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
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
