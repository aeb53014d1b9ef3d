"""Tables of an evaluation as CSV, Markdown and LaTeX, laid out as those of Gu et al. 2023: a row per method."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bmdkit.evaluation.agreement import FEWEST_PATIENTS, Agreement

_LATEX = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "<": "$<$",
        "²": r"$^2$",
        "³": r"$^3$",
        "–": "--",
    }
)
_MARKDOWN = str.maketrans({"|": r"\|", "\n": " ", "<": "&lt;", "*": r"\*", "_": r"\_"})


@dataclass(frozen=True)
class Column:
    """One number per method.

    Attributes:
        key: Name in the rows.
        title: Heading, with the unit.
        digits: Digits behind the point.
        best: Whether the highest or the lowest value is set in bold; None: neither.
    """

    key: str
    title: str
    digits: int = 3
    best: Literal["highest", "lowest"] | None = None


def agreement_columns(task: str, unit: str, *, digits: int = 3) -> tuple[Column, ...]:
    """The five columns of one task: PCC, ICC, MAE, SEE and RMS-CV.

    Args:
        task: Such as DXA.
        unit: Unit of its BMD, such as g/cm².
        digits: Decimals of MAE and SEE.
    """
    return (
        Column(f"{task}.pcc", f"{task} PCC", 3, "highest"),
        Column(f"{task}.icc", f"{task} ICC", 3, "highest"),
        Column(f"{task}.mae", f"{task} MAE, {unit}", digits, "lowest"),
        Column(f"{task}.see", f"{task} SEE, {unit}", digits, "lowest"),
        Column(f"{task}.rms_cv_pct", f"{task} RMS-CV, %", 2, "lowest"),
    )


Value = float | tuple[float, float] | str
"""A number, or its mean and spread over seeds or folds, or why there is none."""

TOO_FEW = f"n < {FEWEST_PATIENTS}"
"""What stands in place of a correlation of too few patients."""


def agreement_cells(task: str, result: Agreement) -> dict[str, Value]:
    """The values of `agreement_columns` for one method; correlations of too few patients say so."""
    cells: dict[str, Value] = {f"{task}.{name}": getattr(result, name) for name in ("mae", "see", "rms_cv_pct")}
    for name, value in (("pcc", result.pcc), ("icc", result.icc)):
        cells[f"{task}.{name}"] = TOO_FEW if math.isnan(value) and result.patients < FEWEST_PATIENTS else value
    return cells


def to_csv(rows: Mapping[str, Mapping[str, Value]], columns: Sequence[Column]) -> str:
    """Full precision; a spread is a column of its own.

    Args:
        rows: Method -> its values by column key; a missing one is an empty cell.
        columns: Columns in their order.
    """
    spread = [any(isinstance(row.get(c.key), tuple) for row in rows.values()) for c in columns]
    header = ["method"]
    for column, has in zip(columns, spread, strict=True):
        header += [column.title, f"{column.title} (spread)"] if has else [column.title]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for method, row in rows.items():
        cells: list[object] = [method]
        for column, has in zip(columns, spread, strict=True):
            value = row.get(column.key)
            mean, sd = _parts(value)
            cell = value if isinstance(value, str) else _plain(mean)
            cells += [cell, _plain(sd)] if has else [cell]
        writer.writerow(cells)
    return text.getvalue()


def to_markdown(rows: Mapping[str, Mapping[str, Value]], columns: Sequence[Column], *, caption: str = "") -> str:
    """A pipe table; the best of each column in bold. Arguments as in `to_csv`."""
    lines = [f"| method | {' | '.join(c.title.translate(_MARKDOWN) for c in columns)} |"]
    lines.append("|---|" + "---:|" * len(columns))
    best = [_best(rows, column) for column in columns]
    for method, row in rows.items():
        cells = [
            f"**{_text(row.get(c.key), c.digits)}**" if method in b else _text(row.get(c.key), c.digits)
            for c, b in zip(columns, best, strict=True)
        ]
        lines.append(f"| {method.translate(_MARKDOWN)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" + (f"\n{caption}\n" if caption else "")


def to_latex(rows: Mapping[str, Mapping[str, Value]], columns: Sequence[Column], *, caption: str = "") -> str:
    """A tabular with booktabs rules; the best of each column in bold. Arguments as in `to_csv`."""
    best = [_best(rows, column) for column in columns]
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
    lines += [" & ".join(["method", *(c.title.translate(_LATEX) for c in columns)]) + r" \\", r"\midrule"]
    for method, row in rows.items():
        cells = [method.translate(_LATEX)]
        for column, winners in zip(columns, best, strict=True):
            text = _text(row.get(column.key), column.digits).translate(_LATEX)
            cells.append(rf"\textbf{{{text}}}" if method in winners else text)
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\caption{{{caption.translate(_LATEX)}}}"] if caption else []
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _parts(value: Value | None) -> tuple[float, float]:
    if value is None or isinstance(value, str):
        return math.nan, math.nan
    return value if isinstance(value, tuple) else (float(value), math.nan)


def _plain(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def _text(value: Value | None, digits: int) -> str:
    if isinstance(value, str):
        return value
    mean, sd = _parts(value)
    if not math.isfinite(mean):
        return "–"
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if math.isfinite(sd) else "")


def _best(rows: Mapping[str, Mapping[str, Value]], column: Column) -> set[str]:
    """Methods whose value, as it is shown, is the best; none where there is nothing to compare."""
    known = {method: round(_parts(row.get(column.key))[0], column.digits) for method, row in rows.items()}
    known = {method: value for method, value in known.items() if math.isfinite(value)}
    if column.best is None or len(known) < 2:
        return set()
    target = max(known.values()) if column.best == "highest" else min(known.values())
    return {method for method, value in known.items() if value == target}
