"""A straight line through values of patients who were each seen several times, and how sure its slope is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

_SINGULAR = 1e-10


@dataclass(frozen=True)
class ClusteredSlope:
    """A line fitted by least squares, its slope tested with the patient as the unit.

    Attributes:
        slope, intercept: Least squares over all values; NaN where x does not differ.
        standard_error: Of the slope; NaN where less than two patients tell it.
        degrees: Satterthwaite's degrees of freedom, at most the number of patients less one.
        p: Probability of a slope as steep if there were none (Student's t, two-sided).
    """

    slope: float
    intercept: float
    standard_error: float
    degrees: float
    p: float


def fit_clustered_slope(x, y, patients: Sequence[str]) -> ClusteredSlope:
    """Fit y = intercept + slope * x, where the values of one patient may be alike.

    The residuals of a patient are kept together, and corrected for how much each patient pulls the line (CR2), so that
    few patients with many images do not make a slope look surer than it is. With one value a patient this is HC2.

    Args:
        x: (n,), in any unit.
        y: (n,), in any unit.
        patients: (n,), whose each value is.

    Raises:
        ValueError: Arrays of other shapes, fewer than two values, or one that is not finite.

    Example:
        >>> round(fit_clustered_slope([0, 1, 2, 3], [0, 1, 2, 3], ["a", "a", "b", "b"]).slope, 6)
        1.0

    Source: Bell and McCaffrey 2002, Survey Methodology 28:169-181; Imbens and Kolesar 2016,
        doi 10.1162/REST_a_00552, for the degrees of freedom.
    """
    a, b, names = np.asarray(x, float), np.asarray(y, float), np.asarray([str(one) for one in patients])
    if a.ndim != 1 or not a.shape == b.shape == names.shape or len(a) < 2:
        raise ValueError(
            f"x, y, patients: expected two or more values each, got shapes {a.shape}, {b.shape}, {names.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("x, y: expected finite values")
    nan = float("nan")
    if len(a) < 3 or np.ptp(a) == 0:
        return ClusteredSlope(nan, nan, nan, nan, nan)
    n, spread = len(a), float(a.std())
    design = np.c_[np.ones(n), (a - a.mean()) / spread]  # orthogonal columns of mean square 1, whatever the unit of x
    mean, steepness = design.T @ b / n
    slope = float(steepness) / spread
    about = slope, float(mean) - slope * float(a.mean())
    _, whose = np.unique(names, return_inverse=True)
    count = int(whose.max()) + 1
    shares, scores = np.zeros((count, 2, 2)), np.zeros((count, 2))  # of each patient: X'X / n, and X' residuals / n
    np.add.at(shares, whose, design[:, :, None] * design[:, None, :] / n)
    np.add.at(scores, whose, design * (b - design @ [mean, steepness])[:, None] / n)
    left, axes = np.linalg.eigh(np.eye(2) - shares)
    roots = np.where(left > _SINGULAR, 1 / np.sqrt(np.maximum(left, _SINGULAR)), 0.0)
    pulls = np.einsum("gij,gj,gj->gi", axes, roots, axes[:, 1])  # how each patient's scores enter the slope, corrected
    variance = float(np.sum(np.einsum("gi,gi->g", pulls, scores) ** 2))
    moved = np.einsum("gij,gj->gi", shares, pulls)
    gram = np.diag(np.einsum("gi,gi->g", pulls, moved)) - moved @ moved.T
    total = float(np.trace(gram))
    if count < 2 or total <= _SINGULAR:
        return ClusteredSlope(*about, nan, nan, nan)
    degrees = total**2 / float(np.sum(gram**2))
    error = float(np.sqrt(variance)) / spread
    if error <= _SINGULAR * abs(slope):  # all on the line
        return ClusteredSlope(*about, error, degrees, 0.0 if slope else 1.0)
    return ClusteredSlope(*about, error, degrees, float(2 * stats.t.sf(abs(slope) / error, degrees)))
