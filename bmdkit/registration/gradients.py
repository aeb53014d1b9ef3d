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
"""What a kernel's compiler may do to sums. Such a kernel holds all that it calls (`forceinline`): a function of its own
is compiled by itself as well, and which of both runs, so the last bits, depends on whether numba's cache had them."""


@njit(cache=True, fastmath=_FAST, forceinline=True)
def _filter_row(
    row: np.ndarray, padded: np.ndarray, smooth: np.ndarray, derive: np.ndarray, low: np.ndarray, high: np.ndarray
) -> None:
    """Smooth and derive one row, whose ends are repeated beyond it."""
    width = len(row)
    for c in range(width):
        padded[c + 3] = row[c]
    for k in range(3):
        padded[k] = row[0]
        padded[width + 3 + k] = row[width - 1]
    for c in range(width):
        a = np.float32(0)
        b = np.float32(0)
        for k in range(7):
            a += smooth[k] * padded[c + k]
            b += derive[k] * padded[c + k]
        low[c] = a
        high[c] = b


@njit(cache=True, fastmath=_FAST)
def _gradients(images: np.ndarray, out: np.ndarray, smooth: np.ndarray, derive: np.ndarray) -> None:
    count, rows, cols = images.shape
    padded = np.empty(cols + 6, np.float32)
    low = np.empty((rows, cols), np.float32)
    high = np.empty((rows, cols), np.float32)
    for n in range(count):
        for r in range(rows):
            _filter_row(images[n, r], padded, smooth, derive, low[r], high[r])
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


@njit(cache=True, fastmath=_FAST, forceinline=True)
def _find_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Rows and columns (first, stop) about all pixels whose gradient may differ from zero; none: first is stop."""
    rows, cols = image.shape
    top, bottom, left, right = rows, 0, cols, 0
    for r in range(rows):
        first = 0
        while first < cols and image[r, first] == 0:
            first += 1
        if first == cols:
            continue
        stop = cols
        while image[r, stop - 1] == 0:
            stop -= 1
        top, bottom = min(top, r), r + 1
        left, right = min(left, first), max(right, stop)
    if top >= bottom:
        return 0, 0, 0, 0
    return max(top - REACH, 0), min(bottom + REACH, rows), max(left - REACH, 0), min(right + REACH, cols)


@njit(cache=True, fastmath=_FAST, forceinline=True)
def _derive_band(
    image: np.ndarray,
    box: np.ndarray,
    begin: int,
    smooth: np.ndarray,
    derive: np.ndarray,
    padded: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    band: np.ndarray,
) -> None:
    """Fill the gradients (2, size, columns) of the rows from `begin` on; low and high keep rows for the band below."""
    size, deep = band.shape[1], low.shape[0]
    top, _, left, right = box
    kept = deep - size if begin > top else 0  # rows that the band above has filtered already
    for d in range(kept):
        low[d] = low[d + size]
        high[d] = high[d + size]
    for d in range(kept, deep):
        row = image[min(max(begin + d - REACH, 0), len(image) - 1), left:right]
        _filter_row(row, padded, smooth, derive, low[d, left:right], high[d, left:right])
    band[:] = 0
    for d in range(size):
        along, across = band[0, d, left:right], band[1, d, left:right]
        for k in range(7):
            a = smooth[k]
            b = derive[k]
            of_low, of_high = low[d + k, left:right], high[d + k, left:right]
            for c in range(right - left):
                along[c] += a * of_high[c]
                across[c] += b * of_low[c]


@njit(cache=True, fastmath=_FAST, forceinline=True)
def _pack_cells(band: np.ndarray, weight: np.ndarray, first: int, stop: int, cells: np.ndarray) -> None:
    """Put cells first <= j < stop of a band (2, size, columns), weighted, one after another: (2, cells, size^2)."""
    size = band.shape[1]
    for g in range(2):
        for j in range(first, stop):
            for r in range(size):
                for c in range(size):
                    cells[g, j, r * size + c] = band[g, r, j * size + c] * weight[r, j * size + c]


@njit(cache=True, fastmath=_FAST, forceinline=True)
def _multiply_cells(
    cells: np.ndarray, reach: np.ndarray, which: np.ndarray, totals: np.ndarray, products: np.ndarray
) -> None:
    """Sums (2, cells, n) and products (2, cells, n, n) over cells (n, 2, cells, size^2) of a band."""
    count, _, cols, pixels = cells.shape
    for g in range(2):
        for j in range(cols):
            used = 0
            for n in range(count):
                if j < reach[n, 0] or j >= reach[n, 1]:
                    continue
                total = np.float32(0)
                square = np.float32(0)
                for k in range(pixels):
                    total += cells[n, g, j, k]
                    square += cells[n, g, j, k] * cells[n, g, j, k]
                if square == 0:
                    continue
                totals[g, j, n] = total
                products[g, j, n, n] = square
                for m in range(used):
                    other = which[m]
                    product = np.float32(0)
                    for k in range(pixels):
                        product += cells[n, g, j, k] * cells[other, g, j, k]
                    products[g, j, n, other] = product
                    products[g, j, other, n] = product
                which[used] = n
                used += 1


@njit(cache=True, fastmath=_FAST)
def _gradient_products(
    fixed: np.ndarray,
    images: np.ndarray,
    weight: np.ndarray,
    size: int,
    smooth: np.ndarray,
    derive: np.ndarray,
    totals: np.ndarray,
    products: np.ndarray,
) -> None:
    """Fill totals and products, which are zero, one row of cells after another; what is zero is passed over."""
    count, _, columns = images.shape
    rows, cols = totals.shape[1:3]
    padded = np.empty(columns + 2 * REACH, np.float32)
    low = np.empty((count, size + 2 * REACH, columns), np.float32)
    high = np.empty((count, size + 2 * REACH, columns), np.float32)
    band = np.empty((2, size, columns), np.float32)
    cells = np.empty((count + 1, 2, cols, size * size), np.float32)
    which, reach = np.empty(count + 1, np.int64), np.empty((count + 1, 2), np.int64)
    boxes = np.empty((count, 4), np.int64)
    for n in range(count):
        boxes[n] = np.array(_find_box(images[n]))
    for i in range(rows):
        begin = i * size
        near = weight[begin : begin + size]
        reach[:] = 0
        if near.any():
            reach[0, 1] = cols
            _pack_cells(fixed[:, begin : begin + size], near, 0, cols, cells[0])
        for n in range(count):
            if begin + size <= boxes[n, 0] or begin >= boxes[n, 1]:
                continue
            _derive_band(images[n], boxes[n], begin, smooth, derive, padded, low[n], high[n], band)
            if reach[0, 1] > 0:
                first, stop = boxes[n, 2] // size, min(-(-boxes[n, 3] // size), cols)
                reach[n + 1, 0], reach[n + 1, 1] = first, stop
                _pack_cells(band, near, first, stop, cells[n + 1])
        _multiply_cells(cells, reach, which, totals[:, i], products[:, i])


def sum_gradient_products(
    fixed: np.ndarray, images: np.ndarray, weight: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sums and products of gradients over cells of size x size pixels; the same bits on any number of threads.

    Args:
        fixed: (2, rows, columns), gradients of the first image.
        images: (n - 1, rows, columns), the others, whose gradients are those of `compute_gradients`.
        weight: (rows, columns), 0 or 1.
        size: Pixels; a ragged edge is dropped.

    Returns:
        (2, cell rows, cell columns, n) and (2, cell rows, cell columns, n, n), float64.
    """
    rows, cols = weight.shape[0] // size, weight.shape[1] // size
    totals = np.zeros((2, rows, cols, len(images) + 1))
    products = np.zeros((*totals.shape, len(images) + 1))
    _gradient_products(fixed, np.ascontiguousarray(images, np.float32), weight, size, SMOOTH, DERIVE, totals, products)
    return totals, products


@njit(cache=True)
def _join_products(
    totals: np.ndarray,
    products: np.ndarray,
    counts: np.ndarray,
    edged: np.ndarray,
    weights: np.ndarray,
    slope: np.ndarray,
    curve: np.ndarray,
) -> None:
    size = totals.shape[3]
    total, product = np.empty(size), np.empty((size, size))
    which = np.empty(size, np.int64)
    for g in range(totals.shape[0]):
        for i in range(counts.shape[0]):
            for j in range(counts.shape[1]):
                if not edged[g, i, j] or weights[i, j] == 0:
                    continue
                used = 0
                for n in range(size):
                    square = 0.0
                    for r in range(2):
                        for c in range(2):
                            square += products[g, i + r, j + c, n, n]
                    if square > 0:
                        which[used] = n
                        used += 1
                for n in range(used):
                    at = which[n]
                    total[n] = (totals[g, i, j, at] + totals[g, i + 1, j, at]) + (
                        totals[g, i, j + 1, at] + totals[g, i + 1, j + 1, at]
                    )
                    for m in range(n + 1):
                        by = which[m]
                        both = (products[g, i, j, at, by] + products[g, i + 1, j, at, by]) + (
                            products[g, i, j + 1, at, by] + products[g, i + 1, j + 1, at, by]
                        )
                        product[n, m] = both - total[n] * total[m] / counts[i, j]
                own, moving = product[0, 0], product[1, 1]
                length = np.sqrt(own * moving)
                ncc = product[1, 0] / length
                weight = weights[i, j] / 2
                share = weight * max(ncc, 0.05) / moving
                for n in range(2, used):
                    at = which[n] - 2
                    slope[at] -= weight * (product[n, 0] / length - ncc / moving * product[n, 1])
                    for m in range(2, n + 1):
                        by = which[m] - 2
                        gain = share * (product[n, m] - product[n, 1] * product[m, 1] / moving)
                        curve[at, by] += gain
                        if m < n:
                            curve[by, at] += gain


def join_products(
    totals: np.ndarray, products: np.ndarray, counts: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (k,) and Gauss-Newton curvature (k, k) of minus the mean correlation of patches of 2 x 2 cells.

    Args:
        totals: (channels, cell rows, cell columns, 2 + k), sums over cells of the fixed image, the moving one, and its
            derivatives, see `sum_gradient_products`.
        products: (channels, cell rows, cell columns, 2 + k, 2 + k), of their products.
        counts: (cell rows - 1, cell columns - 1), pixels of each patch, at least 1.
        weights: (cell rows - 1, cell columns - 1), of each patch.
    """
    total = join_cells(np.ascontiguousarray(totals[..., :2]))
    square = join_cells(np.stack([products[..., 0, 0], products[..., 1, 1]], axis=-1)) - total**2 / counts[..., None]
    edged = (square > 1e-6 * np.maximum(square.max((0, 1, 2), initial=0), 1e-30)).all(-1)
    size = totals.shape[-1] - 2
    slope, curve = np.zeros(size), np.zeros((size, size))
    _join_products(totals, products, counts, edged, weights, slope, curve)
    return slope, curve


def join_cells(cells: np.ndarray) -> np.ndarray:
    """Sums over patches of 2 x 2 cells, at every cell: (..., rows, columns, k) -> (..., rows - 1, columns - 1, k)."""
    pairs = cells[..., 1:, :, :] + cells[..., :-1, :, :]
    return pairs[..., 1:, :] + pairs[..., :-1, :]
