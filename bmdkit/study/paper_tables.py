"""Tables 2 and 3 of a study: BMD by every method, and projections with and without hierarchical learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bmdkit.core.naming import make_unique_name
from bmdkit.evaluation.agreement import FEWEST_PATIENTS, Agreement
from bmdkit.evaluation.tables import (
    TOO_FEW,
    Column,
    Value,
    agreement_cells,
    agreement_columns,
    to_csv,
    to_latex,
    to_markdown,
)
from bmdkit.io.results import write_text
from bmdkit.study.method_metrics import CEILING, ImageMetrics, MethodMetrics
from bmdkit.study.task_values import UNITS
from bmdkit.training.bone_density import Task

_DIGITS: dict[Task, int] = {"dxa": 3, "qct": 1}
_IMAGE_COLUMNS = (
    Column("psnr_db", "PSNR, dB", 2, "highest"),
    Column("dice", "Dice", 3, "highest"),
    Column("mean_icc", "ICC", 3, "highest"),
    Column("mean_pcc", "PCC", 3, "highest"),
)


@dataclass(frozen=True)
class PaperTable:
    """A table with a row for each method.

    Attributes:
        rows: Values by method and column.
        columns: Columns in their order.
    """

    rows: Mapping[str, Mapping[str, Value]]
    columns: Sequence[Column]

    def without_best(self) -> PaperTable:
        """The same without a best value in any column: rows that cannot be compared have none."""
        return replace(self, columns=[replace(column, best=None) for column in self.columns])

    def write(self, path: Path, caption: str) -> None:
        """Write `path`.csv, .md and .tex."""
        for suffix, text in (
            ("csv", to_csv(self.rows, self.columns)),
            ("md", to_markdown(self.rows, self.columns, caption=caption)),
            ("tex", to_latex(self.rows, self.columns, caption=caption)),
        ):
            write_text(path.with_name(f"{path.name}.{suffix}"), text)


def make_bmd_table(measured: Sequence[MethodMetrics], references: Mapping[str, Mapping[Task, Agreement]]) -> PaperTable:
    """Table 2: agreement of DXA- and QCT-BMD, a row for each method, and those that need no network below.

    Args:
        measured: The methods.
        references: Agreement of the others by name and task.
    """
    rows: dict[str, dict[str, Value]] = {}
    for one in measured:
        cells = _bmd_cells(one)
        if cells:
            rows[one.method.name] = cells
    for name, tasks in references.items():
        cells = {k: v for task, found in tasks.items() for k, v in agreement_cells(task.upper(), found).items()}
        if name != CEILING:  # a constant has no correlation and no spread
            cells = {key: value for key, value in cells.items() if key.endswith((".mae", ".see"))}
        rows[name] = cells
    columns = [c for task in _DIGITS for c in agreement_columns(task.upper(), UNITS[task], digits=_DIGITS[task])]
    return PaperTable(rows, _known_columns(rows, columns))


def make_projection_table(measured: Sequence[MethodMetrics]) -> PaperTable | None:
    """Table 3: each backbone without and with hierarchical learning (HL); None without a decomposition of dataset B."""
    rows: dict[str, dict[str, Value]] = {}
    chosen = [m for m in measured if m.images and m.method.first.dataset == "B"]
    for one in sorted(chosen, key=lambda m: (str(m.method.first.backbone), m.method.first.hierarchical)):
        first = one.method.first
        learnt = (" + HL" if first.hierarchical else "") + (", unpaired" if first.unpaired else "")
        name = make_unique_name(f"{first.backbone}{learnt}", rows)
        images = {c.key: combine_seeds([_image_cell(of_seed, c.key) for of_seed in one.images]) for c in _IMAGE_COLUMNS}
        rows[name] = images | _bmd_cells(one)
    if not rows:
        return None
    columns = [c for c in agreement_columns("DXA", UNITS["dxa"]) if not c.key.endswith("rms_cv_pct")]
    columns += agreement_columns("QCT", UNITS["qct"])[:1]
    return PaperTable(rows, _known_columns(rows, [*_IMAGE_COLUMNS, *columns]))


def combine_seeds(values: Sequence[Value]) -> Value:
    """The value of one seed, or mean and standard deviation over several; why there is none if one has none."""
    numbers = [value for value in values if isinstance(value, float)]
    if len(values) < 2 or len(numbers) < len(values):
        return next((value for value in values if isinstance(value, str)), values[0])
    return float(np.mean(numbers)), float(np.std(numbers, ddof=1))


def _bmd_cells(measured: MethodMetrics) -> dict[str, Value]:
    cells: dict[str, Value] = {}
    for task, by_seed in measured.agreement.items():
        parts = [agreement_cells(task.upper(), one) for one in by_seed.values()]
        cells |= {key: combine_seeds([part[key] for part in parts]) for key in parts[0]}
    return cells


def _image_cell(metrics: ImageMetrics, name: str) -> Value:
    value: float = getattr(metrics, name)
    too_few = name in ("mean_icc", "mean_pcc") and metrics.patients < FEWEST_PATIENTS
    return TOO_FEW if too_few else value


def _known_columns(rows: Mapping[str, Mapping[str, Value]], columns: Sequence[Column]) -> list[Column]:
    known = {key for cells in rows.values() for key in cells}
    return [column for column in columns if column.key in known]
