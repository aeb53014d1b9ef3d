"""Label maps: every structure under its own value, whoever named it; a name that is nearly right is never lost."""

import json

import numpy as np
import pytest
from dicom_samples import ORIGIN_MM, SPACING_MM

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.volume import Grid, LabelMap, Volume
from bmdkit.errors import CaseError
from bmdkit.io.label_maps import read_labels, write_labels
from bmdkit.io.volumes import write_volume

LABELS = np.zeros((6, 7, 8), np.uint8)
LABELS[1, 2, 3], LABELS[2, 2, 2], LABELS[3, 4, 5], LABELS[4, 1, 1] = 1, 2, 3, 4
LABEL_GRID = Grid(LABELS.shape, SPACING_MM, ORIGIN_MM, np.eye(3))


def test_labels_round_trip_with_side_car(tmp_path):
    write_labels(tmp_path / "labels.nii.gz", LabelMap(LABELS, LABEL_GRID, LABEL_VALUES))
    assert json.loads((tmp_path / "labels.json").read_text()) == LABEL_VALUES
    back = read_labels(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(back.array, LABELS)
    assert dict(back.values) == LABEL_VALUES


def test_side_car_names_rename_the_values(tmp_path):
    write_volume(tmp_path / "m.nii.gz", Volume((LABELS * 10).astype(np.int16), LABEL_GRID, "hu"))
    for names in (
        {"pelvis": 10, "femur_L": 20, "femur_R": 30, "axial": 40},
        {"hip_left": 10, "femur_left": 20, "femur_right": 30, "sacrum": 40, "liver": 50},
        {"10": "pelvis", "20": "femur_L", "30": "femur_R", "40": "vertebrae_L5"},
        {"labels": {"background": 0, "pelvis": 10, "femur_L": 20, "femur_R": 30, "axial": 40}},
    ):
        (tmp_path / "m.json").write_text(json.dumps(names))
        np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz").array, LABELS)


def test_totalsegmentator_ids_without_a_side_car(tmp_path):
    table = np.array([5, 77, 75, 76, 25], np.int16)  # spleen stands for what is no bone of ours
    write_volume(tmp_path / "m.nii.gz", Volume(table[LABELS], LABEL_GRID, "hu"))
    np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz").array, LABELS)


def test_totalsegmentator_folder_of_masks(tmp_path):
    for name, value in (("hip_right", 1), ("femur_left", 2), ("femur_right", 3), ("vertebrae_L5", 4)):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(value == LABELS, LABEL_GRID, "hu"))
    write_volume(tmp_path / "liver.nii.gz", Volume(LABELS == 0, LABEL_GRID, "hu"))
    np.testing.assert_array_equal(read_labels(tmp_path).array, LABELS)


def test_labels_that_cannot_be_named_or_read(tmp_path):
    path = tmp_path / "m.nii.gz"
    write_volume(path, Volume(LABELS, LABEL_GRID, "hu"))
    with pytest.raises(CaseError, match="BMD-MAP-002"):
        read_labels(path)
    for content, code in (
        ("{", "BMD-MAP-003"),
        ("[]", "BMD-MAP-003"),
        ('{"liver": 3}', "BMD-MAP-002"),
        ("{}", "BMD-MAP-003"),
    ):
        (tmp_path / "m.json").write_text(content)
        with pytest.raises(CaseError) as caught:
            read_labels(path)
        assert caught.value.code == code
    (tmp_path / "m.json").write_text(json.dumps(LABEL_VALUES))
    write_volume(path, Volume(LABELS.astype(np.float32) + 0.4, LABEL_GRID, "hu"))
    with pytest.raises(CaseError, match="BMD-MAP-001"):
        read_labels(path)
    path.write_bytes(b"no volume")
    with pytest.raises(CaseError, match="BMD-MAP-001"):
        read_labels(path)
