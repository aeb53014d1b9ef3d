"""A calibration line from the patient's own air, fat and muscle."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmdkit.calibration.axial_slices import AxialStack
from bmdkit.calibration.line import Rod
from bmdkit.errors import CaseError

TISSUES_MG_CM3 = {"air": -840.0, "fat": -80.0, "muscle": 30.0}
"""Equivalent densities of the peaks. Source: Eggermont et al. 2019, doi 10.1371/journal.pone.0220564."""

_RANGES_HU = {"air": (-1020.0, -900.0), "fat": (-150.0, -40.0), "muscle": (15.0, 110.0)}
_SKIN_HU = -300.0
_MOST_SLICES = 40
_LEAST_SHARE = 0.01  # of the body's voxels in fat's and in muscle's range


def measure_tissues(stack: AxialStack) -> tuple[Rod, ...]:
    """HU of the peaks of air (outside the body), fat and muscle (inside it).

    Raises:
        CaseError: BMD-CAL-005, a tissue is missing.

    Source: Eggermont et al. 2019.
    """
    chosen = np.unique(np.linspace(0, len(stack.array) - 1, min(_MOST_SLICES, len(stack.array))).round().astype(int))
    slices = stack.array[chosen].astype(np.float32)
    body = _body(slices)
    edge = max(1, round(4 / stack.spacing_mm[1]))
    inside = slices[ndimage.binary_erosion(body, np.ones((1, 3, 3), bool), iterations=edge)]
    outside = slices[~ndimage.binary_dilation(body, np.ones((1, 3, 3), bool), iterations=edge)]
    rods = []
    for tissue, values in (("air", outside), ("fat", inside), ("muscle", inside)):
        low, high = _RANGES_HU[tissue]
        within = values[(values >= low) & (values <= high)]
        share = within.size / max(inside.size, 1)
        if share < _LEAST_SHARE:
            raise CaseError(
                "BMD-CAL-005",
                f"{100 * share:.2f} % of the body lies in the range of {tissue} ({low:g} to {high:g} HU), "
                f"needed {100 * _LEAST_SHARE:g} %.",
            )
        rods.append(Rod(TISSUES_MG_CM3[tissue], _peak(within, low, high)))
    return tuple(rods)


def _body(slices: np.ndarray) -> np.ndarray:
    """The patient: on every slice the largest part denser than fat's lower end, its holes filled."""
    body = np.zeros(slices.shape, bool)
    for mask, image in zip(body, slices, strict=True):
        parts, count = ndimage.label(ndimage.binary_opening(image > _SKIN_HU, iterations=2))
        if count:
            mask[:] = ndimage.binary_fill_holes(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))
    return body


def _peak(values: np.ndarray, low: float, high: float) -> float:
    """The mode of values, HU, from a smoothed histogram of one HU."""
    counts, edges = np.histogram(values, bins=np.arange(np.floor(low) - 0.5, np.ceil(high) + 1))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), 4.0)
    top = int(np.argmax(smooth))
    around = slice(max(top - 8, 0), top + 9)
    weight = np.maximum(smooth[around] - 0.5 * smooth[top], 0)
    return float((weight * (edges[:-1] + 0.5)[around]).sum() / weight.sum())
