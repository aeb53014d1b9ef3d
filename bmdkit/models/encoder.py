"""What all encoders have in common: a radiograph in, a map at a quarter of its resolution out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLACK = -1.0
"""A scaled radiograph where it is no image, or where nothing was exposed."""

LEAST_SPREAD = 0.05
"""Standard deviation of the flattest radiograph that is still brought to 1, of a range of 2."""


class Encoder(nn.Module):
    """A network from a radiograph (B, 1, H, W), in [-1, 1], to a fused map (B, channels, H / 4, W / 4).

    Args:
        channels: Channels of the fused map.
        stride: Both sides of a radiograph are multiples of it.
        standardised: Whether each radiograph is brought to mean 0 and standard deviation 1 first.

    Attributes:
        channels, stride, standardised: Values as given.
    """

    def __init__(self, channels: int, stride: int, *, standardised: bool = False) -> None:
        """Remember the sizes."""
        super().__init__()
        self.channels, self.stride, self.standardised = channels, stride, standardised

    def features(self, xray: Tensor) -> tuple[Tensor, ...]:
        """The fused map, and finer ones that the decoder of the same network needs."""
        raise NotImplementedError

    def features_and_levels(self, xray: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The maps of `features`, and all further ones on the way to them that say more than these; none by default."""
        return self.features(xray), ()

    def maps(self, xray: Tensor) -> tuple[Tensor, ...]:
        """The fused map and finer ones of a radiograph as it is given.

        Raises:
            ValueError: A side is no multiple of the stride.
        """
        return self.features(self._prepared(xray))

    def maps_and_levels(self, xray: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The same, and all further maps on the way to them.

        Raises:
            ValueError: A side is no multiple of the stride.
        """
        return self.features_and_levels(self._prepared(xray))

    def _prepared(self, xray: Tensor) -> Tensor:
        """A radiograph of sides that fit, standardised where the network takes it so."""
        rows, columns = xray.shape[-2:]
        if rows % self.stride or columns % self.stride:
            raise ValueError(f"xray: expected sides in multiples of {self.stride}, got {rows} x {columns}")
        return standardise(xray) if self.standardised else xray

    def forward(self, xray: Tensor) -> Tensor:
        """(B, 1, H, W) to the fused map (B, channels, H / 4, W / 4)."""
        return self.maps(xray)[0]

    def initialise(self, rng: torch.Generator) -> None:
        """Draw first weights of its own rule, if the encoder has one; called after the common rule."""


def standardise(xray: Tensor) -> Tensor:
    """Bring each radiograph to mean 0 and standard deviation 1 over its image; what is black does not count.

    The result is the same for a radiograph that is brighter or of more contrast by a factor, as long as its standard
    deviation is `LEAST_SPREAD` or more. One that shows nothing stays near 0: a single huge value would be remembered
    by batch norms for hundreds of steps.

    Args:
        xray: (B, 1, H, W), in [-1, 1], -1 where it is no image.

    Returns:
        (B, 1, H, W); the place of -1 is that of a black pixel.
    """
    values = xray.float()
    inside = (values > BLACK).to(values.dtype)
    seen = inside.sum((1, 2, 3), keepdim=True)
    count = seen.clamp(min=1.0)
    mean = torch.where(seen > 0, (values * inside).sum((1, 2, 3), keepdim=True) / count, BLACK)
    variance = ((values - mean).square() * inside).sum((1, 2, 3), keepdim=True) / count
    return ((values - mean) / variance.sqrt().clamp(min=LEAST_SPREAD)).to(xray.dtype)
