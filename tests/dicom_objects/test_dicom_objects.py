"""Objects that join the study of their source."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_samples import body_hu, write_ct, write_dx, write_enhanced_ct
from dicom_validity import list_errors, needs_dciodvfy

from bmdkit.core.volume import LabelMap
from bmdkit.dicom_objects.measurement_report import HipMeasurements, write_measurement_report
from bmdkit.dicom_objects.projection import write_overlay, write_parametric_map
from bmdkit.dicom_objects.segmentation import write_segmentation
from bmdkit.dicom_objects.source import SourceImages, read_source_images
from bmdkit.errors import CaseError
from bmdkit.io.ct import read_ct
from bmdkit.io.label_maps import read_labels
from bmdkit.io.pseudonyms import make_pseudonym

IDENTIFYING = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate", "StudyID")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
KEY = b"a key for tests"


def add_study(data: pydicom.Dataset) -> None:
    """What a hospital writes beside the pixels."""
    data.StudyDate, data.StudyTime, data.AccessionNumber, data.StudyID = "20240229", "081500", "ACC77", "S9"
    data.ReferringPhysicianName, data.InstitutionName = "Doctor^Who", "Hospital of Somewhere"


@pytest.fixture
def radiograph(tmp_path) -> Path:
    return write_dx(tmp_path / "in" / "hip.dcm", np.full((60, 80), 0.5), edit=add_study)


@pytest.fixture
def source(radiograph) -> SourceImages:
    return read_source_images([radiograph])


@pytest.fixture
def drr() -> np.ndarray:
    values = np.random.default_rng(0).uniform(0, 1.7, (32, 16)).astype(np.float32)
    values[:8] = 0
    return values


def measured(**changes) -> HipMeasurements:
    values = {
        "side": "R",
        "bmd": {"dxa": 0.8123456789, "qct": 301.5},
        "units": {"dxa": "g/cm2", "qct": "mg/cm3"},
        "intervals": {"dxa": (0.7, 0.9)},
        "quality": "review",
        "reasons": ("the silhouette is unlike: 3.1 of 2.5",),
        "intended_use": "For research. Not for diagnosis.",
        "simulated_only": False,
        "algorithm": "run 7",
        "sha256": "ab" * 32,
    }
    return HipMeasurements(**{**values, **changes})


def write_map(path: Path, drr: np.ndarray, source: SourceImages) -> Path:
    place = {"spacing_mm": (2.5, 2.0), "corner_mm": (30.0, 10.0)}
    write_parametric_map(path, drr, source, **place, side="R", unit="g/cm2", use="For research.")
    return path


def write_all(folder: Path, drr: np.ndarray, source: SourceImages) -> list[Path]:
    """The three objects of a radiograph."""
    paths = [folder / name for name in ("map.dcm", "overlay.dcm", "report.dcm")]
    write_map(paths[0], drr, source)
    write_overlay(paths[1], np.full((40, 30, 3), 9, np.uint8), source, side="R", use="For research.")
    write_measurement_report(paths[2], measured(), source)
    return paths


def write_bones(folder: Path, source: SourceImages | None = None) -> tuple[Path, LabelMap, SourceImages]:
    """A CT of two femurs and a pelvis, its segmentation, and what was written."""
    ct = write_ct(folder / "ct", body_hu(), edit=lambda _, data: add_study(data))
    array = np.zeros((12, 40, 48), np.uint8)
    array[3:9, 10:20, 4:12], array[3:9, 10:20, 30:40], array[5:11, 22:30, 8:36] = 3, 2, 1
    labels = LabelMap(array, read_ct(ct).volume.grid, {"pelvis": 1, "femur_L": 2, "femur_R": 3, "axial": 4})
    source = source or read_source_images(sorted(ct.glob("*.dcm")))
    region = np.zeros(array.shape, bool)
    region[4:6, 12:18, 31:38] = True
    path = folder / "bones.dcm"
    write_segmentation(path, labels, source, algorithm="some network", sha256="cd" * 32, regions={"L": region})
    return path, labels, source


def find_numbers(data: pydicom.Dataset) -> dict[str, tuple[float, str]]:
    """Code -> value and unit of every measurement in a report."""
    found = {}
    for item in data.ContentSequence:
        if item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            found[item.ConceptNameCodeSequence[0].CodeValue] = (float(value.NumericValue), unit)
        if "ContentSequence" in item:
            found |= find_numbers(item)
    return found


def find_words(data: pydicom.Dataset) -> set[str]:
    """Every coded value and text of a report."""
    found = set()
    for item in data.ContentSequence:
        if item.ValueType == "CODE":
            found.add(item.ConceptCodeSequence[0].CodeValue)
        if item.ValueType == "TEXT":
            found.add(str(item.TextValue))
        if "ContentSequence" in item:
            found |= find_words(item)
    return found


def test_a_map_gives_back_its_values_in_their_unit(drr, source, tmp_path) -> None:
    path = write_map(tmp_path / "map.dcm", drr, source)
    data = pydicom.dcmread(path)
    np.testing.assert_array_equal(data.pixel_array, drr)
    shared = highdicom.imread(path).SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    assert mapping.DoubleFloatRealWorldValueLastValueMapped >= drr.max()
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "g/cm2"
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [2.5, 2.0]
    (frame,) = data.PerFrameFunctionalGroupsSequence
    assert [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient] == [31.0, 0.0, -11.25]
    assert data.ContentQualification == "RESEARCH"


def test_an_overlay_gives_back_its_pixels_and_names_its_source(source, tmp_path) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (20, 10, 3)).astype(np.uint8)
    write_overlay(tmp_path / "o.dcm", picture, source, side="L", use="For research.")
    data = pydicom.dcmread(tmp_path / "o.dcm")
    np.testing.assert_array_equal(data.pixel_array, picture)
    np.testing.assert_array_equal(highdicom.imread(tmp_path / "o.dcm").get_frame(1), picture)
    assert data.SourceImageSequence[0].ReferencedSOPInstanceUID == source.first.SOPInstanceUID
    assert (data.Laterality, list(data.PatientOrientation), data.ImageComments) == ("L", ["L", "F"], "For research.")


def test_a_report_says_the_numbers_their_interval_and_what_they_are_for(source, tmp_path) -> None:
    write_measurement_report(tmp_path / "r.dcm", measured(), source)
    read = highdicom.sr.srread(tmp_path / "r.dcm")
    (group,) = read.content.get_image_measurement_groups()
    assert {one.name.value: one.value for one in group.get_measurements()} == {
        "dxa-bmd": pytest.approx(0.8123456789),
        "dxa-low": 0.7,
        "dxa-high": 0.9,
        "qct-bmd": 301.5,
    }
    assert [site.value.meaning for site in group.finding_sites] == ["Bone structure of proximal femur (body structure)"]
    data = pydicom.dcmread(tmp_path / "r.dcm")
    assert find_numbers(data)["qct-bmd"] == (301.5, "mg/cm3")
    words = find_words(data)
    assert {"review", "research", "bmdkit: run 7", measured().reasons[0]} <= words
    assert (data.CompletionFlag, data.VerificationFlag, data.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    (study,) = data.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == source.first.StudyInstanceUID
    assert series.SeriesInstanceUID == source.first.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.first.SOPInstanceUID


def test_a_report_of_simulated_training_says_so(source, tmp_path) -> None:
    write_measurement_report(tmp_path / "r.dcm", measured(simulated_only=True, quality="accept"), source)
    words = find_words(pydicom.dcmread(tmp_path / "r.dcm"))
    assert "simulated" in words
    assert "research" not in words


def test_a_segmentation_gives_back_the_labels_where_they_lie(tmp_path) -> None:
    path, labels, source = write_bones(tmp_path)
    read = read_labels(path)
    for name in ("pelvis", "femur_L", "femur_R"):
        points = labels.grid.points(np.argwhere(labels.mask(name)))
        again = read.grid.points(np.argwhere(read.mask(name)))
        np.testing.assert_allclose(sorted(map(tuple, again)), sorted(map(tuple, points)), atol=1e-4)
    segmentation = highdicom.seg.segread(path)
    names = [segmentation.get_segment_description(n).segment_label for n in segmentation.segment_numbers]
    assert names == ["pelvis", "femur_L", "femur_R", "proximal_femur_L"]
    data = pydicom.dcmread(path)
    named = {item.ReferencedSOPInstanceUID for item in data.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == {header.SOPInstanceUID for header in source.headers}
    assert data.ReferencedSeriesSequence[0].SeriesInstanceUID == source.first.SeriesInstanceUID
    assert data.FrameOfReferenceUID == source.first.FrameOfReferenceUID
    modifier = data.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert modifier[0].CodeMeaning == "Left"


def test_every_object_belongs_to_the_patient_and_the_study_and_equal_ones_are_equal_files(
    drr, source, tmp_path
) -> None:
    bones, _, ct = write_bones(tmp_path)
    for path, origin in [(p, source) for p in write_all(tmp_path, drr, source)] + [(bones, ct)]:
        data = pydicom.dcmread(path)
        for word in (*IDENTIFYING, "StudyInstanceUID"):
            assert data[word].value == origin.first[word].value, (path.name, word)
        assert data.SeriesInstanceUID != origin.first.SeriesInstanceUID
        assert data.Manufacturer == "bmdkit"
    again = write_all(tmp_path / "again", drr, source)
    assert [p.read_bytes() for p in again] == [(tmp_path / p.name).read_bytes() for p in again]
    other = write_map(tmp_path / "other.dcm", drr + 0.1, source)
    assert pydicom.dcmread(other).SOPInstanceUID != pydicom.dcmread(again[0]).SOPInstanceUID


def every_value(data: pydicom.Dataset) -> set[str]:
    return {str(value) for element in data.iterall() for value in _values(element)}


def _values(element) -> list:
    return [] if element.VR == "SQ" else element.value if element.VM > 1 else [element.value]


def test_a_pseudonym_and_new_uids_stand_for_everything_of_the_source(drr, source, tmp_path) -> None:
    hidden = source.pseudonymise(KEY)
    _, _, ct = write_bones(tmp_path)
    seg, _, _ = write_bones(tmp_path, ct.pseudonymise(KEY))
    name = make_pseudonym("sample", KEY)
    for path in [*write_all(tmp_path, drr, hidden), seg]:
        data = pydicom.dcmread(path)
        assert (data.PatientID, str(data.PatientName), data.PatientIdentityRemoved) == (name, name, "YES")
        assert data.PatientSex == ""
        told = every_value(data)
        for origin in (source, ct):
            for header in origin.headers:
                theirs = {str(header[word].value) for word in (*IDENTIFYING, *UIDS, "ReferringPhysicianName")}
                assert not told & theirs - {"", "F"}, path.name
        assert str(ct.first.FrameOfReferenceUID) not in told
    assert not [b for b in (b"Sample^One", b"Hospital", b"20240229") if b in seg.read_bytes()]
    same = {pydicom.dcmread(p).StudyInstanceUID for p in write_all(tmp_path, drr, source.pseudonymise(KEY))}
    assert len(same) == 1
    assert source.pseudonymise(b"other").identifier != name


@pytest.mark.parametrize("contents", [b"", b"no DICOM at all"])
def test_a_file_that_is_no_dicom_has_no_study(tmp_path, contents) -> None:
    (tmp_path / "x.png").write_bytes(contents)
    with pytest.raises(CaseError) as told:
        read_source_images([tmp_path / "x.png"])
    assert told.value.code == "BMD-DCM-001"


def test_an_image_without_a_study_cannot_be_joined(tmp_path) -> None:
    path = write_dx(tmp_path / "a.dcm", np.zeros((20, 20)), edit=lambda data: delattr(data, "StudyInstanceUID"))
    with pytest.raises(CaseError, match="StudyInstanceUID"):
        read_source_images([path])


def test_an_image_without_a_patient_id_is_told_apart_by_name_and_birth_date(tmp_path) -> None:
    def forget(data):
        del data.PatientID

    path = write_dx(tmp_path / "a.dcm", np.zeros((20, 20)), edit=forget)
    assert read_source_images([path]).identifier == "Sample^One 19500101"


@needs_dciodvfy
@pytest.mark.parametrize("hidden", [False, True], ids=["named", "pseudonym"])
def test_dciodvfy_finds_no_error(drr, source, tmp_path, hidden) -> None:
    bones, _, ct = write_bones(tmp_path)
    if hidden:
        bones, _, _ = write_bones(tmp_path, ct.pseudonymise(KEY))
    paths = [*write_all(tmp_path, drr, source.pseudonymise(KEY) if hidden else source), bones]
    assert {path.name: list_errors(path) for path in paths} == {path.name: [] for path in paths}


@needs_dciodvfy
def test_dciodvfy_finds_no_error_in_a_segmentation_of_an_enhanced_ct(tmp_path) -> None:
    path = write_enhanced_ct(tmp_path / "enhanced.dcm", body_hu())
    labels = LabelMap((body_hu() > 0).astype(np.uint8), read_ct(path).volume.grid, {"pelvis": 1})
    source = read_source_images([path])
    for name, origin in (("a.dcm", source), ("b.dcm", source.pseudonymise(KEY))):
        write_segmentation(tmp_path / name, labels, origin, algorithm="some network", sha256="ef" * 32)
        assert list_errors(tmp_path / name) == []
        np.testing.assert_array_equal(read_labels(tmp_path / name).array.sum(), labels.array.sum())
