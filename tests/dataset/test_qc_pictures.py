"""Pictures of a build: what is shown lies where it is."""

import numpy as np
import pytest

from bmdkit.calibration.line import Rod
from bmdkit.core.anatomy import COLOURS, LABEL_VALUES, REGION_COLOUR
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset import qc_pictures
from bmdkit.dataset.ct_stage import Hip

GRID = Grid((40, 50, 60), [4.0, 4.0, 4.0], [-120.0, -100.0, -80.0], np.eye(3))
PRONE = Grid((40, 50, 60), [4.0, 4.0, 4.0], [116.0, 96.0, -80.0], np.diag([-1.0, -1.0, 1.0]))  # the same points


def where(image, colour):
    """(n, 2), rows and columns of the pixels of one colour."""
    return np.argwhere((image == colour).all(axis=-1))


def test_rods_are_ringed_where_they_are():
    hu = Volume(np.full(GRID.shape, -1000, np.int16), GRID, "hu")
    image = qc_pictures.draw_rods(hu, [Rod(100.0, 120.0, (-60.0, 50.0, 0.0)), Rod(0.0, 0.0)])  # the second has no place
    ring = where(image, REGION_COLOUR)
    middle = (ring.min(axis=0) + ring.max(axis=0)) / 2
    expected = np.array([50 + 100, -60 + 120]) / 0.6  # mm from the corner, over mm per pixel
    assert np.abs(middle - expected).max() < 2
    assert np.ptp(ring, axis=0) * 0.6 == pytest.approx([24, 24], abs=1.5)
    with pytest.raises(ValueError, match="with a place"):
        qc_pictures.draw_rods(hu, [Rod(0.0, 0.0)])


@pytest.mark.parametrize("grid", [GRID, PRONE])
def test_planes_show_the_patient_s_left_on_the_right_and_the_head_above(grid):
    points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))
    labels = np.zeros(grid.shape, np.uint8)
    labels[np.linalg.norm(points - (40, 0, -20), axis=-1) < 25] = LABEL_VALUES["femur_L"]
    labels[np.linalg.norm(points - (0, 0, 40), axis=-1) < 25] = LABEL_VALUES["pelvis"]
    region = (labels == LABEL_VALUES["femur_L"]) & (points[..., 2] < -20)
    hu = Volume(np.full(grid.shape, 40, np.int16), grid, "hu")
    hip = Hip("L", Landmarks("L", {"head_center": [40.0, 0, -20]}), region)
    image = qc_pictures.draw_planes(hu, LabelMap(labels, grid, LABEL_VALUES), hip)
    assert image.dtype == np.uint8
    pelvis, shown = where(image, COLOURS["pelvis"]), where(image, REGION_COLOUR)
    assert len(pelvis)
    assert pelvis[:, 0].max() < shown[:, 0].max()  # the region is caudal of the pelvis
    coronal = shown[(shown[:, 1] > image.shape[1] / 3) & (shown[:, 1] < 2 * image.shape[1] / 3)]
    assert np.median(coronal[:, 1]) > np.median(pelvis[:, 1])  # the left femur is right of the middle


def test_the_same_pixels_whatever_the_direction_of_the_grid():
    pictures = []
    for grid in (GRID, PRONE):
        points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))
        labels = np.where(np.linalg.norm(points - (40, 8, -20), axis=-1) < 25, LABEL_VALUES["femur_L"], 0)
        hu = Volume((points @ [1.0, 2.0, 3.0]).astype(np.float32), grid, "hu")
        pictures.append(qc_pictures.draw_planes(hu, LabelMap(labels.astype(np.uint8), grid, LABEL_VALUES), Hip("L")))
    assert pictures[0].shape == pictures[1].shape
    differing = (np.abs(pictures[0].astype(int) - pictures[1]) > 2).any(axis=-1).mean()
    assert differing < 0.01  # nearest labels at ties between voxels
