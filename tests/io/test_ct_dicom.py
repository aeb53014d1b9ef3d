"""A DICOM CT: the same anatomy in LPS however it is stored, and no defective series accepted."""

import numpy as np
import pytest
from dicom_samples import BONE_HU, BONE_KJI, ORIGIN_MM, SPACING_MM, body_hu, bone_lps, write_ct
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless, SecondaryCaptureImageStorage, generate_uid
from scipy.spatial.transform import Rotation

from bmdkit.errors import CaseError
from bmdkit.io.ct import read_ct
from bmdkit.io.ct_settings import CtConfig

POSITION_TOLERANCE_MM = 1e-3  # positions are written with nine digits


def bone_of(scan):
    return scan.volume.grid.points(np.argwhere(scan.volume.array == BONE_HU)[0])


def code_of(folder, **options):
    with pytest.raises(CaseError) as caught:
        read_ct(folder, case="p1", **options)
    assert caught.value.case == "p1"
    assert caught.value.remedy
    return caught.value


def test_values_and_places_are_those_written(ct_folder):
    scan = read_ct(ct_folder)
    assert scan.volume.array.dtype == np.int16
    np.testing.assert_array_equal(scan.volume.array, body_hu())
    np.testing.assert_allclose(scan.volume.grid.spacing_mm, SPACING_MM)
    np.testing.assert_allclose(scan.volume.grid.origin_mm, ORIGIN_MM)
    np.testing.assert_allclose(bone_of(scan), bone_lps())
    assert scan.warnings == ()
    assert "sample" not in scan.patient_key


ORIENTATIONS = {
    "prone": (-1, 0, 0, 0, -1, 0),
    "feet first": (-1, 0, 0, 0, 1, 0),
    "decubitus": (0, 1, 0, -1, 0, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "oblique": tuple(Rotation.from_euler("zyx", (20, -15, 10), degrees=True).as_matrix().T[:2].ravel()),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_same_anatomy_in_lps_for_any_orientation(tmp_path, orientation):
    scan = read_ct(write_ct(tmp_path / "ct", body_hu(), orientation=orientation))
    where = bone_lps(orientation=orientation)
    np.testing.assert_allclose(bone_of(scan), where, atol=POSITION_TOLERANCE_MM)
    assert np.linalg.det(scan.volume.grid.direction) == pytest.approx(1)
    assert (np.abs(scan.volume.grid.direction).argmax(axis=0) == (0, 1, 2)).all()
    assert (np.diag(scan.volume.grid.direction) > 0).all()


def test_prone_scan_equals_supine_scan(tmp_path):
    supine = read_ct(write_ct(tmp_path / "supine", body_hu()))
    far = bone_lps((0, body_hu().shape[1] - 1, body_hu().shape[2] - 1))
    turned = body_hu()[:, ::-1, ::-1]
    prone = read_ct(write_ct(tmp_path / "prone", turned, origin_mm=far, orientation=(-1, 0, 0, 0, -1, 0)))
    assert prone.volume.grid.is_near(supine.volume.grid)
    np.testing.assert_array_equal(prone.volume.array, supine.volume.array)


def test_order_of_files_and_numbers_does_not_matter(tmp_path, ct_folder):
    def number_backwards(k, ds):
        ds.InstanceNumber = 99 - k

    shuffled = write_ct(tmp_path / "other", body_hu(), edit=number_backwards)
    for n, path in enumerate(sorted(shuffled.iterdir(), reverse=True)):
        path.rename(path.with_name(f"IM{n:03d}"))
    np.testing.assert_array_equal(read_ct(shuffled).volume.array, read_ct(ct_folder).volume.array)


def test_rescale_that_varies_by_slice(tmp_path):
    hu = body_hu()

    def rescale(k, ds):
        ds.RescaleSlope, ds.RescaleIntercept = 0.5 + k % 2, -1024 + k
        ds.PixelData = np.rint((hu[k].astype(float) + 1024 - k) / (0.5 + k % 2)).astype("<i2").tobytes()

    scan = read_ct(write_ct(tmp_path / "ct", hu, edit=rescale))
    assert scan.volume.array.dtype == np.float32
    np.testing.assert_allclose(scan.volume.array, hu, atol=0.75)  # half a step of the coarsest slope


@pytest.mark.parametrize("signed", [False, True])
def test_twelve_bits_in_sixteen_with_rubbish_above(tmp_path, signed):
    hu = body_hu()

    def twelve(k, ds):
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.RescaleIntercept = (
            12,
            11,
            int(signed),
            0 if signed else -1024,
        )
        stored = (hu[k].astype(np.int32) + (0 if signed else 1024)) & 0x0FFF
        ds.PixelData = (stored | 0xA000).astype("<u2").tobytes()

    scan = read_ct(write_ct(tmp_path / "ct", hu, edit=twelve))
    assert scan.volume.array.dtype == np.int16
    np.testing.assert_array_equal(scan.volume.array, hu)


@pytest.mark.parametrize(("vr", "value"), [("SS", -2000), ("US", 63536)])
def test_padding_becomes_air(tmp_path, vr, value):
    hu = body_hu()
    hu[:, :2, :2] = -2000

    def pad(k, ds):
        ds.add_new("PixelPaddingValue", vr, value)

    scan = read_ct(write_ct(tmp_path / "ct", hu, edit=pad))
    assert (scan.volume.array[:, :2, :2] == -1024).all()


def test_run_length_slices_decode_exactly(tmp_path):
    def compress(k, ds):
        ds.compress(RLELossless)

    np.testing.assert_array_equal(read_ct(write_ct(tmp_path / "ct", body_hu(), edit=compress)).volume.array, body_hu())


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"])
def test_compressed_slices_decode_exactly(tmp_path, ct_folder, syntax):
    gdcm = pytest.importorskip("gdcm")
    (tmp_path / "packed").mkdir()
    for path in ct_folder.iterdir():
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(tmp_path / "packed" / path.name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    np.testing.assert_array_equal(read_ct(tmp_path / "packed").volume.array, body_hu())


def test_identical_duplicate_is_dropped_with_a_warning(ct_folder):
    for n in (3, 7):
        (ct_folder / f"copy{n}.dcm").write_bytes((ct_folder / f"a_{n:04d}.dcm").read_bytes())
    scan = read_ct(ct_folder)
    np.testing.assert_array_equal(scan.volume.array, body_hu())
    assert any("2 identical duplicate" in w for w in scan.warnings)


def test_localizers_and_other_objects_are_dropped(tmp_path, ct_folder):
    def localizer(k, ds):
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        ds.SeriesInstanceUID = generate_uid(entropy_srcs=["ct a", "series"])
        ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["other"])
        ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    def capture(k, ds):
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage

    write_ct(ct_folder, body_hu()[:2], series="loc", edit=localizer)
    write_ct(ct_folder, body_hu()[:1], series="dose", edit=capture)
    (ct_folder / "DICOMDIR").write_bytes(b"x")
    (ct_folder / "notes.txt").write_text("x")
    scan = read_ct(ct_folder)
    np.testing.assert_array_equal(scan.volume.array, body_hu())
    assert any("2 localizer" in w for w in scan.warnings)


def test_of_two_series_the_longer_original_is_taken(ct_folder):
    write_ct(ct_folder, body_hu()[:8] + 5, series="b")
    assert read_ct(ct_folder).volume.array.shape[0] == 12

    def derived(k, ds):
        ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]

    write_ct(ct_folder, body_hu((20, 40, 48)), series="c", edit=derived)
    assert read_ct(ct_folder).volume.array.shape[0] == 12
    uid = generate_uid(entropy_srcs=["ct c", "series"])
    assert read_ct(ct_folder, series_uid=uid).volume.array.shape[0] == 20
    assert code_of(ct_folder, series_uid="1.2.3").code == "BMD-CT-002"


def test_a_tie_of_series_is_quarantined_and_uid_decides(ct_folder):
    write_ct(ct_folder, body_hu() + 5, series="b")
    error = code_of(ct_folder)
    assert error.code == "BMD-CT-003"
    assert "12 slices" in error.message
    uid = generate_uid(entropy_srcs=["ct b", "series"])
    np.testing.assert_array_equal(read_ct(ct_folder, series_uid=uid).volume.array, body_hu() + 5)


@pytest.mark.parametrize("removed", [[5], [1, 8], [4, 5, 6]])
def test_missing_slices_are_listed(ct_folder, removed):
    for n in removed:
        (ct_folder / f"a_{n:04d}.dcm").unlink()
    error = code_of(ct_folder)
    assert error.code == "BMD-CT-011"
    assert f"{len(removed)} missing" in error.message
    assert f"a_{removed[0] - 1:04d}.dcm" in error.message


def shift(k, which, mm):
    return mm if k == which else 0.0


def move(ds, x=0.0, z=0.0):
    p = [float(v) for v in ds.ImagePositionPatient]
    ds.ImagePositionPatient = [p[0] + x, p[1], round(p[2] + z, 4)]


BAD_SLICES = {
    "spacing varies at one slice": (lambda k, ds: move(ds, z=shift(k, 5, 0.2)), "BMD-CT-012"),
    "spacing changes half way": (lambda k, ds: move(ds, z=0.5 * max(k - 6, 0)), "BMD-CT-012"),
    "spacing drifts": (lambda k, ds: move(ds, z=0.02 * k * k), "BMD-CT-012"),
    "a slice beside the line": (lambda k, ds: move(ds, x=shift(k, 5, 1.0)), "BMD-CT-013"),
    "tilted": (lambda k, ds: move(ds, x=0.05 * k), "BMD-CT-014"),
    "tilted a little": (lambda k, ds: move(ds, x=3.0 * np.tan(np.radians(0.12)) * k), "BMD-CT-014"),
    "axes not orthogonal": (lambda k, ds: setattr(ds, "ImageOrientationPatient", [1, 0.1, 0, 0, 1, 0]), "BMD-CT-008"),
    "axes not of length one": (
        lambda k, ds: setattr(ds, "ImageOrientationPatient", [1.2, 0, 0, 0, 1, 0]),
        "BMD-CT-008",
    ),
    "zero axes": (lambda k, ds: setattr(ds, "ImageOrientationPatient", [0, 0, 0, 0, 0, 0]), "BMD-CT-008"),
    "another patient": (lambda k, ds: k == 4 and setattr(ds, "PatientID", "other"), "BMD-CT-005"),
    "another birth date": (lambda k, ds: k > 9 and setattr(ds, "PatientBirthDate", "19510101"), "BMD-CT-005"),
    "another frame": (lambda k, ds: k == 4 and setattr(ds, "FrameOfReferenceUID", "1.2.3"), "BMD-CT-006"),
    "another orientation": (
        lambda k, ds: k == 4 and setattr(ds, "ImageOrientationPatient", [0, 1, 0, -1, 0, 0]),
        "BMD-CT-006",
    ),
    "another pixel spacing": (lambda k, ds: k > 6 and setattr(ds, "PixelSpacing", [2.5, 2.1]), "BMD-CT-006"),
    "no position": (lambda k, ds: k == 3 and delattr(ds, "ImagePositionPatient"), "BMD-CT-007"),
    "no orientation": (lambda k, ds: delattr(ds, "ImageOrientationPatient"), "BMD-CT-007"),
    "empty position": (lambda k, ds: k == 3 and setattr(ds, "ImagePositionPatient", None), "BMD-CT-007"),
    "no rescale": (lambda k, ds: (delattr(ds, "RescaleSlope"), delattr(ds, "RescaleIntercept")), "BMD-CT-009"),
    "no intercept in one": (lambda k, ds: k == 2 and delattr(ds, "RescaleIntercept"), "BMD-CT-009"),
    "slope of zero": (lambda k, ds: k == 2 and setattr(ds, "RescaleSlope", 0), "BMD-CT-009"),
    "no rows": (lambda k, ds: k == 2 and delattr(ds, "Rows"), "BMD-CT-010"),
    "huge rows": (lambda k, ds: setattr(ds, "Rows", 65535), "BMD-CT-010"),
    "more rows than pixels": (lambda k, ds: k == 2 and setattr(ds, "Rows", 400), "BMD-CT-010"),
    "short pixels": (lambda k, ds: k == 2 and setattr(ds, "PixelData", bytes(ds.PixelData)[:1000]), "BMD-CT-010"),
    "no pixels": (lambda k, ds: k == 2 and delattr(ds, "PixelData"), "BMD-CT-010"),
    "spacing of zero": (lambda k, ds: setattr(ds, "PixelSpacing", [0, 0]), "BMD-CT-010"),
    "multi-frame": (lambda k, ds: setattr(ds, "NumberOfFrames", 2), "BMD-CT-019"),
    "two slices only": (lambda k, ds: k > 1 and setattr(ds, "skip", True), "BMD-CT-004"),
    "no CT": (lambda k, ds: setattr(ds, "Modality", "MR"), "BMD-CT-001"),
    "unsubtracted offset": (lambda k, ds: setattr(ds, "RescaleIntercept", 1024), "BMD-CT-015"),
    "intercept twice": (lambda k, ds: setattr(ds, "RescaleIntercept", -1024), "BMD-CT-015"),
    "blank": (lambda k, ds: setattr(ds, "PixelData", bytes(len(ds.PixelData))), "BMD-CT-015"),
}


@pytest.mark.parametrize(("edit", "code"), BAD_SLICES.values(), ids=BAD_SLICES)
def test_defective_series_are_quarantined(tmp_path, edit, code):
    error = code_of(write_ct(tmp_path / "ct", body_hu(), edit=lambda k, ds: edit(k, ds) and None))
    assert error.code == code


def test_matrices_of_two_sizes(tmp_path):
    def crop(k, ds):
        if k == 3:
            ds.Rows, ds.PixelData = 38, bytes(ds.PixelData)[: 38 * 48 * 2]

    assert code_of(write_ct(tmp_path / "ct", body_hu(), edit=crop)).code == "BMD-CT-006"


@pytest.mark.parametrize("change", [1, -300])
def test_two_versions_of_one_position(ct_folder, change):
    hu = body_hu()
    hu[4, 3, 3] += change

    def only_the_fifth(k, ds):
        ds.skip = k != 4
        ds.SeriesInstanceUID = generate_uid(entropy_srcs=["ct a", "series"])

    write_ct(ct_folder, hu, series="z", edit=only_the_fifth)
    error = code_of(ct_folder)
    assert error.code == "BMD-CT-013"
    assert "a_0004.dcm" in error.message
    assert "z_0004.dcm" in error.message


@pytest.mark.parametrize("keep", [0, 60, 300, 1500])
def test_truncated_file(ct_folder, keep):
    path = ct_folder / "a_0006.dcm"
    path.write_bytes(path.read_bytes()[:keep])
    error = code_of(ct_folder)
    assert error.code == "BMD-CT-010"
    assert "a_0006.dcm" in error.message


def test_damaged_compressed_slice(tmp_path):
    def damage(k, ds):
        ds.compress(RLELossless)
        if k == 5:
            ds.PixelData = encapsulate([b"\1\0\0\0" + b"\xff" * 90])

    assert code_of(write_ct(tmp_path / "ct", body_hu(), edit=damage)).code == "BMD-CT-010"


def test_tilt_is_sheared_upright_on_request(tmp_path):
    hu = body_hu()
    sheared = np.stack([np.roll(plane, -k, axis=1) for k, plane in enumerate(hu)])  # one column a slice
    edit = lambda k, ds: move(ds, x=SPACING_MM[0] * k)  # noqa: E731
    folder = write_ct(tmp_path / "ct", sheared, edit=edit)
    assert code_of(folder).code == "BMD-CT-014"
    scan = read_ct(folder, config=CtConfig(correct_tilt=True))
    np.testing.assert_array_equal(scan.volume.array[:, :, 12:], hu[:, :, 12:])
    np.testing.assert_allclose(bone_of(scan), bone_lps(BONE_KJI))
    assert any("tilt" in w for w in scan.warnings)


def test_no_folder_and_an_empty_one(tmp_path):
    assert code_of(tmp_path / "absent").code == "BMD-CT-001"
    (tmp_path / "empty").mkdir()
    assert code_of(tmp_path / "empty").code == "BMD-CT-001"


@pytest.mark.parametrize("extra", [b"\x01\x02\x03", b"\x01" * 30])
def test_bytes_slipped_into_a_slice_are_found(ct_folder, extra):
    path = ct_folder / "a_0006.dcm"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000] + extra + whole[-1000:])
    assert code_of(ct_folder).code == "BMD-CT-010"


def test_nothing_of_a_patient_is_in_an_error(ct_folder):
    for path in ct_folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"Sample^One", b"Canary^One"))
    (ct_folder / "a_0005.dcm").unlink()
    for text in (str(code_of(ct_folder)), repr(code_of(ct_folder))):
        assert "Canary" not in text
        assert "sample" not in text
