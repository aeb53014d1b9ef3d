"""Smoothed image gradients, and the sums over small cells of which every local correlation is made."""

from __future__ import annotations

import numpy as np
from numba import njit

SMOOTH = np.array([1, 6, 15, 20, 15, 6, 1], np.float32) / 64
"""Five-tap binomial followed by the Sobel filter's [1 2 1] / 4."""

DERIVE = np.array([-1, -4, -5, 0, 5, 4, 1], np.float32) / 32
"""Five-tap binomial followed by the Sobel filter's [-1 0 1] / 2."""

REACH = 3
"""Pixels on either side that a gradient depends on."""

_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True, fastmath=_FAST)
def _gradients(images: np.ndarray, out: np.ndarray, smooth: np.ndarray, derive: np.ndarray) -> None:
    count, rows, cols = images.shape
    padded = np.empty(cols + 6, np.float32)
    low = np.empty((rows, cols), np.float32)
    high = np.empty((rows, cols), np.float32)
    for n in range(count):
        for r in range(rows):
            for c in range(cols):
                padded[c + 3] = images[n, r, c]
            for k in range(3):
                padded[k] = images[n, r, 0]
                padded[cols + 3 + k] = images[n, r, cols - 1]
            for c in range(cols):
                a = np.float32(0)
                b = np.float32(0)
                for k in range(7):
                    a += smooth[k] * padded[c + k]
                    b += derive[k] * padded[c + k]
                low[r, c] = a
                high[r, c] = b
        for r in range(rows):
            for c in range(cols):
                out[n, 0, r, c] = 0
                out[n, 1, r, c] = 0
            for k in range(7):
                q = min(max(r + k - 3, 0), rows - 1)
                s = smooth[k]
                d = derive[k]
                for c in range(cols):
                    out[n, 0, r, c] += s * high[q, c]
                    out[n, 1, r, c] += d * low[q, c]


def compute_gradients(images: np.ndarray) -> np.ndarray:
    """Gradients along columns and rows of images (n, rows, columns), smoothed; (n, 2, rows, columns), float32."""
    images = np.ascontiguousarray(images, np.float32)
    out = np.empty((images.shape[0], 2, *images.shape[1:]), np.float32)
    _gradients(images, out, SMOOTH, DERIVE)
    return out


@njit(cache=True, fastmath=_FAST)
def _cell_sums(moving: np.ndarray, fixed: np.ndarray, weight: np.ndarray, size: int, out: np.ndarray) -> None:
    count, channels = moving.shape[:2]
    for n in range(count):
        for g in range(channels):
            for r in range(out.shape[2] * size):
                i = r // size
                for j in range(out.shape[3]):
                    s = np.float32(0)
                    ss = np.float32(0)
                    sf = np.float32(0)
                    for c in range(j * size, (j + 1) * size):
                        m = moving[n, g, r, c] * weight[r, c]
                        s += m
                        ss += m * m
                        sf += m * fixed[g, r, c]
                    out[n, g, i, j, 0] += s
                    out[n, g, i, j, 1] += ss
                    out[n, g, i, j, 2] += sf


def sum_cells(moving: np.ndarray, fixed: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """Sums over cells of size x size pixels.

    Args:
        moving: (n, channels, rows, columns).
        fixed: (channels, rows, columns).
        weight: (rows, columns), 0 or 1.
        size: Pixels; a ragged edge is dropped.

    Returns:
        (n, channels, cell rows, cell columns, 3), float64: sums of m, m^2 and m f over the pixels of weight 1.
    """
    rows, cols = weight.shape[0] // size, weight.shape[1] // size
    out = np.zeros((*moving.shape[:2], rows, cols, 3))
    if rows and cols:
        _cell_sums(moving, fixed, weight, size, out)
    return out


@njit(cache=True, fastmath=_FAST)
def _cell_products(stack: np.ndarray, weight: np.ndarray, size: int, totals: np.ndarray, products: np.ndarray) -> None:
    count, channels = stack.shape[:2]
    cell = np.empty((count, size * size), np.float32)
    for g in range(channels):
        for i in range(totals.shape[1]):
            for j in range(totals.shape[2]):
                for n in range(count):
                    total = np.float32(0)
                    for r in range(size):
                        for c in range(size):
                            row = i * size + r
                            column = j * size + c
                            value = stack[n, g, row, column] * weight[row, column]
                            cell[n, r * size + c] = value
                            total += value
                    totals[g, i, j, n] = total
                for n in range(count):
                    for m in range(n + 1):
                        total = np.float32(0)
                        for k in range(size * size):
                            total += cell[n, k] * cell[m, k]
                        products[g, i, j, n, m] = total
                        products[g, i, j, m, n] = total


def sum_cell_products(stack: np.ndarray, weight: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums and products over cells of size x size pixels of a stack of images; the same bits on any number of threads.

    Args:
        stack: (n, channels, rows, columns).
        weight: (rows, columns), 0 or 1.
        size: Pixels; a ragged edge is dropped.

    Returns:
        (channels, cell rows, cell columns, n) and (channels, cell rows, cell columns, n, n), float64.
    """
    rows, cols = weight.shape[0] // size, weight.shape[1] // size
    totals = np.zeros((stack.shape[1], rows, cols, len(stack)))
    products = np.zeros((*totals.shape, len(stack)))
    _cell_products(np.ascontiguousarray(stack, np.float32), weight, size, totals, products)
    return totals, products


def join_cells(cells: np.ndarray) -> np.ndarray:
    """Sums over patches of 2 x 2 cells, at every cell: (..., rows, columns, k) -> (..., rows - 1, columns - 1, k)."""
    pairs = cells[..., 1:, :, :] + cells[..., :-1, :, :]
    return pairs[..., 1:, :] + pairs[..., :-1, :]
