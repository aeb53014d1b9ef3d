"""Given labels: sides by position, largest pieces, and whether they lie on this CT."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.errors import CaseError
from bmdkit.segmentation import LabelConfig, prepare_labels
from bmdkit.segmentation.labels import rejoin_pieces
from bmdkit.segmentation.refine import refine_labels

GRID = Grid((60, 40, 100), [3.0] * 3, [-150.0, -60.0, -90.0], np.eye(3))
# boxes in LPS: low corner, high corner
PLACES = {
    "pelvis": ((-100, -30, 20), (100, 30, 60)),
    "axial": ((-30, 10, 60), (30, 40, 88)),
    "femur_L": ((80, -20, -80), (110, 10, 15)),
    "femur_R": ((-110, -20, -80), (-80, 10, 15)),
}


def bones(values=LABEL_VALUES, grid: Grid = GRID, only=tuple(PLACES)) -> LabelMap:
    points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))
    array = np.zeros(grid.shape, np.uint8)
    for name in only:
        low, high = PLACES[name]
        array[((points >= low) & (points <= high)).all(axis=-1)] = values[name]
    return LabelMap(array, grid, values)


def scan(shift_mm=(0.0, 0.0, 0.0)) -> Volume:
    labels = bones()
    hu = np.where(labels.array > 0, 400, 40).astype(np.int16)
    return Volume(hu, Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm + shift_mm, GRID.direction), "hu")


def test_right_labels_stay_as_they_are_with_the_usual_values():
    other = {"femur_R": 7, "pelvis": 9, "femur_L": 2, "axial": 4}
    prepared = prepare_labels(bones(other), scan())
    assert prepared.values == LABEL_VALUES
    assert np.array_equal(prepared.array, bones().array)


def test_a_stray_piece_goes_to_the_bone_that_it_lies_against():
    truth = bones()
    points = GRID.points(np.moveaxis(np.indices(GRID.shape), 0, -1))
    mistaken = truth.array.copy()
    wing = (truth.array == LABEL_VALUES["pelvis"]) & (points[..., 0] > 85) & (points[..., 2] > 45)
    mistaken[wing] = LABEL_VALUES["axial"]
    tip = (truth.array == LABEL_VALUES["femur_R"]) & (points[..., 2] < -60)
    mistaken[tip] = LABEL_VALUES["pelvis"]
    assert np.array_equal(rejoin_pieces(LabelMap(mistaken, GRID, LABEL_VALUES)).array, truth.array)


def test_a_piece_that_touches_no_other_bone_stays():
    apart = bones()
    array = apart.array.copy()
    array[44:46, 20:24, 45:55] = 0
    array[:, :, 45:47][array[:, :, 45:47] == LABEL_VALUES["axial"]] = 0  # a slab of the spine stands by itself
    labels = LabelMap(array, GRID, LABEL_VALUES)
    array[54:58, 30:34, 70:74] = LABEL_VALUES["axial"]
    before = array.copy()
    assert np.array_equal(rejoin_pieces(labels).array, before)
    assert np.array_equal(labels.array, before)


def test_swapped_femurs_are_named_by_their_place_in_lps():
    swapped = bones({**LABEL_VALUES, "femur_L": LABEL_VALUES["femur_R"], "femur_R": LABEL_VALUES["femur_L"]})
    prepared = prepare_labels(LabelMap(swapped.array, GRID, LABEL_VALUES))
    assert np.array_equal(prepared.array, bones().array)


def test_one_label_for_both_femurs_is_split_by_side():
    array = bones().array.copy()
    array[array == LABEL_VALUES["femur_R"]] = LABEL_VALUES["femur_L"]
    assert np.array_equal(prepare_labels(LabelMap(array, GRID, LABEL_VALUES)).array, bones().array)


def test_sides_do_not_depend_on_the_posture_in_the_scanner():
    prone = Grid(GRID.shape, GRID.spacing_mm, [147.0, 57.0, -90.0], np.diag([-1.0, -1.0, 1.0]))
    prepared = prepare_labels(bones(grid=prone))
    left = prone.points(np.argwhere(prepared.mask("femur_L")))
    assert left[:, 0].min() > 0


def test_a_lone_femur_is_sided_by_the_pelvis():
    array = bones(only=("pelvis", "axial", "femur_R")).array.copy()
    array[array == LABEL_VALUES["femur_R"]] = LABEL_VALUES["femur_L"]
    prepared = prepare_labels(LabelMap(array, GRID, LABEL_VALUES))
    assert prepared.mask("femur_R").any()
    assert not prepared.mask("femur_L").any()


def test_specks_are_dropped_and_separate_vertebrae_kept():
    array = bones().array.copy()
    array[2:4, 2:4, 2:4] = LABEL_VALUES["femur_R"]
    array[50:52, 2:4, 50:52] = LABEL_VALUES["pelvis"]
    array[55, :, :][array[55] == LABEL_VALUES["axial"]] = 0  # a disc between two vertebrae
    prepared = prepare_labels(LabelMap(array, GRID, LABEL_VALUES))
    assert not prepared.array[2:4, 2:4, 2:4].any()
    assert not prepared.array[50:52, 2:4, 50:52].any()
    assert prepared.mask("axial")[54].any()
    assert prepared.mask("axial")[57].any()


def test_preparing_twice_changes_nothing():
    once = prepare_labels(bones(), scan())
    assert np.array_equal(prepare_labels(once, scan()).array, once.array)


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        (LabelMap(np.zeros(GRID.shape, np.uint8), GRID, LABEL_VALUES), "BMD-LBL-001"),
        (LabelMap(bones().array, GRID, {"gluteus": 1}), "BMD-LBL-001"),
        (bones(only=("femur_L", "femur_R")), "BMD-LBL-002"),
        (bones(only=("pelvis", "axial")), "BMD-LBL-002"),
    ],
)
def test_labels_without_what_is_needed_are_refused(labels, code):
    with pytest.raises(CaseError, match=code):
        prepare_labels(labels)


@pytest.mark.parametrize("shift", [(400.0, 0, 0), (45.0, 45.0, 0)], ids=["outside", "beside the bones"])
def test_labels_of_another_scan_are_refused(shift):
    with pytest.raises(CaseError, match="BMD-LBL-003"):
        prepare_labels(bones(), scan(shift), LabelConfig(least_overlap=0.5 if shift[1] else 0.9, least_bone_hu=420.0))


def test_femurs_that_cannot_be_sided_are_refused():
    array = np.zeros(GRID.shape, np.uint8)
    array[5:30, 10:20, 45:55] = LABEL_VALUES["femur_L"]
    array[45:55, 10:30, 30:70] = LABEL_VALUES["pelvis"]
    array[5:30, 25:35, 46:56] = LABEL_VALUES["femur_L"]
    with pytest.raises(CaseError, match="BMD-LBL-004"):
        prepare_labels(LabelMap(array, GRID, LABEL_VALUES))


def test_refined_labels_keep_a_balls_volume_and_surface():
    grid = Grid((18, 60, 60), [1.0, 1.0, 5.0], [-29.5, -29.5, -42.5], np.eye(3))
    points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))
    ball = LabelMap(((points**2).sum(axis=-1) < 22**2).astype(np.uint8), grid, {"femur_L": 1})
    fine = refine_labels(ball, 1.5)
    assert fine.grid.spacing_mm[2] <= 1.5
    assert fine.grid.corners().mean(axis=0) == pytest.approx(grid.corners().mean(axis=0))
    volume = fine.array.sum() * fine.grid.voxel_volume_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * 22**3, rel=0.03)
    truth = (fine.grid.points(np.moveaxis(np.indices(fine.grid.shape), 0, -1)) ** 2).sum(axis=-1) < 22**2
    stairs = ball.resample(fine.grid).array > 0
    dice = [2 * (m & truth).sum() / (m.sum() + truth.sum()) for m in (fine.array > 0, stairs)]
    assert dice[0] > 0.98
    assert dice[0] > dice[1]


def test_fine_labels_are_left_alone():
    labels = bones()
    assert refine_labels(labels, 3.0) is labels
