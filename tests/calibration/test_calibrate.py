"""A phantom is found wherever and however it lies, and its line is that of the simulated scanner."""

from __future__ import annotations

import numpy as np
import pytest
from rod_scans import RodScan, density_errors

from bmdkit.calibration import Calibration, CalibrationConfig, LineSettings, RodPlace, calibrate
from bmdkit.calibration.phantom_models import MINDWAYS_3
from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.errors import CaseError

DENSITY_TOLERANCE_MG_CM3 = 2.0  # at 0..200 mg/cm3, thirty slices of 12 HU noise
DENSE_TOLERANCE = 0.01  # at 800 mg/cm3
MONOTONE = (0.0, 50.0, 100.0, 150.0, 200.0)


def assert_right(line: Calibration, scan: RodScan) -> None:
    errors = np.abs(density_errors(line, scan))
    assert errors[:3].max() <= DENSITY_TOLERANCE_MG_CM3
    assert errors[3] <= DENSE_TOLERANCE * 800


@pytest.mark.parametrize(
    "scan",
    [
        RodScan(),
        RodScan(prone=True, order=(150.0, 50.0, 0.0, 100.0, 200.0)),
        RodScan(order=MONOTONE, turn_deg=12),
        RodScan(order=(50.0, 200.0, 0.0, 150.0, 100.0), shift_mm=(-30, 10)),
        RodScan(turn_deg=90, shift_mm=(190, -135), field_mm=520),
        RodScan(turn_deg=170),
        RodScan(sagitta_mm=12, pixel_mm=0.6, slices=12, slice_mm=5),
        RodScan(sagitta_mm=-15, shift_mm=(0, 15), pixel_mm=1.5),
        RodScan(diameter_mm=16, spacing_mm=34, slab_thickness_mm=24),
        RodScan(slope_hu=1.9, zero_hu=20),
        RodScan(tilt_mm_per_slice=0.5),
        RodScan(shift_mm=(0, -16)),
    ],
    ids=str,
)
def test_b_mas200_is_found_in_any_place_order_and_orientation(scan):
    line = calibrate(scan.volume())
    assert line.phantom == "b-mas200"
    assert (line.source, line.verdict, len(line.rods)) == ("phantom", "accept", 5)
    assert_right(line, scan)


@pytest.mark.parametrize(
    ("scan", "shown"),
    [(RodScan(missing=(0, 18)), 12), (RodScan(streaks=(5, 17)), 18), (RodScan(streaks=(20, 26), missing=(0, 10)), 14)],
    ids=["missing", "streaks", "both"],
)
def test_slices_without_phantom_or_with_artefacts_are_left_out(scan, shown):
    line = calibrate(scan.volume())
    assert_right(line, scan)
    assert line.rods[0].slices <= shown


def test_a_phantom_on_four_slices_is_found_and_marked():
    scan = RodScan(missing=(4, 30))
    line = calibrate(scan.volume())
    assert_right(line, scan)
    assert line.verdict == "review"
    assert any("4 slices" in note for note in line.notes)


@pytest.mark.parametrize("order", [(200.0, 100.0, 0.0, 50.0, 150.0), MONOTONE])
@pytest.mark.parametrize("shift", [160, -160])
def test_a_rod_out_of_view_is_marked_and_the_others_keep_their_identity(order, shift):
    scan = RodScan(order=order, shift_mm=(shift, 0), noise_hu=6)
    line = calibrate(scan.volume())
    assert (line.verdict, len(line.rods)) == ("review", 4)
    assert_right(line, scan)


@pytest.mark.parametrize(
    ("scan", "name"),
    [
        (RodScan(order=(800.0, 400.0, 100.0), slab_hu=20, diameter_mm=18), "qrm-bdc-3"),
        (RodScan(order=(0.0, 100.0, 200.0, 400.0, 600.0, 800.0), spacing_mm=32, diameter_mm=18), "qrm-bdc-6"),
    ],
)
def test_other_phantoms_are_told_apart(scan, name):
    line = calibrate(scan.volume())
    assert line.phantom == name
    assert_right(line, scan)


def test_mindways_model_3_gives_the_line_of_its_published_equations():
    scan = RodScan(
        order=MINDWAYS_3.densities_mg_cm3,
        water_hu=MINDWAYS_3.water_hu,
        slope_hu=1.2,
        zero_hu=2.0,
        slab_hu=80,
        diameter_mm=18,
        spacing_mm=30,
    )
    line = calibrate(scan.volume())
    assert line.phantom == "mindways-3"
    # HU - rho_w = s_ref rho + b_ref with s_ref 1.2, b_ref = 2 - 1000; s = s_ref - 0.2174, b = b_ref + 999.6
    slope, offset = 1.2 - 0.2174, 2.0 - 1000 + 999.6
    for hu in (0.0, 300.0):
        assert line.density_at(hu) == pytest.approx((hu - offset) / slope, abs=2.0)


def test_rods_of_a_custom_phantom_come_from_the_settings():
    scan = RodScan(order=(75.0, 0.0, 300.0, 150.0))
    config = CalibrationConfig(phantom="custom", densities_mg_cm3=(0.0, 75.0, 150.0, 300.0))
    line = calibrate(scan.volume(), config)
    assert line.phantom == "custom"
    assert_right(line, scan)


def test_rods_may_be_given_by_their_places():
    scan = RodScan()
    found = calibrate(scan.volume())
    rods = tuple(RodPlace(rod.density_mg_cm3, rod.center_lps_mm) for rod in found.rods)
    line = calibrate(scan.volume(), CalibrationConfig(rods=rods, rod_radius_mm=8.0))
    assert_right(line, scan)
    with pytest.raises(CaseError, match="BMD-CAL-003"):
        calibrate(scan.volume(), CalibrationConfig(rods=(rods[0], RodPlace(100.0, (900.0, 0.0, 0.0)))))


def test_rod_centres_are_in_patient_coordinates():
    scan = RodScan(prone=True, slices=12)
    line = calibrate(scan.volume())
    # the simulated rods lie 135 mm below the middle in the array, which a prone scan shows in front of the patient
    for rod in line.rods:
        x = -(scan.order.index(rod.density_mg_cm3) - 2) * 42.0
        assert np.hypot(rod.center_lps_mm[0] - x, rod.center_lps_mm[1] + 135.0) < 1.0


def test_any_order_of_the_array_axes_gives_the_same_line():
    volume = RodScan(slices=12).volume()
    grid = volume.grid
    turned = Grid(
        tuple(np.array(grid.shape)[[1, 0, 2]]),
        grid.spacing_mm[[0, 2, 1]],
        grid.origin_mm,
        grid.direction[:, [0, 2, 1]],
    )
    line = calibrate(volume)
    other = calibrate(Volume(volume.array.transpose(1, 0, 2), turned, "hu"))
    assert other.slope_mg_cm3_per_hu == pytest.approx(line.slope_mg_cm3_per_hu, rel=1e-9)
    assert other.intercept_mg_cm3 == pytest.approx(line.intercept_mg_cm3, abs=1e-6)


@pytest.mark.parametrize(
    "scan",
    [RodScan(order=()), RodScan(order=(0.0, 0.0, 0.0)), RodScan(order=(200.0, 100.0, 0.0, 120.0, 150.0))],
    ids=["no rods", "slab only", "rods of no known phantom"],
)
def test_what_is_no_known_phantom_is_refused(scan):
    with pytest.raises(CaseError, match="BMD-CAL-001"):
        calibrate(scan.volume())


def test_phantomless_is_near_and_marked():
    scan = RodScan(order=(), slope_hu=1.2, slices=12)
    line = calibrate(scan.volume(), CalibrationConfig(mode="phantomless"))
    assert (line.source, line.verdict, line.phantom) == ("phantomless", "review", None)
    air, fat, muscle = line.rods
    assert (air.hu, fat.hu, muscle.hu) == pytest.approx((-1000, -95, 55), abs=3)


def test_phantomless_needs_the_tissues():
    with pytest.raises(CaseError, match="BMD-CAL-005"):
        calibrate(RodScan(body=False, slices=6).volume(), CalibrationConfig(mode="phantomless"))


def test_a_given_line_and_no_line_are_modes_too():
    volume = RodScan(slices=2).volume()
    given = calibrate(volume, CalibrationConfig(mode="file", line=LineSettings(0.8, -3.0)))
    assert (given.slope_mg_cm3_per_hu, given.intercept_mg_cm3, given.source) == (0.8, -3.0, "file")
    none = calibrate(volume, CalibrationConfig(mode="none"))
    assert (none.slope_mg_cm3_per_hu, none.intercept_mg_cm3, none.source) == (1.0, 0.0, "none")
    assert none.notes
    with pytest.raises(CaseError, match="BMD-CAL-004"):
        calibrate(volume, CalibrationConfig(mode="file"))


def test_a_custom_phantom_without_densities_is_the_callers_mistake():
    with pytest.raises(ValueError, match="densities_mg_cm3"):
        CalibrationConfig(phantom="custom")


def test_hu_are_required():
    volume = RodScan(slices=2).volume()
    with pytest.raises(ValueError, match="expected hu"):
        calibrate(Volume(volume.array, volume.grid, "density_mg_cm3"))
