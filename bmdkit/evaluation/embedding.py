"""Many numbers of each image brought to two that can be drawn: principal components and t-SNE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_KEPT = 50  # principal components that t-SNE sees, as its authors do
_FEWEST = 4


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of some vectors.

    Attributes:
        scores: (n, k), coordinates of each vector along the k components, in the unit of the vectors.
        explained: (k,), share of the total variance along each; 0 where the vectors do not differ.
    """

    scores: np.ndarray
    explained: np.ndarray


def principal_components(vectors, count: int = 2) -> Components:
    """The directions along which vectors differ most.

    The sign of a component is arbitrary; here its largest weight is positive. Written here because scikit-learn, whose
    PCA gives the same (a test holds them together), comes with an extra only.

    Args:
        vectors: (n, d); they are centred, not scaled.
        count: Components; where there are fewer, the others are 0.

    Raises:
        ValueError: Not two axes, no vector, or a value that is not finite.

    Source: Pearson 1901, doi 10.1080/14786440109462720; by singular values.
    """
    values = _matrix(vectors)
    if count < 1:
        raise ValueError(f"count: expected 1 or more, got {count}")
    left, singular, right = np.linalg.svd(values - values.mean(0), full_matrices=False)
    signs = np.where(right[np.arange(len(right)), np.abs(right).argmax(1)] < 0, -1.0, 1.0)
    total = float(np.sum(singular**2))
    scores, explained = np.zeros((len(values), count)), np.zeros(count)
    k = min(count, len(singular))
    scores[:, :k] = (left * singular * signs)[:, :k]
    if total > 1e-24 * max(float(np.sum(values**2)), 1e-300):
        explained[:k] = singular[:k] ** 2 / total
    return Components(scores, explained)


def within_groups(vectors, groups: Sequence[str]) -> tuple[np.ndarray, float]:
    """Vectors less the mean of their group, such as the side of the hip, and the share of the variance that this took.

    Args:
        vectors: (n, d).
        groups: (n,).

    Raises:
        ValueError: As `principal_components`, or other than n groups.
    """
    values, names = _matrix(vectors), np.asarray(groups)
    if names.shape != (len(values),):
        raise ValueError(f"groups: expected {len(values)}, got {names.shape}")
    left = values.copy()
    for name in np.unique(names):
        left[names == name] -= values[names == name].mean(0)
    total = float(np.sum((values - values.mean(0)) ** 2))
    return left, 1 - float(np.sum(left**2)) / total if total > 0 else 0.0


def has_tsne() -> bool:
    """Whether scikit-learn, the extra `figures`, is installed."""
    from importlib.util import find_spec

    return find_spec("sklearn") is not None


def tsne(vectors, *, seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
    """A plane in which vectors that are alike lie beside each other; distances between groups mean nothing.

    Args:
        vectors: (n, d), n >= 4; the first 50 principal components are used, and the first two start the search.
        seed: Seed of scikit-learn's random draws.
        perplexity: Number of neighbours that count; at most a third of the other vectors.

    Returns:
        (n, 2), without unit.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: As `principal_components`, or fewer than four vectors.

    Source: van der Maaten and Hinton 2008, JMLR 9:2579-2605.
    """
    values = _matrix(vectors)
    if len(values) < _FEWEST:
        raise ValueError(f"vectors: expected at least {_FEWEST}, got {len(values)}")
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        message = "t-SNE needs scikit-learn, which is not installed: pip install 'bmdkit[figures]'"
        raise ImportError(message) from error
    reduced = principal_components(values, min(_KEPT, *values.shape)).scores
    neighbours = min(perplexity, (len(values) - 1) / 3)
    search = TSNE(2, perplexity=neighbours, init="pca" if reduced.shape[1] > 1 else "random", random_state=seed)
    return np.asarray(search.fit_transform(reduced.astype(np.float32)), float)


def _matrix(vectors) -> np.ndarray:
    values = np.asarray(vectors, float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"vectors: expected finite values of shape (n, d), got shape {values.shape}")
    return values
