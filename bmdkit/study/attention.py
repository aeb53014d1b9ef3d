"""Where a regression looks: what each place of the fused map adds to, or takes from, the predicted BMD."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from bmdkit.models.regression_head import Regressor

BLUR = 2.0
"""Places; the head takes two maxima of 3x3 places in turn, which leave every other place without a gradient."""


@torch.no_grad()
def fused_maps(encoder: nn.Module, xrays: Tensor, *, batch_size: int = 8) -> Tensor:
    """What an encoder makes of radiographs.

    Args:
        encoder: Network up to the fused map; put in evaluation mode.
        xrays: (N, 1, H, W) in [-1, 1], H and W the run's image size.
        batch_size: Images at a time.

    Returns:
        (N, C, H / 4, W / 4), float32 on the CPU.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    return torch.cat([encoder(part.to(device, torch.float32)).float().cpu() for part in xrays.split(batch_size)])


def mean_maps(encoder: nn.Module, xrays: Tensor, *, batch_size: int = 8) -> Tensor:
    """Fused maps averaged over all places, (N, C); see `fused_maps`. No more than one batch of maps is held."""
    parts = [fused_maps(encoder, part, batch_size=batch_size).mean((2, 3)) for part in xrays.split(batch_size)]
    return torch.cat(parts)


def attention_maps(
    head: nn.Module, fused: Tensor, size: tuple[int, int], *, blur: float = BLUR, batch_size: int = 8
) -> Tensor:
    """|gradient x activation summed over channels| of the fused map, at the size of the radiograph.

    A stand-in for FullGrad (Srinivas and Fleuret 2019, arXiv 1905.00780), which the paper shows: that is exact only
    for networks of ReLU and convolutions, and neither the transformers nor their norms are such. As FullGrad does, it
    takes the absolute value: what lowers the BMD counts as much as what raises it. It knows how much a place matters
    to the head, not how far around that place the encoder has looked. It is one gradient and one product: the libraries
    of this family hook into layers of a whole classifier, where here the map is at hand and the head alone is derived.

    Args:
        head: Network from the fused map to (B,); put in evaluation mode.
        fused: (N, C, h, w).
        size: (rows, columns) of the result.
        blur: Standard deviation, in places of the map, of the Gaussian that the result is smoothed with; 0: not at all.
        batch_size: Images at a time.

    Returns:
        (N, rows, columns), 0 or more, float32 on the CPU, in standard deviations of the training BMD per place.

    Source: Draelos and Carin 2020 (HiResCAM), doi 10.48550/arXiv.2011.08891; of the family of Grad-CAM, Selvaraju et
        al. 2017, doi 10.1109/ICCV.2017.74.
    """
    head.eval()
    device = next((p.device for p in head.parameters()), fused.device)
    found = []
    for part in fused.split(batch_size):
        seen = part.detach().to(device, torch.float32).requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(head(seen).sum(), seen)
        added = (gradient * seen.detach()).sum(1).abs().cpu().numpy()
        smooth = np.stack([ndimage.gaussian_filter(one, blur, mode="constant") for one in added])[:, None]
        found.append(nn.functional.interpolate(torch.from_numpy(smooth), size, mode="bilinear")[:, 0])
    return torch.cat(found)


def attention_of(network: Regressor, xrays: Tensor) -> Tensor:
    """Attention of a regression over radiographs (N, 1, H, W) in [-1, 1]: (N, H, W); see `attention_maps`."""
    rows, columns = xrays.shape[-2:]
    return attention_maps(network.head, fused_maps(network.encoder, xrays), (rows, columns))
