"""Labels of a CT and how sure the network is of them: many draws of its dropout, slice by slice.

Only the running mean and spread of the draws are kept, and only of a few slices at a time: beyond the results, a long
CT takes no more memory than a short one. What is dropped depends on the seed, the slice and the draw alone, not on how
many slices are computed together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.models.bayesian_unet import MULTIPLE, BayesianUNet
from bmdkit.models.folded_unet import FoldedUNet
from bmdkit.segmentation.body import body_box, whole_box
from bmdkit.segmentation.model import VALUES, SegmentationModel, require_precision
from bmdkit.segmentation.settings import Precision, PredictConfig

_NEARLY = 1.2  # pixels within this factor of the right size are left as they are


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of a CT, on its grid.

    Attributes:
        labels: The class of the largest mean probability; both femurs share one value.
        variance: Unbiased variance of the probabilities over the draws, averaged over the classes; at most
            0.25 T / (T - 1). None for one draw, which has no variance.
        entropy: Entropy of the mean probabilities, nats; None unless asked for.
    """

    labels: LabelMap
    variance: Volume | None
    entropy: Volume | None = None


def predict(
    ct: Volume,
    model: SegmentationModel,
    config: PredictConfig | None = None,
    *,
    seed: int = 0,
    on_slice: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Segment a CT.

    Args:
        ct: HU; its axes run as those of `io.ct.read_ct`.
        model: The network.
        config: How.
        seed: Seed of the dropout.
        on_slice: Called with the slices done and all slices.

    Raises:
        PreflightError: The device does not compute with the precision that is asked for (BMD-SEG-006).

    Source: Hiasa et al. 2020, doi 10.1109/TMI.2019.2940555.
    """
    config = PredictConfig() if config is None else config
    box = body_box(ct) if config.crop_to_body else whole_box(ct)
    labels = np.zeros(ct.grid.shape, np.uint8)
    variance = np.zeros(ct.grid.shape, np.float32) if config.passes > 1 else None
    entropy = np.zeros(ct.grid.shape, np.float32) if config.entropy else None
    plane = box[1:]
    shape = plane[0].stop - plane[0].start, plane[1].stop - plane[1].start
    total = box[0].stop - box[0].start
    for k, mean, spread in _between(_computed(ct, model, config, box, seed)):
        mean, spread = (_to_size(x[None], shape)[0] for x in (mean, spread))
        labels[k][plane] = mean.max(0).indices.to(torch.uint8).cpu().numpy()  # argmax takes eight times as long
        if variance is not None:
            variance[k][plane] = spread[0].cpu().numpy()
        if entropy is not None:
            entropy[k][plane] = -torch.special.xlogy(mean, mean).sum(0).cpu().numpy()
        if on_slice is not None:
            on_slice(k - box[0].start + 1, total)
    return Prediction(
        LabelMap(labels, ct.grid, VALUES),
        None if variance is None else Volume(variance, ct.grid, "uncertainty"),
        None if entropy is None else Volume(entropy, ct.grid, "uncertainty"),
    )


@torch.inference_mode()
def moments(
    network: BayesianUNet | FoldedUNet, images: Tensor, slices: Sequence[int], *, passes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Mean of the class probabilities over the draws, and their unbiased variance averaged over the classes.

    The sum of the squares is divided by one less than the number of draws, so that its expectation does not depend on
    that number. The variance of one draw is not defined and given as 0.

    Args:
        network: In evaluation mode. What comes before its first dropout is computed once for all draws.
        images: (B, 1, H, W), scaled; sides as the network needs them.
        slices: (B,), numbers that with the seed decide about the dropout of each image.
        passes: Draws of the dropout.
        seed: Seed of all draws.

    Returns:
        (B, classes, H, W) and (B, 1, H, W), float32.

    Source: Welford 1962, doi 10.1080/00401706.1962.10490022.
    """
    first = network.first(images)
    mean = torch.zeros((), device=images.device)
    squares = torch.zeros((), device=images.device)
    for draw in range(passes):
        rngs = [_generator(seed, number, draw, images.device) for number in slices]
        probability = torch.softmax(network.above(first, rngs).float(), dim=1)
        apart = probability - mean
        mean = mean + apart / (draw + 1)
        squares = squares + apart * (probability - mean)
    return mean, (squares / max(passes - 1, 1)).mean(1, keepdim=True)


def drawing_network(model: SegmentationModel, precision: Precision = "float32") -> BayesianUNet | FoldedUNet:
    """The network in the form that draws fastest on its device: folded on a processor.

    Args:
        model: The network.
        precision: Numbers to compute with.

    Raises:
        PreflightError: The device has no arithmetic of that precision (BMD-SEG-006).
    """
    require_precision(precision, model.device)
    network = model.network.eval()
    if model.device.type != "cpu":
        return network
    return FoldedUNet(network, torch.bfloat16 if precision == "bf16" else torch.float32)


def working_factor(grid: Grid, pixel_mm: float | None) -> float:
    """By how much slices are enlarged for the network; 1 where their pixels are nearly right.

    Bringing a pixel to one of nearly its size blurs the bone's edge and gains nothing: the network has seen as much
    variation in training.
    """
    if pixel_mm is None:
        return 1.0
    factor = float(grid.spacing_mm[:2].mean()) / pixel_mm
    return 1.0 if abs(math.log(factor)) < math.log(_NEARLY) else factor


def to_working_size(images: Tensor, factor: float) -> Tensor:
    """(B, 1, H, W) slices brought to the network's scale, anti-aliased."""
    if factor == 1.0:
        return images
    shape = [max(round(n * factor), 1) for n in images.shape[-2:]]
    return functional.interpolate(images, shape, mode="bilinear", align_corners=False, antialias=True)


def _computed(
    ct: Volume, model: SegmentationModel, config: PredictConfig, box: tuple[slice, slice, slice], seed: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(slice, mean, variance) at the network's scale of every n-th slice of the box, and of its last."""
    factor = working_factor(ct.grid, config.pixel_mm or model.pixel_mm)
    first, last = box[0].start, box[0].stop - 1
    chosen = sorted({*range(first, last + 1, config.slice_stride), last})
    network = drawing_network(model, config.precision)
    together = 1 if isinstance(network, FoldedUNet) else config.batch_slices
    for start in range(0, len(chosen), together):
        numbers = chosen[start : start + together]
        hu = ct.array[numbers][:, box[1], box[2]].astype(np.float32)
        images = to_working_size(model.scale(torch.from_numpy(hu).to(model.device))[:, None], factor)
        rows, columns = images.shape[-2:]
        padded = functional.pad(images, (0, _padding(columns), 0, _padding(rows)))
        mean, variance = moments(network, padded, numbers, passes=config.passes, seed=seed)
        yield from zip(numbers, mean[..., :rows, :columns], variance[..., :rows, :columns], strict=True)


def _between(computed: Iterator[tuple[int, Tensor, Tensor]]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The same with the slices that were left out, interpolated linearly."""
    before = None
    for k, mean, variance in computed:
        if before is not None:
            for between in range(before[0] + 1, k):
                weight = (between - before[0]) / (k - before[0])
                yield between, torch.lerp(before[1], mean, weight), torch.lerp(before[2], variance, weight)
        yield k, mean, variance
        before = (k, mean, variance)


def _to_size(images: Tensor, shape: tuple[int, int]) -> Tensor:
    if tuple(images.shape[-2:]) == shape:
        return images
    return functional.interpolate(images, shape, mode="bilinear", align_corners=False)


def _padding(count: int) -> int:
    return max(-(-count // MULTIPLE) * MULTIPLE, 2 * MULTIPLE) - count


def _generator(seed: int, number: int, draw: int, device: torch.device) -> torch.Generator:
    state = np.random.SeedSequence([seed, number, draw]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> 1))
