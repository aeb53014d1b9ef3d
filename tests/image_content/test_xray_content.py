"""The image decides where its tags are wrong: polarity, collimators, and what PNG and TIFF say of themselves."""

import json

import numpy as np
import pytest
import tifffile
from dicom_samples import hip_image, write_dx
from PIL import Image
from scipy import ndimage

from bmdkit.errors import CaseError
from bmdkit.image_content.collimation import find_edges
from bmdkit.image_content.image_area import find_image_area
from bmdkit.image_content.polarity import (
    CLEAR,
    CONTRADICTION,
    MOST_UNSURE,
    decide_polarity,
    measure_features,
    measure_polarity,
    weigh_features,
)
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.simulation.collimator import collimate, draw_field

ROWS, COLUMNS = 360, 430
IOU = 0.95
"""Of a mask and the true field: half a millimetre at every side of the image, and the penumbra."""


@pytest.fixture(scope="module")
def signal():
    """(rows, columns), dose at the detector behind a coarse pelvis: soft tissue, two femurs, a ring, and air."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[-1 : 1 : ROWS * 1j, -1.2 : 1.2 : COLUMNS * 1j]
    soft = 4.0 * np.sqrt(np.clip(1 - (u / 1.05) ** 2, 0, None)) * (1 - 0.25 * v)
    legs = 1 - 0.9 * np.exp(-(((u) / 0.12) ** 2)) * np.clip((v - 0.45) / 0.3, 0, 1)
    ring = np.hypot(u / 0.55, (v + 0.1) / 0.5)
    bone = 0.9 * np.exp(-(((ring - 1) / 0.13) ** 2))
    for side in (1, -1):
        bone += 1.1 * np.sqrt(np.clip(1 - ((u - side * 0.62) ** 2 + (v - 0.05) ** 2) / 0.16**2, 0, None))
        shaft = np.abs(u - side * (0.72 + 0.05 * v))
        bone += (v > 0.1) * (0.5 * (shaft < 0.13) + 0.7 * np.exp(-(((shaft - 0.11) / 0.03) ** 2)))
    bone += (v < -0.2) * 0.8 * np.exp(-((u / 0.16) ** 2))
    beam = np.exp(-ndimage.gaussian_filter(soft * legs + bone, 1))
    beam += 0.25 * ndimage.gaussian_filter(beam, 30)
    return (rng.poisson(beam * 3e4) / 3e4).astype(np.float32)


@pytest.fixture(scope="module")
def right(signal, tmp_path_factory):
    """The radiograph of the signal, read from a file whose tags are right."""
    return read_radiograph(write_dx(tmp_path_factory.mktemp("right") / "a.dcm", present(signal)))


def present(signal, field=None):
    """An image of [0, 1], brighter = denser."""
    image = -np.log(np.clip(signal, 1e-6, None))
    low, high = np.percentile(image if field is None else image[field], (0.5, 99.8))
    return np.clip((image - low) / (1.15 * (high - low)), 0, 1)


def edit_by(**tags):
    def edit(ds):
        for name, value in tags.items():
            setattr(ds, name, value)

    return edit


WRONG_TAGS = {
    "inverted under MONOCHROME2": (True, {}),
    "inverted under MONOCHROME2 without a shape": (True, {"PresentationLUTShape": None}),
    "plain under MONOCHROME1": (False, {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}),
    "plain under an INVERSE shape": (False, {"PresentationLUTShape": "INVERSE"}),
}


@pytest.mark.parametrize(("is_inverted", "tags"), WRONG_TAGS.values(), ids=WRONG_TAGS)
def test_the_image_wins_over_wrong_tags_and_that_is_told(tmp_path, signal, right, is_inverted, tags):
    image = present(signal)
    found = read_radiograph(write_dx(tmp_path / "b.dcm", 1 - image if is_inverted else image, edit=edit_by(**tags)))
    assert np.corrcoef(found.pixels.ravel(), right.pixels.ravel())[0, 1] > 0.999
    assert any("polarity" in warning for warning in found.warnings)
    assert not any("polarity" in warning for warning in right.warnings)
    assert "polarity" in found.sources["intensity"]


def test_of_another_view_the_tags_are_believed_and_that_is_told(tmp_path, signal, right):
    """What tells bone from air was learnt from frontal hips: in a lateral view it can be wrong, however clear."""
    path = write_dx(tmp_path / "b.dcm", 1 - present(signal), edit=edit_by(ViewPosition="LATERAL"))
    found = read_radiograph(path, config=XrayConfig(view="warn"))
    assert np.corrcoef(found.pixels.ravel(), right.pixels.ravel())[0, 1] < -0.9
    assert any("polarity: taken from" in warning for warning in found.warnings)
    assert "polarity of the image" not in found.sources["intensity"]


RAW_TAGS = {
    "LIN, sign 1": {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1},
    "LOG, sign 1": {"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": 1},
    "LIN, sign -1": {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": -1},
}


@pytest.mark.parametrize("tags", RAW_TAGS.values(), ids=RAW_TAGS)
@pytest.mark.parametrize("is_inverted", [False, True])
def test_tags_of_raw_data_do_not_rule_an_image_for_presentation(tmp_path, signal, right, tags, is_inverted):
    image = present(signal)
    inverse = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"} if is_inverted else {}
    found = read_radiograph(
        write_dx(tmp_path / "b.dcm", 1 - image if is_inverted else image, edit=edit_by(**inverse, **tags))
    )
    np.testing.assert_allclose(found.pixels, right.pixels, atol=1e-3)


@pytest.mark.parametrize("relation", ["LIN", "LOG", "DISP"])
@pytest.mark.parametrize("modality", ["RF", "XA"])
def test_fluoroscopy_without_a_sign_shows_dark_bone(tmp_path, signal, relation, modality):
    stored = np.clip(signal / signal.max(), 0, 1) if relation == "LIN" else 1 - present(signal)
    tags = {
        "Modality": modality,
        "PixelIntensityRelationship": relation,
        "PresentationIntentType": None,
        "PresentationLUTShape": None,
    }
    found = read_radiograph(write_dx(tmp_path / "a.dcm", stored, edit=edit_by(**tags)))
    assert np.corrcoef(found.pixels.ravel(), present(signal).ravel())[0, 1] > 0.98
    assert found.sources["intensity"].startswith("-log" if relation == "LIN" else "inverted")


def test_the_user_decides_where_asked_to(tmp_path, signal):
    path = write_dx(tmp_path / "a.dcm", present(signal))
    bright = read_radiograph(path, config=XrayConfig(polarity="bone_bright")).pixels
    dark = read_radiograph(path, config=XrayConfig(polarity="bone_dark")).pixels
    assert np.corrcoef(bright.ravel(), present(signal).ravel())[0, 1] > 0.99
    assert np.corrcoef(dark.ravel(), present(signal).ravel())[0, 1] < -0.9


def test_the_score_changes_its_sign_with_the_image(signal):
    image, seen = present(signal), np.ones(signal.shape, bool)
    score = measure_polarity(image, seen)
    assert score > 2
    assert measure_polarity(1 - image, seen) == pytest.approx(-score, abs=0.2)
    assert measure_features(image[:100, :100], seen[:100, :100]) == {}


def test_blades_of_both_kinds_decide_nothing_in_silence(signal):
    """One of them is no blade: the strip behind the other would be taken for direct exposure, or bone."""
    image, seen = present(signal), np.ones(signal.shape, bool)
    image[:, :55], image[:, -55:] = 1.0, 0.0
    features = measure_features(image, seen)
    assert features[CONTRADICTION] > 0
    for turned in (image, 1 - image):
        assert abs(measure_polarity(turned, seen)) < CLEAR
    assert weigh_features(features | {"tails_1.5": 9.0}) == pytest.approx(MOST_UNSURE)
    assert weigh_features(features | {"tails_1.5": 9.0, CONTRADICTION: 0.0}) > CLEAR


def test_a_doubtful_contradiction_is_refused(monkeypatch, signal):
    image, hidden = present(signal), np.zeros(signal.shape, bool)

    def refuse(code, message):
        return CaseError(code, message)

    for score, refused in ((-1.0, True), (-0.1, False), (0.5, False)):
        monkeypatch.setattr("bmdkit.image_content.polarity.measure_polarity", lambda *_, score=score: score)
        if refused:
            with pytest.raises(CaseError, match="polarity"):
                decide_polarity(image, hidden, False, "MONOCHROME2", "auto", refuse)
        else:
            choice = decide_polarity(image, hidden, False, "MONOCHROME2", "auto", refuse)
            assert not choice.lower_is_denser
            assert "polarity" in choice.warnings[0]


@pytest.mark.parametrize("kind", ["blades", "turned", "round", "polygon"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_field_of_a_collimator_is_found(signal, kind, seed):
    rng = np.random.default_rng([seed, len(kind)])
    field = draw_field(signal.shape, 1.0, rng, kind)
    image = present(collimate(signal, field, 1.0, rng), field.is_open)
    mask = find_image_area(image, np.ones(image.shape, bool))
    assert (mask & field.is_open).sum() / (mask | field.is_open).sum() >= IOU


def test_without_a_collimator_everything_is_field(signal):
    image = present(signal)
    assert find_edges(image, np.ones(image.shape, bool)) == ()
    assert find_image_area(image, np.ones(image.shape, bool)).mean() >= 0.99


COLLIMATORS = {
    "a real file's numbers in another frame": (-184, 184, 907, 1299),
    "cuts the pelvis": (-20, 300, 50, 380),
    "off by a third": (150, 400, 20, 340),
}


@pytest.mark.parametrize("edges", COLLIMATORS.values(), ids=COLLIMATORS)
def test_a_collimator_that_the_image_does_not_show_is_not_believed(tmp_path, signal, edges):
    names = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
    tags = {f"Collimator{name}Edge": value for name, value in zip(names, edges, strict=True)}
    path = write_dx(tmp_path / "a.dcm", present(signal), edit=edit_by(CollimatorShape="RECTANGULAR", **tags))
    found = read_radiograph(path)
    assert found.mask.mean() >= 0.99
    assert any("ollimator tags" in warning for warning in found.warnings)


def test_a_collimator_that_the_image_shows_is_believed(tmp_path, signal):
    image = present(signal)
    image[:, :40] = image[:, -40:] = 1.0
    names = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
    tags = {f"Collimator{name}Edge": value for name, value in zip(names, (43, COLUMNS - 42, 0, ROWS + 1), strict=True)}
    found = read_radiograph(write_dx(tmp_path / "a.dcm", image, edit=edit_by(CollimatorShape="RECTANGULAR", **tags)))
    assert not found.mask[:, :43].any()
    assert not found.warnings


def write_plain(tmp_path, image, *, brighter=True, pixel=0.5, **options):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, image, **options)
    side_car = {"sdd_mm": 1000, "pixel_mm": pixel, "brighter_is_denser": brighter}
    path.with_suffix(".json").write_text(json.dumps(side_car))
    return path


def deep(signal):
    return np.rint(65535 * present(signal)).astype(np.uint16)


def test_minimum_is_white_is_shown_inverted(tmp_path, signal):
    plain = read_radiograph(write_plain(tmp_path, deep(signal)))
    found = read_radiograph(write_plain(tmp_path, 65535 - deep(signal), photometric="miniswhite"))
    np.testing.assert_allclose(found.pixels, plain.pixels, atol=1e-3)
    assert found.warnings == plain.warnings


TURNS = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}
"""From the displayed image to the stored one, for each value of the tag: TIFF 6.0, section 8."""


@pytest.mark.parametrize("orientation", TURNS)
def test_the_orientation_tag_of_tiff_is_followed(tmp_path, orientation):
    shown = np.rint(65535 * hip_image()).astype(np.uint16)
    plain = read_radiograph(write_plain(tmp_path, shown, pixel=[0.5, 0.4]))
    stored = np.ascontiguousarray(TURNS[orientation](shown))
    pixel = [0.4, 0.5] if orientation >= 5 else [0.5, 0.4]
    extra = [(274, 3, 1, orientation, True)]
    found = read_radiograph(write_plain(tmp_path, stored, pixel=pixel, extratags=extra))
    np.testing.assert_allclose(found.pixels, plain.pixels, atol=1e-3)
    assert (found.column_spacing_mm, found.row_spacing_mm) == (0.5, 0.4)


def test_palette_and_alpha(tmp_path, signal):
    grey = (deep(signal) >> 8).astype(np.uint8)
    picture = Image.fromarray(grey)
    shown = picture.convert("P")
    shown.putpalette([255 - k // 3 for k in range(768)])  # a palette that inverts
    hidden = np.full(grey.shape, 255, np.uint8)
    hidden[:30] = 0
    clear = Image.merge("LA", (picture, Image.fromarray(hidden)))
    side_car = {"sdd_mm": 1000, "pixel_mm": 0.5, "brighter_is_denser": True}
    (tmp_path / "p.json").write_text(json.dumps(side_car | {"brighter_is_denser": False}))
    (tmp_path / "a.json").write_text(json.dumps(side_car))
    shown.save(tmp_path / "p.png")
    clear.save(tmp_path / "a.png")
    for name in ("p", "a"):
        with pytest.raises(CaseError, match="BMD-XR-003"):
            read_radiograph(tmp_path / f"{name}.png")
        found = read_radiograph(tmp_path / f"{name}.png", config=XrayConfig(color="warn"))
        assert np.corrcoef(found.pixels[40:].ravel(), present(signal)[40:].ravel())[0, 1] > 0.99
    assert not found.mask[:30].any()


def test_a_wrong_side_car_is_overruled_by_the_image(tmp_path, signal):
    right = read_radiograph(write_plain(tmp_path, deep(signal)))
    found = read_radiograph(write_plain(tmp_path, deep(signal), brighter=False))
    np.testing.assert_allclose(found.pixels, right.pixels, atol=1e-3)
    assert any("polarity" in warning for warning in found.warnings)


WRISTS = "data/real-wrist/*UND*.tif"


def test_real_wrists_are_never_read_with_the_wrong_polarity_in_silence(tmp_path, shared):
    """Fluoroscopy of wrists, where bone is dark, with a side-car that is right and one that is wrong."""
    files = sorted(shared.glob(WRISTS))[::5]
    if not files:
        pytest.skip(f"no {WRISTS} in ../shared")
    refused = []
    for number, file in enumerate(files):
        with Image.open(file) as opened:
            grey = np.asarray(opened.convert("L"), np.uint16) * 257
        for brighter in (False, True):
            path = tmp_path / f"{number}.tif"
            tifffile.imwrite(path, grey)
            side_car = {"sdd_mm": 1000, "pixel_mm": 0.2, "brighter_is_denser": brighter}
            path.with_suffix(".json").write_text(json.dumps(side_car))
            try:
                found = read_radiograph(path)
            except CaseError as error:
                refused.append(error.code)
                continue
            is_right = np.corrcoef(found.pixels[found.mask], grey[found.mask])[0, 1] < 0
            assert is_right or any("polarity" in warning for warning in found.warnings)
            assert is_right or brighter  # right words are not overruled
    assert set(refused) <= {"BMD-XR-023"}


def test_a_round_surround_and_letters_of_lead_are_no_image():
    rng = np.random.default_rng(4)
    row, column = np.mgrid[:400, :400]
    away = np.hypot(row - 197, column - 205)
    shown = 0.2 + 0.3 * np.exp(-(((column - 200 - 0.1 * row) / 40) ** 2)) + rng.normal(0, 0.004, away.shape)
    letter = np.zeros(away.shape, bool)
    letter[150:166, 340:343] = letter[150:153, 340:350] = letter[157:160, 340:347] = True
    shown[letter] = 0.85  # thin lead lets some of the beam through
    shown = np.where(away < 190, shown + 0.8 * np.clip((away - 184) / 6, 0, 1), 1.0)  # dimmed towards its edge
    mask = find_image_area(shown, np.ones(shown.shape, bool))
    assert not mask[away > 189].any()
    assert not mask[letter].any()
    inside = (away < 180) & ~ndimage.binary_dilation(letter, iterations=8)
    assert mask[inside].mean() > 0.995
