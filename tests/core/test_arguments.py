"""A wrong argument of the front door is named, with what was expected and what came."""

from types import SimpleNamespace

import numpy as np
import pytest

import bmdkit as bk
from bmdkit.io.ct import CtScan

GRID = bk.Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), np.eye(3))
HU = bk.Volume(np.zeros(GRID.shape, np.int16), GRID, "hu")
DENSITY = bk.Volume(np.zeros(GRID.shape, np.float32), GRID, "density_mg_cm3")
BONES = bk.LabelMap(np.ones(GRID.shape, np.uint8), GRID, {"femur_L": 1})
CAMERA = bk.ProjectionGeometry(1000, 1, 1, columns=8, rows=8)
CALLS = {
    "calibrate": (lambda wrong: bk.calibrate(wrong), "ct: expected Volume"),
    "segment": (lambda wrong: bk.segment(wrong), "ct: expected Volume"),
    "find_landmarks": (lambda wrong: bk.find_landmarks(wrong, "L"), "labels: expected LabelMap"),
    "proximal_femur": (lambda wrong: bk.proximal_femur(BONES, wrong), "landmarks: expected Landmarks"),
    "volumetric_bmd": (lambda wrong: bk.volumetric_bmd(DENSITY, wrong), "mask: expected ndarray"),
    "areal_bmd": (lambda wrong: bk.areal_bmd(DENSITY, BONES, wrong), "landmarks: expected Landmarks"),
    "render": (lambda wrong: bk.render(wrong, "ap", CAMERA), "volume: expected Volume"),
    "register_ct": (lambda wrong: bk.register(wrong, wrong, labels=BONES), "ct: expected Volume"),
    "register_radiograph": (lambda wrong: bk.register(HU, wrong, labels=BONES), "radiograph: expected Radiograph"),
    "register_labels": (lambda wrong: bk.register(HU, wrong, labels=wrong), "expected LabelMap"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("wrong", ["cohort/ct/p1", None, SimpleNamespace()], ids=["path", "none", "other"])
def test_an_argument_of_another_type_is_named(name, wrong):
    call, message = CALLS[name]
    with pytest.raises(TypeError, match=f"{message}, got {type(wrong).__name__}"):
        call(wrong)


def test_what_holds_the_right_value_names_it():
    with pytest.raises(TypeError, match="ct: expected Volume, got CtScan, whose `volume` is one"):
        bk.calibrate(CtScan(HU, "", ()))


@pytest.mark.parametrize(
    "call",
    [
        lambda: bk.find_landmarks(BONES, "left"),
        lambda: bk.read_landmarks("points.json", "left"),
        lambda: bk.predict("pelvis.dcm", "run", side="left"),
        lambda: bk.Landmarks("left", {}),
    ],
    ids=["find_landmarks", "read_landmarks", "predict", "Landmarks"],
)
def test_a_side_is_one_letter(call):
    with pytest.raises(ValueError, match="side: expected L or R, got 'left'"):
        call()
