"""Noise of a radiograph, and the similarity that it allows."""

import numpy as np
import pytest
from scipy import ndimage

from bmdkit.core.radiograph import Radiograph
from bmdkit.registration.pyramid import bin_pixels, find_noise
from bmdkit.registration.similarity import FixedImage

SHAPE = (480, 360)
SMOOTH_PX = 4.0


def show(pixels, mask=None):
    mask = np.ones(pixels.shape, bool) if mask is None else mask
    return Radiograph(pixels.astype(np.float32), mask, column_spacing_mm=0.5, row_spacing_mm=0.5)


@pytest.fixture
def clean(rng):
    image = ndimage.gaussian_filter(rng.normal(size=SHAPE), SMOOTH_PX)
    return 0.5 + 0.1 * image / image.std()


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_the_noise_of_a_mean_is_found_whatever_the_image_shows(clean, rng, factor):
    variance = find_noise(show(clean + rng.normal(0, 0.02, SHAPE)), factor)
    assert variance.shape == tuple(n // factor for n in SHAPE)
    assert variance.mean() == pytest.approx(0.02**2 / factor**2, rel=0.05)
    assert find_noise(show(clean), factor).mean() < 0.002**2


def test_blocks_that_are_not_whole_tell_nothing(clean):
    mask = np.ones(SHAPE, bool)
    mask[:, 101:] = False
    variance = find_noise(show(np.where(mask, clean, 0.0), mask), 2)
    assert (variance[:, 50:] == 0).all()
    assert variance.max() < 0.005**2


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_what_the_noise_allows_is_what_the_clean_image_reaches(clean, rng, factor, noise):
    radiograph = show(clean + rng.normal(0, noise, SHAPE))
    image, valid = bin_pixels(radiograph, factor)
    fixed = FixedImage.of(image, valid, cell=12, noise=find_noise(radiograph, factor))
    seen, box = bin_pixels(show(clean), factor)[0], np.s_[0:60, 0:60]
    left = np.indices(image.shape)[1] < 70
    for own, drr in (
        (fixed, seen),
        (fixed.flipped(), seen[:, ::-1]),
        (fixed.cut_to(box), seen[box]),
        (fixed.within(left), seen),
    ):
        assert own.attainable == pytest.approx(own.scores(drr[None])[0], abs=0.03)


def test_nothing_is_excused_where_the_noise_is_not_known(clean):
    assert FixedImage.of(clean, np.ones(SHAPE, bool)).attainable == 1
