"""How far a pose may be off, by the curvature of the cost where the refinement ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.bodies import Body
from bmdkit.registration.refinement import Refinement
from bmdkit.registration.scene import Poses, Scene


@dataclass(frozen=True, eq=False)
class PoseCovariance:
    """What the curvature says of one pose.

    Attributes:
        matrix: (6, 6), of turns about the camera's axes (rad) and moves along x, y and the viewing ray (mm).
        point_error_mm: Standard deviation of the bone's points, root mean square.
        across_mm: The same across the rays, of all radiographs: what their projections show.
    """

    matrix: np.ndarray
    point_error_mm: float
    across_mm: float

    @property
    def depth_sd_mm(self) -> float:
        """Standard deviation along the viewing ray of the first radiograph."""
        return float(np.sqrt(max(float(self.matrix[5, 5]), 0.0)))

    @property
    def rotation_sd_deg(self) -> float:
        """Standard deviation of its turns about all axes together."""
        return float(np.degrees(np.sqrt(max(float(np.trace(self.matrix[:3, :3])), 0.0))))

    def seen_from(self, turn: np.ndarray, centre_mm: np.ndarray, seen_mm: np.ndarray) -> np.ndarray:
        """The covariance (6, 6) in another camera's axes.

        Args:
            turn: (3, 3), from this camera's axes to the other's.
            centre_mm: (3,), point about which the bone turns, in this camera's axes.
            seen_mm: The same in the other's.
        """
        change = np.zeros((6, 6))
        change[:3, :3] = turn
        change[3:, 3:] = np.linalg.inv(_along_ray(seen_mm)) @ turn @ _along_ray(centre_mm)
        return np.asarray(change @ self.matrix @ change.T)


def _along_ray(centre_mm: np.ndarray) -> np.ndarray:
    """(3, 3), from moves along x, y and the viewing ray to moves along x, y and z."""
    moves = np.eye(3)
    moves[:2, 2] = centre_mm[:2] / centre_mm[2]
    return moves


def find_rays(scene: Scene, points_mm: np.ndarray) -> list[np.ndarray]:
    """Find the directions (n, 3) from every radiograph's source through points (n, 3), in the first camera's axes."""
    found = []
    for view in scene.views:
        source = np.zeros(3) if view.camera_from_first is None else view.camera_from_first.inverse().translation_mm
        away = points_mm - source
        found.append(away / np.linalg.norm(away, axis=1, keepdims=True))
    return found


def find_covariances(scene: Scene, poses: Poses, refinement: Refinement) -> dict[str, PoseCovariance]:
    """Find the covariance of each bone's pose from the curvature of the cost at the pose.

    The noise of the cost is taken as what the similarity lacks to 1, shared among the patches; of the hips as what it
    lacks to what the radiograph's noise allows, for pixel noise changes within a patch and moves a pose but little.

    Args:
        scene: Fine level of the radiographs.
        poses: Poses where the refinement ended.
        refinement: The refinement; its first variables are six of every bone of the scene.
    """
    patches = sum(1 / max(float((view.level.fixed.weights**2).sum()), 1e-9) for view in scene.views)
    most = refinement.comparison.attainable if scene.bodies[0].scale == 1.0 else 1.0
    noise = max(most - refinement.score, 1e-3) / patches
    hessian = refinement.hessian + 1e-9 * np.eye(len(refinement.hessian))
    covariance = noise * np.linalg.pinv((hessian + hessian.T) / 2, hermitian=True)
    found = {}
    for k, body in enumerate(scene.bodies):
        block = covariance[6 * k : 6 * k + 6, 6 * k : 6 * k + 6]
        moves = _point_derivatives(scene, body, poses[body.name])
        variance = np.einsum("pik,kl,pil->p", moves, block, moves)
        error = float(np.sqrt(np.clip(variance, 0, 1e6).mean()))
        points = poses[body.name].apply(body.points_mm)
        seen = [
            moves - rays[:, :, None] * np.einsum("pi,pik->pk", rays, moves)[:, None]
            for rays in find_rays(scene, points)
        ]
        variances = [np.einsum("pik,kl,pil->p", across, block, across) for across in seen]
        across = float(np.sqrt(np.clip(np.mean(variances, axis=0), 0, 1e6).mean()))
        found[body.name] = PoseCovariance(block * np.outer(scene.unit, scene.unit), error, across)
    return found


def _point_derivatives(scene: Scene, body: Body, pose: RigidTransform, width: float = 1e-3) -> np.ndarray:
    """Change of a bone's points (p, 3, 6), mm, by its six scaled values."""
    parameters = scene.parameters(pose, body.name)
    ends = parameters.matrices(np.concatenate([np.eye(6), -np.eye(6)]) * width)
    seen = np.einsum("nij,pj->npi", ends[:, :3, :3], body.points_mm) + ends[:, None, :3, 3]
    return np.moveaxis((seen[:6] - seen[6:]) / (2 * width), 0, -1)
