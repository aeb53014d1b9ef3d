"""Smooth random fields in the patient, of which texture, drift and deformations are made."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.special import erf

from bmdkit.core.grid import Grid

_REACH = 5.0  # standard deviations of the kernel, beyond which it is left out


def draw_smooth_noise(grid: Grid, length_mm: ArrayLike, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field of unit variance, averaged over each voxel of a grid along LPS.

    It is noise at the points of a lattice that is fixed in space, seen through a Gaussian kernel. Its value at a place
    follows from the generator and the place alone: grids of other voxels or of another extent show the same field, and
    one number is drawn of the generator whatever the grid.

    Args:
        grid: Grid whose axes run along LPS.
        length_mm: Width of the features, along all axes or along each of the array's (slices, rows, columns).
        rng: Random generator.

    Returns:
        float32, of the grid's shape.
    """
    if not np.allclose(grid.direction, np.eye(3)):
        raise ValueError("grid: expected axes along LPS")
    pitches = np.broadcast_to(np.asarray(length_mm, float), 3) / 1.5
    firsts, kernels = [], []
    for axis, pitch in enumerate(pitches):
        step = grid.spacing_mm[2 - axis]
        middles = grid.origin_mm[2 - axis] + step * np.arange(grid.shape[axis])
        first = int(np.floor((middles[0] - step / 2) / pitch - _REACH))
        last = int(np.ceil((middles[-1] + step / 2) / pitch + _REACH))
        away = middles[:, None] / pitch - np.arange(first, last + 1)
        firsts.append(first)
        kernels.append(_average_kernel(away, step / pitch))
    shape = tuple(kernel.shape[1] for kernel in kernels)
    field = _draw_lattice(np.uint64(rng.integers(2**63)), np.array(firsts), np.empty(shape, np.float32))
    for axis, kernel in enumerate(kernels):  # sparse: faster, and the same bytes whatever the number of threads
        lines = np.moveaxis(field, axis, 0)
        averaged = sparse.csr_array(kernel) @ lines.reshape(len(lines), -1)
        field = np.moveaxis(averaged.reshape(-1, *lines.shape[1:]), 0, axis)
    return np.ascontiguousarray(field)


def _average_kernel(away: np.ndarray, width: float) -> np.ndarray:
    """Mean of the kernel over a voxel at a distance from a lattice point, both in standard deviations, float32.

    The squares of its values at the points of the lattice sum to 1: the field has unit variance at a point.
    """
    high, low = (away + width / 2) / np.sqrt(2), (away - width / 2) / np.sqrt(2)
    mean = np.sqrt(np.pi / 2) * (erf(high) - erf(low)) / width
    return np.where(np.abs(away) < _REACH + width / 2, mean / np.pi**0.25, 0).astype(np.float32)


@njit(cache=True)
def _draw_lattice(seed, first, out):
    """Numbers of zero mean and unit variance, evenly distributed, that follow from the seed and the place alone."""
    scale = np.float32(np.sqrt(12.0) / 2.0**24)
    middle = np.float32(2.0**23)
    for k in range(out.shape[0]):
        slices = _mix(seed ^ np.uint64(first[0] + k))
        for j in range(out.shape[1]):
            row = _mix(slices ^ np.uint64(first[1] + j))
            for i in range(out.shape[2]):
                bits = _mix(row ^ np.uint64(first[2] + i)) >> np.uint64(40)
                out[k, j, i] = (np.float32(bits) + np.float32(0.5) - middle) * scale
    return out


@njit(cache=True, inline="always")
def _mix(value):
    """Scramble 64 bits. Source: Steele et al. 2014, SplitMix64, doi 10.1145/2660193.2660195."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
