"""A cohort through the runner: nothing lost, nothing said twice, the same bytes whatever happens on the way."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from fake_stages import build_fake, make_cases

from bmdkit.dataset import integrity
from bmdkit.dataset.case_meta import find_damage, read_meta
from bmdkit.dataset.cohort_build import RunOptions, build_cases, plan_build
from bmdkit.dataset.manifest import COLUMNS, LeftOut, PairRow, list_problems
from bmdkit.dataset.settings import BuildConfig
from bmdkit.dataset.status import read_status
from bmdkit.errors import LockedError, PreflightError
from bmdkit.jobs import lock
from bmdkit.jobs.processes import RunnerConfig

HERE = Path(__file__).parent


def build(cases, out, jobs=2, config=None, **options):
    runner = RunnerConfig(jobs, options.pop("timeout_s", None), memory_gb=options.pop("memory_gb", None))
    return build_cases(cases, out, config, RunOptions(runner, **options), build_one=build_fake)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tree(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in [*integrity.list_data_files(out), "SHA256SUMS"]}


@pytest.mark.usefixtures("in_process")
def test_a_good_cohort_makes_all_files_of_the_contract(cases, tmp_path):
    out = tmp_path / "out"
    summary = build(cases, out)
    assert (summary.exit_code, summary.pairs_ok, summary.pairs_left_out) == (0, 24, 0)
    rows = rows_of(out)
    assert tuple(rows[0]) == (*COLUMNS, "sex")
    assert [row["status"] for row in rows] == ["ok"] * 24
    assert (rows[0]["pair_id"], rows[0]["sex"]) == ("p00__standing__L", "F")
    table = pyarrow.parquet.read_table(out / "manifest.parquet").to_pylist()
    assert [str(row["dxa_bmd_g_cm2"]) for row in table] == [row["dxa_bmd_g_cm2"] for row in rows]
    folds = {row["patient_id"]: row["fold"] for row in rows}
    assert sorted(folds.values()) == ["0", "0", "1", "2", "3", "4"]
    assert all(len({row["fold"] for row in rows if row["patient_id"] == name}) == 1 for name in folds)
    assert json.loads((out / "dataset.json").read_text())["counts"]["pairs"]["A"]["ok"] == 12
    assert integrity.check_files(out) == []
    state = read_status(out)
    assert (state.ok, state.patients, state.finished, state.running) == (6, 6, True, False)


def test_the_bytes_do_not_depend_on_jobs_order_or_work_dir(cases, tmp_path):
    build(cases, tmp_path / "one", jobs=1)
    build(cases[::-1], tmp_path / "two", jobs=2, work_dir=tmp_path / "work")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.usefixtures("in_process")
def test_a_build_tells_each_stage_with_its_cases_before_it_begins(cases, tmp_path):
    told = []
    tell = {"on_stage": lambda *stage: told.append(stage), "on_case": lambda report: told.append(report.done)}
    options = RunOptions(only=("p00", "p01"))
    build_cases(cases, tmp_path / "out", None, options, build_one=build_fake, **tell)
    assert told == [("checking", 6), ("building", 2), 1, 2, ("writing the manifest", 6)]


def test_a_build_tells_in_which_stage_a_case_is(tmp_path):
    """The case waits until it has been told; notes of stages are gone with the staging folder."""
    cases = make_cases(tmp_path / "in", 2, {0: "wait"})

    def see(stages):
        if stages.get("p00") == "register":
            cases[0].ct.with_suffix(".seen").touch()

    summary = build_cases(cases, tmp_path / "out", None, RunOptions(), on_work=see, build_one=build_fake)
    assert summary.exit_code == 0
    assert cases[0].ct.with_suffix(".seen").exists()
    assert list((tmp_path / "out").rglob("*.stage")) == []


@pytest.mark.usefixtures("in_process")
def test_running_again_verifies_and_keeps_everything(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out)
    before = tree(out)
    summary = build(cases, out)
    assert all(report.reused for report in summary.reports)
    assert tree(out) == before


@pytest.mark.usefixtures("in_process")
def test_only_what_changed_is_built_again(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out)
    cases[2].ct.write_text("fine and different")
    summary = build(cases, out)
    assert [report.patient_id for report in summary.reports if not report.reused] == ["p02"]
    summary = build(cases, out, config=BuildConfig(dataset="B"))
    assert not any(report.reused for report in summary.reports)
    assert list((out / "dataset_a").iterdir()) == []
    assert integrity.check_files(out) == []


@pytest.mark.usefixtures("in_process")
def test_a_damaged_case_is_made_anew(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out)
    before = tree(out)
    file = out / "dataset_a" / "p03__standing__R" / "drr.tif"
    file.write_bytes(file.read_bytes()[:-1])
    (out / "cases" / "p04" / "meta.json").unlink()
    assert [finding.path for finding in integrity.check_files(out)] == [
        "cases/p04/meta.json",
        "dataset_a/p03__standing__R/drr.tif",
    ]
    summary = build(cases, out)
    assert [report.patient_id for report in summary.reports if not report.reused] == ["p03", "p04"]
    assert tree(out) == before


@pytest.mark.usefixtures("only_hanging_cases_are_limited")
def test_one_failing_case_never_stops_the_rest(tmp_path):
    deeds = {0: "kill", 2: "hang", 3: "raise", 4: "memory", 5: "quarantine"}
    cases = make_cases(tmp_path / "cohort", 8, deeds)
    out = tmp_path / "out"
    summary = build(cases, out, timeout_s=2.0)
    codes = {report.patient_id: {code for _, code, _ in report.problems} for report in summary.reports}
    assert codes == {
        "p00": {"BMD-RUN-001"},
        "p01": set(),
        "p02": {"BMD-RUN-002"},
        "p03": {"BMD-RUN-004"},
        "p04": {"BMD-RUN-003"},
        "p05": {"BMD-LBL-001"},
        "p06": set(),
        "p07": set(),
    }
    assert summary.exit_code == 3
    with (out / "quarantine.csv").open(newline="") as file:
        left_out = list(csv.DictReader(file))
    assert {row["patient_id"] for row in left_out} == {"p00", "p02", "p03", "p04", "p05"}
    assert {row["status"] for row in left_out} == {"failed", "quarantined"}
    assert len(rows_of(out)) == 8 * 4
    assert (out / "cases" / "p05" / "calibration.json").exists()  # what was made before is kept
    crash = json.loads((out / "logs" / "crash_p03.json").read_text())
    assert "fake_stages.py" in crash["traceback"]
    assert "RuntimeError" in crash["traceback"]
    assert "a bug" not in crash["traceback"]  # a message may quote what identifies a person
    assert integrity.check_files(out) == []
    for number in deeds:
        cases[number].ct.write_text(f"fine {number}")
    assert build(cases, out).exit_code == 0


@pytest.mark.usefixtures("in_process")
def test_a_failed_case_is_tried_again_and_a_quarantined_one_is_not(tmp_path):
    cases = make_cases(tmp_path / "cohort", 2, {0: "raise", 1: "quarantine"})
    build(cases, tmp_path / "out")
    assert plan_build(cases, tmp_path / "out", RunOptions()) == [("p00", "build again"), ("p01", "verify")]
    summary = build(cases, tmp_path / "out")
    assert [report.reused for report in summary.reports] == [False, True]
    assert summary.exit_code == 3


@pytest.mark.usefixtures("in_process")
def test_shards_and_a_run_over_the_whole_make_the_same(cases, tmp_path):
    build(cases, tmp_path / "whole")
    out = tmp_path / "sharded"
    for index in (2, 1):
        assert not build(cases, out, shard=(index, 2)).assembled
    assert not (out / "manifest.csv").exists()
    summary = build(cases, out)
    assert all(report.reused for report in summary.reports)
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.usefixtures("in_process")
def test_only_builds_those_named(cases, tmp_path):
    summary = build(cases, tmp_path / "out", only=("p01", "p04"))
    assert [report.patient_id for report in summary.reports] == ["p01", "p04"]
    assert {row["patient_id"] for row in rows_of(tmp_path / "out")} == {"p01", "p04"}
    assert read_status(tmp_path / "out").waiting == ("p00", "p02", "p03", "p05")
    with pytest.raises(PreflightError) as caught:
        build(cases, tmp_path / "out", only=("nobody",))
    assert caught.value.code == "BMD-RUN-036"


@pytest.mark.usefixtures("in_process")
def test_folds_do_not_change_when_some_patients_only_are_built(cases, tmp_path):
    build(cases, tmp_path / "all")
    build(cases, tmp_path / "some", only=("p01", "p04"))
    whole = {row["patient_id"]: row["fold"] for row in rows_of(tmp_path / "all")}
    assert all(whole[row["patient_id"]] == row["fold"] for row in rows_of(tmp_path / "some"))


@pytest.mark.usefixtures("in_process")
def test_cases_that_the_cohort_does_not_have_are_not_removed_silently(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out)
    with pytest.raises(PreflightError) as caught:
        build(cases[:-1], out)
    assert caught.value.code == "BMD-RUN-034"
    build(cases[:-1], out, overwrite=True)
    assert not list(out.glob("*/p05*"))
    assert integrity.check_files(out) == []


@pytest.mark.usefixtures("in_process")
def test_fail_fast_stops_at_the_first_failure(tmp_path):
    cases = make_cases(tmp_path / "cohort", 6, {0: "quarantine"})
    summary = build(cases, tmp_path / "out", jobs=1, fail_fast=True)
    assert [report.status for report in summary.reports] == ["quarantined"]
    assert summary.exit_code == 3


@pytest.mark.usefixtures("in_process")
def test_a_second_run_on_the_same_output_is_refused(cases, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with lock.hold(out), pytest.raises(LockedError):
        build(cases, out)
    assert build(cases, out).exit_code == 0


def test_a_folder_of_something_else_is_refused(cases, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"0")
    with pytest.raises(PreflightError) as caught:
        build(cases, tmp_path)
    assert caught.value.code == "BMD-RUN-037"


def test_a_column_that_the_manifest_writes_itself_is_refused(cases, tmp_path):
    from dataclasses import replace

    row = replace(cases[0].rows[0], carried={"verdict": "fine"})
    with pytest.raises(PreflightError) as caught:
        build([replace(cases[0], rows=(row,))], tmp_path / "out")
    assert caught.value.code == "BMD-RUN-032"


RUN = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from fake_stages import build_fake, make_cases
from bmdkit.dataset.cohort_build import RunOptions, build_cases
from bmdkit.jobs.processes import RunnerConfig

if __name__ == "__main__":
    root = Path({root!r})
    deeds = {{number: "slow0.3" for number in range(6)}}
    cases = make_cases(root / "cohort", 6, deeds)
    build_cases(cases, root / "out", None, RunOptions(RunnerConfig(2)), build_one=build_fake,
                  on_case=lambda report: print(report.done, flush=True))
"""


def start(root: Path) -> subprocess.Popen:
    script = root / "run.py"
    script.write_text(RUN.format(here=str(HERE), root=str(root)))
    return subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("cases_done", [0, 3])
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(tmp_path, cases_done):
    process = start(tmp_path)
    for _ in range(cases_done):
        process.stdout.readline()
    while not (tmp_path / "out" / "logs" / "run.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for case in (tmp_path / "out" / "cases").glob("*"):
        meta = read_meta(tmp_path / "out", case.name)
        assert meta is None or list(find_damage(tmp_path / "out", meta)) == []
    again = start(tmp_path)
    assert again.wait() == 0
    again.stdout.close()
    whole = tmp_path / "whole"
    whole.mkdir()
    cases = make_cases(tmp_path / "cohort", 6, dict.fromkeys(range(6), "slow0.3"))
    build(cases, whole)
    assert tree(tmp_path / "out") == tree(whole)
    assert not (tmp_path / "out" / ".staging").exists()


def test_what_is_left_out_is_said_once_of_each_pair():
    def row(pair, dataset, code=None):
        made = PairRow(pair, "p", "L", "standing", dataset=dataset)
        return made.leave_out(LeftOut(code, code)) if code else made

    rows = [row("p1", "A", "X"), row("p1", "B", "X"), row("p2", "A", "X"), row("p2", "B"), row("p3", "A")]
    rows += [row("p4", "A", "X"), row("p4", "B", "Y"), row("p5", "B", "X")]
    found = [(what, code) for what, code, _ in list_problems(rows)]
    assert found == [("p1", "X"), ("p2 (A)", "X"), ("p4 (A)", "X"), ("p4 (B)", "Y"), ("p5", "X")]
