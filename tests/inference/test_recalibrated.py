"""`bmdkit predict --known`: hips of known DXA-BMD bring what is told to their place."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from skimage.transform import resize

from bmdkit.cli.main import group
from bmdkit.errors import PreflightError
from bmdkit.evaluation.recalibration import fit_recalibration
from bmdkit.inference import prediction
from bmdkit.inference.prediction_folder import PredictionRow
from bmdkit.inference.predictor import load_predictor
from bmdkit.inference.radiograph_prediction import predict
from bmdkit.inference.recalibrated import recalibrate
from bmdkit.io.images import write_png
from bmdkit.io.known_hips import read_known_hips
from bmdkit.io.results import write_json
from bmdkit.io.xray import read_radiograph
from bmdkit.training.shipped import DECOMPOSITIONS, SIMULATED_USE

NETWORK = DECOMPOSITIONS[2]
"""One of the package's networks alone, which takes less time."""

KNOWN = {"a": (0.70, 0.74), "b": (0.80, 0.80), "c": (0.90, 0.94), "d": (1.00, 0.96)}
"""DXA-BMD of both hips; the mean of all is 0.855."""


@pytest.fixture(scope="module")
def radiograph(sample_cohort, tmp_path_factory) -> Path:
    """A simulated radiograph in pixels of a millimetre, which are read in no time."""
    (file,) = (sample_cohort / "xray").glob("*.dcm")
    whole = read_radiograph(file)
    assert whole.column_spacing_mm is not None
    factor = whole.column_spacing_mm
    small = resize(whole.pixels, [round(side * factor) for side in whole.pixels.shape], anti_aliasing=True)
    return write_radiograph(tmp_path_factory.mktemp("radiograph") / "pelvis.png", small)


def write_radiograph(path: Path, image: np.ndarray) -> Path:
    """An image in [0, 1] with the side-car that it needs."""
    write_png(path, (60000 * image).astype(np.uint16))
    path.with_suffix(".json").write_text('{"pixel_mm": 1.0, "brighter_is_denser": true}', encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def told(radiograph) -> dict[str, float]:
    """What the network tells of the radiograph by itself."""
    return {side: found.bmd["dxa"] for side, found in predict(radiograph, NETWORK, device="cpu").items()}


def write_known(
    folder: Path, radiograph: Path, known: dict[str, tuple[float, float]], noise: Sequence[str] = ()
) -> Path:
    """Patients who all have the same radiograph, each in a file of its own; those of `noise` show no hip."""
    folder.mkdir()
    lines = ["patient_id,xray,side,dxa_bmd"]
    for patient, both in known.items():
        if patient in noise:
            write_radiograph(folder / f"{patient}.png", np.random.default_rng(0).random((360, 430)))
        else:
            for file in (radiograph, radiograph.with_suffix(".json")):
                shutil.copy(file, folder / f"{patient}{file.suffix}")
        lines += [f"{patient},{patient}.png,{side},{bmd}" for side, bmd in zip("LR", both, strict=True)]
    table = folder / "dxa.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def run_predict(file: Path, known: Path, out: Path, *more: str) -> Result:
    words = [
        "predict",
        str(file),
        "--run",
        str(NETWORK),
        "--known",
        str(known),
        "--out",
        str(out),
        "--device",
        "cpu",
        "-q",
        *more,
    ]
    return CliRunner().invoke(group, words)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def predicted(radiograph, tmp_path_factory) -> tuple[Path, Path]:
    """A finished prediction, and the table of known hips."""
    root = tmp_path_factory.mktemp("known")
    table = write_known(root / "place", radiograph, KNOWN)
    found = run_predict(radiograph, table, root / "out")
    assert found.exit_code == 0, found.output
    assert SIMULATED_USE in found.output
    return root / "out", table


def test_the_line_brings_what_is_told_to_the_known_hips(predicted, told) -> None:
    """All known radiographs are told the same, so the slope stays 1 and the mean of the known ones is told."""
    shift = 0.855 - np.mean(list(told.values()))
    for row in rows_of(predicted[0]):
        assert float(row["dxa_bmd_g_cm2"]) == pytest.approx(told[row["side"]] + shift, abs=1e-6)
        assert row["dxa_bmd_g_cm2_low"] == ""  # of four patients there is no interval
        assert float(row["qct_bmd_mg_cm3_low"]) < float(row["qct_bmd_mg_cm3"])
        assert row["intended_use"] == SIMULATED_USE


def test_the_record_says_what_the_line_is_of(predicted, told) -> None:
    text = (predicted[0] / "predictions.json").read_text(encoding="utf-8")
    record = json.loads(text)
    values = [told[side] for _ in KNOWN for side in "LR"]
    measured = [bmd for both in KNOWN.values() for bmd in both]
    line = fit_recalibration(values, measured, [patient for patient in KNOWN for _ in "LR"])
    assert record["recalibration"]["slope"] == pytest.approx(line.slope)
    assert record["recalibration"]["patients"] == 4
    assert record["recalibration"]["images"] == 8
    assert record["recalibration"]["mae_g_cm2"] == pytest.approx(line.mae_g_cm2)
    assert record["run"] == "recalibrated bmdkit"
    assert not record["recalibration"]["is_of_use"]
    assert set(record["spread"]) == {"qct"}


def test_a_line_of_no_use_is_to_be_reviewed_wherever_its_numbers_stand(predicted) -> None:
    """All patients are told the same, so that the line says no more than the mean of the known hips."""
    for row in rows_of(predicted[0]):
        assert row["quality"] in ("review", "reject")
        assert "BMD-PRE-006" in row["reason"]


def test_nothing_of_the_known_hips_stands_in_the_output(predicted) -> None:
    text = (predicted[0] / "predictions.json").read_text(encoding="utf-8")
    assert set(json.loads(text)["input"]["known"]) <= set("0123456789abcdef")


def test_it_is_kept_until_a_known_hip_changes(predicted, radiograph) -> None:
    out, table = predicted
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run_predict(radiograph, table, out).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    changed = table.with_name("changed.csv")
    changed.write_text(table.read_text(encoding="utf-8").replace("0.74", "0.75"), encoding="utf-8")
    again = run_predict(radiograph, changed, out)
    assert isinstance(again.exception, PreflightError)
    assert again.exception.code == "BMD-PRE-002"
    assert "known" in again.exception.message
    header, *lines = table.read_text(encoding="utf-8").splitlines()
    changed.write_text("\n".join([header, *reversed(lines)]) + "\n", encoding="utf-8")  # in another order
    assert run_predict(radiograph, changed, out).exit_code == 0


def test_nine_patients_give_an_interval(radiograph, told, tmp_path) -> None:
    known = {f"p{n}": (0.7 + 0.02 * n, 0.7 + 0.02 * n) for n in range(9)}
    table = write_known(tmp_path / "place", radiograph, known)
    assert run_predict(radiograph, table, tmp_path / "out").exit_code == 0
    for row in rows_of(tmp_path / "out"):
        low, middle, high = (float(row[f"dxa_bmd_g_cm2{end}"]) for end in ("_low", "", "_high"))
        assert middle - low == pytest.approx(high - middle)
        # farthest of nine patients: 0.78 of the others' mean is 0.09 from 0.70, and the hips are told unlike
        expected = 0.09 + abs(told["L"] - told["R"]) / 2
        assert high - middle == pytest.approx(expected, abs=1e-6)
        assert row["interval_from"] == "DXA: known hips of the place; QCT: held-out patients"


def test_what_cannot_be_used_has_no_part_in_the_line(radiograph, tmp_path) -> None:
    """One patient's radiographs are noise, which is rejected; another's says nothing of its pixels."""
    known = KNOWN | {"n": (3.0, 3.0), "u": (3.0, 3.0)}
    table = write_known(tmp_path / "place", radiograph, known, noise=["n"])
    (tmp_path / "place" / "u.json").unlink()
    found = run_predict(radiograph, table, tmp_path / "out")
    assert found.exit_code == 0, found.output
    record = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert record["recalibration"]["patients"] == 4
    told = " ".join(found.output.split())
    assert told.count("left out, rejected") == 2
    assert told.count("left out: BMD-XR") == 2


def test_three_patients_give_no_line(radiograph, tmp_path) -> None:
    table = write_known(tmp_path / "place", radiograph, {name: KNOWN[name] for name in "abc"})
    for more in ([], ["--dry-run"]):
        found = run_predict(radiograph, table, tmp_path / "out", *more)
        assert isinstance(found.exception, PreflightError)
        assert found.exception.code == "BMD-PRE-005"
    assert not (tmp_path / "out").exists()


def test_patients_that_the_run_has_learnt_from_give_no_line(radiograph, told, tmp_path, caplog) -> None:
    """Their errors are too small for others. What is left gives the line."""
    known = KNOWN | {"learnt": (2.0, 2.0)}
    hips = read_known_hips(write_known(tmp_path / "place", radiograph, known))
    predictor = replace(load_predictor(NETWORK), learnt=frozenset({"learnt"}))
    with caplog.at_level(logging.WARNING):
        found = recalibrate(predictor, hips).recalibration
    assert found is not None
    assert found.patients == 4
    assert found.apply(np.mean(list(told.values()))) == pytest.approx(0.855)
    assert any("learnt from: lines 10, 11" in message for message in caplog.messages)
    with pytest.raises(PreflightError, match="BMD-PRE-005"):
        recalibrate(replace(predictor, learnt=frozenset(known)), hips)


def test_it_is_said_once_who_is_left_out(radiograph, tmp_path, monkeypatch) -> None:
    learnt = replace(load_predictor(NETWORK), learnt=frozenset({"learnt"}))
    monkeypatch.setattr(prediction, "load_predictor", lambda *_, **__: learnt)
    table = write_known(tmp_path / "place", radiograph, KNOWN | {"learnt": (2.0, 2.0)})
    found = run_predict(radiograph, table, tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert " ".join(found.output.split()).count("that the run has learnt from") == 1


def test_what_was_told_by_another_line_is_told_again(radiograph, predicted, tmp_path) -> None:
    """A prediction that was interrupted, and of whose known hips one could not be read at that time."""
    out = tmp_path / "out"
    shutil.copytree(predicted[0], out)
    record = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    (out / "predictions.json").unlink()
    rows = [asdict(PredictionRow.from_text(row)) | {"dxa_bmd_g_cm2": 9.0} for row in rows_of(predicted[0])]
    write_json(out / ".unfinished" / "_input.json", record["input"])
    kept = {"rows": rows, "details": record["hips"], "line": "of another line"}
    write_json(out / ".unfinished" / "pelvis.json", kept)
    assert run_predict(radiograph, predicted[1], out).exit_code == 0
    assert rows_of(out) == rows_of(predicted[0])


def test_what_misleads_is_warned_of(predicted, tmp_path) -> None:
    """A known hip is predicted; and what is told of all is the same, so that it says no more than the mean."""
    found = run_predict(predicted[1].with_name("a.png"), predicted[1], tmp_path / "out")
    told = " ".join(found.output.split())
    assert "radiographs that are predicted, of known hips: 1" in told
    assert "BMD-PRE-006" in told


def test_a_dry_run_reads_the_table_and_writes_nothing(predicted, radiograph, tmp_path) -> None:
    assert run_predict(radiograph, predicted[1], tmp_path / "out", "--dry-run").exit_code == 0
    assert not (tmp_path / "out").exists()
    bad = tmp_path / "bad.csv"
    bad.write_text("patient_id,xray,side,dxa_bmd\np,none.dcm,L,0.9\n", encoding="utf-8")
    found = run_predict(radiograph, bad, tmp_path / "out", "--dry-run")
    assert isinstance(found.exception, PreflightError)
    assert found.exception.code == "BMD-COH-006"


def test_the_front_door_has_the_same_line(predicted, radiograph) -> None:
    out, table = predicted
    found = predict(radiograph, NETWORK, known=table, device="cpu")
    for row in rows_of(out):
        assert found[row["side"]].bmd["dxa"] == pytest.approx(float(row["dxa_bmd_g_cm2"]), abs=1e-6)
        assert "dxa" not in found[row["side"]].intervals
