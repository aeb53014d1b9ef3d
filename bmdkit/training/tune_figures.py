"""Figures of a network on the tune patients after every epoch; the first of them decides which epoch is the best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from bmdkit.evaluation.agreement import pearson
from bmdkit.evaluation.image_metrics import mean_above, multi_threshold_dice, psnr_db
from bmdkit.models.losses import gradient_correlation_loss, masked_l1
from bmdkit.training.bone_density import TASKS
from bmdkit.training.pair_batches import PairTensors, unscale_density
from bmdkit.training.settings import DecompositionConfig
from bmdkit.training.watch import LOSS, Measure

BATCH = 16
"""Images computed at a time."""


def watch_projections(tune: PairTensors, config: DecompositionConfig, device: torch.device) -> Measure:
    """Make the measure of a decomposition.

    The loss is that of the training without discriminators: weighted L1 and gradient correlation. Beside it stand the
    PSNR, and how well the mean of the projection over the fallback threshold goes with the true one's and with BMD.

    Args:
        tune: Pairs of the tune patients.
        config: Settings of the training.
        device: Device of the network.
    """
    weights, threshold = config.losses, config.bmd.fallback_threshold_g_cm2
    everything = torch.arange(len(tune))

    @torch.inference_mode()
    def measure(network: nn.Module) -> Mapping[str, float]:
        losses = np.zeros(2)
        images = []
        for places in everything.split(BATCH):
            batch = tune.take(places, device)
            predicted = network(batch["xray"]).float()
            parts = (
                masked_l1(predicted, batch["drr"], batch["mask"]),
                gradient_correlation_loss(predicted, batch["drr"], batch["mask"]),
            )
            losses += [float(part) * len(places) / len(tune) for part in parts]
            images.append(torch.where(batch["mask"] > 0, unscale_density(predicted, tune.scale_g_cm2), 0.0).cpu())
        found = {
            LOSS: float(losses @ (weights.l1, weights.gradient_correlation)),
            "tune_l1": float(losses[0]),
            "tune_gradient_correlation": float(losses[1]),
        }
        return found | describe_projections(torch.cat(images), tune, threshold)

    return measure


def describe_projections(images: Tensor, tune: PairTensors, threshold_g_cm2: float) -> dict[str, float]:
    """PSNR and Dice of projections, and correlations of their means over a threshold; NaN where one is not defined.

    Args:
        images: (N, C, H, W), g/cm2, predicted for `tune`, 0 outside the masks.
        tune: The pairs.
        threshold_g_cm2: Pixels below it do not count.
    """
    inside = (tune.mask > 0).cpu().numpy()
    targets, predictions = np.where(inside, tune.drr.float().cpu().numpy(), 0.0), images.numpy()
    psnr = [
        psnr_db(one[np.broadcast_to(mask, one.shape)], true[np.broadcast_to(mask, one.shape)], peak=tune.scale_g_cm2)
        for one, true, mask in zip(predictions, targets, inside, strict=True)
    ]
    means, true_means = (
        np.array([mean_above(image, threshold_g_cm2) for image in some]) for some in (predictions, targets)
    )
    alike = [
        multi_threshold_dice(one, true, maximum=tune.scale_g_cm2)
        for one, true in zip(predictions, targets, strict=True)
    ]
    found = {"tune_psnr_db": float(np.mean(psnr)), "tune_dice": float(np.mean(alike))}
    found["tune_mean_pcc"] = pearson(means, true_means)
    for task in TASKS if tune.pairs[0].dataset == "B" else ():
        bmd = tune.bmd(task)
        known = np.isfinite(bmd)
        found[f"tune_{task}_pcc"] = pearson(means[known], bmd[known]) if known.sum() > 2 else float("nan")
    return found
