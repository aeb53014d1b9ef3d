"""The kept figures of `benchmarks/results/` as tables of text: flat numbers in rows and columns, studies by method."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
MOST_COLUMNS = 6
"""Groups of figures with the same names stand side by side, so many at most."""
STUDY_COLUMNS = {"pcc": "PCC", "icc": "ICC", "mae": "MAE", "see": "SEE", "rms_cv_pct": "RMS-CV, %"}
IMAGE_COLUMNS = {"psnr_db": "PSNR, dB", "dice": "Dice", "mean_pcc": "PCC of the mean"}
NOTHING = 1e-9
"""What is smaller is a rounding error."""
_DOT = re.compile(r"(?<!\d)\.|\.(?!\d)")  # not that of a decimal
Table = list[list[str]]
"""Rows of cells; the first row names the columns."""


@dataclass(frozen=True)
class Figures:
    """The figures of one measurement.

    Attributes:
        name: Name of its file, without the ending.
        numbers: What the file holds.
        about: What stands beside it: command, device, date, versions, and more.
    """

    name: str
    numbers: Mapping[str, Any]
    about: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Figures:
        """Read a file of figures, and the one beside it.

        Raises:
            FileNotFoundError: There is none.
        """
        beside = path.with_stem(f"{path.stem}_machine")
        numbers, about = (json.loads(one.read_text(encoding="utf-8")) for one in (path, beside))
        return cls(path.stem, numbers, about)

    def tables(self) -> list[Table]:
        """All figures, as tables."""
        return tabulate_study(self.numbers) if "methods" in self.numbers else tabulate(flatten(self.numbers))


def list_kept() -> list[Path]:
    """The files of figures that are kept, by name."""
    return sorted(path for path in RESULTS.glob("*.json") if not path.stem.endswith("_machine"))


def flatten(numbers: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Nested figures by their dotted names; what is no number is left out."""
    found: dict[str, float] = {}
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{before}{name}.")
        elif isinstance(value, bool | int | float):
            found[f"{before}{name}"] = float(value)
    return found


def split_name(name: str) -> tuple[str, str]:
    """Group and figure: `blades: IoU, median`, or `pelvis.dice`; a plain name has no group."""
    if ": " in name:
        group, _, last = name.rpartition(": ")
        return group, last
    *groups, last = _DOT.split(name)
    return ".".join(groups), last


def tabulate(flat: Mapping[str, float]) -> list[Table]:
    """Figures as tables: groups that have the same figures share one, side by side."""
    groups: dict[str, dict[str, float]] = {}
    for name, value in flat.items():
        group, last = split_name(name)
        groups.setdefault(group, {})[last] = value
    alike: dict[frozenset[str], list[str]] = {}
    for group, figures in groups.items():
        alike.setdefault(frozenset(figures), []).append(group)
    tables = []
    for names in alike.values():
        for part in split_evenly(names):
            rows = [[write_number(groups[group][figure]) for group in part] for figure in groups[part[0]]]
            head = ["", *(group or "value" for group in part)]
            tables.append([head, *([figure, *row] for figure, row in zip(groups[part[0]], rows, strict=True))])
    return tables


def split_evenly(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Parts of at most `MOST_COLUMNS`, of about the same length."""
    count = -(-len(names) // MOST_COLUMNS)
    size = -(-len(names) // count)
    for start in range(0, len(names), size):
        yield names[start : start + size]


def tabulate_study(study: Mapping[str, Any]) -> list[Table]:
    """Agreement with BMD by method and task, and likeness of the projections; mean and standard deviation of seeds."""
    agreement: Table = [["method", "BMD", "seeds", "images", "patients", *STUDY_COLUMNS.values()]]
    likeness: Table = [["method", *IMAGE_COLUMNS.values()]]
    for method, found in study["methods"].items():
        for task, told in found["tasks"].items():
            if seeds := [one for one in told.get("by_seed", [told]) if one]:
                trained = str(len(seeds)) if "by_seed" in told else ""
                cells = [write_spread([one.get(name) for one in seeds]) for name in STUDY_COLUMNS]
                agreement.append([method, task, trained, str(seeds[0]["n"]), str(seeds[0]["patients"]), *cells])
            if joint := told.get("mean_of_seeds"):
                cells = [write_spread([joint.get(name)]) for name in STUDY_COLUMNS]
                name = f"{method}, mean of the networks of all seeds"
                agreement.append([name, task, "", str(joint["n"]), str(joint["patients"]), *cells])
        if images := found.get("images"):
            likeness.append([method, *(write_spread([one.get(name) for one in images]) for name in IMAGE_COLUMNS)])
    return [table for table in (agreement, likeness) if len(table) > 1]


def write_spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation of what is known; nothing where nothing is."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return write_number(fmean(known)) + (f" ± {stdev(known):.2g}" if len(known) > 1 else "")


def write_number(value: float) -> str:
    """Three significant digits; large and whole numbers whole."""
    if abs(value) < NOTHING:
        return "0"
    return f"{value:.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"


def write_markdown(table: Table) -> list[str]:
    """The lines of a table in Markdown, numbers to the right."""
    head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in table)
    rule = ["---", *("--:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
