"""Local refinement: Gauss-Newton on the correlations of patches, with derivatives taken through the renderer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bmdkit.registration.gradients import join_cells, join_products, sum_gradient_products
from bmdkit.registration.scene import Comparison, Images
from bmdkit.registration.similarity import FixedImage

_DAMPING = (0.0, 0.3, 3.0, 30.0)
_STALE = 0.05  # scaled; derivatives are rendered anew after moving this far


class RefinementProblem(Protocol):
    """What is refined: images that depend on scaled variables, and what is known of these beforehand."""

    @property
    def size(self) -> int:
        """Number of variables."""

    def images(self, x: np.ndarray) -> Images:
        """DRRs (n, rows, columns) of variables (n, size), for every radiograph."""

    def derivatives(self, x: np.ndarray) -> Images:
        """Of the DRRs by every variable, (size, rows, columns), at (size,), for every radiograph."""

    def prior(self, x: np.ndarray) -> np.ndarray:
        """Residuals (n, k) of variables (n, size); half their sum of squares is added to the cost."""


@dataclass(frozen=True, eq=False)
class Refinement:
    """Where the refinement ended.

    Attributes:
        values: (size,), scaled variables.
        score: Similarity there, without the prior.
        cost: Prior minus similarity.
        hessian: (size, size), of the cost.
        evaluations: Number of DRRs rendered; one with its derivatives by all variables counts once.
        trace: Cost after each iteration.
        comparison: Radiographs that were compared.
    """

    values: np.ndarray
    score: float
    cost: float
    hessian: np.ndarray
    evaluations: int
    trace: tuple[float, ...]
    comparison: Comparison


def make_normal_equations(
    fixed: FixedImage, image: np.ndarray, derivatives: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (k,) and Gauss-Newton curvature (k, k) of minus the patch similarity.

    A patch's correlation is 1 - |f - m|^2 / 2 of the two unit vectors, hence least squares in m. Each patch's share of
    the curvature is weighted by its correlation, which is what remains of the second derivative when the residual
    is unlike the model.

    Args:
        fixed: Radiograph at one pixel size.
        image: (rows, columns), the DRR.
        derivatives: (k, rows, columns), by the variables.
    """
    weight = fixed.valid.astype(np.float32)
    moving = np.concatenate([image[None], derivatives])
    totals, products = sum_gradient_products(fixed.slopes, moving, weight, fixed.cell)
    rows, cols, size = *totals.shape[1:3], fixed.cell
    count = weight[: rows * size, : cols * size].reshape(rows, size, cols, size).sum((1, 3), dtype=np.float64)
    return join_products(totals, products, np.maximum(join_cells(count[..., None])[..., 0], 1), fixed.weights)


def stack_normal_equations(
    comparison: Comparison, images: Images, derivatives: Images
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (k,) and Gauss-Newton curvature (k, k) of minus the similarity, the mean over all radiographs."""
    parts = [
        make_normal_equations(fixed, image, slopes)
        for fixed, image, slopes in zip(comparison.fixed, images, derivatives, strict=True)
    ]
    slope, curve = parts[0]
    for other_slope, other_curve in parts[1:]:
        slope, curve = slope + other_slope, curve + other_curve
    return slope / len(parts), curve / len(parts)


def refine(
    comparison: Comparison,
    problem: RefinementProblem,
    *,
    start: np.ndarray | None = None,
    iterations: int = 12,
    tolerance: float = 4e-3,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Refinement:
    """Refine all variables of a problem together; never returns values that cost more.

    Derivatives are rendered anew only after a step that is large enough to change them.

    Args:
        comparison: Radiographs at one pixel size.
        problem: Problem that is rendered.
        start: Values to begin at; zero if not given.
        iterations: Number of iterations at most.
        tolerance: Movement of all variables, scaled units, at which the refinement stops.
        on_iteration: Function that is called with the iteration's number and the cost.
    """
    x, trace = np.zeros(problem.size) if start is None else start, []

    def at(candidates: np.ndarray) -> tuple[Images, np.ndarray, np.ndarray]:
        images = problem.images(candidates)
        scores = comparison.scores(images)
        costs = 0.5 * (problem.prior(candidates) ** 2).sum(1) - scores
        return images, np.where(np.isfinite(costs), costs, np.inf), scores

    images, costs, scores = at(x[None])
    image, cost, score = _pick(images, 0), float(costs[0]), float(scores[0])
    evaluations, hessian, damping = 1, np.zeros((x.size, x.size)), 0.0
    derivatives: Images | None = None
    made_at = x
    for number in range(iterations):
        fresh = False
        if derivatives is None or np.abs(x - made_at).max() > _STALE:
            fresh = True
            derivatives, made_at = problem.derivatives(x), x
            evaluations += 1
        slope, curve = stack_normal_equations(comparison, image, derivatives)
        residual, jacobian = _linear(problem.prior, x)
        slope = slope + jacobian.T @ residual
        hessian = curve + jacobian.T @ jacobian
        diagonal = np.diag(np.maximum(np.diag(hessian), 1e-9))
        better = False
        for trial in (_DAMPING[:1], _DAMPING[1:]):  # the plain step first, damped ones only if it fails
            steps = np.stack([-np.linalg.solve(hessian + (damping + d) * diagonal, slope) for d in trial])
            candidates = x + np.clip(steps, -1.0, 1.0)
            images, costs, scores = at(candidates)
            evaluations += len(candidates)
            best = int(np.argmin(costs))
            better = bool(costs[best] < cost)
            if better:
                damping = (damping / 4) if len(trial) == 1 else trial[best] / 2
                break
        if not better:
            if fresh:
                break
            derivatives = None
            continue
        moved = np.abs(candidates[best] - x).max()
        x, cost, score, image = candidates[best], float(costs[best]), float(scores[best]), _pick(images, best)
        trace.append(cost)
        if on_iteration:
            on_iteration(number + 1, cost)
        if moved < tolerance:
            break
    return Refinement(x, score, cost, hessian, evaluations, tuple(trace), comparison)


def _pick(images: Images, number: int) -> Images:
    return tuple(image[number] for image in images)


def _linear(prior: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (k,) of the prior and their derivatives (k, size) by all variables."""
    width = 1e-4
    offsets = width * np.eye(x.size)
    found = prior(np.concatenate([x[None], x + offsets, x - offsets]))
    return found[0], ((found[1 : x.size + 1] - found[x.size + 1 :]) / (2 * width)).T
