"""The U-Net: its size, its range, and an input that is standardised."""

from __future__ import annotations

import pytest
import torch

from bmdkit.models.blocks import count_parameters
from bmdkit.models.encoder import LEAST_SPREAD, standardise
from bmdkit.models.generators import Generator, GeneratorConfig, make_generator


def make(**settings) -> Generator:
    config = GeneratorConfig(backbone="unet", **({"filters": 16, "norm": "batch"} | settings))
    return make_generator(config, outputs=1, rng=torch.Generator().manual_seed(0))


def radiograph(rows: int = 64, columns: int = 32) -> torch.Tensor:
    return torch.rand(2, 1, rows, columns, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9


def test_it_has_the_layers_that_were_counted_by_hand():
    """Two convolutions at each of nine levels but the first, each with its norm; the last layer with a bias."""

    def block(inputs, outputs):
        return 9 * inputs * outputs + 2 * outputs

    down = block(1, 16) + sum(block(a, b) + block(b, b) for a, b in ((16, 32), (32, 64), (64, 96), (96, 128)))
    up = sum(block(a + b, b) + block(b, b) for a, b in ((128, 96), (96, 64), (64, 32), (32, 16)))
    assert count_parameters(make()) == down + up + 9 * 16 + 1


def test_images_are_nowhere_negative_and_the_map_lies_at_a_quarter():
    generator = make().eval()
    with torch.no_grad():
        fused, image = generator.encode(radiograph()), generator(radiograph())
    assert fused.shape == (2, 32, 16, 8)
    assert image.shape == (2, 1, 64, 32)
    assert float(image.min()) >= -1.0
    assert generator.channels == 32


def test_it_begins_with_nearly_the_same_everywhere():
    with torch.no_grad():
        image = make()(radiograph())
    assert float(image.std()) < 0.3  # the last layer is a tenth of He's


@pytest.mark.parametrize("filters", [4, 8, 20])
def test_any_width_gives_images(filters):
    assert make(filters=filters)(radiograph()).shape == (2, 1, 64, 32)


def test_sides_are_multiples_of_32():
    with pytest.raises(ValueError, match="multiples of 32, got 48 x 32"):
        make()(torch.zeros(1, 1, 48, 32))


def test_standardised_radiographs_are_the_same_in_another_exposure():
    xray = radiograph()
    xray[:, :, :8] = -1.0  # no image
    changed = torch.where(xray > -1.0, 0.5 * (xray + 1.0) * 0.8 * 2.0 - 1.0, -1.0)  # intensity x 0.8
    one, other = standardise(xray), standardise(changed)
    inside = xray > -1.0
    torch.testing.assert_close(one[inside], other[inside], atol=1e-4, rtol=1e-4)
    assert float(one[0][inside[0]].mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(one[0][inside[0]].std(correction=0)) == pytest.approx(1.0, abs=1e-4)
    assert float(one[~inside].max()) < float(one[inside].min())  # black stays darkest


def test_a_radiograph_that_shows_nothing_or_hardly_anything_stays_small():
    """One huge value in one batch is remembered by the statistics of batch norms for hundreds of steps."""
    nothing = torch.full((1, 1, 16, 8), -1.0)
    assert not standardise(nothing).any()
    flat = torch.full((1, 1, 16, 8), 0.5)
    flat[..., :2] = -1.0
    flat[..., 4] += 1e-4
    assert standardise(flat).abs().max() <= 2.0 / LEAST_SPREAD


@pytest.mark.parametrize("standardised", [False, True])
def test_a_network_that_standardises_does_not_see_the_brightness(standardised):
    generator = make(standardise=standardised).eval()
    brighter = (radiograph() + 1.0) * 1.05 - 1.0
    with torch.no_grad():
        same = torch.allclose(generator(radiograph()), generator(brighter), atol=1e-5)
    assert same == standardised
