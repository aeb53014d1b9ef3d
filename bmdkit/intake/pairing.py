"""Which CT belongs to which radiograph: the same person, the nearest day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bmdkit.intake.header_scan import ScannedFile
from bmdkit.intake.persons import Person
from bmdkit.intake.settings import IntakeConfig
from bmdkit.io.xray_views import is_other_body_part


@dataclass(frozen=True)
class CtSeries:
    """The slices of one series of one person."""

    files: tuple[ScannedFile, ...]

    @property
    def first(self) -> ScannedFile:
        """The slice that speaks for all."""
        return self.files[0]

    @property
    def slices(self) -> int:
        """The number of slices, frames of multi-frame files counted."""
        return sum(file.frames for file in self.files)

    def describe(self) -> str:
        """What tells one series from another: slices, thickness, kernel."""
        thickness = f"{self.first.thickness} mm" if self.first.thickness else "thickness not named"
        return f"{self.slices} slices, {thickness}, kernel {self.first.kernel or 'not named'}"


@dataclass(frozen=True)
class CtChoice:
    """The CT of one person.

    Attributes:
        series: The series that is taken; None where nothing decides, or there is none.
        candidates: Series of which nothing says which one is to be taken.
        left_out: Series that are not the one that is taken, and why.
        why: Why there is none to take; empty if there is one.
    """

    series: CtSeries | None
    candidates: tuple[CtSeries, ...]
    left_out: tuple[tuple[CtSeries, str], ...]
    why: str


def choose_ct(person: Person, radiographs: Sequence[ScannedFile], config: IntakeConfig) -> CtChoice:
    """Choose the one CT of a person: the day nearest to the radiographs, then the rule of `io.dicom_ct.read_series`.

    Of several series of that day the one is taken that is marked ORIGINAL and has the most slices; a tie is left to
    the user.

    Args:
        person: The person.
        radiographs: Those of the person that can be used.
        config: Which series can be used, and how many days may lie between.
    """
    groups: dict[str, list[ScannedFile]] = defaultdict(list)
    for file in person.files:
        if file.kind == "ct":
            groups[file.series_uid].append(file)
    left_out, pool = [], []
    for files in groups.values():
        series = CtSeries(tuple(sorted(files, key=lambda file: (file.order, str(file.path)))))
        if series.slices < config.least_slices:
            left_out.append((series, f"{series.slices} slices, at least {config.least_slices} are needed"))
        elif is_other_body_part(series.first.body_part):
            left_out.append((series, "another part of the body"))
        else:
            pool.append(series)
    if not pool:
        return CtChoice(None, (), tuple(left_out), "no CT of this person shows the hip" if groups else "no CT")
    day = _choose_day(pool, radiographs)
    if day is None:
        return CtChoice(None, tuple(pool), tuple(left_out), "CTs of several days, and nothing tells which is meant")
    of_day = [series for series in pool if series.first.date == day[0]]
    left_out += [(series, "a CT of another day is nearer") for series in pool if series not in of_day]
    original = [series for series in of_day if "ORIGINAL" in series.first.image_type] or of_day
    most = max(series.slices for series in original)
    best = [series for series in original if series.slices == most]
    if len(best) > 1:
        rest = [(series, "a larger series is there") for series in of_day if series not in best]
        return CtChoice(None, tuple(best), tuple(left_out + rest), f"{len(best)} series of {most} slices")
    left_out += [(series, "another series of that day is taken") for series in of_day if series is not best[0]]
    return CtChoice(best[0], (), tuple(left_out), "")


def _choose_day(pool: Sequence[CtSeries], radiographs: Sequence[ScannedFile]) -> tuple | None:
    """The day of the CT that lies nearest to the radiographs, in a tuple; None where nothing decides."""
    days = {series.first.date for series in pool}
    if len(days) == 1:
        return tuple(days)
    taken = [file.date for file in radiographs if file.date is not None]
    if None in days or not taken:
        return None
    apart = {day: median(abs((other - day).days) for other in taken) for day in days if day is not None}
    nearest = [day for day, days_apart in apart.items() if days_apart == min(apart.values())]
    return (nearest[0],) if len(nearest) == 1 else None


def count_days(ct: CtSeries, radiograph: ScannedFile) -> int | None:
    """Days from a CT to a radiograph, negative where the radiograph is the earlier; None where a day is not known."""
    if ct.first.date is None or radiograph.date is None:
        return None
    return (radiograph.date - ct.first.date).days
