"""Tables: the same numbers in three formats, the best in bold, nothing of a name taken for markup."""

import csv
import io

import numpy as np
import pytest

from bmdkit.evaluation.agreement import agreement
from bmdkit.evaluation.tables import agreement_cells, agreement_columns, to_csv, to_latex, to_markdown

COLUMNS = agreement_columns("DXA", "g/cm²")
ROWS = {
    "direct_regression": {"DXA.pcc": 0.667, "DXA.mae": 0.091, "DXA.rms_cv_pct": 6.02},
    "decomposition & regression": {"DXA.pcc": (0.880, 0.011), "DXA.mae": 0.055, "DXA.rms_cv_pct": float("nan")},
}


def test_markdown_marks_the_best_and_shows_the_spread():
    text = to_markdown(ROWS, COLUMNS, caption="24 images")
    lines = text.splitlines()
    assert lines[0] == "| method | DXA PCC | DXA ICC | DXA MAE, g/cm² | DXA SEE, g/cm² | DXA RMS-CV, % |"
    assert lines[2] == r"| direct\_regression | 0.667 | – | 0.091 | – | 6.02 |"  # alone in its column: not the best
    assert lines[3] == "| decomposition & regression | **0.880 ± 0.011** | – | **0.055** | – | – |"
    assert lines[-1] == "24 images"


def test_latex_escapes_what_it_would_take_for_commands():
    text = to_latex(ROWS, COLUMNS, caption="5 % of 100_cases")
    assert r"direct\_regression & 0.667" in text
    assert r"decomposition \& regression & \textbf{0.880 $\pm$ 0.011}" in text
    assert r"DXA MAE, g/cm$^2$" in text
    assert r"\caption{5 \% of 100\_cases}" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_csv_has_every_digit_and_the_spread_apart():
    table = list(csv.DictReader(io.StringIO(to_csv(ROWS, COLUMNS))))
    assert [row["method"] for row in table] == list(ROWS)
    assert float(table[1]["DXA PCC"]) == 0.880
    assert float(table[1]["DXA PCC (spread)"]) == 0.011
    assert table[0]["DXA ICC"] == ""
    assert table[1]["DXA RMS-CV, %"] == ""


def test_equal_values_as_shown_are_all_the_best():
    rows = {"a": {"DXA.pcc": 0.90004}, "b": {"DXA.pcc": 0.90001}, "c": {"DXA.pcc": 0.8}}
    assert to_markdown(rows, COLUMNS[:1]).count("**0.900**") == 2


def test_cells_of_an_agreement():
    measured = np.linspace(0.6, 1.1, 12)
    names = [f"p{i // 2}" for i in range(12)]
    result = agreement(measured + 0.01, measured, patients=names, hips=names, rng=np.random.default_rng(0), repeats=10)
    cells = agreement_cells("DXA", result)
    assert set(cells) == {column.key for column in COLUMNS}
    assert cells["DXA.mae"] == pytest.approx(0.01)
