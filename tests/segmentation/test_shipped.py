"""The network that comes with the package, and what is known of its failures."""

from __future__ import annotations

import json

import pytest

from bmdkit.errors import PreflightError
from bmdkit.evaluation.segmentation_metrics import dice
from bmdkit.io.cohort import read_cohort
from bmdkit.io.ct import read_ct
from bmdkit.io.label_maps import read_labels
from bmdkit.segmentation.dropout_prediction import predict
from bmdkit.segmentation.failures import ROC, SHIPPED, read_roc
from bmdkit.segmentation.model import CLASSES, RUN, WEIGHTS, load_model
from bmdkit.segmentation.settings import PredictConfig
from bmdkit.simulation.settings import SimulateConfig
from bmdkit.simulation.simulated_cohort import simulate_cohort
from bmdkit.training.labelled_slices import class_map

DECENT = 0.7
"""Of a coarse hip that it has not seen, which gives 0.77 to 0.81; weights that do not fit give next to nothing."""


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
    assert measured["failed"] > 0
    assert load_model(SHIPPED).most_uncertainty == measured["threshold"]


def test_without_a_measurement_no_uncertainty_is_too_large(tmp_path):
    for name in (RUN, WEIGHTS):
        (tmp_path / name).write_bytes((SHIPPED / name).read_bytes())
    assert load_model(tmp_path).most_uncertainty is None


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"threshold": "high"})])
def test_a_measurement_that_cannot_be_read_has_a_code(tmp_path, text):
    (tmp_path / ROC).write_text(text, encoding="utf-8")
    with pytest.raises(PreflightError, match="BMD-TRN-009"):
        read_roc(tmp_path)
