"""A Bayesian U-Net made ready for many draws on a processor: the same scores, with less beside the convolutions.

The batch norms are folded into the convolutions, and so is the factor that makes up for what a dropout drops. ReLU and
dropout are one pass over the values. Every convolution reads from a buffer that has its border already, and the
buffers are used again by the next draw. What is dropped is what `BayesianUNet` drops with the same generators.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bmdkit.models.bayesian_unet import BayesianUNet, Block, draw_bytes, dropped_below, require_sides


class FoldedUNet:
    """The draws of a trained `BayesianUNet`, for inference on the CPU; the network itself is left as it is.

    It takes the network's weights as they are now, and the statistics that its batch norms have kept. Not for several
    threads at a time: the buffers are its own.

    Args:
        network: On the CPU, in evaluation mode.
        dtype: float32, or bfloat16: half the bits, and three fifths of the time where the processor has arithmetic
            of it. Probabilities then differ by up to a tenth, seldom by more than a hundredth.

    Example:
        >>> from bmdkit.models.bayesian_unet import UNetConfig
        >>> network = BayesianUNet(4, UNetConfig(filters=4)).eval()
        >>> folded, image, rng = FoldedUNet(network), torch.rand(1, 1, 32, 32), torch.Generator
        >>> with torch.inference_mode():
        ...     one = network(image, [rng().manual_seed(0)])
        ...     other = folded.above(folded.first(image), [rng().manual_seed(0)])
        >>> torch.allclose(one, other, atol=1e-4)
        True
    """

    def __init__(self, network: BayesianUNet, dtype: torch.dtype = torch.float32) -> None:
        """Fold the layers."""
        self._dtype = dtype
        self._least = dropped_below(network.config.dropout)
        factor = 1.0 / (1.0 - self._least / 256)
        # all but the first block read what was dropped from; those on the way up, in the first half of their channels
        down, merge = ([cast(Block, block) for block in blocks] for blocks in (network.down, network.merge))
        self._down = [self._fold(block, factor if n else 1.0, whole=True) for n, block in enumerate(down)]
        self._merge = [self._fold(block, factor, whole=False) for block in merge]
        ups = [cast(nn.ConvTranspose2d, up) for up in network.up]
        self._up = [((up.weight.detach() * factor).to(dtype), _bias(up).to(dtype)) for up in ups]
        self._last = self._cast(network.last.weight.detach() * factor, _bias(network.last))
        self._buffers: dict[tuple[str, torch.Size], Tensor] = {}

    def _fold(self, block: Block, factor: float, *, whole: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights and biases of the two convolutions, the first one's for inputs that lack `factor`.

        Args:
            block: The layers.
            factor: What the values of the inputs are to be multiplied by.
            whole: All of the inputs, or the first half of the channels.
        """
        folded: list[Tensor] = []
        for at in (0, 3):
            fused = fuse_conv_bn_eval(cast(nn.Conv2d, block[at]), cast(nn.BatchNorm2d, block[at + 1]))
            folded += [fused.weight.detach(), _bias(fused)]
        channels = folded[0].shape[1]
        folded[0][:, : channels if whole else channels // 2] *= factor
        return *self._cast(*folded[:2]), *self._cast(*folded[2:])

    def _cast(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return weight.to(self._dtype).contiguous(memory_format=torch.channels_last), bias.to(self._dtype)

    def first(self, x: Tensor) -> Tensor:
        """The first block, before any dropout: the same for every draw.

        Args:
            x: (B, inputs, H, W), as `BayesianUNet` takes it.
        """
        require_sides(x)
        padded = functional.pad(x.to(self._dtype), (1, 1, 1, 1), mode="reflect")
        return self._block(padded, self._down[0]).clamp_min_(0.0)

    def above(self, x: Tensor, rngs: Sequence[torch.Generator]) -> Tensor:
        """All that follows `first`, one draw of the dropout.

        Args:
            x: What `first` gave; unchanged.
            rngs: One generator per image.

        Returns:
            (B, classes, H, W), before the softmax.
        """
        x = self._drop(x.clone(), rngs)
        kept = []
        for layers in self._down[1:]:
            batch, channels, rows, columns = x.shape
            joined = self._padded("joined", (batch, 2 * channels, rows, columns))
            _inside(joined)[:, :channels].copy_(x)
            kept.append(joined)
            pooled = self._padded("pooled", (batch, channels, rows // 2, columns // 2))
            wide = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
            torch.maximum(wide[..., ::2], wide[..., 1::2], out=_inside(pooled))
            x = self._drop(self._block(_reflect(pooled), layers), rngs)
        for (weight, bias), layers in zip(self._up, self._merge, strict=True):
            joined = kept.pop()
            raised = functional.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)
            _inside(joined)[:, raised.shape[1] :].copy_(raised)
            x = self._drop(self._block(_reflect(joined), layers), rngs)
        padded = self._padded("block", x.shape)
        _inside(padded).copy_(x)
        return functional.conv2d(_reflect(padded), *self._last)

    def _block(self, padded: Tensor, layers: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Two convolutions with a ReLU between them; the second one's ReLU is left to the caller."""
        x = functional.conv2d(padded, *layers[:2])
        between = self._padded("block", x.shape)
        torch.clamp_min(x, 0.0, out=_inside(between))
        return functional.conv2d(_reflect(between), *layers[2:])

    def _drop(self, x: Tensor, rngs: Sequence[torch.Generator]) -> Tensor:
        """ReLU and dropout, in place."""
        if self._least == 0:
            return x.clamp_min_(0.0)
        for image, rng in zip(x, rngs, strict=True):
            values = image.permute(1, 2, 0).view(-1)  # channels come last in memory
            if values.dtype == torch.bfloat16:  # which numpy lacks; as whole numbers they have the same signs
                values = values.view(torch.int16)
            drawn = draw_bytes(values.numel(), rng).numpy().reshape(image.shape[0], -1)
            _keep_some(values.numpy(), _by_pixel(drawn), self._least)
        return x

    def _padded(self, use: str, shape: Sequence[int]) -> Tensor:
        """A buffer for (B, C, H, W) with a border of one pixel."""
        batch, channels, rows, columns = shape
        key = use, torch.Size(shape)
        if key not in self._buffers:
            empty = torch.empty(batch, rows + 2, columns + 2, channels, dtype=self._dtype)
            self._buffers[key] = empty.permute(0, 3, 1, 2)
        return self._buffers[key]


def _by_pixel(drawn: np.ndarray) -> np.ndarray:
    """Bytes (channel, pixel) in the order of the values in memory, pixel by pixel, flat."""
    if len(drawn) % 8 or sys.byteorder != "little":
        return np.ascontiguousarray(drawn.T).reshape(-1)
    words = np.empty((drawn.shape[1], len(drawn) // 8), np.uint64)
    _gather_eights(drawn, words)
    return words.view(np.uint8).reshape(-1)


@numba.njit(cache=True, nogil=True)
def _gather_eights(drawn: np.ndarray, words: np.ndarray) -> None:
    """The bytes of eight channels as one word: a fourth of the time of turning the array about."""
    for group in range(words.shape[1]):
        rows = drawn[8 * group : 8 * group + 8]
        for n in range(words.shape[0]):
            low = np.uint64(rows[0, n]) | np.uint64(rows[1, n]) << np.uint64(8)
            low |= np.uint64(rows[2, n]) << np.uint64(16) | np.uint64(rows[3, n]) << np.uint64(24)
            high = np.uint64(rows[4, n]) | np.uint64(rows[5, n]) << np.uint64(8)
            high |= np.uint64(rows[6, n]) << np.uint64(16) | np.uint64(rows[7, n]) << np.uint64(24)
            words[n, group] = low | high << np.uint64(32)


@numba.njit(cache=True, nogil=True)
def _keep_some(values: np.ndarray, drawn: np.ndarray, least: int) -> None:
    """Zero where a value is not positive, or where its byte is below `least`; a NaN that is kept stays one."""
    zero = values.dtype.type(0)
    for n in range(values.size):
        values[n] = zero if drawn[n] < least or values[n] <= zero else values[n]


def _bias(layer: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """The bias, which every layer of the network has."""
    return cast(Tensor, layer.bias).detach()


def _inside(padded: Tensor) -> Tensor:
    """All but the border."""
    return padded[:, :, 1:-1, 1:-1]


def _reflect(padded: Tensor) -> Tensor:
    """Fill the border from the inside, as reflect padding does."""
    padded[:, :, 0].copy_(padded[:, :, 2])
    padded[:, :, -1].copy_(padded[:, :, -3])
    padded[..., 0].copy_(padded[..., 2])
    padded[..., -1].copy_(padded[..., -3])
    return padded
