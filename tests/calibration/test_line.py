"""The line itself: least squares, its application, its file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bmdkit.calibration import Calibration, Rod
from bmdkit.calibration.line import fit_line, read_calibration
from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.errors import CaseError


def test_fit_is_ordinary_least_squares_of_density_on_hu():
    rng = np.random.default_rng(3)
    hu = np.array([4.0, 70, 130, 195, 260])
    density = 0.8 * hu - 3 + rng.normal(0, 2, 5)
    slope, intercept, residual, r = fit_line(hu, density)
    expected = np.polyfit(hu, density, 1)
    assert (slope, intercept) == pytest.approx(tuple(expected), rel=1e-9)
    assert residual == pytest.approx(np.sqrt(np.mean((np.polyval(expected, hu) - density) ** 2)))
    assert r == pytest.approx(np.corrcoef(hu, density)[0, 1])


def test_density_is_not_clamped_at_zero():
    grid = Grid((1, 1, 2), (1, 1, 1), (0, 0, 0), np.eye(3))
    line = Calibration(0.8, -3.0, 0.1, "b-mas200", (), "phantom")
    density = line.apply(Volume(np.array([[[-100, 100]]], np.int16), grid, "hu"))
    assert density.quantity == "density_mg_cm3"
    assert density.array.ravel() == pytest.approx([-83.0, 77.0])


def test_a_line_comes_back_from_its_file():
    rods = (Rod(0.0, 4.0, (1.0, 2.0, 3.0), 0.5, 40), Rod(200.0, 254.0))
    line = Calibration(0.8, -3.2, 0.2, "b-mas200", rods, "phantom", 0.9999, "review", ("note",))
    data = json.loads(json.dumps(line.to_dict()))
    assert Calibration.from_dict(data) == line
    assert {"slope_mg_cm3_per_hu", "intercept_mg_cm3", "residual_mg_cm3", "phantom", "rods", "source"} <= set(data)
    assert {"density_mg_cm3", "hu", "center_lps_mm"} <= set(data["rods"][0])


def test_only_slope_and_intercept_are_needed_of_a_file():
    line = Calibration.from_dict({"slope_mg_cm3_per_hu": 0.8, "intercept_mg_cm3": -3}, source="file")
    assert (line.density_at(100.0), line.source, line.rods) == (pytest.approx(77.0), "file", ())


@pytest.mark.parametrize(
    "data",
    [
        {"slope_mg_cm3_per_hu": 0.8},
        {"slope_mg_cm3_per_hu": "steep", "intercept_mg_cm3": 0},
        {"slope_mg_cm3_per_hu": -1, "intercept_mg_cm3": 0},
        {"slope_mg_cm3_per_hu": 1, "intercept_mg_cm3": float("nan")},
        {"slope_mg_cm3_per_hu": 1, "intercept_mg_cm3": 0, "rods": [1]},
    ],
)
def test_a_file_without_a_sensible_line_is_refused(data):
    with pytest.raises(CaseError, match="BMD-CAL-004"):
        Calibration.from_dict(data)


@pytest.mark.parametrize("content", ["no json", "[1, 2]", '{"slope_mg_cm3_per_hu": 1}', ""])
def test_a_file_that_is_no_calibration_has_its_code(tmp_path, content):
    file = tmp_path / "calibration.json"
    file.write_text(content)
    with pytest.raises(CaseError) as caught:
        read_calibration(file)
    assert caught.value.code == "BMD-CAL-004"
