"""A good result is never replaced by one that failed: it stays, with its values, and says why the new build failed."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from fake_stages import build_fake

from bmdkit.dataset import integrity
from bmdkit.dataset.case_meta import read_meta, write_meta
from bmdkit.dataset.cohort_build import RunOptions, build_cases
from bmdkit.dataset.manifest import LeftOut
from bmdkit.dataset.status import read_status

pytestmark = pytest.mark.usefixtures("in_process")


def build(cases, out, **options):
    return build_cases(cases, out, options=RunOptions(**options), build_one=build_fake)


def rows_of(out: Path, patient: str) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["patient_id"] == patient]


def tree(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in [*integrity.list_data_files(out), "SHA256SUMS"]}


@pytest.mark.parametrize(
    ("deed", "code"), [("raise", "BMD-RUN-004"), ("memory", "BMD-RUN-003"), ("unreadable", "BMD-RUN-005")]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_case_that_fails_keeps_its_good_result(cases, tmp_path, deed, code, overwrite):
    out = tmp_path / "out"
    build(cases, out)
    before, good = tree(out), rows_of(out, "p02")
    text = cases[2].ct.read_text()
    cases[2].ct.write_text(f"{deed} now")
    summary = build(cases, out, overwrite=overwrite)
    assert (summary.exit_code, summary.pairs_ok, summary.pairs_left_out) == (3, 24, 0)
    (failed,) = [report for report in summary.reports if report.status != "ok"]
    assert (failed.patient_id, failed.status, failed.kept) == ("p02", "failed", True)
    kept = rows_of(out, "p02")
    assert {(row["status"], row["code"]) for row in kept} == {("ok", code)}
    assert all(row["reason"] for row in kept)
    assert [row | {"code": "", "reason": ""} for row in kept] == good
    assert {name for name in tree(out) if tree(out)[name] != before[name]} == {
        "cases/p02/meta.json",
        "manifest.csv",
        "manifest.parquet",
        "SHA256SUMS",
    }
    assert integrity.check_files(out) == []
    assert [problem[1] for problem in read_status(out).problems] == [code] * 2
    cases[2].ct.write_text(text)
    assert build(cases, out).exit_code == 0
    assert tree(out) == before


def test_a_changed_input_that_builds_replaces_what_was_kept(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out)
    cases[0].ct.write_text("raise")
    build(cases, out)
    build(cases, out)  # failing again changes nothing
    assert {row["code"] for row in rows_of(out, "p00")} == {"BMD-RUN-004"}
    cases[0].ct.write_text("fine and longer than before")
    assert build(cases, out).exit_code == 0
    assert {(row["status"], row["code"]) for row in rows_of(out, "p00")} == {("ok", "")}


def test_data_that_are_unfit_are_no_failure_and_replace_the_result(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out)
    cases[1].ct.write_text("quarantine")
    assert build(cases, out).exit_code == 3
    assert {(row["status"], row["code"], row["drr"]) for row in rows_of(out, "p01")} == {
        ("quarantined", "BMD-LBL-001", "")
    }


def test_a_result_that_is_damaged_is_no_good_result(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out)
    (out / "dataset_a" / "p03__standing__R" / "drr.tif").unlink()
    cases[3].ct.write_text("raise")
    build(cases, out)
    assert {row["status"] for row in rows_of(out, "p03")} == {"failed"}
    assert read_meta(out, "p03").status == "failed"


def test_of_a_case_that_came_out_in_part_the_good_pairs_stay(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out)
    meta = read_meta(out, "p04")
    why = LeftOut("BMD-PAIR-001", "similarity 0.1")
    pairs = tuple(row.leave_out(why) if row.side == "L" else row for row in meta.pairs)
    write_meta(out, replace(meta, status="quarantined", pairs=pairs))
    cases[4].ct.write_text("raise")
    build(cases, out)
    found = {(row["side"], row["status"], row["code"]) for row in rows_of(out, "p04")}
    assert found == {("L", "quarantined", "BMD-PAIR-001"), ("R", "ok", "BMD-RUN-004")}
