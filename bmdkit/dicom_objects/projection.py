"""The projection of the proximal femur as a parametric map, and its picture as a secondary capture."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.dicom_objects.codes import code_unit, make_code
from bmdkit.dicom_objects.source import SourceImages
from bmdkit.dicom_objects.writing import make_identity, quiet, write_object

_AP_DIRECTIONS = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)  # columns run to the patient's left, rows to the feet
_THICKNESS_MM = 1.0  # a projection has none, and DICOM wants one


def write_parametric_map(
    path: Path,
    projection: np.ndarray,
    source: SourceImages,
    *,
    spacing_mm: tuple[float, float],
    corner_mm: tuple[float, float],
    side: Side,
    unit: str,
    use: str,
) -> None:
    """Write a projection with its values as they are, float32, and the unit of them.

    The map has a frame of reference of its own, the detector of an AP view: LPS, mm at the detector, the origin in the
    outer corner of the upright radiograph's first pixel.

    Args:
        path: File to be written.
        projection: (rows, columns), areal density, not negative.
        source: The radiograph.
        spacing_mm: Spacing between rows and between columns, at the detector.
        corner_mm: Where the outer corner of the first pixel lies on the detector: along columns and along rows.
        side: Hip that is shown, the patient's own.
        unit: Unit of the values, such as g/cm2.
        use: What the projection is for; it is told in the description.
    """
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence, VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.uid import generate_uid

    values = np.ascontiguousarray(projection, np.float32)
    high = max(float(values.max()), 1e-3)
    place = (corner_mm[0] + spacing_mm[1] / 2, 0.0, -(corner_mm[1] + spacing_mm[0] / 2))
    framed = copy.copy(source.first)
    framed.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(source.first.SOPInstanceUID), "detector"])
    framed.ImagePositionPatient, framed.ImageOrientationPatient = [0.0, 0.0, 0.0], list(_AP_DIRECTIONS)
    framed.PixelSpacing, framed.SliceThickness = list(spacing_mm), _THICKNESS_MM
    mapping = RealWorldValueMapping(
        lut_label=unit,
        lut_explanation=f"Areal density, {unit}"[:64],
        unit=code_unit(unit),
        value_range=(0.0, high),
        slope=1.0,
        intercept=0.0,
        quantity_definition=make_code("pf-density"),
    )
    with quiet():
        data = ParametricMap(
            [framed],
            values,
            **make_identity(source, "map", values.tobytes(), repr((spacing_mm, corner_mm, side, unit, use))),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[VOILUTTransformation(window_center=high / 2, window_width=high)],
            pixel_measures=PixelMeasuresSequence(spacing_mm, slice_thickness=_THICKNESS_MM),
            plane_orientation=PlaneOrientationSequence("PATIENT", _AP_DIRECTIONS),
            plane_positions=[PlanePositionSequence("PATIENT", place)],
            content_label="PF_DRR",
            content_description=f"PF-DRR {side}, {unit}: {use}"[:64],
            image_flavor="VOLUME",
        )
    data.Laterality = side
    write_object(path, data, source, f"PF-DRR {side}, {unit}")


def write_overlay(path: Path, picture: np.ndarray, source: SourceImages, *, side: Side, use: str) -> None:
    """Write a picture as a secondary capture in colour.

    Args:
        path: File to be written.
        picture: (rows, columns, 3), uint8, upright as an AP view is displayed.
        source: The radiograph.
        side: Hip that is shown, the patient's own.
        use: What the picture is for.
    """
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    picture = np.ascontiguousarray(picture, np.uint8)
    identity = make_identity(source, "overlay", picture.tobytes(), side, use)
    equipment = {word: identity.pop(word) for word in ("manufacturer_model_name", "software_versions")}
    identity.pop("device_serial_number")
    with quiet():
        data = SCImage.from_ref_dataset(
            source.first,
            picture,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),
            laterality=side,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            **identity,
        )
    data.ManufacturerModelName, data.SoftwareVersions = equipment.values()
    data.ConversionType, data.ImageType = "WSD", ["DERIVED", "SECONDARY"]
    data.BurnedInAnnotation = "NO"
    data.DerivationDescription = "PF-DRR in colour on the radiograph"
    data.ImageComments = use
    data.SourceImageSequence = [source.refer()]
    write_object(path, data, source, f"PF-DRR {side} on the radiograph")
