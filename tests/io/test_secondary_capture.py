"""Computed images as DICOM."""

from __future__ import annotations

import json

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_validity import list_errors, needs_dciodvfy

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.io.secondary_capture import name_direction, write_secondary_capture

CAMERA = ProjectionGeometry(sdd_mm=1000.0, column_spacing_mm=0.4, row_spacing_mm=0.5, columns=20, rows=30)
IDENTIFYING = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
IDENTIFYING += ("ReferringPhysicianName", "StudyDate", "StudyTime")


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1.7, (30, 20)).astype(np.float32)


def write(path, image, **more):
    about = {"what": "predicted PF-DRR", "said": "Größe < 3 & more"}
    write_secondary_capture(path, image, CAMERA, unit="g/cm2", about=about, window=(0, 1.5), **more)
    return path


def test_values_geometry_and_place_come_back(image, tmp_path) -> None:
    read = pydicom.dcmread(write(tmp_path / "a.dcm", image, side="R"))
    values = read.pixel_array * float(read.RescaleSlope) + float(read.RescaleIntercept)
    np.testing.assert_allclose(values, image, atol=float(read.RescaleSlope) / 2 * 1.001)  # rounded to 16 bits
    assert (read.DistanceSourceToDetector, list(read.ImagerPixelSpacing)) == (1000.0, [0.5, 0.4])
    assert (list(read.PatientOrientation), read.Laterality, read.RescaleType) == (["L", "F"], "R", "g/cm2")
    assert (read.WindowCenter, read.WindowWidth) == (0.75, 1.5)
    assert json.loads(read.ImageComments)["said"] == "Größe < 3 & more"


def test_it_names_nobody_and_no_time_and_equal_images_are_equal_files(image, tmp_path) -> None:
    a, b, other = (write(tmp_path / f"{n}.dcm", image * (1 + (n == 2))) for n in range(3))
    assert a.read_bytes() == b.read_bytes()
    read, unlike = pydicom.dcmread(a), pydicom.dcmread(other)
    assert [str(read[name].value or "") for name in IDENTIFYING] == [""] * len(IDENTIFYING)
    assert not [e.keyword for e in read if e.VR in ("DA", "TM", "DT") and e.value]
    assert read.SOPInstanceUID != unlike.SOPInstanceUID


def test_highdicom_reads_it_as_an_image(image, tmp_path) -> None:
    read = highdicom.imread(write(tmp_path / "a.dcm", image, side="L"))
    np.testing.assert_allclose(read.get_frame(1, apply_real_world_transform=False), image, atol=2e-5)


@needs_dciodvfy
@pytest.mark.parametrize(
    "more",
    [{}, {"side": "L"}, {"directions_lps": np.array([[0, 1, 0], [0, 0, -1.0]])}],
    ids=["both hips", "one hip", "lateral"],
)
def test_it_is_valid(image, tmp_path, more) -> None:
    assert list_errors(write(tmp_path / "a.dcm", image, **more)) == []


@pytest.mark.parametrize(
    ("direction", "letter"),
    [
        ((1, 0, 0), "L"),
        ((-1, 0, 0), "R"),
        ((0, 1, 0), "P"),
        ((0, -1, 0), "A"),
        ((0, 0, 1), "H"),
        ((0.5, 0.6, -0.7), "F"),
    ],
)
def test_directions_are_named_as_dicom_names_them(direction, letter) -> None:
    assert name_direction(np.array(direction)) == letter
