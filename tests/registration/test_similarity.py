"""Similarities: what an image is worth against itself, and what no similarity may depend on."""

import numpy as np
import pytest
from scipy import ndimage

from bmdkit.registration.gradients import REACH, compute_gradients, join_cells, sum_cells
from bmdkit.registration.similarity import FixedImage

MEASURES = ["patch_gc", "gc", "ncc", "gradient_information"]
ROUNDING = 2e-5  # of single precision sums over some thousand pixels


@pytest.fixture
def image(rng):
    return ndimage.gaussian_filter(rng.normal(size=(48, 60)), 2).astype(np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_gradient_of_a_plane_is_its_slope():
    row, column = np.indices((20, 24))
    slopes = compute_gradients((3.0 * column - 2.0 * row)[None])[0, :, REACH:-REACH, REACH:-REACH]
    assert np.allclose(slopes[0], 3.0 * 1.0, atol=1e-4)
    assert np.allclose(slopes[1], -2.0 * 1.0, atol=1e-4)


def test_gradients_are_separable_convolutions(image):
    smooth, derive = np.array([1, 6, 15, 20, 15, 6, 1]) / 64, np.array([-1, -4, -5, 0, 5, 4, 1]) / 32
    expected = ndimage.correlate1d(ndimage.correlate1d(image.astype(float), derive, 1, mode="nearest"), smooth, 0)
    inner = np.s_[REACH:-REACH, REACH:-REACH]
    assert np.allclose(compute_gradients(image[None])[0, 0][inner], expected[inner], atol=1e-5)


def test_patch_sums_are_sums_over_windows(image, rng):
    weight = (rng.random(image.shape) > 0.3).astype(np.float32)
    moving = compute_gradients(image[None])
    patches = join_cells(sum_cells(moving, moving[0], weight, 5))[0, 1]
    window = np.s_[10:20, 15:25]
    assert patches[2, 3, 0] == pytest.approx((moving[0, 1] * weight)[window].sum(), abs=1e-4)
    assert patches[2, 3, 1] == pytest.approx((moving[0, 1] ** 2 * weight)[window].sum(), abs=1e-4)


@pytest.mark.parametrize("measure", ["patch_gc", "gc", "ncc"])
def test_an_image_is_one_with_itself_and_minus_one_with_its_negative(image, measure):
    fixed = FixedImage.of(image, np.ones(image.shape, bool), measure=measure)
    assert np.allclose(fixed.scores(np.stack([image, -image])), [1, -1], atol=ROUNDING)


@pytest.mark.parametrize("measure", MEASURES)
def test_no_image_is_better_than_the_image_itself(image, rng, measure):
    fixed = FixedImage.of(image, np.ones(image.shape, bool), measure=measure)
    others = [image, image + rng.normal(0, 0.1, image.shape), np.roll(image, 2, 1), rng.normal(size=image.shape)]
    scores = fixed.scores(np.stack(others).astype(np.float32))
    assert scores[0] == max(scores)


@pytest.mark.parametrize("measure", MEASURES)
def test_brightness_and_contrast_do_not_matter(image, rng, measure):
    other = ndimage.gaussian_filter(rng.normal(size=image.shape), 2).astype(np.float32) + 0.5 * image
    mask = np.ones(image.shape, bool)
    plain = FixedImage.of(image, mask, measure=measure).scores(other[None])
    fixed = FixedImage.of(0.3 * image + 0.5, mask, measure=measure).scores(7.0 * other[None] - 2.0)
    assert np.allclose(plain, fixed, atol=ROUNDING)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_masked_does_not_matter(image, rng, measure):
    mask = np.ones(image.shape, bool)
    mask[:, 40:] = False
    other = np.roll(image, 1, 0)
    spoiled = np.where(mask, image, 9.0).astype(np.float32)
    a = FixedImage.of(image, mask, measure=measure).scores(other[None])
    b = FixedImage.of(spoiled, mask, measure=measure).scores(other[None])
    assert np.allclose(a, b, atol=ROUNDING)


@pytest.mark.parametrize("measure", MEASURES)
def test_an_empty_drr_is_worth_nothing_and_a_batch_scores_as_its_members(image, measure):
    fixed = FixedImage.of(image, np.ones(image.shape, bool), measure=measure)
    batch = np.stack([image, np.zeros_like(image), np.roll(image, 3, 1)])
    together = fixed.scores(batch)
    assert together[1] == 0
    assert np.allclose(together, [fixed.scores(one[None])[0] for one in batch], rtol=1e-12)


def test_a_blank_radiograph_scores_zero():
    blank = np.full((40, 40), 0.5, np.float32)
    drr = np.add.outer(np.arange(40.0), np.arange(40.0) ** 2).astype(np.float32)
    fixed = FixedImage.of(blank, np.ones(blank.shape, bool))
    assert fixed.scores(drr[None])[0] == 0
    assert FixedImage.of(blank, np.zeros(blank.shape, bool)).scores(drr[None])[0] == 0
