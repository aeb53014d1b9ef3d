"""What is projected: one or more densities on one grid, cropped to where they are not zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import psutil
from scipy import ndimage

from bmdkit.core.grid import Grid, frozen
from bmdkit.core.volume import LabelMap, Volume, bounding_box

BRICK = 8
"""Edge of a brick of the occupancy grid, voxels."""

_TRIFLE = 64_000_000  # bytes: asking how much is free takes longer than rendering a small image


@dataclass(frozen=True, eq=False)
class Channels:
    """Densities that share one grid and one traversal; their value is 0 outside the grid.

    Attributes:
        arrays: (C, Z, Y, X), float32, read-only.
        grid: Grid of the voxels.
        names: Names, one per channel.
    """

    arrays: np.ndarray
    grid: Grid
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check shape, names and values."""
        require_memory(0 if np.asarray(self.arrays).dtype == np.float32 else 4 * np.size(self.arrays), "channels")
        arrays = frozen(np.ascontiguousarray(self.arrays, dtype=np.float32))
        if arrays.ndim != 4 or arrays.shape[0] < 1 or arrays.shape[1:] != self.grid.shape:
            raise ValueError(f"arrays: expected shape (C, {', '.join(map(str, self.grid.shape))}), got {arrays.shape}")
        object.__setattr__(self, "arrays", arrays)
        object.__setattr__(self, "names", tuple(self.names))
        if len(self.names) != len(arrays):
            raise ValueError(f"names: expected {len(arrays)}, one per channel, got {self.names}")
        if np.prod(self.grid.shape) >= 2**31:
            raise ValueError(f"arrays: expected fewer than 2^31 voxels per channel, got {self.grid.shape}")
        if not np.isfinite(arrays.sum(dtype=np.float64)):
            raise ValueError("arrays: expected finite values")

    @classmethod
    def from_volume(cls, volume: Volume, name: str = "volume") -> Channels:
        """One channel that holds the whole of a volume; float32 arrays are not copied."""
        return cls(volume.array[None], volume.grid, (name,))

    def with_two_voxels(self) -> Channels:
        """Itself, or with zeros added where it has but one voxel along an axis."""
        if min(self.grid.shape) > 1:
            return self
        grow = [(0, int(n < 2)) for n in self.grid.shape]
        slices, rows, columns = (max(n, 2) for n in self.grid.shape)
        grid = Grid((slices, rows, columns), self.grid.spacing_mm, self.grid.origin_mm, self.grid.direction)
        return Channels(np.pad(self.arrays, [(0, 0), *grow]), grid, self.names)

    def __len__(self) -> int:
        """Number of channels."""
        return len(self.arrays)

    @cached_property
    def occupied(self) -> np.ndarray:
        """(C, ceil Z/8, ceil Y/8, ceil X/8), uint8: 1 where a sample whose floor lies in the brick can be non-zero."""
        return frozen(np.stack([_occupied(array) for array in self.arrays]))

    @cached_property
    def box(self) -> np.ndarray:
        """(2, 3), first and last (column, row, slice) index of the occupied bricks' voxels.

        Raises:
            ValueError: Every voxel is zero.
        """
        if not self.occupied.any():
            raise ValueError("channels: expected at least one voxel that is not zero, got none")
        bricks = bounding_box(np.asarray(self.occupied.any(axis=0)))
        first = np.array([s.start * BRICK for s in bricks])
        last = np.minimum([s.stop * BRICK for s in bricks], self.grid.shape) - 1
        return frozen(np.stack([first, last])[:, ::-1].astype(np.int64))


def require_memory(size_bytes: int, what: str) -> None:
    """Refuse what would not fit, before the machine starts to swap.

    Raises:
        MemoryError: Less memory is free than `size_bytes`.
    """
    if size_bytes < _TRIFLE:
        return
    free = psutil.virtual_memory().available
    if size_bytes > free:
        raise MemoryError(f"{what}: {size_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def prepare_channels(
    density: Volume,
    labels: LabelMap | None = None,
    structures: Sequence[Sequence[str]] = (),
    *,
    names: Sequence[str] | None = None,
    dilate_voxels: int = 0,
    margin_voxels: int = 1,
) -> Channels:
    """Cut structures out of a density, one channel each, cropped to all of them.

    Args:
        density: Density that is projected; interpolated linearly at the labels' voxels where they have another grid.
        labels: Label map of the structures; None: one channel, the whole
            density cropped to what is not zero.
        structures: Names of label structures, one group per channel. Empty: one channel with all that `labels` has.
        names: Names of the channels; the structures' names joined by "+" if not given.
        dilate_voxels: Number of voxels by which each mask grows before cutting.
        margin_voxels: Number of voxels kept around the masks.

    Raises:
        ValueError: A channel's mask is empty.
        MemoryError: The channels would not fit into the memory that is free.
    """
    require_memory(density.array.size, "the masks")
    if labels is None:
        box = bounding_box(density.array != 0, margin_voxels)
        crop = density.crop(box)
        return Channels(crop.array[None], crop.grid, tuple(names or ("volume",)))
    groups = [tuple(group) for group in structures] or [labels.present()]
    names = tuple(names or ("+".join(group) for group in groups))
    for group in groups:
        if not labels.mask(*group).any():
            raise ValueError(f"labels: expected voxels of {' + '.join(group) or 'any structure'}, got none")
    box = bounding_box(labels.mask(*(name for group in groups for name in group)), dilate_voxels + margin_voxels)
    cropped = labels.crop(box)
    values = density.crop(box).array if density.grid == labels.grid else density.resample(cropped.grid).array
    require_memory(4 * (len(groups) + 1) * cropped.array.size, "channels")
    arrays = np.zeros((len(groups), *cropped.grid.shape), np.float32)
    for array, group in zip(arrays, groups, strict=True):
        mask = cropped.mask(*group)
        if dilate_voxels:
            mask = ndimage.binary_dilation(mask, iterations=dilate_voxels)
        np.copyto(array, values, where=mask, casting="unsafe")
    return Channels(arrays, cropped.grid, names)


def _occupied(array: np.ndarray) -> np.ndarray:
    """Bricks of BRICK^3 voxels in whose reach, one voxel around, a value is not zero; slab by slab, to spare memory."""
    slabs = [(array[max(z - 1, 0) : z + BRICK + 1] != 0).any(axis=0) for z in range(0, len(array), BRICK)]
    hit = _reduce(_reduce(np.stack(slabs), 1), 2)
    return np.ascontiguousarray(hit, dtype=np.uint8)


def _reduce(hit: np.ndarray, axis: int) -> np.ndarray:
    """Along one axis: whether any of the voxels of a brick, or of the voxel on either side of it, is set."""
    hit = np.moveaxis(hit, axis, 0)
    bricks = np.logical_or.reduceat(hit, np.arange(0, len(hit), BRICK), axis=0)
    bricks[1:] |= hit[BRICK - 1 :: BRICK][: len(bricks) - 1]
    bricks[:-1] |= hit[BRICK::BRICK]
    return np.moveaxis(bricks, 0, axis)
