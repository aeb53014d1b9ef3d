import pytest
import torch

from bmdkit.models.blocks import count_parameters
from bmdkit.models.generators import GeneratorConfig, make_encoder
from bmdkit.models.regression_head import (
    ConvolutionRegressor,
    HeadConfig,
    RegressionHead,
    RelativeBlock,
    make_baseline,
    make_regressor,
    sample_weights,
    weighted_l1,
)

SMALL = GeneratorConfig(filters=8, downsamplings=2, blocks=1)


def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("backbone", "millions"), [("daformer", 81.4), ("daformer_b0", 3.3)])
def test_mix_transformers_have_the_published_numbers_of_parameters(backbone, millions):
    """SegFormer's table 6 counts three input channels."""
    with torch.device("meta"):
        encoder = make_encoder(GeneratorConfig(backbone=backbone), inputs=3)
    assert count_parameters(encoder.trunk) / 1e6 == pytest.approx(millions, abs=0.05)


def test_sample_weights_are_the_published_ones_and_their_reverse():
    bmd = torch.tensor([0.6, 0.7, 0.8, 0.9, 1.0])  # mean 0.8, distances 0.2 0.1 0 0.1 0.2
    assert torch.allclose(sample_weights(bmd, "common"), torch.tensor([0.5, 1.0, 1.5, 1.0, 0.5]), atol=1e-5)
    assert torch.allclose(sample_weights(bmd, "rare"), torch.tensor([1.5, 1.0, 0.5, 1.0, 1.5]), atol=1e-5)
    assert torch.equal(sample_weights(bmd, "none"), torch.ones(5))
    assert torch.equal(sample_weights(torch.full((3,), 0.8), "common"), torch.ones(3))


def test_weighted_l1():
    loss = weighted_l1(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]), torch.tensor([0.5, 1.5]))
    assert loss.item() == pytest.approx((0.5 * 1 + 1.5 * 2) / 2)


def test_relative_block_halves_and_widens():
    block = RelativeBlock(8, 16, 4, 2, 8, pool=True)
    assert block(torch.randn(2, 8, 4, 8)).shape == (2, 4, 2, 16)
    with pytest.raises(ValueError, match="widths"):
        HeadConfig(widths=(100, 64))


def test_head_reads_any_even_map():
    head = RegressionHead(32, 16, 8, HeadConfig((32, 64), (2, 1), 16))
    assert head(torch.randn(3, 32, 16, 8)).shape == (3,)


def test_head_is_of_the_size_of_coatnet_0s_last_stages():
    """12 width^2 a block, and the widening projections; position biases are the rest."""
    with torch.device("meta"):
        head = RegressionHead(256, 128, 64, HeadConfig())
    biases = sum(p.numel() for name, p in head.named_parameters() if "position" in name)
    blocks = 5 * 12 * 384**2 + 2 * 12 * 768**2
    widening = 256 * 384 + 384 * 768 - 3 * 384 * (384 - 256) - 3 * 768 * (768 - 384)
    assert count_parameters(head) - biases == pytest.approx(blocks + widening, rel=0.01)


def test_a_frozen_encoder_stays_as_it_is():
    regressor = make_regressor(SMALL, HeadConfig((32, 32), (1, 1)), image_size=(64, 32), rng=rng())
    regressor.freeze_encoder(True)
    regressor.train()
    assert not regressor.encoder.training
    assert regressor.head.training
    regressor(torch.rand(1, 1, 64, 32)).sum().backward()
    assert all(p.grad is None for p in regressor.encoder.parameters())
    assert regressor.head.last.weight.grad is not None
    regressor.freeze_encoder(False)
    assert regressor.encoder.training
    assert all(p.requires_grad for p in regressor.encoder.parameters())


def test_baseline_has_the_convolutions_of_vgg16():
    """14.71 million without the dense layers; norms and the last layer are ours."""
    network = ConvolutionRegressor(inputs=3)
    convolutions = sum(p.numel() for m in network.features if isinstance(m, torch.nn.Conv2d) for p in m.parameters())
    assert convolutions == 14_714_688


def test_baseline_passes_a_signal_on():
    network = make_baseline(filters=4, rng=rng())
    images = torch.rand(4, 1, 64, 32, generator=rng())
    features = network.features(images)
    assert 0.1 < float(features.std()) < 10
    assert network(images).shape == (4,)
