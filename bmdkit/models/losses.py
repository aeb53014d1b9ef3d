"""Losses: intensities and edges, the judgement of the discriminators, overlap of segmentations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Adversarial = Literal["least_squares", "log"]


def masked_l1(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference over the pixels of each image's mask, averaged over the images.

    Gu et al. 2023 print a norm over all pixels: a sum, which depends on the size of the image, and which knows no mask.
    What is no image in a radiograph has nothing to be learnt from, and the mean keeps the weights of any size.

    Args:
        predicted: (B, C, H, W).
        target: (B, C, H, W).
        mask: (B, 1, H, W), 1 where the radiograph is image.
    """
    mask = mask.to(predicted.dtype)
    total = ((predicted - target).abs() * mask).sum((1, 2, 3))
    return (total / (mask.sum((1, 2, 3)) * predicted.shape[1]).clamp_min(1.0)).mean()


def gradient_correlation_loss(predicted: Tensor, target: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """1 - 1/2 (NCCx + NCCy): 0 for equal edges, 1 for unrelated, 2 for opposite; averaged over images and channels.

    The gradients are central differences; a pixel counts where both of its neighbours lie in the mask. Equal up to gain
    and offset is equal. Always computed in single precision. A channel without edges gives 1.

    Two departures from Gu et al. 2023: the sum of losses printed there adds the correlation, which has to be maximised,
    with a plus sign, so 1 less it is minimised here; and the gradients, of which the paper names no kind, are central
    differences where the authors' code takes absolute Sobel filters, whose smoothing reaches over the mask's border.

    Args:
        predicted: (B, C, H, W).
        target: (B, C, H, W).
        mask: (B, 1, H, W).
        eps: Number added to the variances of the gradients.

    Source: Penney et al. 1998, doi 10.1109/42.730403; as a loss Hiasa et al. 2018, doi 10.1007/978-3-030-00536-8_4.
    """
    predicted, target, mask = predicted.float(), target.float(), mask.float()
    correlation = torch.zeros((), device=predicted.device)
    for axis in (-1, -2):
        valid = _before(mask, axis) * _after(mask, axis)
        p = _after(predicted, axis) - _before(predicted, axis)
        t = _after(target, axis) - _before(target, axis)
        correlation = correlation + _normalised_correlation(p, t, valid, eps)
    return 1.0 - 0.5 * correlation.mean()


def _before(x: Tensor, axis: int) -> Tensor:
    return x.narrow(axis, 0, x.shape[axis] - 2)


def _after(x: Tensor, axis: int) -> Tensor:
    return x.narrow(axis, 2, x.shape[axis] - 2)


def _normalised_correlation(a: Tensor, b: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Pearson's correlation over the last two axes, weighted: (B, C)."""
    n = weight.sum((-2, -1), keepdim=True).clamp_min(1.0)
    a = (a - (a * weight).sum((-2, -1), keepdim=True) / n) * weight
    b = (b - (b * weight).sum((-2, -1), keepdim=True) / n) * weight
    n = n[..., 0, 0]
    variances = ((a * a).sum((-2, -1)) / n + eps) * ((b * b).sum((-2, -1)) / n + eps)
    return (a * b).sum((-2, -1)) / n / variances.sqrt()


def adversarial_loss(judged: list[list[Tensor]], *, real: bool, form: Adversarial = "least_squares") -> Tensor:
    """How far the scores are from what they should be, summed over the scales.

    Args:
        judged: What the discriminator gave; the last map of each scale holds the scores.
        real: Whether the scores should say real (target 1) or generated (target 0).
        form: Squared distance to the target, or the cross-entropy of the scores as logits (the paper's log form).
    """
    total = torch.zeros((), device=judged[0][-1].device)
    for maps in judged:
        scores = maps[-1].float()
        if form == "least_squares":
            total = total + ((scores - float(real)) ** 2).mean()
        else:
            total = total + nn.functional.softplus(-scores if real else scores).mean()
    return total


def feature_matching_loss(judged_fake: list[list[Tensor]], judged_real: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference of the discriminators' inner maps, the real side held fixed.

    Every layer but the last counts 4 / (n_layers + 1) / (number of scales), n_layers being the strided layers. With
    three scales that is a third of the sum over discriminators that Gu et al. 2023 print. Pix2PixHD and the authors'
    code compute it so, and the weight of 10 is theirs.

    Source: Wang et al. 2018 (Pix2PixHD), doi 10.1109/CVPR.2018.00917, and its published weights.
    """
    total = torch.zeros((), device=judged_fake[0][0].device)
    for fake, real in zip(judged_fake, judged_real, strict=True):
        weight = 4.0 / (len(fake) - 1) / len(judged_fake)
        for f, r in zip(fake[:-1], real[:-1], strict=True):
            total = total + weight * (f.float() - r.detach().float()).abs().mean()
    return total


def soft_dice_loss(scores: Tensor, shares: Tensor) -> Tensor:
    """1 - the Dice of the class probabilities over the batch, averaged over the classes that are in it.

    What both have of a pixel is the smaller of probability and share, so that it is 0 where they are equal, whatever
    the share; of a pixel of one class alone it is their product.

    The background does not count. Nor does a class that is nowhere in the batch: its Dice is 0 until the last trace of
    it is gone from every pixel, a push that outweighs all others and that cross-entropy gives in proportion.

    Args:
        scores: (B, C, H, W), before the softmax.
        shares: (B, C, H, W), what each class has of each pixel; the sum over the classes is 1.

    Source: Milletari et al. 2016, doi 10.1109/3DV.2016.79; of shares, Wang et al. 2023, arXiv 2303.16296.
    """
    probability = torch.softmax(scores.float(), dim=1)[:, 1:]
    truth = shares[:, 1:].to(probability.dtype)
    both = torch.minimum(probability, truth).sum((0, 2, 3))
    size = truth.sum((0, 2, 3))
    dice = 2.0 * both / (probability.sum((0, 2, 3)) + size).clamp(min=1.0)
    present = (size > 0).to(dice.dtype)
    return (present * (1.0 - dice)).sum() / present.sum().clamp(min=1.0)
