"""Figures say what they show, and are the same bytes each time."""

import numpy as np
import pytest

from bmdkit.evaluation import figures
from bmdkit.evaluation.figure_style import drawing, save, svg_bytes

SHOWN = figures.Shown(24, 12, "test patients of five folds", "simulated")
assert str(SHOWN) == "24 images of 12 patients, test patients of five folds, simulated data"
RNG = np.random.default_rng(0)
MEASURED = np.repeat(RNG.normal(0.9, 0.1, 12), 2)
PREDICTED = MEASURED + RNG.normal(0, 0.03, 24)
PATIENTS = [f"p{i // 2}" for i in range(24)]
POSES = ["standing", "supine"] * 12


def draw(kind):
    with drawing():
        if kind == "scatter":
            return figures.scatter(PREDICTED, MEASURED, quantity="DXA-BMD", unit="g/cm²", shown=SHOWN, poses=POSES)
        if kind == "bland_altman":
            return figures.bland_altman_plot(
                PREDICTED, MEASURED, patients=PATIENTS, quantity="DXA-BMD", unit="g/cm²", shown=SHOWN, poses=POSES
            )
        sweeps = {"DXA-BMD": [(0.0, 0.5), (0.1, 0.9), (0.2, 0.7)], "QCT-BMD": [(0.0, None), (0.1, 0.6), (0.2, 0.8)]}
        return figures.threshold_curve(sweeps, unit="g/cm²", shown=SHOWN)


@pytest.mark.parametrize("kind", ["scatter", "bland_altman", "threshold"])
def test_a_figure_states_its_data_and_is_deterministic(kind, tmp_path):
    with drawing():
        figure = draw(kind)
        assert "24 images of 12 patients, test patients of five folds, simulated data" in [
            t.get_text() for t in figure.texts
        ]
        first = [path.read_bytes() for path in save(figure, tmp_path / "a")]
        second = [path.read_bytes() for path in save(draw(kind), tmp_path / "b")]
        assert first == second
        assert first[0].startswith(b"\x89PNG")
        assert first[1].startswith(b"%PDF")
        assert svg_bytes(draw(kind)) == svg_bytes(draw(kind))


def test_the_best_threshold_is_named():
    text = [entry.get_text() for entry in draw("threshold").axes[0].get_legend().get_texts()]
    assert text == ["DXA-BMD: 0.900 at 0.1 g/cm²", "QCT-BMD: 0.800 at 0.2 g/cm²"]


def test_a_patient_outside_with_every_image_is_named():
    predicted = PREDICTED.copy()
    predicted[:2] += 1.0
    figure = figures.bland_altman_plot(
        predicted, MEASURED, patients=PATIENTS, quantity="DXA-BMD", unit="g/cm²", shown=SHOWN
    )
    assert "p0" in [text.get_text() for text in figure.axes[0].texts]
