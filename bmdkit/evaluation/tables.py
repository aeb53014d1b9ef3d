"""Tables of an evaluation as CSV, Markdown and LaTeX, laid out as those of Gu et al. 2023: a row per method."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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


Label = str | tuple[str, ...]
"""What a row is called: a name, or one for each of several leading columns."""

Rows = Mapping[Any, Mapping[str, Value]]
"""Values by column key, of each `Label`; a missing one is an empty cell."""

METHOD = ("method",)
"""Heads of the leading columns of a table of methods."""


def to_csv(rows: Rows, columns: Sequence[Column], *, heads: Sequence[str] = METHOD) -> str:
    """Full precision; a spread is a column of its own.

    Args:
        rows: Values of each row.
        columns: Columns in their order.
        heads: Heads of the leading columns, as many as a label has names.
    """
    spread = [any(isinstance(row.get(c.key), tuple) for row in rows.values()) for c in columns]
    header = list(heads)
    for column, has in zip(columns, spread, strict=True):
        header += [column.title, f"{column.title} (spread)"] if has else [column.title]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for label, row in rows.items():
        cells: list[object] = [*_names(label)]
        for column, has in zip(columns, spread, strict=True):
            value = row.get(column.key)
            mean, sd = _parts(value)
            cell = value if isinstance(value, str) else _plain(mean)
            cells += [cell, _plain(sd)] if has else [cell]
        writer.writerow(cells)
    return text.getvalue()


def to_markdown(
    rows: Rows,
    columns: Sequence[Column],
    *,
    heads: Sequence[str] = METHOD,
    caption: str = "",
    unranked: Collection[Label] = (),
) -> str:
    """A pipe table; the best of each column in bold, but for rows that are not ranked. Arguments as in `to_csv`."""
    lines = [f"| {' | '.join(head.translate(_MARKDOWN) for head in (*heads, *(c.title for c in columns)))} |"]
    lines.append("|---" * len(heads) + "|" + "---:|" * len(columns))
    best = [_best(rows, column, unranked) for column in columns]
    for (label, row), shown in zip(rows.items(), _shown_labels(rows), strict=True):
        cells = [
            f"**{_text(row.get(c.key), c.digits)}**" if label in b else _text(row.get(c.key), c.digits)
            for c, b in zip(columns, best, strict=True)
        ]
        lines.append(f"| {' | '.join([*(name.translate(_MARKDOWN) for name in shown), *cells])} |")
    return "\n".join(lines) + "\n" + (f"\n{caption}\n" if caption else "")


def to_latex(
    rows: Rows,
    columns: Sequence[Column],
    *,
    heads: Sequence[str] = METHOD,
    caption: str = "",
    unranked: Collection[Label] = (),
) -> str:
    """A tabular with booktabs rules; the best of each column in bold. Arguments as in `to_csv`."""
    best = [_best(rows, column, unranked) for column in columns]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{'l' * len(heads)}{'r' * len(columns)}}}",
        r"\toprule",
    ]
    lines += [
        " & ".join([head.translate(_LATEX) for head in (*heads, *(c.title for c in columns))]) + r" \\",
        r"\midrule",
    ]
    for (label, row), shown in zip(rows.items(), _shown_labels(rows), strict=True):
        cells = [name.translate(_LATEX) for name in shown]
        for column, winners in zip(columns, best, strict=True):
            text = _text(row.get(column.key), column.digits).translate(_LATEX)
            cells.append(rf"\textbf{{{text}}}" if label in winners else text)
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\caption{{{caption.translate(_LATEX)}}}"] if caption else []
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _names(label: Label) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else label


def _shown_labels(rows: Rows) -> list[tuple[str, ...]]:
    """Labels without the names of leading columns that are as in the row above; the last one always stands."""
    shown, above = [], None
    for label in rows:
        names = _names(label)
        shown.append(
            tuple("" if above and names[: n + 1] == above[: n + 1] else name for n, name in enumerate(names[:-1]))
            + names[-1:]
        )
        above = names
    return shown


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


def _best(rows: Rows, column: Column, unranked: Collection[Label]) -> set[Label]:
    """Methods whose value, as it is shown, is the best; none where there is nothing to compare."""
    ranked = {method: row for method, row in rows.items() if method not in unranked}
    known = {method: round(_parts(row.get(column.key))[0], column.digits) for method, row in ranked.items()}
    known = {method: value for method, value in known.items() if math.isfinite(value)}
    if column.best is None or len(known) < 2:
        return set()
    target = max(known.values()) if column.best == "highest" else min(known.values())
    return {method for method, value in known.items() if value == target}
