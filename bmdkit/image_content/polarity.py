"""Whether bone is bright or dark in a radiograph, as its content tells, whatever its file says.

Every feature changes its sign when the image is inverted, so that their weighted sum decides for bone bright where it
is positive, without favour for either. Direct exposure is flat and lies at one end of the histogram, bone and the
middle of the body at the other; fine lines are cortices. The weights were fitted by a logistic regression to simulated
hips, crops of them, metal, collimators and simulated limbs (`benchmarks/polarity.py` measures them on other ones).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from bmdkit.errors import CaseError
from bmdkit.image_content.collimation import find_edges
from bmdkit.image_content.collimator_edges import Edge

Polarity = Literal["auto", "bone_bright", "bone_dark"]
Refuse = Callable[[str, str], CaseError]
"""Makes the error of a code and a message."""

SIDE = 320
"""Longer side of the image in which features are measured, pixels."""
EDGES_SIDE = 430
"""The same, for the edges of a collimator."""
SIGMAS = (0.7, 1.5, 3.0, 6.0, 12.0, 24.0)
"""Widths of the smoothings whose differences show structures of a size, pixels."""
WEIGHTS: Mapping[str, float] = {
    "edges": -1.6,
    "skew_1.5": 1.68,
    "tails_1.5": 25.5,
    "flanks_1.5": 3.05,
    "skew_3": 1.12,
    "tails_3": -16.7,
    "flanks_3": 5.64,
    "skew_6": -0.527,
    "tails_6": -7.52,
    "flanks_6": -10.1,
    "skew_12": -1.51,
    "tails_12": 2.57,
    "flanks_12": -11.3,
    "skew_24": -1.47,
    "tails_24": -4.68,
    "flanks_24": 4.27,
    "texture": 2.66,
    "levels": -0.543,
    "flanks": 4.36,
    "core": 2.13,
    "flat": 12.9,
    "air": -19.8,
}
"""Weight of every feature in the score, which is in the units of a logarithm of odds."""
CLEAR = 4.0
"""A score of this size or more confirms the tags without a word, or overrules them."""
CONTRADICTION = "contradiction"
"""Name of what is measured beside the features: how clear the fainter kind of blades is, where both are seen."""
MOST_UNSURE = 1.9
"""The largest score where bright and dark blades are seen: one kind is none, what lies behind the other misleads."""
DOUBT = 0.5
"""A score of less than this size says nothing against the tags."""
LEAST_SIDE = 128
"""A smaller image is not looked at, pixels."""


@dataclass(frozen=True)
class PolarityChoice:
    """Which values are denser, and who said so.

    Attributes:
        lower_is_denser: Whether bone is dark in the stored values.
        reason: Who decided.
        warnings: What a user should know about it.
    """

    lower_is_denser: bool
    reason: str
    warnings: tuple[str, ...]


def decide_polarity(
    values: np.ndarray, hidden: np.ndarray, lower_is_denser: bool, reason: str, polarity: Polarity, refuse: Refuse
) -> PolarityChoice:
    """Choose the direction of a radiograph's values.

    Args:
        values: [row, column], turned as the file's tags ask: brighter should be denser.
        hidden: [row, column], bool, pixels that are no image.
        lower_is_denser: Whether bone is dark in the stored values, as the tags say.
        reason: Which tag says so.
        polarity: Who decides.
        refuse: Makes the error of a code and a message.

    Raises:
        CaseError: BMD-XR-023, tags and content disagree, and the content is not clear enough.
    """
    if polarity != "auto":
        return PolarityChoice(polarity == "bone_dark", f"setting polarity {polarity}", ())
    return judge_score(measure_polarity(values, ~hidden), lower_is_denser, reason, refuse)


def judge_score(score: float | None, lower_is_denser: bool, reason: str, refuse: Refuse) -> PolarityChoice:
    """Hold what the image tells against what the tags say.

    Args:
        score: Of `measure_polarity`, of the image turned as the tags ask: positive where it agrees with them.
        lower_is_denser: Whether bone is dark in the stored values, as the tags say.
        reason: Which tag says so.
        refuse: Makes the error of a code and a message.

    Raises:
        CaseError: BMD-XR-023, tags and content disagree, and the content is not clear enough.
    """
    if score is None or score >= CLEAR:
        return PolarityChoice(lower_is_denser, reason, ())
    shown = "dark" if not lower_is_denser else "bright"
    if score <= -CLEAR:
        message = f"BMD-XR-023: polarity: the image shows bone {shown}, {reason} says otherwise; the image was followed"
        return PolarityChoice(not lower_is_denser, "polarity of the image", (message,))
    if score <= -DOUBT:
        message = f"polarity: {reason} contradicts the image, which seems to show bone {shown} (score {score:.1f})."
        raise refuse("BMD-XR-023", message)
    message = f"polarity: taken from {reason}; the image does not tell it clearly (score {score:.1f})"
    return PolarityChoice(lower_is_denser, reason, (message,))


def measure_polarity(values: np.ndarray, seen: np.ndarray) -> float | None:
    """Score whether brighter values are denser.

    Args:
        values: [row, column], any scale.
        seen: [row, column], bool, False where it is known that there is no image.

    Returns:
        A logarithm of odds: positive where bone is bright, negative where bone is dark, near 0 where nothing tells;
        None where there is too little image.
    """
    return weigh_features(measure_features(values, seen))


def weigh_features(features: Mapping[str, float]) -> float | None:
    """The score of what `measure_features` found, within `MOST_UNSURE` where blades contradict; None of nothing."""
    if not features:
        return None
    score = float(sum(WEIGHTS[name] * features[name] for name in WEIGHTS))
    return float(np.clip(score, -MOST_UNSURE, MOST_UNSURE)) if features[CONTRADICTION] > 0 else score


def measure_features(values: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    """Features whose sign changes when the image is inverted, and `CONTRADICTION`; none of too little image.

    Args:
        values: [row, column], any scale.
        seen: [row, column], bool, False where it is known that there is no image.
    """
    image, known = reduce_image(values, seen, EDGES_SIDE)
    if min(values.shape) < LEAST_SIDE or known.mean() < 0.05:
        return {}
    bright, dark = find_edges(image, known), find_edges(-image, known)
    field = _open_field(known, bright + dark)
    if field.mean() < 0.3 * known.mean():
        field = known
    small, inside = reduce_image(image, field, SIDE)
    inside = ndimage.binary_erosion(inside, iterations=3, border_value=1)
    if inside.sum() < 400:
        return {}
    low, high = np.percentile(small[inside], (1, 99))
    if not high > low:
        return {}
    small = np.clip((small - low) / (high - low), 0, 1)
    found = {"edges": _sum_contrast(bright) - _sum_contrast(dark)}
    found[CONTRADICTION] = min(_sum_contrast(bright), _sum_contrast(dark))
    found |= _measure_structures(small, inside) | _measure_levels(small, inside)
    return found


def _sum_contrast(edges: tuple[Edge, ...]) -> float:
    return sum(edge.contrast for edge in edges)


def _open_field(known: np.ndarray, edges: tuple[Edge, ...]) -> np.ndarray:
    """What is known, without what lies behind the edges."""
    field = known.copy()
    for edge in edges:
        field &= edge.opening(known.shape)
    return field


def reduce_image(values: np.ndarray, seen: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over blocks of pixels, so that no side is longer than `side`; and where most of a block is seen."""
    factor = max(-(-max(values.shape) // side), 1)
    rows, columns = (size // factor for size in values.shape)
    blocks, tiled = np.s_[: rows * factor, : columns * factor], (rows, factor, columns, factor)
    share = seen[blocks].reshape(tiled).mean((1, 3))
    total = np.where(seen, values, 0)[blocks].reshape(tiled).mean((1, 3), dtype=np.float64)
    return np.where(share > 0, total / np.maximum(share, 1e-9), 0).astype(np.float32), share > 0.99


def _measure_structures(image: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Asymmetry of the structures of each size: bright lines and blobs against dark ones."""
    weight = inside.astype(np.float32)
    filled = np.where(inside, image, 0).astype(np.float32)
    smooth = [
        ndimage.gaussian_filter(filled, sigma) / np.maximum(ndimage.gaussian_filter(weight, sigma), 1e-3)
        for sigma in SIGMAS
    ]
    found = {}
    for sigma, fine, coarse in zip(SIGMAS[1:], smooth, smooth[1:], strict=False):
        difference = (fine - coarse)[inside]
        spread = float(np.sqrt((difference**2).mean())) + 1e-9
        found[f"skew_{sigma:g}"] = float(np.clip((difference**3).mean() / spread**3, -5, 5))
        low, lower, upper, high = np.percentile(difference, (1, 10, 90, 99))
        found[f"tails_{sigma:g}"] = float((high + low) / (high - low + 1e-9))
        found[f"flanks_{sigma:g}"] = float((upper + lower) / (upper - lower + 1e-9))
    steepness = np.hypot(*np.gradient(smooth[0]))
    mean = float(steepness[inside].mean()) + 1e-9
    parts = [inside & (image > 0.8), inside & (image < 0.2)]
    levels = [float(steepness[part].mean()) / mean if part.sum() > 50 else 1.0 for part in parts]
    found["texture"] = float(np.clip(levels[0] - levels[1], -2, 2))
    return found


def _measure_levels(image: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Asymmetry of the histogram, of its flat ends and of the middle against the rim."""
    rows, columns = image.shape
    levels = image[inside]
    low, lower, middle, upper, high = np.percentile(levels, (1, 10, 50, 90, 99))
    down = (np.arange(rows)[:, None] + 0.5) / rows - 0.5
    across = (np.arange(columns)[None] + 0.5) / columns - 0.5
    core = inside & (np.hypot(down, across) < 0.25)
    rim = inside & (np.maximum(abs(down), abs(across)) > 0.4)
    counts = np.histogram(levels, bins=33, range=(0, 1))[0] / levels.size
    return {
        "levels": float((high + low - 2 * middle) / (high - low + 1e-9)),
        "flanks": float((upper + lower - 2 * middle) / (upper - lower + 1e-9)),
        "core": float(image[core].mean() - image[rim].mean()) if core.any() and rim.any() else 0.0,
        "flat": float(min(counts[:5].max(), 0.4) - min(counts[-5:].max(), 0.4)),
        "air": _reach_border(image < 0.06, inside) - _reach_border(image > 0.94, inside),
    }


def _reach_border(part: np.ndarray, inside: np.ndarray) -> float:
    """The share of the image that belongs to areas of `part` at its border, at most 0.3."""
    labels, count = ndimage.label(part & inside)
    if not count:
        return 0.0
    border = np.unique(np.r_[labels[:3].ravel(), labels[-3:].ravel(), labels[:, :3].ravel(), labels[:, -3:].ravel()])
    return float(min(np.isin(labels, border[border > 0]).sum() / inside.sum(), 0.3))
