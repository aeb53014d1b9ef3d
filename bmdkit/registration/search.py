"""CMA-ES by ask and tell: a whole population is scored in one call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The best point that was scored.

    Attributes:
        values: (n,), scaled variables.
        cost: Cost of that point.
        cost_at_start: Cost of the start.
        evaluations: Number of points scored.
        trace: Best cost so far after each generation.
    """

    values: np.ndarray
    cost: float
    cost_at_start: float
    evaluations: int
    trace: tuple[float, ...]


def minimise(
    costs: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    *,
    sigma: float,
    population: int,
    evaluations: int,
    rng: np.random.Generator,
    scale: np.ndarray | None = None,
    tolerance: float = 0.01,
    on_generation: Callable[[int, float], None] | None = None,
) -> SearchResult:
    """Minimise by covariance matrix adaptation; never returns a point worse than `start`.

    Args:
        costs: Function that scores points (population, n) at once; a value that is not finite counts as very bad.
        start: (n,), scaled variables.
        sigma: First step, in the scaled variables.
        population: Number of points per generation.
        evaluations: Number of points at most, about.
        rng: Generator of all random draws; the global generators are neither read nor set.
        scale: (n,), factors on sigma per variable.
        tolerance: Share of sigma below which all steps end the search.
        on_generation: Function that is called with the generation's number and the best cost so far.

    Source: Hansen 2016, arXiv 1604.00772.
    """
    import cma

    start = np.asarray(start, float)
    options = {
        "popsize": population,
        "seed": np.nan,
        "randn": lambda *shape: rng.standard_normal(shape),
        "verbose": -9,
        "verb_log": 0,
        "verb_disp": 0,
        "tolx": tolerance * sigma,
        "tolfun": 1e-6,
        "tolflatfitness": 5,
        "maxfevals": evaluations,
    }
    if scale is not None:
        options["CMA_stds"] = list(np.asarray(scale, float))
    cost_at_start = _finite(costs(start[None]))[0]
    best, best_cost, used, trace = start, cost_at_start, 1, []
    strategy = cma.CMAEvolutionStrategy(start, sigma, options)
    while not strategy.stop():
        points = np.array(strategy.ask())
        values = _finite(costs(points))
        strategy.tell(list(points), list(values))
        used += len(points)
        first = int(np.argmin(values))
        if values[first] < best_cost:
            best, best_cost = points[first], float(values[first])
        trace.append(best_cost)
        if on_generation:
            on_generation(len(trace), best_cost)
    mean = np.asarray(strategy.result.xfavorite, float)
    cost = _finite(costs(mean[None]))[0]
    used += 1
    if cost < best_cost:
        best, best_cost = mean, cost
    return SearchResult(best, float(best_cost), float(cost_at_start), used, tuple(trace))


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 1e6).astype(float)
