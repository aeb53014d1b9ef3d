"""Rendering on a CUDA device: volumes and images stay there, a population of poses is one launch."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from weakref import WeakKeyDictionary

import numpy as np
import torch

from bmdkit.core.device import is_interpreted, resolve_device
from bmdkit.drr.channels import BRICK, Channels
from bmdkit.drr.rays import Roi
from bmdkit.errors import PreflightError

TILE = (8, 16)
"""Rows and columns of the pixels that one program of a kernel renders."""

_uploaded: WeakKeyDictionary[Channels, dict[tuple[str, bool], Uploaded]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Uploaded:
    """Channels in a device's memory.

    Attributes:
        volume: (C, Z, Y, X), float32 or float16.
        occupied: (C, ...), uint8, its bricks.
        box: (2, 3), of `Channels.box`.
    """

    volume: torch.Tensor
    occupied: torch.Tensor
    box: np.ndarray


def find_device(name: str) -> torch.device:
    """The torch device of "cuda[:N]"; the CPU where Triton's interpreter stands in for it.

    Raises:
        PreflightError: BMD-DRR-001, there is no such device, or no `triton`.
    """
    found = resolve_device(name, renders=True)
    return torch.device("cpu" if is_interpreted() else found)


def upload(channels: Channels, device: str = "cuda", *, half: bool = False) -> Uploaded:
    """Put channels into the device's memory, once; further calls return the same.

    Args:
        channels: Volumes of at least two voxels along each axis.
        device: "cuda[:N]".
        half: Store float16: half the traffic, each value rounded to 11 bits (5e-4 relative); sums stay float32.
    """
    key = (device, half)
    kept = _uploaded.setdefault(channels, {})
    if key not in kept:
        to = find_device(device)
        volume = torch.from_numpy(np.array(channels.arrays)).to(to, torch.float16 if half else torch.float32)
        kept[key] = Uploaded(volume, torch.from_numpy(np.array(channels.occupied)).to(to), channels.box)
    return kept[key]


def make_resident(volume: torch.Tensor) -> Uploaded:
    """A volume (C, Z, Y, X) that is on the device already, with its bricks found there."""
    hit = torch.nn.functional.max_pool3d((volume != 0).float(), BRICK + 2, BRICK, padding=1, ceil_mode=True)
    box = np.stack([np.zeros(3, np.int64), np.array(volume.shape[:0:-1]) - 1])
    if hit.any():
        for axis in range(3):
            bricks = torch.nonzero(hit.amax(dim=[d for d in range(4) if d != 3 - axis]))[[0, -1], 0]
            first, last = (int(b) * BRICK for b in bricks)
            box[:, axis] = first, min(last + BRICK - 1, box[1, axis])
    return Uploaded(volume, hit.to(torch.uint8), box)


def march(
    uploaded: Uploaded, views: np.ndarray, windows: np.ndarray, within: Roi, tile: tuple[int, int] = TILE
) -> torch.Tensor:
    """Sum the samples of every ray of a population of poses in one launch.

    Args:
        uploaded: Volumes on the device.
        views: As in `cpu.march`.
        windows: As in `cpu.march`.
        within: Part of the detector that is rendered.
        tile: Rows and columns of the pixels of one program, powers of two; the images do not depend on it.

    Returns:
        (P, C, rows, columns), float32, on the device.
    """
    volume = uploaded.volume
    images = torch.zeros((len(views), len(volume), *within[2:]), dtype=torch.float32, device=volume.device)
    _kernels().render[_launch(images, tile)](
        volume,
        uploaded.occupied,
        *_tensors(volume, views, windows),
        images,
        *_sizes(volume, within),
        *_layers(uploaded),
        *tile,
    )
    return images


def views_gradient(
    uploaded: Uploaded, views: np.ndarray, windows: np.ndarray, within: Roi, weights: torch.Tensor
) -> torch.Tensor:
    """(P, 27), float64: the derivative of sum(weights * images) by the views, as in `cpu_gradient`."""
    volume = uploaded.volume
    tiles, channels, poses = grid = _launch(weights)
    parts = torch.zeros((poses, channels, tiles, 27), dtype=torch.float64, device=volume.device)
    _kernels().views_gradient[grid](
        volume,
        uploaded.occupied,
        *_tensors(volume, views, windows),
        weights.contiguous(),
        parts,
        *_sizes(volume, within),
        *_layers(uploaded),
        *TILE,
    )
    return parts.sum(dim=(1, 2))


def derive(uploaded: Uploaded, view: np.ndarray, tangents: np.ndarray, window: np.ndarray, within: Roi) -> torch.Tensor:
    """(K, C, rows, columns), float32, on the device: the derivatives of one image, as `cpu_gradient.derive`."""
    volume = uploaded.volume
    shape = (len(tangents), len(volume), *within[2:])
    images = torch.zeros(shape, dtype=torch.float32, device=volume.device)
    _kernels().derive[_launch(images[:1])](
        volume,
        uploaded.occupied,
        *_tensors(volume, view, window),
        torch.from_numpy(tangents).to(volume.device),
        images,
        *_sizes(volume, within),
        *_layers(uploaded),
        len(tangents),
        *TILE,
    )
    return images


def backproject(
    volume: torch.Tensor, views: np.ndarray, windows: np.ndarray, within: Roi, images: torch.Tensor
) -> None:
    """Add to `volume` (C, Z, Y, X) the adjoint of the march applied to images; the order of the sums is not fixed."""
    _kernels().backproject[_launch(images)](
        volume, *_tensors(volume, views, windows), images.contiguous(), *_sizes(volume, within), *TILE
    )


def _kernels() -> ModuleType:
    try:
        from bmdkit.drr import kernels
    except ImportError as error:
        raise PreflightError("BMD-DRR-001", "the package triton is not installed.") from error
    return kernels


def _launch(images: torch.Tensor, tile: tuple[int, int] = TILE) -> tuple[int, int, int]:
    poses, channels, rows, columns = images.shape
    return -(-rows // tile[0]) * -(-columns // tile[1]), channels, poses


def _tensors(volume: torch.Tensor, views: np.ndarray, windows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    on = volume.device
    return torch.from_numpy(views).to(on), torch.from_numpy(windows.astype(np.int32)).to(on)


def _sizes(volume: torch.Tensor, within: Roi) -> tuple[int, ...]:
    _, nz, ny, nx = volume.shape
    return nx, ny, nz, *within


def _layers(uploaded: Uploaded) -> tuple[int, int]:
    """First and last layer of bricks along whatever axis."""
    return int(uploaded.box[0].min()) // BRICK, int(uploaded.box[1].max()) // BRICK
