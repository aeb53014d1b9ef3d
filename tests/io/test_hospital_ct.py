"""CT as hospitals really write it: what is harmless is read and told, what would be misread is told or refused."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pydicom
import pytest
from dicom_samples import ORIGIN_MM, SPACING_MM, body_hu, write_ct, write_dx, write_enhanced_ct
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from bmdkit.errors import CaseError
from bmdkit.io import dicom_pixels
from bmdkit.io.ct import CtScan, read_ct
from bmdkit.io.ct_padding import AIR_HU, fill_padding
from bmdkit.io.ct_settings import CtConfig


@pytest.fixture
def folder(tmp_path):
    return write_ct(tmp_path / "ct", body_hu())


def assert_read(scan: CtScan, *words: str, hu: np.ndarray | None = None) -> None:
    """The CT is there as it was written, and what lay beside or behind it was told."""
    np.testing.assert_array_equal(scan.volume.array, body_hu() if hu is None else hu)
    assert len(scan.warnings) == (1 if words else 0)
    for word in words:
        assert word in scan.warnings[0]


def code_of(path, **settings) -> CaseError:
    with pytest.raises(CaseError) as caught:
        read_ct(path, **settings)
    return caught.value


# ---- what may follow the pixels


@pytest.mark.parametrize("count", [2, 3, 64, 100, 5000])
def test_padding_within_the_pixel_data_is_accepted(tmp_path, count):
    def edit(k, ds):
        ds.PixelData = bytes(ds.PixelData) + b"\0" * count

    assert_read(read_ct(write_ct(tmp_path / "ct", body_hu(), edit=edit)), "12 slices", "padding within the pixel data")


def test_padding_that_is_no_zeros_is_accepted_if_it_is_shorter_than_a_row(tmp_path):
    def edit(k, ds):
        ds.PixelData = bytes(ds.PixelData) + bytes(range(60))

    assert_read(read_ct(write_ct(tmp_path / "ct", body_hu(), edit=edit)), "padding within the pixel data")


def test_rows_that_the_header_does_not_announce_are_no_padding(tmp_path):
    def edit(k, ds):
        ds.Rows = ds.Rows - 2

    error = code_of(write_ct(tmp_path / "ct", body_hu(), edit=edit))
    assert error.code == "BMD-CT-010"


@pytest.mark.parametrize("count", [1, 512, 2048])
def test_a_file_that_is_filled_up_with_zeros_is_accepted(folder, count):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes() + b"\0" * count)
    assert_read(read_ct(folder), "12 slices", "padding after the pixels")


@pytest.mark.parametrize("implicit", [False, True])
def test_elements_after_the_pixels_are_accepted(tmp_path, implicit):
    def edit(k, ds):
        ds.add_new(0x7FE10010, "LO", "A VENDOR 1.0")
        ds.add_new(0x7FE11001, "OB", b"\1\2\3\4")
        ds.add_new(0xFFFCFFFC, "OB", b"\0" * 20)
        if implicit:
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian

    assert_read(read_ct(write_ct(tmp_path / "ct", body_hu(), edit=edit)), "data elements after the pixels")


@pytest.mark.parametrize("rest", [b"abcdefgh" * 8, b"\x10\0\x10\0LO\4\0abcd", b"\1"])
def test_anything_else_after_the_pixels_is_refused(folder, rest):
    path = sorted(folder.iterdir())[4]
    path.write_bytes(path.read_bytes() + rest)
    assert code_of(folder).code == "BMD-CT-010"


# ---- what lies beside a good series


def object_beside(folder, sop_class, modality, frames=1, name="other", **tags):
    ds = pydicom.dcmread(sorted(folder.iterdir())[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.Modality, ds.SeriesInstanceUID, ds.SOPInstanceUID = modality, ds.SeriesInstanceUID + ".9", "1.2.3.4"
    if frames > 1:
        ds.NumberOfFrames, ds.PixelData = frames, bytes(ds.PixelData) * frames
    for tag, value in tags.items():
        setattr(ds, tag, value)
    ds.save_as(folder / name)


OBJECTS = {
    "segmentation": ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", 30),
    "dose": ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE", 12),
    "structure set": ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", 1),
    "secondary capture": ("1.2.840.10008.5.1.4.1.1.7", "OT", 1),
    "multi-frame secondary capture": ("1.2.840.10008.5.1.4.1.1.7.3", "OT", 2),
    "report": ("1.2.840.10008.5.1.4.1.1.88.33", "SR", 1),
    "presentation state": ("1.2.840.10008.5.1.4.1.1.11.1", "PR", 1),
    "ultrasound clip": ("1.2.840.10008.5.1.4.1.1.3.1", "US", 3),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_other_objects_are_told_and_left_out(folder, name):
    sop_class, modality, frames = OBJECTS[name]
    object_beside(folder, sop_class, modality, frames)
    assert_read(read_ct(folder), "1 DICOM files that are no CT slices", modality)


FILES = {
    "README": b"how to view these images",
    "LIESMICH": b"",
    "viewer.jar": b"PK\3\4" * 50,
    "icon.ico": b"\0\0\1\0" * 50,
    "viewer.app": b"\xcf\xfa\xed\xfe" * 100,
    "autorun": b"[autorun]\nopen=viewer.exe\n",
    "Thumbs.bin": bytes(range(256)),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_dicom_are_told_and_left_out(folder, name):
    (folder / name).write_bytes(FILES[name])
    assert_read(read_ct(folder), "1 files that are no DICOM were left out")


def test_a_directory_of_the_disc_under_another_name_is_left_out(folder):
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.FileSetID = "DISC"
    ds.save_as(folder / "DICOMDIR.dcm", enforce_file_format=True)
    (folder / "DICOMDIR").write_bytes((folder / "DICOMDIR.dcm").read_bytes())
    assert_read(read_ct(folder), "1 DICOM files that are no CT slices", "no image")


@pytest.mark.parametrize("name", ["a_0012.dcm", "a_0099.dcm", "zzz.ima"])
@pytest.mark.parametrize("content", [b"", b"no longer an image" * 20])
def test_a_file_that_may_be_a_damaged_slice_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    error = code_of(folder)
    assert error.code == "BMD-CT-010"
    assert name in error.message


def test_names_without_suffix_are_slices_if_the_others_are_named_so(folder):
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{number:05d}")
    (folder / "README").write_text("x")
    assert_read(read_ct(folder), "no DICOM")
    (folder / "IM00099").write_bytes(b"\0" * 300)
    assert code_of(folder).code == "BMD-CT-010"


@pytest.mark.parametrize("absent", ["PatientBirthDate", "PatientSex", "PatientName", "PatientID"])
def test_a_localizer_that_says_less_contradicts_nothing(folder, absent):
    image = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    object_beside(folder, pydicom.uid.CTImageStorage, "CT", name="z.dcm", ImageType=image, **{absent: ""})
    assert_read(read_ct(folder), "1 localizer")


def test_a_localizer_of_another_patient_is_refused(folder):
    image = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    object_beside(folder, pydicom.uid.CTImageStorage, "CT", name="z.dcm", ImageType=image, PatientBirthDate="19110101")
    error = code_of(folder)
    assert error.code == "BMD-CT-005"
    assert "PatientBirthDate" in error.message
    assert "1911" not in error.message


# ---- compressed, and codecs


def as_jpeg(k, ds):
    grey = np.clip((body_hu()[k].astype(float) + 1024) / 12, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="JPEG", quality=80)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.RescaleSlope, ds.RescaleIntercept = 12, -1024
    ds.PixelData, ds.file_meta.TransferSyntaxUID = encapsulate([buffer.getvalue()]), JPEGBaseline8Bit
    ds["PixelData"].is_undefined_length = True


LOSSY = {
    "says so": lambda k, ds: setattr(ds, "LossyImageCompression", "01"),
    "one slice says so": lambda k, ds: k == 3 and setattr(ds, "LossyImageCompression", "01"),
    "is JPEG": as_jpeg,
}


@pytest.mark.parametrize("name", LOSSY)
def test_a_ct_that_was_compressed_with_loss_is_refused_or_told(tmp_path, name):
    folder = write_ct(tmp_path / "ct", body_hu(), edit=lambda k, ds: LOSSY[name](k, ds) and None)
    assert code_of(folder).code == "BMD-CT-016"
    scan = read_ct(folder, config=CtConfig(lossy="warn"))
    assert any("BMD-CT-016" in warning for warning in scan.warnings)


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.203", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.90"]
)
def test_an_absent_decoder_is_to_be_installed(tmp_path, monkeypatch, syntax):
    def edit(k, ds):
        ds.PixelData, ds.file_meta.TransferSyntaxUID = encapsulate([b"\xff\x4f\xff\x51" + bytes(100)]), syntax
        ds["PixelData"].is_undefined_length = True

    monkeypatch.setattr(dicom_pixels, "find_spec", lambda module: None)
    error = code_of(write_ct(tmp_path / "ct", body_hu(), edit=edit), config=CtConfig(lossy="warn"))
    assert error.code == "BMD-CT-018"
    assert "nstall" in error.remedy
    monkeypatch.setattr(dicom_pixels, "find_spec", lambda module: object())
    assert code_of(tmp_path / "ct", config=CtConfig(lossy="warn")).code == "BMD-CT-010"  # there, and fails


# ---- values


@pytest.mark.parametrize(
    ("signed", "intercept", "metal"), [(0, -1024, 4976), (1, 0, 4976), (1, 0, 3000), (0, -1000, 8000)]
)
def test_values_above_bits_stored_are_kept_and_told(tmp_path, signed, intercept, metal):
    hu = body_hu()
    hu[4:7, 18:21, 20:23] = metal

    def edit(k, ds):
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.RescaleIntercept = 12, 11, signed, intercept
        ds.PixelData = (
            np.maximum(hu[k].astype(int) - intercept, -2048 if signed else 0).astype("<i4").astype("<u2").tobytes()
        )

    expected = np.maximum(hu, intercept) if not signed else hu
    assert_read(read_ct(write_ct(tmp_path / "ct", hu, edit=edit)), "3 slices with values above BitsStored", hu=expected)


def test_an_overlay_in_unused_bits_is_no_value(tmp_path):
    def edit(k, ds):
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.RescaleIntercept = 12, 11, 0, -1024
        stored = (body_hu()[k].astype(int) + 1024).astype("<u2")
        stored[3, 3:6] |= 0x1000
        ds.add_new(0x60000100, "US", 16)
        ds.add_new(0x60000102, "US", 12)
        ds.PixelData = stored.tobytes()

    assert_read(read_ct(write_ct(tmp_path / "ct", body_hu(), edit=edit)))


def test_big_endian_data_without_file_meta(tmp_path):
    folder = write_ct(tmp_path / "ct", body_hu())
    for k, path in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(path)
        ds.PixelData = body_hu()[k].astype(">i2").tobytes()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        del ds.file_meta
        pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=False, enforce_file_format=False)
    assert_read(read_ct(folder))


@pytest.mark.parametrize("value", [-3024, -2000, -2048, -32768, 3071, 0])
def test_padding_that_is_not_declared_becomes_air(tmp_path, value):
    hu = body_hu()
    _, j, i = np.meshgrid(*[np.arange(n) for n in hu.shape], indexing="ij")
    outside = ((i - 23.5) / 24) ** 2 + ((j - 19.5) / 20) ** 2 > 1.05
    padded, expected = np.where(outside, value, hu), np.where(outside, AIR_HU, hu)
    scan = read_ct(write_ct(tmp_path / "ct", padded))
    assert_read(scan, "12 slices with padding that the file does not declare", hu=expected)


def test_what_is_no_padding_stays():
    noise = np.random.default_rng(3).normal(-1000, 60, (3, 64, 64)).astype(np.int16)  # some values below -1100
    streak = body_hu()
    streak[5, 10, 10:14] = -1500  # beside metal, in the body
    for array in (noise, body_hu(), streak):
        filled, slices = fill_padding(array)
        assert slices == 0
        assert filled is array


# ---- enhanced CT


@pytest.mark.parametrize("order", [range(12), range(11, -1, -1), [3, 0, 7, 1, 11, 2, 10, 4, 9, 5, 8, 6]])
def test_an_enhanced_ct_is_read_frame_by_frame(tmp_path, order):
    path = write_enhanced_ct(tmp_path / "ct" / "e.dcm", body_hu(), order=order)
    for source in (path, path.parent):
        scan = read_ct(source)
        assert_read(scan)
        np.testing.assert_allclose(scan.volume.grid.spacing_mm, SPACING_MM)
        np.testing.assert_allclose(scan.volume.grid.origin_mm, ORIGIN_MM)
        assert scan.patient_key is not None


def shift_frame(ds, by_mm):
    place = ds.PerFrameFunctionalGroupsSequence[5].PlanePositionSequence[0]
    x, y, z = place.ImagePositionPatient
    place.ImagePositionPatient = [x, y, z + by_mm]


def drop_frames(ds, numbers):
    kept = [k for k in range(12) if k not in numbers]
    ds.PerFrameFunctionalGroupsSequence = [ds.PerFrameFunctionalGroupsSequence[k] for k in kept]
    size = 2 * ds.Rows * ds.Columns
    ds.PixelData = b"".join(bytes(ds.PixelData)[k * size : (k + 1) * size] for k in kept)
    ds.NumberOfFrames = len(kept)


def tilt(ds):
    for k, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x, y + 0.3 * k, z]


ENHANCED = {
    "a frame is missing": (lambda ds: drop_frames(ds, [5]), "BMD-CT-011"),
    "a frame is displaced": (lambda ds: shift_frame(ds, 1.0), "BMD-CT-012"),
    "tilted": (tilt, "BMD-CT-014"),
    "two frames": (lambda ds: drop_frames(ds, range(2, 12)), "BMD-CT-004"),
    "no positions": (
        lambda ds: [delattr(group, "PlanePositionSequence") for group in ds.PerFrameFunctionalGroupsSequence],
        "BMD-CT-007",
    ),
    "no orientation": (
        lambda ds: delattr(ds.SharedFunctionalGroupsSequence[0], "PlaneOrientationSequence"),
        "BMD-CT-007",
    ),
    "no rescale": (
        lambda ds: [delattr(g, "PixelValueTransformationSequence") for g in ds.PerFrameFunctionalGroupsSequence],
        "BMD-CT-009",
    ),
    "frames that are not described": (lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence"), "BMD-CT-010"),
    "short pixels": (lambda ds: setattr(ds, "PixelData", bytes(ds.PixelData)[:-500]), "BMD-CT-010"),
    "lossy": (lambda ds: setattr(ds, "LossyImageCompression", "01"), "BMD-CT-016"),
}


@pytest.mark.parametrize("name", ENHANCED)
def test_the_same_gate_applies_to_frames(tmp_path, name):
    edit, code = ENHANCED[name]
    path = write_enhanced_ct(tmp_path / "ct" / "e.dcm", body_hu(), edit=lambda ds: edit(ds) and None)
    assert code_of(path.parent).code == code


def test_several_frames_that_are_no_enhanced_ct_are_refused(tmp_path):
    def edit(k, ds):
        ds.NumberOfFrames, ds.PixelData = 2, bytes(ds.PixelData) * 2

    assert code_of(write_ct(tmp_path / "ct", body_hu(), edit=edit)).code == "BMD-CT-019"


# ---- what is given in place of a CT


def test_one_slice_or_an_archive_names_the_remedy(tmp_path, folder):
    one = sorted(folder.iterdir())[0]
    assert "folder that holds all slices" in code_of(one).message
    packed = tmp_path / "ct.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(one)
    error = code_of(packed)
    assert error.code == "BMD-CT-020"
    assert "unpack" in error.message
    assert code_of(write_dx(tmp_path / "x" / "film.dcm", np.full((32, 32), 0.5))).code == "BMD-CT-004"
