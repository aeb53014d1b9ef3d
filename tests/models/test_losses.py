import math

import pytest
import torch

from bmdkit.models.discriminator import DiscriminatorConfig, make_discriminator
from bmdkit.models.losses import adversarial_loss, feature_matching_loss, gradient_correlation_loss, masked_l1


def image(seed=0, shape=(2, 1, 24, 16)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


ONES = torch.ones(2, 1, 24, 16)


def test_l1_is_the_mean_over_the_mask():
    target = torch.zeros(2, 2, 4, 4)
    predicted = target.clone()
    predicted[:, :, 0] = 3.0
    predicted[:, :, 1] = 100.0
    mask = torch.ones(2, 1, 4, 4)
    mask[:, :, 1] = 0
    assert float(masked_l1(predicted, target, mask)) == pytest.approx(3.0 / 3)  # one of three seen rows
    mask[1, :, 2:] = 0  # of the second image one row is seen: each image counts the same, whoever computes it
    assert float(masked_l1(predicted, target, mask)) == pytest.approx((3.0 / 3 + 3.0) / 2)
    halves = [masked_l1(predicted[n : n + 1], target[n : n + 1], mask[n : n + 1]) for n in range(2)]
    assert float(masked_l1(predicted, target, mask)) == pytest.approx(float(sum(halves)) / 2)


def test_gradient_correlation_of_equal_opposite_and_unrelated_images():
    x = image()
    assert float(gradient_correlation_loss(x, x, ONES)) == pytest.approx(0, abs=1e-5)
    assert float(gradient_correlation_loss(3 * x + 0.5, x, ONES)) == pytest.approx(0, abs=1e-5)
    assert float(gradient_correlation_loss(-x, x, ONES)) == pytest.approx(2, abs=1e-5)
    wave = torch.sin(2 * math.pi * torch.arange(16) / 8).expand(1, 1, 24, 16)
    shifted = torch.cos(2 * math.pi * torch.arange(16) / 8).expand(1, 1, 24, 16)
    mask = torch.zeros(1, 1, 24, 16)
    mask[..., 1:11] = 1  # its gradients cover one whole period, over which sine and cosine are uncorrelated
    assert float(gradient_correlation_loss(wave, shifted, mask)) == pytest.approx(1, abs=1e-5)


def test_gradient_correlation_sees_nothing_outside_the_mask():
    x, y = image(0), image(0)
    y[:, :, :8] = 7.0
    mask = ONES.clone()
    mask[:, :, :8] = 0
    assert float(gradient_correlation_loss(y, x, mask)) == pytest.approx(0, abs=1e-5)


def test_an_empty_channel_costs_one_and_has_a_finite_gradient():
    flat = torch.zeros(1, 1, 24, 16, requires_grad=True)
    loss = gradient_correlation_loss(flat, image(shape=(1, 1, 24, 16)), ONES[:1])
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert torch.isfinite(flat.grad).all()


def judged(*scores):
    return [[torch.zeros(1, 3, 2, 2), torch.full((1, 1, 2, 2), score)] for score in scores]


def test_least_squares_sums_the_squared_distances_of_the_scales():
    assert float(adversarial_loss(judged(0.5, 3.0), real=True)) == pytest.approx(0.25 + 4)
    assert float(adversarial_loss(judged(0.5, 3.0), real=False)) == pytest.approx(0.25 + 9)


def test_log_form_is_the_cross_entropy():
    assert float(adversarial_loss(judged(0.0), real=True, form="log")) == pytest.approx(math.log(2))
    sigmoid = 1 / (1 + math.exp(-1.5))
    assert float(adversarial_loss(judged(1.5), real=True, form="log")) == pytest.approx(-math.log(sigmoid))
    assert float(adversarial_loss(judged(1.5), real=False, form="log")) == pytest.approx(-math.log(1 - sigmoid))


def test_feature_matching_weighs_layers_and_holds_the_real_side():
    fake = [[torch.full((1, 2), 1.0, requires_grad=True) for _ in range(5)] for _ in range(3)]
    real = [[torch.full((1, 2), 3.0, requires_grad=True) for _ in range(5)] for _ in range(3)]
    loss = feature_matching_loss(fake, real)
    # three strided layers: four inner maps a scale, each 4 / (3 + 1) / 3 scales, and a difference of 2
    assert loss.item() == pytest.approx(3 * 4 * (1 / 3) * 2)
    loss.backward()
    assert all(value.grad is None for scale in real for value in scale)
    assert all(scale[-1].grad is None for scale in fake)
    assert all(value.grad is not None for scale in fake for value in scale[:-1])


def test_discriminator_judges_patches_at_every_scale():
    discriminator = make_discriminator(DiscriminatorConfig(), inputs=3, rng=torch.Generator().manual_seed(0))
    maps = discriminator(torch.zeros(1, 1, 64, 32), torch.zeros(1, 2, 64, 32))
    assert [[m.shape[1] for m in scale] for scale in maps] == [[64, 128, 256, 512, 1]] * 3
    # 4x4 kernels, padding 2: n -> n // 2 + 1 with stride 2, n -> n + 1 with stride 1
    assert [tuple(scale[-1].shape[2:]) for scale in maps] == [(11, 7), (7, 5), (5, 4)]


def test_pyramid_is_of_the_input():
    """The second judge, alone on the pooled input, says the same."""
    discriminator = make_discriminator(DiscriminatorConfig(4), inputs=2, rng=torch.Generator().manual_seed(0))
    xray, drr = image(0, (1, 1, 32, 32)), image(1, (1, 1, 32, 32))
    pooled = torch.nn.functional.avg_pool2d(torch.cat([xray, drr], 1), 3, 2, 1, count_include_pad=False)
    alone = discriminator.judges[1](pooled)
    assert torch.equal(discriminator(xray, drr)[1][-1], alone[-1])
