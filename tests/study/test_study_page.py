"""The page of the paper's tables and figures is made of what is kept, and stands beside the paper's own rows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        spec = importlib.util.spec_from_file_location("paper_study", ROOT / "benchmarks" / "paper_study.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def test_the_page_is_what_the_kept_files_say(script):
    assert script.PAGE.read_text(encoding="utf-8") == script.write_page()


def test_every_row_of_the_paper_is_among_the_kept_ones(script):
    """As the kept tables have them: nothing of the paper is left out, nothing stands in another place."""
    kept = script.read_csv(script.KEPT / "table_2.csv")
    keys = [(row["pose in training dataset"], row["DRR"], row["method"]) for row in kept]
    assert keys[: len(script.PAPER_2)] == list(script.PAPER_2)
    kept = script.read_csv(script.KEPT / "table_3.csv")
    assert [(row["method"], row["learning"]) for row in kept] == list(script.PAPER_3)
    kept = script.read_csv(script.KEPT / "table_1.csv")
    assert [row["Item"] for row in kept][: len(script.PAPER_1)] == list(script.PAPER_1)


def test_every_numbered_figure_is_kept_with_its_numbers(script):
    pictures = {path.stem for path in script.KEPT.glob("figure_*.png")}
    assert {int(name.split("_")[1]) for name in pictures} == {1, 2, *range(4, 14)}
    assert {path.stem for path in script.KEPT.glob("figure_*.csv")} == pictures
    size = sum(path.stat().st_size for path in script.KEPT.iterdir())
    assert size <= script.LARGEST_MIB * 2**20


def test_what_is_kept_says_that_it_is_simulated(script):
    for path in [*script.KEPT.glob("table_*.md"), *script.KEPT.glob("table_*.tex")]:
        assert "simulated data" in path.read_text(encoding="utf-8")


def test_an_unfinished_study_is_refused_and_nothing_is_replaced(script, tmp_path):
    before = sorted(path.name for path in script.KEPT.iterdir())
    with pytest.raises(SystemExit, match=r"no table_1\.csv"):
        script.keep_study(tmp_path)
    assert sorted(path.name for path in script.KEPT.iterdir()) == before


def test_a_cell_has_both_numbers(script):
    assert script.show("0.12345", 0.5, 3) == "0.123 (0.500)"
    assert script.show("-1e-9", -0.2, 1) == "0.0 (−0.2)"
    assert script.show("n < 10", None, 3) == "n &lt; 10 (–)"
