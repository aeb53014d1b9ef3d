"""Many calls of one function side by side on this machine, for work that may neither hang nor crash a process.

Builds and validation read files that may do both; they use `jobs.processes`, which ends a case that takes too long.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar

from bmdkit.jobs.processes import watch_parent

P = ParamSpec("P")
T = TypeVar("T")


def run_in_pool(function: Callable[..., T], arguments: Iterable[tuple[object, ...]], n_jobs: int) -> Iterator[T]:
    """Call a function once for each tuple of arguments; yields the results as they come.

    One job is done in this process. Each of several processes has one thread of BLAS, OpenMP and numba, so the results
    are the same bytes whatever their number. Closing the iterator ends the processes, and so does the end of this one.

    Args:
        function: Function that can be imported in another process.
        arguments: Arguments of each call; plain enough to be pickled.
        n_jobs: Processes at once.

    Raises:
        ValueError: `n_jobs` is less than one.

    Example:
        >>> list(run_in_pool(max, [(1, 2), (4, 3)], n_jobs=1))
        [2, 4]
    """
    if n_jobs < 1:
        raise ValueError(f"n_jobs: expected at least 1, got {n_jobs}")
    calls = list(arguments)
    if n_jobs == 1 or len(calls) < 2:
        for call in calls:
            yield function(*call)
        return
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="loky", inner_max_num_threads=1):
        pool = Parallel(n_jobs=min(n_jobs, len(calls)), return_as="generator_unordered", pre_dispatch="all")
        results = pool(delayed(_call_watched)(os.getpid(), function, call) for call in calls)
    try:
        yield from results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that calls were cancelled is what was asked for
            results.close()


def _call_watched(parent: int, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
    """Call the function in another process, which ends with its parent: a killed command leaves nobody at work."""
    watch_parent(parent)
    return function(*arguments)


def count_processors() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
