"""The page of a study: outliers are named, and lead to the report of the dataset where it has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bmdkit.evaluation.figure_style import drawing
from bmdkit.evaluation.figures import Shown, new_figure
from bmdkit.study.figure_book import FigureBook


def make_book(out: Path, data: Path | None) -> str:
    """The index of a study with one figure that names two patients."""
    shown = Shown(4, 2, "test patients", "simulated")
    book = FigureBook(out, data=data)
    with drawing():
        figure, _ = new_figure(shown)
        about = {"title": "Limits", "caption": "Lines.", "shown": shown, "outside": ["p2", "p10", "p2"]}
        book.add(9, "limits", figure, [], **about)
    return book.write_index("simulated").read_text(encoding="utf-8")


@pytest.fixture
def data(tmp_path) -> Path:
    """A dataset whose report has a page of one of the two."""
    page = tmp_path / "my data" / "report" / "p2.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html></html>")
    return tmp_path / "my data"


def test_outliers_lead_to_their_pages(tmp_path, data):
    index = make_book(tmp_path / "results" / "study", data)
    assert 'Outside the limits: p10, <a href="../../my%20data/report/p2.html">p2</a>.' in index


def test_without_a_report_they_are_named(tmp_path):
    assert "Outside the limits: p10, p2." in make_book(tmp_path, tmp_path / "none")
    assert "Outside the limits: p10, p2." in make_book(tmp_path / "other", None)


def test_captions_do_not_say_where_files_lie(tmp_path, data):
    make_book(tmp_path / "a", data)
    make_book(tmp_path / "b" / "c", None)
    captions = [(tmp_path / folder / "figures/captions.json").read_bytes() for folder in ("a", "b/c")]
    assert captions[0] == captions[1]
