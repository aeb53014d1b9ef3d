"""Progress bars, for commands that work through many cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def cases_bar() -> Iterator[Callable]:
    """A bar with an estimate of the time left on standard error; yields the callback to give to a build.

    Where there is no terminal, each case is logged on a line of its own instead.
    """
    import logging

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    logger = logging.getLogger("bmdkit.build")
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
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
