"""What is no image is masked, what is image is not, and neither borders nor markers set the scale."""

import numpy as np
import pytest
from dicom_samples import hip_image, write_dx

from bmdkit.image_content.image_area import find_image_area
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig

ROWS, COLUMNS = 360, 430
KNOWN = XrayConfig(polarity="bone_bright")
"""The smooth image of these tests has no bone that could tell."""


def everything(image):
    return np.ones(image.shape, bool)


def letter(image, row, column, value=1.0, size=4):
    """Burn an F in, `size` pixels thick."""
    where = np.zeros(image.shape, bool)
    where[row : row + 6 * size, column : column + size] = True
    where[row : row + size, column : column + 4 * size] = True
    where[row + 2 * size : row + 3 * size, column : column + 3 * size] = True
    return np.where(where, value, image), where


@pytest.fixture
def hip():
    return np.clip(hip_image(ROWS, COLUMNS), 0, 0.98)


def test_an_image_without_either_is_all_image(hip):
    assert find_image_area(hip, everything(hip)).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("borders", [(30, 0, 0, 0), (30, 30, 30, 30), (0, 0, 40, 25)])
def test_collimation_is_masked_to_the_pixel(hip, value, borders):
    top, bottom, left, right = borders
    outside = everything(hip)
    outside[top : ROWS - bottom, left : COLUMNS - right] = False
    image = np.where(outside, value, hip)
    mask = find_image_area(image, everything(hip))
    assert not mask[outside].any()
    inner = np.zeros_like(outside)  # two pixels of the edge go with it
    inner[top and top + 2 : ROWS - (bottom and bottom + 2), left and left + 2 : COLUMNS - (right and right + 2)] = True
    assert mask[inner].all()


def test_a_turned_collimator(hip):
    v, u = np.indices(hip.shape)
    outside = (u - COLUMNS / 2) * 0.96 + (v - ROWS / 2) * 0.28 > 0.38 * COLUMNS
    mask = find_image_area(np.where(outside, 0.0, hip), everything(hip))
    assert (~mask)[outside].mean() > 0.98
    assert mask[~outside].mean() > 0.97


@pytest.mark.parametrize("place", [(50, 40), (300, 370), (20, 200)])
def test_burned_in_marker(hip, place):
    image, where = letter(hip, *place)
    mask = find_image_area(image, everything(hip))
    assert not mask[where].any()
    assert mask.mean() > 0.99


def test_dense_bone_that_saturates_is_image(hip):
    v, u = np.mgrid[0 : 1 : ROWS * 1j, 0 : 1 : COLUMNS * 1j]
    bone = hip + 1.2 * np.exp(-((u - 0.5) ** 2 + (v - 0.1) ** 2) / 0.02)
    assert (bone > 1).mean() > 0.02
    assert find_image_area(np.clip(bone, 0, 1), everything(hip)).all()


def test_air_beside_the_skin_is_image(hip):
    u = np.linspace(0, 1, COLUMNS)[None]
    assert find_image_area(np.clip(hip * np.clip((u - 0.1) / 0.4, 0, 1), 0, 1), everything(hip)).all()


def test_saturated_air_beside_skin_in_large_pixels_is_image(hip):
    """Skin that rises over the three pixels of the outline by more than what sets a border on the dense side apart."""
    down, across = np.mgrid[: hip.shape[0], : hip.shape[1]]
    inward = 0.95 * hip.shape[1] - 0.05 * (down / 8 - 12) ** 2 - across  # pixels from the skin
    values = (0.2 + 0.8 * hip) * np.clip(inward / 16, 0, 1)
    assert (inward < -6).mean() > 0.01
    assert find_image_area(values, np.ones(values.shape, bool)).all()


def test_single_saturated_pixels_are_image(hip):
    rng = np.random.default_rng(0)
    image = np.where(rng.random(hip.shape) < 0.005, 1.0, hip)
    assert find_image_area(image, everything(hip)).mean() > 0.999


def test_borders_and_markers_do_not_set_the_scale(tmp_path, hip):
    plain = read_radiograph(write_dx(tmp_path / "a.dcm", 0.2 + 0.5 * hip), config=KNOWN)
    image, _ = letter(0.2 + 0.5 * hip, 60, 60)
    image[:25] = 0
    image[:, -25:] = 0
    marked = read_radiograph(write_dx(tmp_path / "b.dcm", image), config=KNOWN)
    np.testing.assert_allclose(marked.pixels[marked.mask], plain.pixels[marked.mask], atol=0.03)


def test_padding_and_shutters_of_the_header_are_masked(tmp_path, hip):
    def padded(ds):
        ds.PixelPaddingValue = 4095
        pixels = np.frombuffer(ds.PixelData, "<u2").reshape(hip.shape).copy()
        pixels[:, :15] = 4095
        ds.PixelData = pixels.tobytes()

    mask = read_radiograph(write_dx(tmp_path / "a.dcm", hip, edit=padded), config=KNOWN).mask
    assert not mask[:, :15].any()
    assert mask[:, 15:].all()

    def rectangle(ds):
        ds.ShutterShape = "RECTANGULAR"
        ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 10, COLUMNS
        ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 20, ROWS - 9

    mask = read_radiograph(write_dx(tmp_path / "b.dcm", hip, edit=rectangle), config=KNOWN).mask
    seen = np.zeros_like(mask)
    seen[20 : ROWS - 10, 10 : COLUMNS - 1] = True
    np.testing.assert_array_equal(mask, seen)

    def circle(ds):
        ds.ShutterShape, ds.CenterOfCircularShutter, ds.RadiusOfCircularShutter = "CIRCULAR", [180, 215], 170

    mask = read_radiograph(write_dx(tmp_path / "c.dcm", hip, edit=circle), config=KNOWN).mask
    assert mask.sum() == pytest.approx(np.pi * 170**2, rel=0.01)
