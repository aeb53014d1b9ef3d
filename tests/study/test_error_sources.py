"""Errors against what is known of each radiograph, and in each subgroup."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from drawn_hips import write_dataset
from drawn_runs import write_run

from bmdkit.io.results import write_csv
from bmdkit.study.comparison import evaluate_runs
from bmdkit.study.error_sources import read_sources
from bmdkit.training.run_layout import PREDICTION_COLUMNS

PATIENTS = 20


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def voltage_of(number: int, pose: str) -> float:
    return 70.0 + number % 5 * 5 + 3 * (pose == "supine")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> tuple[Path, Path]:
    """Twenty patients whose errors are those of the tube voltage, and whose files tell voltage, exposure and KL."""
    root = tmp_path_factory.mktemp("sources")
    data = write_dataset(root / "data", patients=PATIENTS, shape=(32, 32))
    rows = read_table(data / "manifest.csv")
    for row in rows:
        number = int(row["patient_id"][1:])
        row |= {"KL": number % 4, "implant": "yes" if number % 2 else "no"}
        path = data / "dataset_b" / row["pair_id"] / "meta.json"
        tube = {"voltage_kv": voltage_of(number, row["pose"]), "exposure_mas": 12.0 + number if number else None}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tube": tube}))
    write_csv(data / "manifest.csv", rows, list(rows[0]))
    runs = [write_run(root / f"f{fold}", data, fold=fold, noise=0.001) for fold in range(5)]
    for run in runs:
        predicted = read_table(run / "predictions.csv")
        for row in predicted:
            more = 0.002 * (voltage_of(int(row["patient_id"][1:]), row["pose"]) - 80)
            row["predicted_dxa_bmd_g_cm2"] = str(float(row["predicted_dxa_bmd_g_cm2"]) + more)
        write_csv(run / "predictions.csv", predicted, PREDICTION_COLUMNS)
    evaluate_runs(runs, data, root / "out", kind="simulated")
    return data, root / "out"


def test_everything_that_the_files_tell_is_a_source(evaluated):
    data, _ = evaluated
    found = read_sources(data)
    assert set(found) == {"tube voltage, kV", "exposure, mAs", "KL"}
    assert found["tube voltage, kV"]["p3__supine__L"] == voltage_of(3, "supine")
    assert "p0__supine__L" not in found["exposure, mAs"]  # not known of p0
    assert found["exposure, mAs"]["p3__supine__L"] == 15


def test_the_source_of_the_error_is_found_and_no_other(evaluated):
    rows = {row["source"]: row for row in read_table(evaluated[1] / "error_sources.csv") if row["task"] == "dxa"}
    assert float(rows["tube voltage, kV"]["r"]) > 0.98
    assert float(rows["KL"]["r_low"]) < 0 < float(rows["KL"]["r_high"])
    counts = [rows[name]["patients"] for name in ("tube voltage, kV", "exposure, mAs", "KL")]
    assert counts == ["20", "19", "20"]


def test_subgroups_have_the_coverage_of_their_prediction_intervals(evaluated):
    """All images of equal groups together are the whole, and a group of less than ten patients has none."""
    rows = [row for row in read_table(evaluated[1] / "subgroups.csv") if row["task"] == "dxa"]
    metrics = json.loads((evaluated[1] / "metrics.json").read_text())
    (method,) = (one for name, one in metrics["methods"].items() if name.startswith("decomposition"))
    overall = method["tasks"]["dxa"]["prediction_interval"]["coverage"]
    groups = [row for row in rows if row["column"] == "implant"]
    assert {row["patients"] for row in groups} == {"10"}
    assert np.mean([float(row["coverage"]) for row in groups]) == pytest.approx(overall, rel=1e-9)
    assert all(float(r["coverage_low"]) <= float(r["coverage"]) <= float(r["coverage_high"]) for r in groups)
    assert all(not row["coverage"] for row in rows if row["column"] == "KL")  # five patients each
