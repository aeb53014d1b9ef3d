"""Attention lies where the head looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bmdkit.models.generators import GeneratorConfig
from bmdkit.models.regression_head import HeadConfig, make_regressor
from bmdkit.study.attention import attention_maps, attention_of, fused_maps, mean_maps


class OnePlace(nn.Module):
    """Reads two channels at one place of the map."""

    def forward(self, fused):
        return 3.0 * fused[:, 0, 2, 5] - 2.0 * fused[:, 1, 2, 5]


def test_a_head_that_looks_at_one_place_has_its_attention_there():
    fused = torch.rand(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    found = attention_maps(OnePlace(), fused, (8, 8), blur=0, batch_size=2).numpy()
    expected = np.zeros((3, 8, 8))
    expected[:, 2, 5] = (3 * fused[:, 0, 2, 5] - 2 * fused[:, 1, 2, 5]).abs().numpy()
    assert found == pytest.approx(expected, abs=1e-6)
    larger = attention_maps(OnePlace(), fused, (32, 32)).numpy()
    rows, columns = np.unravel_index(larger.reshape(3, -1).argmax(1), (32, 32))
    assert set(rows // 4) == {2}
    assert set(columns // 4) == {5}


class Mean(nn.Module):
    def forward(self, fused):
        return fused.mean((1, 2, 3))


def test_for_a_mean_it_is_the_mean_itself_spread_over_its_places():
    """Gradient x activation is complete for what is linear: summed over all places it gives the value."""
    fused = torch.rand(2, 4, 6, 3, generator=torch.Generator().manual_seed(1))
    found = attention_maps(Mean(), fused, (6, 3), blur=0)
    assert found.sum((1, 2)).numpy() == pytest.approx(fused.mean((1, 2, 3)).numpy())


def test_of_a_regressor_it_has_the_radiographs_size_and_leaves_no_gradients():
    network = make_regressor(
        GeneratorConfig("resnet", filters=4, downsamplings=2, blocks=1),
        HeadConfig((32, 32), (1, 1)),
        image_size=(32, 16),
        rng=torch.Generator().manual_seed(0),
    )
    xrays = torch.rand(3, 1, 32, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    found = attention_of(network, xrays)
    assert found.shape == (3, 32, 16)
    assert torch.isfinite(found).all()
    assert (found >= 0).all()
    assert all(parameter.grad is None for parameter in network.parameters())
    maps = fused_maps(network.encoder, xrays, batch_size=2)
    assert maps.shape == (3, 16, 8, 4)
    assert mean_maps(network.encoder, xrays, batch_size=2).numpy() == pytest.approx(maps.mean((2, 3)).numpy())
