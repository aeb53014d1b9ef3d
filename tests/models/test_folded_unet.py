"""The folded Bayesian U-Net: the scores of the network it was made from, draw by draw."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from bmdkit.models.bayesian_unet import BayesianUNet, UNetConfig
from bmdkit.models.folded_unet import FoldedUNet, _by_pixel, _keep_some

ROUNDING = 1e-4  # of scores of about one: single precision, factors taken in another order


def trained(dropout: float = 0.5, filters: int = 4) -> BayesianUNet:
    """A small network whose batch norms do something."""
    torch.manual_seed(0)
    network = BayesianUNet(4, UNetConfig(filters=filters, dropout=dropout)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return network


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@torch.inference_mode()
@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(("shape", "filters"), [((1, 1, 32, 32), 8), ((2, 1, 48, 80), 3)])
def test_each_draw_over_the_shared_first_block_is_that_of_the_whole_network(dropout, shape, filters):
    network, images = trained(dropout, filters), torch.rand(shape)
    folded = FoldedUNet(network)
    first = folded.first(images)
    for draw in range(3):
        seeds = [10 * draw + n for n in range(shape[0])]
        expected = network(images, generators(*seeds))
        torch.testing.assert_close(folded.above(first, generators(*seeds)), expected, rtol=ROUNDING, atol=ROUNDING)
    assert float(expected.std()) > 0.1


@torch.inference_mode()
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_half_the_bits_give_nearly_the_same_scores(dropout):
    network, images = trained(dropout), torch.rand(2, 1, 32, 48)
    folded = FoldedUNet(network, torch.bfloat16)
    drawn = folded.above(folded.first(images), generators(1, 2)).float()
    expected = network(images, generators(1, 2))
    assert float((drawn - expected).abs().mean()) < 0.02 * float(expected.std())  # eight bits, eighteen layers


@torch.inference_mode()
def test_a_draw_leaves_nothing_behind_for_the_next():
    folded, images = FoldedUNet(trained()), torch.rand(1, 1, 48, 32)
    first = folded.first(images)
    before = first.clone()
    one = folded.above(first, generators(3)).clone()
    other = folded.above(first, generators(4))
    folded.above(folded.first(torch.rand(2, 1, 32, 32)), generators(5, 6))
    assert not torch.equal(one, other)
    assert torch.equal(folded.above(first, generators(3)), one)
    assert torch.equal(first, before)


def test_the_network_itself_is_left_as_it_is():
    network = trained()
    before = copy.deepcopy(network.state_dict())
    folded = FoldedUNet(network)
    folded.above(folded.first(torch.rand(1, 1, 32, 32)), generators(0))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_other_sides_are_refused():
    with pytest.raises(ValueError, match="multiples of 16 and at least 32"):
        FoldedUNet(trained()).first(torch.rand(1, 1, 40, 32))


def test_what_is_dropped_or_not_positive_becomes_zero_and_nan_is_not_hidden():
    values = np.array([1.0, 2.0, -3.0, np.nan, 4.0], np.float32)
    _keep_some(values, np.array([25, 26, 255, 255, 255], np.uint8), 26)
    np.testing.assert_array_equal(values, np.array([0.0, 2.0, 0.0, np.nan, 4.0], np.float32))


@pytest.mark.parametrize("channels", [3, 16])
def test_bytes_are_put_in_the_order_of_the_values(channels):
    drawn = np.random.default_rng(0).integers(0, 256, (channels, 35), np.uint8)
    np.testing.assert_array_equal(_by_pixel(drawn).reshape(35, channels), drawn.T)
