"""status, fsck and report of a build that is not finished say what they found in words that fit it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from fake_stages import build_fake

from bmdkit.cli.main import group
from bmdkit.dataset.assemble import withdraw
from bmdkit.dataset.cohort_build import BuildSummary, RunOptions, build_cases
from bmdkit.errors import PreflightError
from bmdkit.report.pages import write_report

pytestmark = pytest.mark.usefixtures("in_process")


def build(cases, out, **options):
    return build_cases(cases, out, options=RunOptions(**options), build_one=build_fake)


def show(*words) -> tuple[int, list[str]]:
    found = CliRunner().invoke(group, [str(word) for word in words])
    return found.exit_code, found.output.splitlines()


def test_of_a_finished_build(cases, tmp_path):
    build(cases, tmp_path / "out")
    assert show("status", tmp_path / "out") == (
        0,
        ["6 of 6 cases: 6 complete, 0 with something left out, 0 failed", "finished: manifest and checksums are there"],
    )
    code, lines = show("fsck", tmp_path / "out")
    assert (code, len(lines)) == (0, 1)
    assert lines[0].endswith("files, all as they were written")


def test_of_a_build_of_some_patients(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out, only=("p01", "p04"))
    rest = "built in part: manifest and checksums cover the 2 that are there; "
    rest += "run build-dataset without --only for the others"
    assert show("status", out) == (
        0,
        [
            "2 of 6 cases: 2 complete, 0 with something left out, 0 failed",
            "not built yet: p00, p02, p03, p05",
            rest,
        ],
    )
    code, lines = show("fsck", out)
    assert (code, lines[1:]) == (0, [f"2 of 6 cases; {rest}"])
    stated = json.loads("\n".join(show("status", "--json", out)[1]))
    assert (stated["assembled"], stated["finished"], stated["waiting"]) == (True, False, ["p00", "p02", "p03", "p05"])


def test_of_a_build_that_was_interrupted(cases, tmp_path):
    out = tmp_path / "out"
    build(cases[:3], out)
    withdraw(out)  # as a run does before it changes anything
    run = json.loads((out / "logs" / "run.json").read_text())
    (out / "logs" / "run.json").write_text(json.dumps(run | {"patients": [f"p{n:02}" for n in range(6)]}))
    rest = "not finished, and no manifest yet: run build-dataset again, it resumes"
    assert show("status", out)[1][-1] == rest
    code, lines = show("fsck", out)
    assert (code, lines[1]) == (0, f"3 of 6 cases; {rest}")
    assert "SHA256SUMS" not in "".join(lines)
    assert write_report(out).exists()
    damaged = out / "dataset_b" / "p01__standing__L" / "drr.tif"
    damaged.write_bytes(b"0")
    (out / "dataset_a" / "p02__standing__L" / "xray.tif").unlink()
    code, lines = show("fsck", out)
    assert code == 3
    assert lines[:2] == [
        "missing  dataset_a/p02__standing__L/xray.tif",
        "damaged  dataset_b/p01__standing__L/drr.tif",
    ]


def test_of_a_build_of_shards(cases, tmp_path):
    out = tmp_path / "out"
    for index in (1, 2):
        build(cases, out, shard=(index, 2))
    rest = "all cases are built, the manifest is not written yet: run build-dataset without --shard, it resumes"
    assert show("status", out)[1][-1] == rest
    assert show("fsck", out)[1][-1] == f"6 of 6 cases; {rest}"


def test_of_a_build_that_ended_before_its_first_case(tmp_path):
    out = tmp_path / "out"
    (out / "logs").mkdir(parents=True)
    (out / "logs" / "run.json").write_text(json.dumps({"patients": ["p00", "p01"]}))
    rest = "started, and no case is built yet: run build-dataset again"
    assert show("status", out) == (
        0,
        [
            "0 of 2 cases: 0 complete, 0 with something left out, 0 failed",
            "not built yet: p00, p01",
            rest,
        ],
    )
    assert show("fsck", out) == (0, ["0 files, all as they were written", f"0 of 2 cases; {rest}"])
    with pytest.raises(PreflightError) as told:
        write_report(out)
    assert (told.value.code, told.value.exit_code) == ("BMD-RUN-041", 4)


@pytest.mark.parametrize("count", [0, 1, 8])
def test_pairs_that_are_kept_although_rejected_are_said_at_the_end(tmp_path, capsys, count):
    from bmdkit.cli.build_dataset import _show_summary

    _show_summary(BuildSummary((), pairs_ok=9, pairs_kept_rejected=count, assembled=True), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "rejected" in line] == ([f"kept although rejected: {count}"] if count else [])


def test_a_build_counts_the_usable_pairs_whose_registration_was_rejected(cases, tmp_path):
    cases[1].ct.write_text("rejected")
    cases[2].ct.write_text("rejected too")
    summary = build(cases, tmp_path / "out")
    assert (summary.pairs_ok, summary.pairs_kept_rejected, summary.exit_code) == (24, 8, 0)
