"""Views that are no frontal hip, one hip alone, and images whose size does not fit their spacing."""

import json

import numpy as np
import pytest
from dicom_samples import hip_image, write_dx
from pydicom.dataset import Dataset

from bmdkit.core.radiograph import Radiograph, SingleHip
from bmdkit.dataset.pairs import PairConfig, make_hip_window, make_pair_window
from bmdkit.errors import CaseError
from bmdkit.image_content.hip_count import find_single_hip
from bmdkit.io.xray import check_laterality, inspect_radiograph, read_radiograph
from bmdkit.io.xray_settings import XrayConfig


def make_view(code, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SRT", meaning
    return [item]


OTHER_VIEWS = {
    "axial": ({"ViewPosition": "AXIAL"}, "BMD-XR-019"),
    "frog leg": ({"ViewPosition": "FROG LEG"}, "BMD-XR-019"),
    "mediolateral": ({"ViewPosition": "ML"}, "BMD-XR-019"),
    "left lateral": ({"ViewPosition": "LL"}, "BMD-XR-019"),
    "lateral in words": ({"ViewPosition": "LATERAL"}, "BMD-XR-019"),
    "inlet": ({"ViewPosition": "INLET"}, "BMD-XR-019"),
    "code of a left lateral": ({"ViewCodeSequence": make_view("R-10232", "left")}, "BMD-XR-019"),
    "meaning of a lateral": ({"ViewCodeSequence": make_view("399067008", "Lateral projection")}, "BMD-XR-019"),
    "code of an oblique": ({"ViewCodeSequence": make_view("R-10210", "")}, "BMD-XR-019"),
    "chest": ({"BodyPartExamined": "CHEST"}, "BMD-XR-024"),
    "knee": ({"BodyPartExamined": "KNEE"}, "BMD-XR-024"),
    "wrist": ({"BodyPartExamined": "WRIST"}, "BMD-XR-024"),
}
FRONTAL_VIEWS = [
    {"ViewPosition": "AP"},
    {"ViewPosition": "PA"},
    {"ViewPosition": ""},
    {"ViewCodeSequence": make_view("R-10206", "antero-posterior")},
    {"ViewCodeSequence": make_view("R-10214", "postero-anterior")},
    {"BodyPartExamined": "PELVIS"},
    {"BodyPartExamined": "FEMUR"},
    {"BodyPartExamined": ""},
]


def write(tmp_path, image=None, **tags):
    def edit(ds):
        for name, value in tags.items():
            setattr(ds, name, value)

    return write_dx(tmp_path / "x.dcm", hip_image() if image is None else image, edit=edit)


@pytest.mark.parametrize(("tags", "code"), OTHER_VIEWS.values(), ids=OTHER_VIEWS)
def test_other_views_are_refused_before_anything_is_measured_or_told(tmp_path, tags, code):
    path = write(tmp_path, **tags)
    for look in (inspect_radiograph, read_radiograph):
        with pytest.raises(CaseError, match=code):
            look(path)
    found = read_radiograph(path, config=XrayConfig(view="warn"))
    assert any(warning.startswith(code) for warning in found.warnings)


@pytest.mark.parametrize("tags", FRONTAL_VIEWS)
def test_frontal_views_are_read_without_a_word(tmp_path, tags):
    assert read_radiograph(write(tmp_path, **tags)).warnings == ()


SIZES = {  # 96 x 120 pixels of 0.5 mm: 48 x 60 mm
    "as the field of view": ({"FieldOfViewDimensions": [48, 60]}, False),
    "rounded": ({"FieldOfViewDimensions": [50, 61]}, False),
    "cut to a part": ({"FieldOfViewDimensions": [96, 60]}, False),
    "halved": ({"FieldOfViewDimensions": [96, 120]}, True),
    "doubled": ({"FieldOfViewDimensions": [24, 30]}, True),
    "a third of the detector": ({"DetectorActiveDimensions": [144, 180]}, True),
    "lying": ({"FieldOfViewDimensions": [120, 96]}, True),
}


@pytest.mark.parametrize(("tags", "is_odd"), SIZES.values(), ids=SIZES)
def test_a_size_that_does_not_fit_the_spacing_is_noticed(tmp_path, tags, is_odd):
    path = write(tmp_path, **tags)
    warned = any(warning.startswith("BMD-XR-026") for warning in read_radiograph(path).warnings)
    assert warned == is_odd
    if is_odd:
        with pytest.raises(CaseError, match="BMD-XR-026"):
            read_radiograph(path, config=XrayConfig(resampled="quarantine"))


def make_pelvis(rows=320, columns=400):
    """[row, column]: bright structures that are symmetric about the middle column, and noise."""
    rng = np.random.default_rng(3)
    v, u = np.mgrid[:rows, :columns].astype(float)
    image = 0.3 * np.exp(-(((u - columns / 2) / columns * 3) ** 2))
    for down, across, size, height in rng.uniform((0.1, 0.04, 4, 0.2), (0.9, 0.45, 14, 0.5), (25, 4)):
        for sign in (1, -1):
            centre = columns * (0.5 + sign * across)
            image += height * np.exp(-((u - centre) ** 2 + (v - down * rows) ** 2) / (2 * size**2))
    return image + rng.normal(0, 0.01, image.shape)


@pytest.mark.parametrize(
    ("columns", "side"),
    [(slice(0, 400), "both"), (slice(20, 390), "both"), (slice(160, 400), "L"), (slice(240), "R")],
)
def test_one_hip_is_told_from_two_by_the_midline(columns, side):
    image = make_pelvis()[:, columns]
    found = find_single_hip(image, np.ones(image.shape, bool), 1.0)
    if side == "both":
        assert found is None
    else:
        assert found.side == side
        middle = 200 - (columns.start or 0)  # the midline is the border of the part that shows the hip
        border = found.first_column if side == "L" else found.last_column
        assert border == pytest.approx(middle, abs=6)


@pytest.mark.parametrize("painted", [slice(200), slice(200, 400)])
def test_a_half_that_is_painted_over_moves_no_midline(painted):
    """The hips stay where the whole image says: the one in the other half is no hip alone."""
    image = make_pelvis()
    image[:, painted] = 0.4
    assert find_single_hip(image, np.ones(image.shape, bool), 1.0) is None
    assert find_single_hip(image, np.ones(image.shape, bool), 0.5) is not None  # too narrow for two hips


def test_a_narrow_field_without_a_midline_is_one_hip_of_unknown_side():
    image = make_pelvis()[:, 210:400]
    found = find_single_hip(image, np.ones(image.shape, bool), 1.0)
    assert found is not None


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_window_lies_on_the_only_hip(side):
    mask = np.zeros((600, 800), bool)
    mask[50:550, 100:700] = True
    shown = SingleHip(200.0, 500.0, side)
    config = PairConfig(rows=100, columns=50)
    window = make_hip_window(Radiograph(np.zeros(mask.shape), mask, single_hip=shown), side, config)
    assert window.first_column + window.columns / window.scale / 2 == pytest.approx(350)
    assert window.first_row + window.rows / window.scale / 2 == pytest.approx(300)
    both = make_hip_window(Radiograph(np.zeros(mask.shape), mask), side, config)
    assert both == make_pair_window(*mask.shape, side, config)


def test_the_side_that_the_image_shows_is_held_against_the_cohort():
    shown = Radiograph(np.zeros((64, 64)), np.ones((64, 64), bool), single_hip=SingleHip(0.0, 40.0, "R"))
    check_laterality(shown, "R")
    with pytest.raises(CaseError, match="BMD-XR-020"):
        check_laterality(shown, "L")


def test_a_part_that_is_empty_is_refused():
    with pytest.raises(ValueError, match="first_column"):
        SingleHip(5.0, 5.0, None)


def test_views_are_plain_texts_for_json(tmp_path):
    """What is recorded of a file can be written as JSON."""
    found = inspect_radiograph(write(tmp_path, FieldOfViewDimensions=[96, 120]))
    assert json.dumps(dict(found.sources))
