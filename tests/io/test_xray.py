"""Radiographs: brighter is denser whatever the file's convention, distances have a source, no mirroring goes unsaid."""

import io
import json

import numpy as np
import pytest
import tifffile
from dicom_samples import hip_image, write_dx
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, SecondaryCaptureImageStorage

from bmdkit.errors import CaseError
from bmdkit.io.patient_identity import check_same_patient
from bmdkit.io.xray import check_laterality, inspect_radiograph, read_radiograph, require_geometry
from bmdkit.io.xray_settings import XrayConfig

STEP = 1 / 1000
"""Twelve-bit rounding and the percentiles of the scaling leave less than this."""


def stored(image, bits=12):
    return np.rint(image * (2**bits - 1)).astype("<u2")


@pytest.fixture
def expected(dx_file):
    """hip_image as it is read from a plain file: the reference for every other way to store it."""
    return read_radiograph(dx_file).pixels


def read(tmp_path, edit=None, image=None, **options):
    config = options.pop("config", None)
    path = write_dx(tmp_path / "variant.dcm", hip_image() if image is None else image, edit=edit, **options)
    return read_radiograph(path, config=config, case="p1")


def refused(tmp_path, edit=None, **options):
    with pytest.raises(CaseError) as caught:
        read(tmp_path, edit, **options)
    assert caught.value.case == "p1"
    return caught.value.code


def setting(**tags):
    def edit(ds):
        for name, value in tags.items():
            setattr(ds, name, value)

    return edit


def test_plain_file(dx_file):
    found = read_radiograph(dx_file)
    assert found.shape == (96, 120)
    assert np.corrcoef(found.pixels.ravel(), hip_image().ravel())[0, 1] > 0.999
    assert found.mask.all()
    assert (found.pixels.min(), found.pixels.max()) == (0, 1)
    assert found.geometry().sdd_mm == 1100
    assert found.sources["sdd_mm"] == "DistanceSourceToDetector"
    assert found.sources["spacing_mm"] == "ImagerPixelSpacing"
    assert found.warnings == ()


@pytest.mark.parametrize("shape", ["INVERSE", None, "IDENTITY"])
def test_monochrome1_is_inverted_once(tmp_path, expected, shape):
    def edit(ds):
        ds.PhotometricInterpretation, ds.PresentationLUTShape = "MONOCHROME1", shape
        ds.PixelData = (4095 - stored(hip_image())).tobytes()

    np.testing.assert_allclose(read(tmp_path, edit).pixels, expected, atol=STEP)


def test_inverse_shape_alone_is_inverted_once_and_named(tmp_path, expected):
    def edit(ds):
        ds.PresentationLUTShape, ds.PixelData = "INVERSE", (4095 - stored(hip_image())).tobytes()

    found = read(tmp_path, edit)
    np.testing.assert_allclose(found.pixels, expected, atol=STEP)
    assert any("INVERSE" in w for w in found.warnings)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("sign", [1, None])
def test_raw_counts_become_attenuation(tmp_path, expected, photometric, sign):
    """-log of counts that fall exponentially with density is linear in it."""

    def edit(ds):
        ds.PresentationIntentType, ds.PixelIntensityRelationship = "FOR PROCESSING", "LIN"
        ds.PixelIntensityRelationshipSign, ds.PresentationLUTShape = sign, None
        ds.PhotometricInterpretation, ds.BitsStored, ds.HighBit = photometric, 16, 15
        ds.PixelData = np.rint(60000 * np.exp(-3 * hip_image())).astype("<u2").tobytes()

    found = read(tmp_path, edit)
    np.testing.assert_allclose(found.pixels, expected, atol=2 * STEP)
    assert found.sources["intensity"].startswith("-log")


def test_raw_of_unknown_relationship_is_taken_as_counts_and_named(tmp_path, expected):
    def edit(ds):
        ds.PresentationIntentType, ds.PresentationLUTShape = "FOR PROCESSING", None
        ds.BitsStored, ds.HighBit = 16, 15
        ds.PixelData = np.rint(60000 * np.exp(-3 * hip_image())).astype("<u2").tobytes()

    found = read(tmp_path, edit)
    np.testing.assert_allclose(found.pixels, expected, atol=2 * STEP)
    assert any("intensity relationship" in w for w in found.warnings)


@pytest.mark.parametrize(("sign", "turn"), [(-1, False), (1, True)])
def test_log_raw_follows_its_sign_without_another_logarithm(tmp_path, expected, sign, turn):
    def edit(ds):
        ds.PresentationIntentType, ds.PixelIntensityRelationship = "FOR PROCESSING", "LOG"
        ds.PixelIntensityRelationshipSign = sign
        ds.PixelData = (4095 - stored(hip_image()) if turn else stored(hip_image())).tobytes()

    np.testing.assert_allclose(read(tmp_path, edit).pixels, expected, atol=STEP)


def test_rescale_and_look_up_tables(tmp_path, expected):
    def falling_rescale(ds):
        ds.RescaleSlope, ds.RescaleIntercept = -1, 4095
        ds.PixelData = (4095 - stored(hip_image())).tobytes()

    np.testing.assert_allclose(read(tmp_path, falling_rescale).pixels, expected, atol=STEP)

    def table(name):
        def edit(ds):
            item = Dataset()
            item.LUTDescriptor, item.LUTData = [4096, 0, 16], np.arange(65520, -1, -16).astype("<u2").tobytes()
            item.ModalityLUTType = "US"
            setattr(ds, name, [item])
            ds.PixelData = (4095 - stored(hip_image())).tobytes()

        return edit

    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        np.testing.assert_allclose(read(tmp_path, table(name)).pixels, expected, atol=STEP)
    unused = read(tmp_path, table("VOILUTSequence"), config=XrayConfig(voi="none")).pixels
    assert np.corrcoef(unused.ravel(), expected.ravel())[0, 1] < 0


def test_window_clips_only_if_asked_for(tmp_path, expected):
    window = setting(WindowCenter=2000, WindowWidth=200)
    np.testing.assert_allclose(read(tmp_path, window).pixels, expected, atol=STEP)
    assert read(tmp_path, window, config=XrayConfig(voi="all")).pixels.mean() != pytest.approx(
        expected.mean(), abs=0.05
    )


DISTANCES = {
    "ImagerPixelSpacing": (setting(), (0.5, 0.5)),
    "DetectorElementSpacing x DetectorBinning": (
        setting(ImagerPixelSpacing=None, DetectorElementSpacing=[0.1, 0.15], DetectorBinning=[2, 2]),
        (0.3, 0.2),
    ),
    "NominalScannedPixelSpacing": (
        setting(ImagerPixelSpacing=None, NominalScannedPixelSpacing=[0.2, 0.1], PixelSpacing=[0.4, 0.4]),
        (0.1, 0.2),
    ),
    "PixelSpacing, no calibration named": (setting(ImagerPixelSpacing=None, PixelSpacing=[0.4, 0.3]), (0.3, 0.4)),
    "PixelSpacing (FIDUCIAL) x EstimatedRadiographicMagnificationFactor": (
        setting(
            ImagerPixelSpacing=None,
            PixelSpacing=[0.4, 0.4],
            PixelSpacingCalibrationType="FIDUCIAL",
            EstimatedRadiographicMagnificationFactor=1.25,
        ),
        (0.5, 0.5),
    ),
}


@pytest.mark.parametrize(("source", "edit", "spacing"), [(k, *v) for k, v in DISTANCES.items()], ids=DISTANCES)
def test_spacing_sources_in_their_order(tmp_path, source, edit, spacing):
    found = read(tmp_path, edit)
    assert found.sources["spacing_mm"] == source
    assert (found.column_spacing_mm, found.row_spacing_mm) == pytest.approx(spacing)


@pytest.mark.parametrize(
    "tags",
    [
        {"ImagerPixelSpacing": None},
        {"ImagerPixelSpacing": None, "PixelSpacing": [0.4, 0.4], "PixelSpacingCalibrationType": "GEOMETRY"},
        {"ImagerPixelSpacing": [50, 50]},
        {"ImagerPixelSpacing": [0, 0]},
    ],
)
def test_no_spacing_is_quarantined_unless_a_default_is_chosen(tmp_path, tags):
    found = read(tmp_path, setting(**tags))
    assert found.column_spacing_mm is None
    with pytest.raises(CaseError, match="BMD-XR-010"):
        require_geometry(found)
    chosen = read(tmp_path, setting(**tags), config=XrayConfig(default_pixel_mm=0.2))
    assert require_geometry(chosen).column_spacing_mm == 0.2
    assert chosen.sources["spacing_mm"] == "assumed"
    assert any("assumed" in w for w in chosen.warnings)


@pytest.mark.parametrize("value", [None, 0, 115])
def test_no_distance_is_quarantined_unless_a_default_is_chosen(tmp_path, value):
    edit = setting(DistanceSourceToDetector=value)
    with pytest.raises(CaseError, match="BMD-XR-011"):
        require_geometry(read(tmp_path, edit))
    chosen = read(tmp_path, edit, config=XrayConfig(default_sdd_mm=1000))
    assert (chosen.sdd_mm, chosen.sources["sdd_mm"]) == (1000, "assumed")


ORIENTATIONS = {
    "mirrored": (["R", "F"], lambda a: a[:, ::-1]),
    "upside down": (["L", "H"], lambda a: a[::-1]),
    "turned by 180": (["R", "H"], lambda a: a[::-1, ::-1]),
    "lying": (["F", "L"], lambda a: a.T),
    "lying, turned": (["H", "R"], lambda a: a[::-1, ::-1].T),
}


@pytest.mark.parametrize(("tag", "turn"), ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_patient_orientation_is_brought_to_the_standard_and_recorded(tmp_path, expected, tag, turn):
    def edit(ds):
        image = np.ascontiguousarray(turn(stored(hip_image())))
        ds.PatientOrientation, ds.ImagerPixelSpacing = tag, [0.5, 0.4]
        ds.Rows, ds.Columns, ds.PixelData = *image.shape, image.tobytes()

    found = read(tmp_path, edit)
    np.testing.assert_allclose(found.pixels, expected, atol=STEP)
    assert found.warnings
    spacing = (0.5, 0.4) if tag[0] in "FH" else (0.4, 0.5)
    assert (found.column_spacing_mm, found.row_spacing_mm) == spacing
    assert found.sources["orientation"].startswith("PatientOrientation, ")


@pytest.mark.parametrize(
    "tags",
    [
        {"ViewPosition": "PA"},
        {"FieldOfViewHorizontalFlip": "YES"},
        {"FieldOfViewHorizontalFlip": "YES", "FieldOfViewRotation": "180"},
        {"ViewPosition": "PA", "FieldOfViewHorizontalFlip": "YES"},
    ],
)
@pytest.mark.parametrize("orientation", [None, ["L", "F"]])
def test_how_an_image_was_taken_never_turns_it(tmp_path, expected, tags, orientation):
    found = read(tmp_path, setting(PatientOrientation=orientation, **tags))
    np.testing.assert_allclose(found.pixels, expected, atol=STEP)


def test_nothing_is_mirrored_without_a_tag(tmp_path, expected):
    found = read(tmp_path, setting(PatientOrientation=None))
    np.testing.assert_allclose(found.pixels, expected, atol=STEP)
    assert found.sources["orientation"] == "as displayed, not in the file"


@pytest.mark.parametrize("value", ["L", "R"])
def test_laterality_against_the_cohort(tmp_path, value):
    found = read(tmp_path, setting(ImageLaterality=value))
    check_laterality(found, value)
    with pytest.raises(CaseError, match="BMD-XR-020"):
        check_laterality(found, "L" if value == "R" else "R", case="p1")
    check_laterality(read(tmp_path, setting(ImageLaterality="U")), value)


def test_patients_are_compared_by_what_both_files_say(tmp_path, dx_file):
    key = inspect_radiograph(dx_file).patient_key

    def other(**tags):
        return inspect_radiograph(write_dx(tmp_path / "o.dcm", hip_image(), edit=setting(**tags))).patient_key

    for tags in ({"PatientID": "x"}, {"PatientBirthDate": "19000101"}, {"PatientID": "", "PatientSex": "M"}):
        with pytest.raises(CaseError, match="BMD-XR-021"):
            check_same_patient(key, other(**tags), case="p1")
    for tags in ({"PatientID": ""}, {"PatientName": "One^Sample"}, {"PatientBirthDate": "", "PatientSex": ""}):
        check_same_patient(key, other(**tags))
    check_same_patient(None, key)


def rgb(ds):
    image = np.repeat((stored(hip_image()) >> 4).astype(np.uint8)[..., None], 3, axis=2)
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "RGB"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelData = 8, 8, 7, image.tobytes()


def frames(ds):
    ds.NumberOfFrames, ds.PixelData = 2, stored(hip_image()).tobytes() * 2


def capture(ds):
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage


QUESTIONABLE = {
    "RGB": (rgb, "color", "BMD-XR-003"),
    "multi-frame": (frames, "multiframe", "BMD-XR-004"),
    "secondary capture": (capture, "screenshot", "BMD-XR-005"),
    "modality OT": (setting(Modality="OT"), "screenshot", "BMD-XR-005"),
    "screen save": (setting(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), "screenshot", "BMD-XR-005"),
    "lossy flag": (setting(LossyImageCompression="01", LossyImageCompressionRatio=20), "lossy", "BMD-XR-006"),
}


@pytest.mark.parametrize(("edit", "setting_name", "code"), QUESTIONABLE.values(), ids=QUESTIONABLE)
def test_questionable_images_are_quarantined_or_read_with_a_warning(tmp_path, expected, edit, setting_name, code):
    assert refused(tmp_path, edit) == code
    found = read(tmp_path, edit, config=XrayConfig(**{setting_name: "warn"}))
    assert any(w.startswith(code) for w in found.warnings)
    np.testing.assert_allclose(found.pixels, expected, atol=0.01)  # eight bits of an RGB image


def j2k(ds):
    """A JPEG 2000 stream of 16 bits under a header of 12."""
    out = io.BytesIO()
    Image.fromarray(stored(hip_image())).save(out, format="JPEG2000", irreversible=False, no_jp2=True)
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = encapsulate([out.getvalue()])
    ds["PixelData"].is_undefined_length = True


def test_jpeg2000_precision_unlike_bits_stored(tmp_path, expected):
    assert refused(tmp_path, j2k) == "BMD-XR-007"
    found = read(tmp_path, j2k, config=XrayConfig(precision="warn"))
    np.testing.assert_allclose(found.pixels, expected, atol=STEP)

    def consistent(ds):
        j2k(ds)
        ds.BitsStored, ds.HighBit = 16, 15

    np.testing.assert_allclose(read(tmp_path, consistent).pixels, expected, atol=STEP)


def test_rle_decodes_exactly(tmp_path, expected):
    np.testing.assert_array_equal(read(tmp_path, lambda ds: ds.compress(RLELossless)).pixels, expected)


def jpeg(ds):
    ds.file_meta.TransferSyntaxUID, ds.PixelData = JPEGBaseline8Bit, encapsulate([b"\xff\xd8\xff\xd9"])
    ds["PixelData"].is_undefined_length = True


BAD = {
    "lossy syntax": (jpeg, "BMD-XR-006"),
    "palette": (setting(PhotometricInterpretation="PALETTE COLOR"), "BMD-XR-003"),
    "no photometric interpretation": (setting(PhotometricInterpretation=None), "BMD-XR-003"),
    "short pixels": (lambda ds: setattr(ds, "PixelData", bytes(ds.PixelData)[:500]), "BMD-XR-002"),
    "no pixels": (lambda ds: delattr(ds, "PixelData"), "BMD-XR-002"),
    "no rows": (lambda ds: delattr(ds, "Rows"), "BMD-XR-002"),
    "more rows than pixels": (setting(Rows=9000), "BMD-XR-002"),
    "no bits": (setting(BitsStored=0), "BMD-XR-002"),
    "blank": (lambda ds: setattr(ds, "PixelData", bytes(len(ds.PixelData))), "BMD-XR-014"),
    "a CT": (setting(Modality="CT"), "BMD-XR-018"),
    "lateral view": (setting(ViewPosition="LL"), "BMD-XR-019"),
    "axial view": (setting(PatientOrientation=["A", "F"]), "BMD-XR-019"),
}


@pytest.mark.parametrize(("edit", "code"), BAD.values(), ids=BAD)
def test_bad_radiographs_are_quarantined(tmp_path, edit, code):
    assert refused(tmp_path, edit) == code


@pytest.mark.parametrize("keep", [0, 100, 700, 5000])
def test_truncated_file(dx_file, keep):
    dx_file.write_bytes(dx_file.read_bytes()[:keep])
    with pytest.raises(CaseError, match="BMD-XR-002"):
        read_radiograph(dx_file)


def test_no_file(tmp_path):
    with pytest.raises(CaseError, match="BMD-XR-001"):
        read_radiograph(tmp_path / "none.dcm")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("brighter", [True, False])
def test_png_and_tiff_with_side_car(tmp_path, expected, suffix, brighter):
    image = stored(hip_image(), 16) if brighter else 65535 - stored(hip_image(), 16)
    path = tmp_path / f"x{suffix}"
    Image.fromarray(image).save(path) if suffix == ".png" else tifffile.imwrite(path, image)
    side_car = {"sdd_mm": 1000, "pixel_mm": 0.25, "brighter_is_denser": brighter}
    (tmp_path / "x.json").write_text(json.dumps(side_car))
    found = read_radiograph(path)
    np.testing.assert_allclose(found.pixels, expected, atol=STEP)
    assert (found.sdd_mm, found.column_spacing_mm, found.row_spacing_mm) == (1000, 0.25, 0.25)
    assert found.sources["spacing_mm"] == "side-car"


SIDE_CARS = {
    "none": None,
    "no direction": {"sdd_mm": 1000, "pixel_mm": 0.25},
    "direction a word": {"sdd_mm": 1000, "pixel_mm": 0.25, "brighter_is_denser": "yes"},
    "distance a word": {"sdd_mm": "far", "pixel_mm": 0.25, "brighter_is_denser": True},
    "pixel in metres": {"sdd_mm": 1000, "pixel_mm": 0.00025, "brighter_is_denser": True},
    "a list": [1],
}


@pytest.mark.parametrize("content", SIDE_CARS.values(), ids=SIDE_CARS)
def test_bad_side_cars(tmp_path, content):
    Image.fromarray(stored(hip_image(), 16)).save(tmp_path / "x.png")
    if content is not None:
        (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(CaseError, match="BMD-XR-016"):
        read_radiograph(tmp_path / "x.png")


def test_png_of_eight_bits_or_in_colour(tmp_path):
    (tmp_path / "x.json").write_text('{"sdd_mm": 1000, "pixel_mm": 0.25, "brighter_is_denser": true}')
    grey = (hip_image() * 255).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "x.png")
    assert any(warning.startswith("BMD-XR-017") for warning in read_radiograph(tmp_path / "x.png").warnings)
    for image, code in ((grey > 99, "BMD-XR-017"), (np.stack([grey] * 3, -1), "BMD-XR-003")):
        Image.fromarray(image).save(tmp_path / "x.png")
        with pytest.raises(CaseError, match=code):
            read_radiograph(tmp_path / "x.png")


def test_config_refuses_what_makes_no_sense():
    for options in ({"default_sdd_mm": 10.0}, {"default_pixel_mm": 50.0}, {"low_percentile": 99.9}):
        with pytest.raises(ValueError, match=next(iter(options))):
            XrayConfig(**options)


def test_reading_is_unchanged_by_an_affine_change_of_intensity(tmp_path, expected):
    np.testing.assert_allclose(read(tmp_path, image=0.1 + 0.5 * hip_image()).pixels, expected, atol=3 * STEP)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"KVP": "75", "Exposure": "16"}, (75.0, 16.0)),
        ({"KVP": "75", "ExposureInuAs": "12500"}, (75.0, 12.5)),
        ({"ExposureTime": "100", "XRayTubeCurrent": "200"}, (None, 20.0)),
        ({"KVP": "0", "Exposure": "0"}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_the_tube_is_as_the_header_says(tmp_path, tags, expected):
    def edit(ds):
        for name, value in tags.items():
            setattr(ds, name, value)

    found = read_radiograph(write_dx(tmp_path / "a.dcm", hip_image(), edit=edit)).tube
    assert (found.voltage_kv, found.exposure_mas) == expected
