"""Local refinement: Gauss-Newton on the correlations of patches, with derivatives taken through the renderer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bmdkit.registration.gradients import cell_products, gradients, join_cells
from bmdkit.registration.similarity import FixedImage

STEP = np.array([1 / 12, 1 / 12, 1 / 12, 0.05, 0.05, 0.1])
"""Half a difference quotient's width, scaled: half a degree, half a millimetre in plane, three along the ray."""

_DAMPING = (0.0, 0.3, 3.0, 30.0)
_STALE = 0.05  # scaled; derivatives are rendered anew after moving this far


@dataclass(frozen=True, eq=False)
class Polished:
    """Where the refinement ended.

    Attributes:
        values: (bodies, 6), scaled variables.
        score: Similarity there, without the prior.
        cost: Prior minus similarity.
        hessian: (6 bodies, 6 bodies), of the cost.
        evaluations: Poses rendered, over all bodies.
        trace: Cost after each iteration.
    """

    values: np.ndarray
    score: float
    cost: float
    hessian: np.ndarray
    evaluations: int
    trace: tuple[float, ...]


def normal_equations(fixed: FixedImage, image: np.ndarray, derivatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (k,) and Gauss-Newton curvature (k, k) of minus the patch similarity.

    A patch's correlation is 1 - |f - m|^2 / 2 of the two unit vectors, hence least squares in m. Each patch's share of
    the curvature is weighted by its correlation, which is what remains of the second derivative when the residual
    is unlike the model.

    Args:
        fixed: The radiograph.
        image: (rows, columns), the DRR.
        derivatives: (k, rows, columns), by the variables.
    """
    slopes = gradients(np.concatenate([image[None], derivatives]))
    stack = np.concatenate([fixed.slopes[None], slopes])  # (k + 2, 2, rows, columns)
    weight = fixed.valid.astype(np.float32)
    total, product = cell_products(stack, weight, fixed.cell)
    rows, cols, size = *total.shape[1:3], fixed.cell
    count = weight[: rows * size, : cols * size].reshape(rows, size, cols, size).sum((1, 3), dtype=np.float64)
    count = np.maximum(join_cells(count[..., None]), 1)
    total = join_cells(total)
    product = join_cells(product.reshape(*product.shape[:3], -1)).reshape(*total.shape, len(stack))
    product = product - total[..., :, None] * total[..., None, :] / count[..., None]
    own, moving = product[..., 0, 0], product[..., 1, 1]
    edged = (moving > 1e-6 * moving.max(initial=1e-30)) & (own > 1e-6 * own.max(initial=1e-30))
    own, moving = np.where(edged, own, 1), np.where(edged, moving, 1)
    ncc = np.where(edged, product[..., 0, 1] / np.sqrt(own * moving), 0)
    weights = np.where(edged, fixed.weights, 0) / 2
    along = product[..., 1, 2:]
    slope = product[..., 0, 2:] / np.sqrt(own * moving)[..., None] - (ncc / moving)[..., None] * along
    curve = product[..., 2:, 2:] - along[..., :, None] * along[..., None, :] / moving[..., None, None]
    share = weights * np.maximum(ncc, 0.05) / moving
    return -np.einsum("grc,grck->k", weights, slope), np.einsum("grc,grckl->kl", share, curve)


def polish(
    fixed: FixedImage,
    render: Callable[[int, np.ndarray], np.ndarray],
    start: np.ndarray,
    *,
    prior: Callable[[np.ndarray], np.ndarray],
    iterations: int = 12,
    tolerance: float = 4e-3,
    background: np.ndarray | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Polished:
    """Refine the poses of all bodies together; never returns values that cost more than `start`.

    Derivatives are rendered anew only after a step that is large enough to change them.

    Args:
        fixed: The radiograph at one pixel size.
        render: (body, scaled values (n, 6)) -> DRRs (n, rows, columns).
        start: (bodies, 6).
        prior: Scaled values (n, bodies, 6) -> residuals (n, k); half their sum of squares is added to the cost.
        iterations: At most.
        tolerance: Stop when no variable moves by more, in scaled units.
        background: (rows, columns), DRR of what stays.
        on_iteration: Called with the iteration's number and the cost.
    """
    x = np.array(start, float)
    bodies, trace = len(x), []
    base = np.float32(0) if background is None else background

    def at(candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images = base + sum(render(b, candidates[:, b]) for b in range(bodies))
        scores = fixed.scores(images)
        costs = 0.5 * (prior(candidates) ** 2).sum(1) - scores
        return images, np.where(np.isfinite(costs), costs, np.inf), scores

    images, costs, scores = at(x[None])
    image, cost, score = images[0], float(costs[0]), float(scores[0])
    evaluations, hessian, damping = bodies, np.zeros((6 * bodies, 6 * bodies)), 0.0
    derivatives, made_at = None, x
    for number in range(iterations):
        fresh = derivatives is None or np.abs(x - made_at).max() > _STALE
        if fresh:
            derivatives, made_at = _derivatives(render, x), x
            evaluations += 12 * bodies
        slope, curve = normal_equations(fixed, image, derivatives)
        residual, jacobian = _linear(prior, x)
        slope = slope + jacobian.T @ residual
        hessian = curve + jacobian.T @ jacobian
        diagonal = np.diag(np.maximum(np.diag(hessian), 1e-9))
        better = False
        for trial in (_DAMPING[:1], _DAMPING[1:]):  # the plain step first, damped ones only if it fails
            steps = [-np.linalg.solve(hessian + (damping + d) * diagonal, slope).reshape(bodies, 6) for d in trial]
            candidates = x + np.clip(steps, -1.0, 1.0)
            images, costs, scores = at(candidates)
            evaluations += len(candidates) * bodies
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
        x, cost, score, image = candidates[best], float(costs[best]), float(scores[best]), images[best]
        trace.append(cost)
        if on_iteration:
            on_iteration(number + 1, cost)
        if moved < tolerance:
            break
    return Polished(x, score, cost, hessian, evaluations, tuple(trace))


def _derivatives(render: Callable[[int, np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Central differences of the DRRs by all variables, (6 bodies, rows, columns)."""
    offsets = np.concatenate([np.diag(STEP), -np.diag(STEP)])
    views = [render(b, x[b] + offsets) for b in range(len(x))]
    return np.concatenate([(v[:6] - v[6:]) / (2 * STEP)[:, None, None].astype(np.float32) for v in views])


def _linear(prior: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (k,) of the prior and their derivatives (k, 6 bodies) by all variables."""
    width = 1e-4
    offsets = width * np.eye(x.size).reshape(x.size, *x.shape)
    found = prior(np.concatenate([x[None], x + offsets, x - offsets]))
    return found[0], ((found[1 : x.size + 1] - found[x.size + 1 :]) / (2 * width)).T
