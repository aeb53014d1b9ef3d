"""Progress bars, for commands that work through many cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_EVERY_S = 30.0


@contextmanager
def _bar(*, transient: bool) -> Iterator[Progress]:
    """A bar on standard error with counts, time and an estimate of the time left; nothing where is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=transient, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def counting_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work of many equal steps; yields a callback of the steps that are done and of all.

    Where there is no terminal, a line is logged when half a minute has passed since the last one.
    """
    import logging
    import time

    logger = logging.getLogger("bmdkit.progress")
    last = time.monotonic()
    with _bar(transient=True) as progress:
        task = progress.add_task(what, total=None)

        def on_progress(done: int, total: int) -> None:
            nonlocal last
            progress.update(task, total=total, completed=done)
            if progress.disable and time.monotonic() - last > _LINE_EVERY_S:
                last = time.monotonic()
                logger.info("%s: %d/%d", what, done, total)

        yield on_progress


@contextmanager
def cases_bar() -> Iterator[Callable]:
    """A bar with an estimate of the time left on standard error; yields the callback to give to a build.

    Where there is no terminal, each case is logged on a line of its own instead.
    """
    import logging

    logger = logging.getLogger("bmdkit.build")
    with _bar(transient=False) as progress:
        task = progress.add_task("building", total=None)

        def on_case(report) -> None:
            progress.update(task, total=report.total, completed=report.done, description=report.patient_id)
            level = logging.INFO if report.status == "ok" else logging.WARNING
            kept = ", kept from before" if report.reused else f", {report.seconds:.0f} s"
            extra = {"case": report.patient_id}
            logger.log(
                level, "%d/%d %s: %s%s", report.done, report.total, report.patient_id, report.status, kept, extra=extra
            )

        yield on_case
