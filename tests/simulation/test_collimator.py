"""A simulated collimator lets pass what it says, and what fades behind it is scatter."""

import numpy as np
import pytest

from bmdkit.simulation.collimator import collimate, draw_field
from bmdkit.simulation.presentation import present

SHAPE, PIXEL_MM = (180, 215), 2.0


@pytest.mark.parametrize("kind", ["blades", "turned", "round", "polygon"])
def test_a_field_leaves_the_middle_open_and_closes_a_part(kind):
    for seed in range(5):
        field = draw_field(SHAPE, PIXEL_MM, np.random.default_rng(seed), kind)
        assert field.is_open[60:120, 80:140].all()
        assert 0.2 < field.is_open.mean() < 1
        assert field.transmission.min() >= 0
        assert field.transmission.max() <= 1
        assert (field.depth_mm[field.transmission > 0.5] <= 1e-3).all()


def test_scatter_fades_behind_a_blade():
    rng = np.random.default_rng(1)
    field = draw_field(SHAPE, PIXEL_MM, rng, "round")
    seen = collimate(np.ones(SHAPE, np.float32), field, PIXEL_MM, rng)
    near = seen[(field.depth_mm > 15) & (field.depth_mm < 20)].mean()
    far = seen[field.depth_mm > 40].mean()
    assert seen[90, 107] == pytest.approx(1, abs=0.01)
    assert far < near < 0.2


def test_what_lies_behind_blades_is_shown_denser():
    rng = np.random.default_rng(2)
    field = draw_field(SHAPE, PIXEL_MM, rng, "turned")
    signal = collimate(np.full(SHAPE, 0.3, np.float32) * rng.uniform(0.5, 1.5, SHAPE), field, PIXEL_MM, rng)
    image = present(signal.astype(np.float32), PIXEL_MM, rng, field=field.is_open)
    assert np.median(image[field.depth_mm > 5]) > np.percentile(image[field.is_open], 90)
