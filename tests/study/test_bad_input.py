"""Runs and data that do not make a whole study: refused before anything is written, or said where the reader looks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from drawn_hips import write_dataset
from drawn_runs import write_run

from bmdkit.cli.main import group
from bmdkit.errors import PreflightError
from bmdkit.io.results import write_csv
from bmdkit.study.comparison import evaluate_runs


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def refuse(runs, data, out) -> PreflightError:
    """The error that ends an evaluation, before anything is written."""
    with pytest.raises(PreflightError) as caught:
        evaluate_runs(runs, data, out, kind="simulated")
    assert not out.exists()
    return caught.value


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "hips", patients=10, shape=(32, 32))


def test_projections_in_another_unit_are_refused(tmp_path):
    data = write_dataset(tmp_path / "hips", patients=10, shape=(32, 32))
    run = write_run(tmp_path / "run", data)
    description = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(description | {"units": {"drr.tif": "mg/cm3 mm"}}))
    error = refuse([run], data, tmp_path / "out")
    assert error.code == "BMD-TRN-002"
    assert "mg/cm3 mm" in str(error)


def test_bmd_in_another_unit_in_one_of_two_datasets_is_refused(data, tmp_path):
    other = write_dataset(tmp_path / "mg", patients=10, shape=(32, 32))
    rows = read_table(other / "manifest.csv")
    write_csv(other / "manifest.csv", [r | {"dxa_bmd_g_cm2": 1000 * float(r["dxa_bmd_g_cm2"])} for r in rows], rows[0])
    runs = [write_run(tmp_path / "a", data), write_run(tmp_path / "b", other, backbone="other")]
    error = refuse(runs, [data, other], tmp_path / "out")
    assert error.code == "BMD-EVA-007"
    assert "DXA-BMD" in str(error)


@pytest.mark.parametrize("column", ["pose", "patient_id", "split"])
def test_predictions_without_a_column_are_refused_and_the_column_is_named(data, tmp_path, column):
    run = write_run(tmp_path / "run", data)
    rows = read_table(run / "predictions.csv")
    left = [{name: cell for name, cell in row.items() if name != column} for row in rows]
    write_csv(run / "predictions.csv", left, list(left[0]))
    error = refuse([run], data, tmp_path / "out")
    assert error.code == "BMD-EVA-001"
    assert f"no column {column}" in str(error)


def test_a_cohort_that_carries_nothing_has_a_table_that_says_so(data, tmp_path):
    evaluate_runs([write_run(tmp_path / "run", data)], data, tmp_path / "out", kind="simulated")
    rows = {row["Item"]: row["Dataset B"] for row in read_table(tmp_path / "out" / "table_1.csv")}
    assert [rows[name] for name in ("Female, n (%)", "Mean age (sd), years", "Mean BMI (sd), kg/m²")] == ["n/a"] * 3


def test_one_pose_alone_is_said(tmp_path):
    data = write_dataset(tmp_path / "hips", patients=15, poses=("standing",), shape=(32, 32))
    runs = [write_run(tmp_path / f"f{fold}", data, fold=fold) for fold in range(5)]
    words = ["evaluate", *map(str, runs), "--data", str(data), "--out", str(tmp_path / "out"), "--kind", "simulated"]
    told = CliRunner().invoke(group, [*words, "-q"], catch_exceptions=False)
    assert told.exit_code == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Left out: all images are of one pose, standing." in page
    assert not list((tmp_path / "out" / "figures").glob("figure_07_*"))
    (row,) = [r for r in read_table(tmp_path / "out" / "table_2.csv") if r["method"].startswith("decomposition")]
    assert row["DXA RMS-CV, %"] == ""  # of one image of each hip there is no spread
    assert float(row["DXA PCC"]) > 0.5


def test_figures_that_nothing_is_there_for_are_named_with_the_reason(data, tmp_path):
    """Two patients are held out, eight are learnt from: no threshold is shown as chosen, and no Fig. 8 or 13."""
    evaluate_runs([write_run(tmp_path / "run", data)], data, tmp_path / "out", kind="simulated")
    page = (tmp_path / "out" / "index.html").read_text()
    drawn = {path.name[:9] for path in (tmp_path / "out" / "figures").glob("figure_*.png")}
    assert drawn == {"figure_06", "figure_07", "figure_09"}
    for number, reason in (
        (4, "it was chosen on fewer than 10 patients."),
        (8, "it is drawn with --robustness, in a study with `robustness: true`."),
        (12, "it is drawn with --pictures, in a study with `pictures: true`."),
        (13, "no decomposition with hierarchical learning was trained on one pose."),
    ):
        assert f"<h2>Figure {number}. " in page
        assert reason in page
