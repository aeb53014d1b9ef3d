"""Fit the weights of `bmdkit.image_content.polarity` to features of images whose polarity is known.

    python benchmarks/polarity_fit.py ROWS ... [--limbs N] [--seed S]

ROWS are written by `benchmarks/polarity.py --rows FILE`, with a seed of which no figure is reported; bone is bright in
all of their images. Simulated limbs, two bones in a sleeve of soft tissue and direct exposure around it, are drawn
here. A logistic regression without a constant, since every feature changes its sign with the image; what is flat, air,
a blade, or the middle of the image cannot count against what physics says of it. Prints the weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import ndimage, optimize

from bmdkit.image_content.polarity import WEIGHTS, measure_features

PULL = 0.3
"""Half of what a weight of one standard deviation's effect costs, as a part of the mean loss of all images, x 100."""
NEVER_NEGATIVE = ("edges", "core", "flat", "air")


def draw_limb(rng: np.random.Generator) -> np.ndarray:
    """An image, brighter = denser, of two long bones with cortices in soft tissue, at any angle, [0, 1]."""
    rows, columns = (int(size) for size in rng.integers(300, 700, 2))
    v, u = np.mgrid[:rows, :columns] / 300.0
    turn = rng.uniform(0, np.pi)
    across = (u - u.mean()) * np.cos(turn) + (v - v.mean()) * np.sin(turn)
    half = rng.uniform(0.25, 0.6)
    soft = np.sqrt(np.clip(1 - (across / half) ** 2, 0, None))
    image = rng.uniform(0.5, 2.0) * soft
    for place in rng.uniform(0.25, 0.5) * half * np.array([-1, 1]):
        radius, wall = rng.uniform(0.06, 0.2) * half + 0.03, rng.uniform(0.2, 0.5)
        outer = np.sqrt(np.clip(1 - ((across - place) / radius) ** 2, 0, None))
        inner = np.sqrt(np.clip(1 - ((across - place) / (radius * (1 - wall))) ** 2, 0, None))
        image = image + rng.uniform(0.5, 1.5) * (outer - rng.uniform(0.5, 0.95) * (1 - wall) * inner)
    image = ndimage.gaussian_filter(image, rng.uniform(0.7, 2)) + rng.normal(0, rng.uniform(0.005, 0.03), image.shape)
    low, high = np.percentile(image, (rng.uniform(0, 2), 100 - rng.uniform(0, 1)))
    return np.clip((image - low) / (high - low), 0, 1) ** rng.uniform(0.7, 1.4)


def fit_weights(features: np.ndarray, names: list[str]) -> np.ndarray:
    """Weights (features,) that make the scores of images (images, features) positive."""
    spread = np.sqrt((features**2).mean(axis=0)) + 1e-9
    scaled = features / spread

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = scaled @ weights
        wrong = 1 / (1 + np.exp(np.clip(margin, -50, 50)))
        value = float(np.logaddexp(0, -margin).mean() + PULL / 100 * (weights**2).sum())
        return value, -(scaled * wrong[:, None]).mean(axis=0) + 2 * PULL / 100 * weights

    bounds = [(0.0 if name in NEVER_NEGATIVE else None, None) for name in names]
    found = optimize.minimize(cost, np.zeros(len(names)), jac=True, bounds=bounds, method="L-BFGS-B")
    return np.asarray(found.x / spread)


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--limbs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = [row for path in options.rows for _, row in json.loads(path.read_text(encoding="utf-8")) if row]
    rng = np.random.default_rng(options.seed)
    for _ in range(options.limbs):
        image = draw_limb(rng)
        rows += [found] if (found := measure_features(image, np.ones(image.shape, bool))) else []
    names = list(WEIGHTS)
    features = np.array([[row[name] for name in names] for row in rows])
    weights = fit_weights(features, names)
    scores = features @ weights
    for name, weight in zip(names, weights, strict=True):
        print(f'    "{name}": {weight:.3g},')
    below = ", ".join(f"{(scores < limit).sum()} below {limit}" for limit in (0, 2))
    print(f"{len(scores)} images: least score {scores.min():.2f}, {below}")


if __name__ == "__main__":
    main()
