"""BMD of new radiographs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from dicom_samples import write_dx

from bmdkit.cli.main import group
from bmdkit.config import load
from bmdkit.core.radiograph import Radiograph
from bmdkit.errors import PreflightError
from bmdkit.evaluation.plausibility import Plausibility
from bmdkit.inference.prediction import Spread, draw_overlay, load_predictor, predict_hip
from bmdkit.io.images import read_tiff
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.run import estimate_bmd
from bmdkit.training.settings import DecompositionConfig

RECIPE = Path(__file__).parents[2] / "pipelines/train/test.yaml"


@pytest.fixture(scope="module")
def runs(hips, tmp_path_factory) -> dict[str, Path]:
    """A run on each dataset."""
    root = tmp_path_factory.mktemp("runs")
    for dataset in ("A", "B"):
        config = load(DecompositionConfig, recipe=RECIPE, flags={"dataset": dataset, "fold": "all"})
        train_decomposition(hips, root / dataset, config, device="cpu")
    return {dataset: root / dataset for dataset in ("A", "B")}


def both_hips(hips: Path, patient: str = "p1") -> np.ndarray:
    """A radiograph of the pelvis: a fixture's hip on the right of the image, and its mirror image."""
    left = read_tiff(hips / "dataset_b" / f"{patient}__standing__L" / "xray.tif")[0]
    return np.hstack([left[:, ::-1], left])


def blob(row: float, column: float, high: float = 0.15, wide: float = 0.2, density: float = 1.0) -> np.ndarray:
    """An ellipse of even density in 64 x 32 pixels; places and half axes as parts of the image."""
    v, u = np.mgrid[:64, :32]
    inside = (((v + 0.5) / 64 - row) / high) ** 2 + (((u + 0.5) / 32 - column) / wide) ** 2 < 1
    return density * inside.astype(np.float32)


TRAINING = Plausibility.of(
    np.array([blob(0.5 + d, 0.6 + d, density=1 + 10 * d) for d in (-0.02, -0.01, 0.0, 0.01, 0.02)]), ["L"] * 5, 0.3
)


@pytest.mark.parametrize(
    ("drr", "side", "quality", "named"),
    [
        (blob(0.51, 0.59), "L", "accept", ""),
        (blob(0.51, 0.41), "R", "accept", ""),  # a right hip is a mirrored left one
        (blob(0.51, 0.41), "L", "review", "column"),
        (blob(0.51, 0.6, density=3.0), "L", "review", "density"),
        (blob(0.85, 0.3), "L", "reject", "row"),
        (blob(0.5, 0.6, high=0.02, wide=0.03), "L", "reject", "area"),
        (blob(0.5, 0.6, density=0.1), "L", "reject", "no pixel"),
    ],
)
def test_what_is_unlike_the_training_set_is_flagged(drr, side, quality, named) -> None:
    found, reasons = TRAINING.check(drr, side)
    assert found == quality
    assert named in "; ".join(reasons)


def test_the_training_set_is_known_again_after_being_stored() -> None:
    assert Plausibility.from_dict(json.loads(json.dumps(TRAINING.to_dict()))) == TRAINING


def test_the_interval_covers_what_it_says() -> None:
    """Errors of one normal distribution; spread from ten of them, interval tried on another: 95 %."""
    errors = np.random.default_rng(0).normal(0, 0.05, (4000, 11))
    inside = [Spread(float(np.sqrt((e[:10] ** 2).mean())), 10, 10, "test").interval(1.0) for e in errors]
    covered = [low <= 1.0 + e[10] <= high for (low, high), e in zip(inside, errors, strict=True)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_the_interval_counts_patients_not_images() -> None:
    """Eight images of each of five patients, whose errors are alike: 95 %, which 40 degrees of freedom would miss."""
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 0.05, (4000, 6, 1)) + rng.normal(0, 0.01, (4000, 6, 8))
    rms = np.sqrt((errors[:, :5] ** 2).mean((1, 2)))
    for patients, covered in ((5, 0.95), (40, 0.91)):
        ends = [Spread(float(one), 40, patients, "test").interval(0.0) for one in rms]
        inside = [low <= e[5, 0] <= high for (low, high), e in zip(ends, errors, strict=True)]
        assert np.mean(inside) == pytest.approx(covered, abs=0.015)


def test_radiographs_are_cut_as_the_dataset_was(hips, own_hips, runs) -> None:
    description = json.loads((own_hips / "dataset.json").read_text())
    description["configuration"] = {"pairs": {"rows": 256, "columns": 256}, "xray": {"lossy": "warn"}}
    (own_hips / "dataset.json").write_text(json.dumps(description))
    config = load(DecompositionConfig, recipe=RECIPE, flags={"dataset": "B"}, overrides=["loop.epochs=1"])
    train_decomposition(own_hips, own_hips.parent / "run", config, device="cpu")
    predictor = load_predictor(own_hips.parent / "run")
    assert predictor.run.xray.lossy == "warn"
    pixels = both_hips(hips)
    window = predict_hip(predictor, Radiograph(pixels, np.ones(pixels.shape, bool)), "L").window
    assert (window.rows, window.columns) == (256, 256)
    assert load_predictor(runs["B"]).run.pairs.rows == 512


def test_colour_is_laid_only_where_something_projects() -> None:
    xray = np.full((8, 6), 0.5)
    drr = np.zeros((8, 6))
    drr[2, 3] = 1.0
    picture = draw_overlay(xray, drr, 1.0)
    assert (picture[0, 0] == 128).all()
    assert len(set(picture[2, 3].tolist())) > 1


def test_both_hips_of_a_radiograph_are_predicted(runs, hips, tmp_path) -> None:
    file = write_dx(tmp_path / "new film.dcm", both_hips(hips))
    out = tmp_path / "out"
    told = CliRunner().invoke(group, ["predict", str(runs["B"]), str(file), "--out", str(out), "-q"])
    assert told.exit_code == 0, told.output
    with (out / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["name"], row["side"]) for row in rows] == [("new_film_L", "L"), ("new_film_R", "R")]
    predictor = load_predictor(runs["B"])
    for row in rows:
        drr = read_tiff(out / row["pf_drr"])[0]
        assert drr.shape == (64, 32)
        assert (out / row["overlay"]).exists()
        assert float(row["dxa_bmd_g_cm2"]) == pytest.approx(estimate_bmd(predictor.run, drr)["dxa"])
        assert float(row["dxa_bmd_g_cm2_low"]) < float(row["dxa_bmd_g_cm2"]) < float(row["dxa_bmd_g_cm2_high"])
    record = json.loads((out / "predictions.json").read_text())
    assert record["spread"]["dxa"]["split"] == "train"  # nobody was held out, and it says so
    assert "Not for diagnosis" in record["intended_use"]


def test_t_scores_need_a_reference_and_the_projection_comes_as_dicom(runs, hips, tmp_path) -> None:
    file, table, out = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "young.yaml", tmp_path / "out"
    table.write_text("{name: young women of somewhere, mean_g_cm2: 0.94, sd_g_cm2: 0.12}", encoding="utf-8")
    words = ["predict", str(runs["B"]), str(file), "--side", "L", "--out", str(out), "-q"]
    told = CliRunner().invoke(group, [*words, "--reference", str(table), "--dicom"])
    assert told.exit_code == 0, told.output
    with (out / "predictions.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert float(row["t_score"]) == pytest.approx((float(row["dxa_bmd_g_cm2"]) - 0.94) / 0.12)
    assert f"T-score {float(row['t_score']):+.1f}" in told.output
    record = json.loads((out / "predictions.json").read_text())
    assert record["t_score_reference"]["name"] == "young women of somewhere"
    written = pydicom.dcmread(out / "a_L_pf_drr.dcm")
    drr = read_tiff(out / row["pf_drr"])[0]
    values = written.pixel_array * float(written.RescaleSlope)
    assert values == pytest.approx(drr, abs=float(written.RescaleSlope))
    assert json.loads(written.ImageComments)["camera"]["rows"] == 64
    assert str(written.PatientName) == ""
    table.write_text("{name: nobody, mean_g_cm2: 0.94, sd_g_cm2: -1}", encoding="utf-8")
    assert CliRunner().invoke(group, [*words, "--reference", str(table)]).exit_code == 2


def test_a_file_that_cannot_be_read_is_named_and_the_rest_predicted(runs, hips, tmp_path) -> None:
    good, bad = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "b.dcm"
    bad.write_bytes(b"no image")
    told = CliRunner().invoke(
        group, ["predict", str(runs["B"]), str(bad), str(good), "--side", "L", "--out", str(tmp_path / "out"), "-q"]
    )
    assert told.exit_code == 3
    assert "b: BMD-XR-" in told.output
    assert "a_L: DXA-BMD" in told.output


def test_a_radiograph_without_image_is_rejected(runs) -> None:
    pixels, mask = np.full((128, 128), 0.5), np.zeros((128, 128), bool)
    mask[:10] = True
    found = predict_hip(load_predictor(runs["B"]), Radiograph(pixels, mask), "L")
    assert found.quality == "reject"
    assert "of the hip's half is image" in found.reasons[0]


def test_only_a_run_that_knows_bmd_predicts(runs, tmp_path) -> None:
    with pytest.raises(PreflightError, match="BMD-PRE-001"):
        load_predictor(runs["A"])
    with pytest.raises(PreflightError, match="BMD-TRN-009"):
        load_predictor(tmp_path)
