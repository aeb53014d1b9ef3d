"""A header is parsed once: every value has its type, and what is damaged counts as absent."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest
from dicom_samples import body_hu, hip_image, write_ct, write_dx
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from bmdkit.io.dicom_header import DicomHeader
from bmdkit.io.dicom_parsing import read_header, read_image


def header_of_radiograph(tmp_path, **tags) -> DicomHeader:
    def edit(ds):
        for name, value in tags.items():
            setattr(ds, name, value)

    return read_header(write_dx(tmp_path / "x.dcm", hip_image(), edit=edit))


def test_a_slice_has_its_place_and_pixel_format_as_numbers(tmp_path):
    header = read_header(sorted(write_ct(tmp_path / "ct", body_hu()).iterdir())[2])
    assert (header.modality, header.image_type) == ("CT", ("ORIGINAL", "PRIMARY", "AXIAL"))
    assert header.ct.position_mm == (-40.0, -60.0, 106.0)
    assert header.ct.orientation == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert (header.pixels.shape, header.pixels.bits, header.pixels.is_signed) == ((40, 48), (16, 16, 15), True)
    assert (header.rescale_slope, header.rescale_intercept, header.padding) == (1.0, 0.0, None)


def test_a_radiograph_has_its_distances_and_openings(tmp_path):
    header = header_of_radiograph(
        tmp_path,
        ImagerPixelSpacing=[0.2, 0.3],
        CollimatorShape=["RECTANGULAR", "CIRCULAR"],
        CollimatorLeftVerticalEdge=3,
        CollimatorRightVerticalEdge=90,
        CollimatorUpperHorizontalEdge=4,
        CollimatorLowerHorizontalEdge=80,
        CenterOfCircularCollimator=[40, 50],
        RadiusOfCircularCollimator=30,
    )
    tags = header.radiograph
    assert (tags.sdd_mm, tags.imager_spacing_mm, tags.patient_orientation) == (1100.0, (0.2, 0.3), ("L", "F"))
    assert [(o.source, o.shape, o.numbers) for o in tags.openings] == [
        ("Collimator", "RECTANGULAR", (3.0, 90.0, 4.0, 80.0)),
        ("Collimator", "CIRCULAR", (40.0, 50.0, 30.0)),
    ]


@pytest.mark.parametrize(
    ("tags", "look", "value"),
    [
        ({"DistanceSourceToDetector": None}, lambda h: h.radiograph.sdd_mm, None),
        ({"ImagerPixelSpacing": [0.2]}, lambda h: h.radiograph.imager_spacing_mm, (0.2, 0.2)),
        ({"ImagerPixelSpacing": [0.2, -0.2]}, lambda h: h.radiograph.imager_spacing_mm, None),
        ({"ImageLaterality": "r"}, lambda h: h.radiograph.laterality, "R"),
        ({"ImageLaterality": "U", "Laterality": "L"}, lambda h: h.radiograph.laterality, None),
        ({"PixelPaddingValue": 7, "PixelPaddingRangeLimit": 3}, lambda h: h.padding, (3.0, 7.0)),
        ({"NumberOfFrames": 3}, lambda h: h.pixels.frames, 3),
        ({"HighBit": None}, lambda h: h.pixels.high_bit, 11),
        ({"VOILUTSequence": Sequence([Dataset()])}, lambda h: h.radiograph.has_voi_table, True),
        ({"CollimatorShape": "RECTANGULAR", "CollimatorLeftVerticalEdge": 3}, lambda h: h.radiograph.openings, ()),
    ],
)
def test_each_value_is_converted_once(tmp_path, tags, look, value):
    assert look(header_of_radiograph(tmp_path, **tags)) == value


def test_a_header_is_frozen_and_holds_nobodys_name(tmp_path):
    path = write_dx(tmp_path / "x.dcm", hip_image())
    header = read_header(path)
    assert header == read_image(path).header
    with pytest.raises(FrozenInstanceError):
        header.modality = "CT"

    def texts(noun):
        for field in fields(noun):
            value = getattr(noun, field.name)
            yield from texts(value) if is_dataclass(value) else [str(value)]

    assert not any("sample" in text.lower() for text in texts(header))
