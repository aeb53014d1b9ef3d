"""Figures say what they show, and are the same bytes each time."""

import numpy as np
import pytest

from bmdkit.evaluation import figures
from bmdkit.evaluation.agreement_panels import Series, bland_altman_panels, pose_panels, scatter_and_errors
from bmdkit.evaluation.case_panels import Cell, threshold_figure
from bmdkit.evaluation.figure_style import drawing, save, svg_bytes

SHOWN = figures.Shown(24, 12, "test patients of five folds", "simulated")
assert str(SHOWN) == "24 images of 12 patients, test patients of five folds, simulated data"
RNG = np.random.default_rng(0)
MEASURED = np.repeat(RNG.normal(0.9, 0.1, 12), 2)
PREDICTED = MEASURED + RNG.normal(0, 0.03, 24)
PATIENTS = [f"p{i // 2}" for i in range(24)]
POSES = ["standing", "supine"] * 12


def series(predicted=PREDICTED, name="one", patients=PATIENTS):
    """What a method predicted."""
    hips = tuple(f"{patient} L" for patient in patients)
    return Series(name, "DXA-BMD", "g/cm²", predicted, MEASURED, tuple(POSES), tuple(patients), hips)


def draw(kind):
    about = {"shown": SHOWN, "caption": "What there is to say."}
    with drawing():
        if kind == "scatter":
            return scatter_and_errors([[series(), series(name="another")]], **about)
        if kind == "poses":
            return pose_panels([("four poses", [series()])], **about)
        if kind == "bland_altman":
            return bland_altman_panels([[series()]], **about)
        sweeps = {"DXA-BMD": [(0.0, 0.5), (0.1, 0.9), (0.2, 0.7)], "QCT-BMD": [(0.0, None), (0.1, 0.6), (0.2, 0.8)]}
        mask = [[Cell(np.eye(8), "mask", "0.1")]]
        return threshold_figure(sweeps, mask, [""], unit="g/cm²", **about)


@pytest.mark.parametrize("kind", ["scatter", "poses", "bland_altman", "threshold"])
def test_a_figure_states_its_data_and_is_deterministic(kind, tmp_path):
    with drawing():
        figure = draw(kind)
        assert any(str(SHOWN) in " ".join(text.get_text().split()) for text in figure.texts)
        first = [path.read_bytes() for path in save(figure, tmp_path / "a")]
        second = [path.read_bytes() for path in save(draw(kind), tmp_path / "b")]
        assert first == second
        assert first[0].startswith(b"\x89PNG")
        assert first[1].startswith(b"%PDF")
        assert svg_bytes(draw(kind)) == svg_bytes(draw(kind))


def test_the_best_threshold_is_named():
    text = [entry.get_text() for entry in draw("threshold").subfigs[0].axes[0].get_legend().get_texts()]
    assert text == ["DXA-BMD: 0.900 at 0.1 g/cm²", "QCT-BMD: 0.800 at 0.2 g/cm²"]


def test_a_patient_outside_with_every_image_is_named():
    predicted = PREDICTED.copy()
    predicted[:2] += 1.0
    for draw_panels in (bland_altman_panels, scatter_and_errors):
        axes = draw_panels([[series(predicted)]], shown=SHOWN, caption="").axes[0]
        assert [text.get_text() for text in axes.texts if text.get_text() in PATIENTS] == ["p0"]
    assert series(predicted).outside() == ("p0",)
    predicted[0] = MEASURED[0] - 1.0  # one image above the limits, the other below
    assert series(predicted).outside() == ()


def test_below_ten_patients_no_correlation_is_drawn():
    few = [f"p{i // 6}" for i in range(24)]
    with drawing():
        figure = scatter_and_errors([[series(patients=few)]], shown=SHOWN, caption="")
        assert "PCC" not in figure.axes[0].get_title(loc="left")
        assert "PCC" in draw("scatter").axes[0].get_title(loc="left")
        poses = pose_panels([("", [series(patients=few)])], shown=SHOWN, caption="")
        assert [text.get_text() for text in poses.axes[1].texts] == ["n < 10"]
