"""How far a command is, and how long it will take: a bar in a terminal, lines with a time in a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

    from bmdkit.dataset.build_run import CaseReport

Clock = Callable[[], float]

_LINE_EVERY_S = 30.0
_MOST_CASES_TOLD = 4
_SPEED = "images_per_s"
_NO_FIGURE = ("epoch", _SPEED)
_LOSSES = ("l1", "gradient_correlation", "weighted_l1", "loss")

logger = logging.getLogger("bmdkit.progress")


class CaseCallbacks(Protocol):
    """What a build tells while it runs."""

    def on_stage(self, stage: str, total: int) -> None:
        """A stage of the build begins, with the number of its cases."""

    def on_case(self, report: CaseReport) -> None:
        """A case is done."""

    def on_work(self, stages: Mapping[str, str]) -> None:
        """These cases are being built, each in its stage."""


class Estimate:
    """The time that is left, from what was done since the first call.

    Args:
        clock: Function that gives seconds.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Begin with nothing."""
        self._clock = clock
        self._first: tuple[int, float] | None = None

    def describe(self, done: int, total: int) -> str:
        """Say how long it still takes; empty where that is unknown or nothing is left.

        Args:
            done: Steps that are done; what was done before the first call does not count.
            total: All steps.

        Example:
            >>> ticks = iter([0.0, 60.0])
            >>> estimate = Estimate(lambda: next(ticks))
            >>> estimate.describe(0, 10), estimate.describe(1, 10)
            ('', ', about 9 min left')
        """
        now = self._clock()
        if self._first is None:
            self._first = (done, now)
        begun, started = self._first
        if done <= begun or done >= total:
            return ""
        return f", about {_format_seconds((now - started) / (done - begun) * (total - done))} left"


def _format_seconds(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(round(seconds), 1)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


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
        TextColumn("{task.fields[beside]}"),
    )
    with Progress(*columns, console=console, transient=transient, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def counting_bar(what: str, *, clock: Clock = time.monotonic) -> Iterator[Callable[[int, int], None]]:
    """A bar for work of many equal steps; yields a callback of the steps that are done and of all.

    Where there is no terminal, a line is logged at the first call, then when half a minute has passed since the last
    line, and at the end.

    Args:
        what: What is counted, in words.
        clock: Function that gives seconds.
    """
    last: float | None = None
    estimate = Estimate(clock)
    with _bar(transient=True) as progress:
        task = progress.add_task(what, total=None, beside="")

        def on_progress(done: int, total: int) -> None:
            nonlocal last
            progress.update(task, total=total, completed=done)
            left, now = estimate.describe(done, total), clock()
            if progress.disable and (last is None or now - last > _LINE_EVERY_S or done == total):
                last = now
                logger.info("%s: %d/%d%s", what, done, total, left)

        yield on_progress


@contextmanager
def naming_bar(what: str, *, clock: Clock = time.monotonic) -> Iterator[Callable[[int, int, str], None]]:
    """A bar for a few long steps with names; yields a callback of the steps done, of all, and of the step's name.

    Where there is no terminal, each is logged on a line of its own.

    Args:
        what: What is counted, in words.
        clock: Function that gives seconds.
    """
    estimate = Estimate(clock)
    with _bar(transient=True) as progress:
        task = progress.add_task(what, total=None, beside="")

        def on_step(done: int, total: int, name: str) -> None:
            named = f" {name}" if name else ""
            progress.update(task, total=total, completed=done, description=f"{what}:{named}")
            left = estimate.describe(done, total)
            if progress.disable:
                logger.info("%s: %d/%d%s%s", what, done, total, named, left)

        yield on_step


@contextmanager
def epochs_bar(*, clock: Clock = time.monotonic) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """A bar with the epochs and the latest losses; yields the callback to give to a training.

    Where there is no terminal, each epoch is logged on a line of its own, with every figure of its row.

    Args:
        clock: Function that gives seconds.
    """
    estimate = Estimate(clock)
    with _bar(transient=True) as progress:
        task = progress.add_task("epoch", total=None, beside="")

        def on_epoch(done: int, total: int, row: Mapping[str, float]) -> None:
            speed = f"{row[_SPEED]:.3g} images/s" if _SPEED in row else ""
            figures = [*(f"{name} {row[name]:.3g}" for name in _LOSSES if name in row), speed]
            progress.update(task, total=total, completed=done, beside="  ".join(filter(None, figures)))
            left = estimate.describe(done, total)
            if progress.disable:
                known = {name: value for name, value in row.items() if name not in _NO_FIGURE and value is not None}
                told = [*(f"{name} {value:.4g}" for name, value in known.items()), speed]
                logger.info("epoch %d/%d: %s%s", done, total, ", ".join(filter(None, told)), left)

        yield on_epoch


@contextmanager
def cases_bar(*, clock: Clock = time.monotonic) -> Iterator[CaseCallbacks]:
    """A bar with stage, counts and an estimate of the time left; yields the callbacks to give to a build.

    Where there is no terminal, each stage and each case is logged on a line of its own instead; where half a minute
    passes without one, a line says in which stages the cases are.

    Args:
        clock: Function that gives seconds.
    """
    estimate = Estimate(clock)
    building = logging.getLogger("bmdkit.build")
    last, done = clock(), ""
    with _bar(transient=False) as progress:
        task = progress.add_task("starting", total=None, beside="")

        class Callbacks:
            def on_stage(self, stage: str, total: int) -> None:
                nonlocal last, done
                last, done = clock(), f"0/{total}"
                progress.update(task, total=total, description=stage)
                if stage == "building":
                    estimate.describe(0, total)
                if progress.disable and stage != "checking":  # what is wrong before it starts is said first
                    building.info("%s: %d cases", stage, total)

            def on_work(self, stages: Mapping[str, str]) -> None:
                nonlocal last
                told = ", ".join(f"{name} {stage}" for name, stage in list(stages.items())[:_MOST_CASES_TOLD])
                more = len(stages) - _MOST_CASES_TOLD
                told += f", and {more} more" if more > 0 else ""
                progress.update(task, beside=told)
                if progress.disable and told and clock() - last > _LINE_EVERY_S:
                    last = clock()
                    building.info("%s done, at work: %s", done, told)

            def on_case(self, report: CaseReport) -> None:
                nonlocal last, done
                last, done = clock(), f"{report.done}/{report.total}"
                progress.update(task, total=report.total, completed=report.done, beside=report.patient_id)
                level = logging.INFO if report.status == "ok" else logging.WARNING
                kept = ", kept from before" if report.reused else f", {report.seconds:.0f} s"
                left = estimate.describe(report.done, report.total) if progress.disable else ""
                where = f"{report.done}/{report.total} {report.patient_id}"
                extra = {"case": report.patient_id}
                building.log(level, "%s: %s%s%s", where, report.status, kept, left, extra=extra)

        yield Callbacks()
