"""What a reader thinks of the pairs: written, read back, and respected by the next build."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bmdkit.dataset import integrity
from bmdkit.dataset.cohort_build import RunOptions, build_cases
from bmdkit.dataset.manifest import LeftOut, PairRow
from bmdkit.dataset.ratings import add_ratings, apply_rating, read_ratings
from bmdkit.errors import PreflightError


def row(verdict: str = "accept") -> PairRow:
    return PairRow("p1__a__L", "p1", "L", "standing", verdict=verdict)


@pytest.mark.parametrize(
    ("rating", "verdict", "expected"),
    [
        ("good", "review", ("ok", "accept")),
        ("good", "reject", ("ok", "accept")),
        ("review", "accept", ("ok", "review")),
        ("review", "reject", ("ok", "reject")),
        ("bad", "accept", ("quarantined", "accept")),
        (None, "review", ("ok", "review")),
    ],
)
def test_what_a_rating_does_to_a_row(rating, verdict, expected) -> None:
    ratings = {} if rating is None else {"p1__a__L": rating}
    found = apply_rating(row(verdict), ratings)
    assert (found.status, found.verdict) == expected
    assert (found.code == "BMD-RAT-002") is (rating == "bad")


def test_a_pair_that_is_left_out_stays_so() -> None:
    out = row().leave_out(LeftOut("BMD-PF-003", "cut off"))
    assert apply_rating(out, {"p1__a__L": "good"}) == out


def test_saved_files_are_added_and_an_empty_rating_takes_one_back(tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("pair_id,rating\na,good\nb,bad\nc,review\n")
    second.write_text("pair_id,rating\nb,review\nc,\n")
    assert add_ratings(tmp_path, [first]) == {"a": "good", "b": "bad", "c": "review"}
    assert add_ratings(tmp_path, [second]) == {"a": "good", "b": "review"} == read_ratings(tmp_path)


@pytest.mark.parametrize("text", ["pair_id,rating\na,excellent\n", "pair,stars\na,5\n", "pair_id,rating\na\n"])
def test_what_is_no_rating_is_refused_and_nothing_is_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(PreflightError) as told:
        add_ratings(tmp_path, [tmp_path / "mine.csv"])
    assert told.value.code == "BMD-RAT-001"
    assert not (tmp_path / "ratings.csv").exists()


@pytest.mark.usefixtures("in_process")
def test_the_next_build_respects_ratings_and_forgets_those_that_are_gone(cases, tmp_path: Path) -> None:
    from fake_stages import build_fake

    out = tmp_path / "out"

    def build():
        return build_cases(cases, out, None, RunOptions(), build_one=build_fake)

    assert build().pairs_left_out == 0
    before = (out / "manifest.csv").read_bytes()
    (out / "ratings.csv").write_text("pair_id,rating\np00__standing__L,bad\np01__standing__R,review\n")
    assert build().pairs_left_out == 2  # of datasets A and B
    with (out / "manifest.csv").open(newline="") as file:
        rows = {(line["pair_id"], line["dataset"]): line for line in csv.DictReader(file)}
    for dataset in "AB":
        assert rows["p00__standing__L", dataset]["code"] == "BMD-RAT-002"
        assert rows["p00__standing__L", dataset]["status"] == "quarantined"
        assert rows["p01__standing__R", dataset]["verdict"] == "review"
    assert "BMD-RAT-002" in (out / "quarantine.csv").read_text()
    assert integrity.check_files(out) == []
    assert (out / "ratings.csv").exists()
    (out / "ratings.csv").unlink()
    build()
    assert (out / "manifest.csv").read_bytes() == before
