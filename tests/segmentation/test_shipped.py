"""The network that comes with the package, and what is known of its failures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bmdkit.errors import PreflightError
from bmdkit.evaluation.segmentation_metrics import dice
from bmdkit.io.cohort import read_cohort
from bmdkit.io.ct import read_ct
from bmdkit.io.label_maps import read_labels
from bmdkit.segmentation.dropout_prediction import predict
from bmdkit.segmentation.failures import ROC, SHIPPED, PredictionSettings, UncertaintyLimit, read_roc
from bmdkit.segmentation.model import CLASSES, RUN, WEIGHTS, load_model
from bmdkit.segmentation.settings import PredictConfig
from bmdkit.simulation.settings import SimulateConfig
from bmdkit.simulation.simulated_cohort import simulate_cohort
from bmdkit.training.labelled_slices import class_map

DECENT = 0.82
"""Of a coarse hip that it has not seen; the weights before these gave 0.77 to 0.81."""


def test_it_labels_a_simulated_ct(tmp_path):
    config = SimulateConfig(patients=1, poses=("standing",), slice_mm=6.0, pixel_mm=3.0, grid_mm=2.0)
    simulate_cohort(tmp_path, config, seed=11)
    (case,) = read_cohort(tmp_path).cases
    ct = read_ct(case.ct).volume
    found = predict(ct, load_model(SHIPPED), PredictConfig(passes=2, slice_stride=2), seed=0)
    truth = class_map(read_labels(case.labels).resample(ct.grid))
    for value, name in enumerate(CLASSES[1:], start=1):
        assert dice(found.labels.array == value, truth == value) > DECENT, name


def test_it_is_small_and_says_what_it_is():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 20 * 2**20
    assert "simulated" in (SHIPPED / "CARD.md").read_text(encoding="utf-8")
    measured = read_roc(SHIPPED)
    assert measured.failed > 0
    assert load_model(SHIPPED).limit_uncertainty(PredictConfig()) == UncertaintyLimit(measured.threshold)


def test_its_limit_belongs_to_its_weights_and_keeps_most_of_what_did_not_fail():
    measured = read_roc(SHIPPED)
    digest = hashlib.sha256((SHIPPED / WEIGHTS).read_bytes()).hexdigest()
    assert measured.settings == PredictionSettings(10, 1.5, digest)
    assert measured.specificity >= 0.9
    assert measured.sensitivity >= 0.94
    assert digest in (SHIPPED / "CARD.md").read_text(encoding="utf-8")


def copy_shipped(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes((SHIPPED / name).read_bytes())
    return folder


def test_without_a_measurement_no_uncertainty_is_too_large(tmp_path):
    limit = load_model(copy_shipped(tmp_path, RUN, WEIGHTS)).limit_uncertainty(PredictConfig())
    assert limit == UncertaintyLimit(None)


@pytest.mark.parametrize(
    ("used", "named"),
    [
        (PredictConfig(passes=2), "passes: measured with 10, used with 2"),
        (PredictConfig(passes=9), "passes: measured with 10, used with 9"),
        (PredictConfig(pixel_mm=3.0), "pixel_mm: measured with 1.5, used with 3.0"),
        (PredictConfig(passes=1), "one draw of the dropout has no variance"),
    ],
)
def test_its_limit_is_refused_with_settings_that_it_was_not_measured_with(used, named):
    limit = load_model(SHIPPED).limit_uncertainty(used)
    assert limit.most is None
    assert named in limit.refusal


def test_more_draws_keep_the_limit():
    model = load_model(SHIPPED)
    assert model.limit_uncertainty(PredictConfig(passes=20)) == model.limit_uncertainty(PredictConfig())


def test_the_limit_of_other_weights_is_refused(tmp_path):
    copy_shipped(tmp_path, RUN, WEIGHTS, ROC)
    weights = bytearray((tmp_path / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(bytes(weights))
    limit = load_model(tmp_path).limit_uncertainty(PredictConfig())
    assert limit.most is None
    known = hashlib.sha256((SHIPPED / WEIGHTS).read_bytes()).hexdigest()
    assert f"weights: measured with {known[:12]}" in limit.refusal


def test_a_limit_of_the_biased_variance_is_refused(tmp_path):
    copy_shipped(tmp_path, RUN, WEIGHTS)
    old = json.loads((SHIPPED / ROC).read_text(encoding="utf-8"))
    del old["measured_with"]
    (tmp_path / ROC).write_text(json.dumps(old), encoding="utf-8")
    assert "does not say" in load_model(tmp_path).limit_uncertainty(PredictConfig()).refusal


def test_a_limit_that_the_user_has_chosen_holds_with_any_settings_but_one_draw():
    model = load_model(SHIPPED)
    assert model.limit_uncertainty(PredictConfig(passes=2, pixel_mm=3.0), 0.004) == UncertaintyLimit(0.004)
    assert model.limit_uncertainty(PredictConfig(passes=1), 0.004).refusal


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"threshold": "high"})])
def test_a_measurement_that_cannot_be_read_has_a_code(tmp_path, text):
    (tmp_path / ROC).write_text(text, encoding="utf-8")
    with pytest.raises(PreflightError, match="BMD-TRN-009"):
        read_roc(tmp_path)
