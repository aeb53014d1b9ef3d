"""The outline of labels against the edges of a CT: right maps agree, wrong ones do not, whatever the CT is like."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_bones import CT, GRID, bones, scan

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.errors import CaseError
from bmdkit.segmentation.edge_agreement import measure_edge_agreement
from bmdkit.segmentation.labels import LabelConfig, check_on_ct

LEAST = LabelConfig().least_edge_agreement


@pytest.mark.parametrize(
    "ct",
    [CT, scan(bone_hu=180), scan(bone_hu=1200), scan(noise_hu=60), scan(blur=1.5)],
    ids=["usual", "hardly mineralised", "dense", "noisy", "blurred"],
)
def test_right_labels_agree_whatever_the_ct_is_like(ct):
    assert measure_edge_agreement(bones(), ct) > LEAST + 0.1
    check_on_ct(bones(), ct)


@pytest.mark.parametrize("grow_mm", [-3.0, -1.5, 1.5, 3.0])
def test_labels_drawn_a_little_too_small_or_too_large_agree(grow_mm):
    assert measure_edge_agreement(bones(grow_mm=grow_mm), CT) > LEAST + 0.1


@pytest.mark.parametrize(
    ("axial_first", "flips"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (1, -1, 1)), ((1, 2, 0), (-1, 1, -1))]
)
def test_the_order_of_the_axes_does_not_count(axial_first, flips):
    """The same voxels stored otherwise agree as well."""
    labels = bones()
    matrix = np.zeros((3, 3))
    for new, old in enumerate(axial_first):
        matrix[old, new] = flips[new]
    array = labels.array.transpose([2 - axial_first[2 - axis] for axis in range(3)])
    array = array[tuple(slice(None, None, flips[2 - axis]) for axis in range(3))]
    start = [GRID.shape[2 - axis] - 1 if matrix[axis].sum() < 0 else 0 for axis in range(3)]
    grid = Grid(array.shape, GRID.spacing_mm[list(axial_first)], GRID.points(np.array(start)[::-1]), matrix)
    assert measure_edge_agreement(LabelMap(array, grid, LABEL_VALUES), CT) == pytest.approx(
        measure_edge_agreement(labels, CT), abs=0.03
    )  # other voxels of the outline are drawn


WRONG = {
    "shifted 7 mm": bones(shift_mm=(0, 7, 0)),
    "shifted 10 mm": bones(shift_mm=(6, 0, 8)),
    "shifted 20 mm": bones(shift_mm=(-20, 0, 0)),
    "mirrored": LabelMap(bones().array[:, :, ::-1], GRID, LABEL_VALUES),
    "upside down": LabelMap(bones().array[::-1], GRID, LABEL_VALUES),
    "of a larger patient": bones(stretch=(1.15, 1.15, 1.15)),
}


@pytest.mark.parametrize("labels", WRONG.values(), ids=WRONG)
def test_labels_beside_the_bones_are_refused(labels):
    assert measure_edge_agreement(labels, CT) < measure_edge_agreement(bones(grow_mm=3.0), CT) - 0.1
    with pytest.raises(CaseError, match="outline") as caught:
        check_on_ct(labels, CT, LabelConfig(least_overlap=0.5, least_bone_hu=0))
    assert caught.value.code == "BMD-LBL-003"


def test_a_mirrored_map_is_called_so():
    with pytest.raises(CaseError, match="mirrored left to right they would agree"):
        check_on_ct(WRONG["mirrored"], CT)


def test_nothing_is_said_where_hardly_any_outline_lies_in_the_ct():
    away = Volume(CT.array, Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm + 500, GRID.direction), "hu")
    assert measure_edge_agreement(bones(), away) is None
