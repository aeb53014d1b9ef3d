"""The Bayesian U-Net: its layers as published, dropout that never goes off, draws that generators decide."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from bmdkit.models.bayesian_unet import BayesianUNet, UNetConfig
from bmdkit.models.blocks import count_parameters
from bmdkit.models.losses import soft_dice_loss


def expected_parameters(widths: list[int], classes: int) -> int:
    def conv(a: int, b: int) -> int:
        return 9 * a * b + b

    def block(a: int, b: int) -> int:
        return conv(a, b) + conv(b, b) + 4 * b  # two batch norms

    down = sum(block(a, b) for a, b in zip([1, *widths[:-1]], widths, strict=True))
    up = sum(conv(b, a) + block(2 * a, a) for a, b in itertools.pairwise(widths))
    return down + up + conv(widths[0], classes)


def tiny(dropout: float = 0.5) -> BayesianUNet:
    torch.manual_seed(0)
    return BayesianUNet(4, UNetConfig(filters=4, dropout=dropout))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("filters", [8, 32])
def test_layers_are_those_of_the_paper(filters):
    network = BayesianUNet(4, UNetConfig(filters=filters))
    widths = [filters * 2**n for n in range(5)]
    assert [block[0].out_channels for block in network.down] == widths
    assert count_parameters(network) == expected_parameters(widths, 4)
    padded = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(padded) == 19
    assert {(m.kernel_size, m.padding_mode) for m in padded} == {((3, 3), "reflect")}
    assert {(m.kernel_size, m.stride) for m in network.up} == {((3, 3), (2, 2))}


def test_output_has_the_size_of_the_input_and_other_sizes_are_refused():
    network = tiny().eval()
    assert network(torch.rand(2, 1, 48, 32)).shape == (2, 4, 48, 32)
    for shape in ((40, 32), (16, 32)):
        with pytest.raises(ValueError, match="multiples of 16 and at least 32"):
            network(torch.rand(1, 1, *shape))


@torch.inference_mode()
def test_dropout_is_on_in_evaluation_and_its_generator_decides():
    network, x = tiny().eval(), torch.rand(1, 1, 32, 32)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network(x, generators(3)), network(x, generators(3)))
    assert not torch.equal(network(x, generators(3)), network(x, generators(4)))
    certain = tiny(dropout=0.0).eval()
    assert torch.equal(certain(x), certain(x))


@torch.inference_mode()
def test_a_draw_of_one_image_does_not_depend_on_its_neighbours():
    network, x = tiny().eval(), torch.rand(3, 1, 32, 32)
    together = network(x, generators(1, 2, 3))
    alone = network(x[1:2], generators(2))
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_dropout_keeps_its_share_and_the_mean():
    network = BayesianUNet(4, UNetConfig(filters=4, dropout=0.25))
    dropped = network._dropped(torch.ones(1, 16, 128, 128), generators(0))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)


def test_soft_dice_is_zero_for_the_truth_and_one_for_its_opposite():
    classes = torch.zeros(1, 32, 32, dtype=torch.int64)
    classes[:, :16] = 1
    shares = nn.functional.one_hot(classes, 2).movedim(-1, 1).float()
    assert float(soft_dice_loss(50.0 * shares, shares)) == pytest.approx(0.0, abs=1e-4)
    assert float(soft_dice_loss(-50.0 * shares, shares)) == pytest.approx(1.0, abs=1e-4)


def test_soft_dice_of_pixels_at_an_edge_is_least_at_their_shares():
    shares = torch.tensor([0.3, 0.7]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    found = {
        p: float(soft_dice_loss(torch.log(torch.tensor([1 - p, p])).view(1, 2, 1, 1).expand(1, 2, 8, 8), shares))
        for p in (0.5, 0.6, 0.7, 0.8, 0.999)
    }
    assert min(found, key=found.get) == 0.7
    assert found[0.7] == pytest.approx(0.0, abs=1e-5)
