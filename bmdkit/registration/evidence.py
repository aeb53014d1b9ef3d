"""What speaks for a pose and what against it: the numbers that a verdict is made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.bodies import Body
from bmdkit.registration.pose_parameters import Motion
from bmdkit.registration.priors import anchor_prior, femur_prior
from bmdkit.registration.refinement import Polished
from bmdkit.registration.scene import Poses, Scene
from bmdkit.registration.stages import polish_all


def gather(
    coarse: Scene, fine: Scene, poses: Poses, polished: Polished, start: RigidTransform, rng: np.random.Generator
) -> tuple[dict[str, dict[str, float]], int]:
    """Everything that is known about the poses of all bodies.

    Args:
        coarse, fine: The two levels of one radiograph.
        poses: As found at the fine level.
        polished: The refinement that ended there.
        start: Of the search.
        rng: Of the scattered restarts.

    Returns:
        Body -> name -> number; and the poses rendered for it. The numbers: similarity near the bone; spread_mm of
        repeated refinements; curvature_mm, the error that the curvature of the cost predicts; prior, distance from
        what was expected, in standard deviations; visible, share of the bone in the image; mirrored, 1 if the
        flipped radiograph fits better.
    """
    spread, used = scatter(coarse, poses, rng)
    gain = -1.0
    if coarse.config.check_mirror:
        gain, more = mirrored_gain(coarse, poses)
        used += more
    similarity = fine.similarities(poses)
    curvature = curvatures(fine, poses, polished)
    prior = prior_distances(fine, poses, start)
    visible = visible_shares(fine, poses)
    facts = {
        name: {
            "similarity": similarity[name],
            "spread_mm": spread[name],
            "curvature_mm": curvature[name],
            "prior": prior[name],
            "visible": visible[name],
            "mirrored": float(gain > 0),
        }
        for name in poses
    }
    return facts, used


def prior_distances(scene: Scene, poses: Mapping[str, RigidTransform], start: RigidTransform) -> dict[str, float]:
    """Root mean square of each body's prior residuals, in standard deviations."""
    anchor = scene.bodies[0]
    found = {}
    for name, pose in poses.items():
        if name == anchor.name:
            residual = Motion(start, anchor.centre_mm).values(pose) / anchor_prior(scene.config)
        else:
            residual = femur_prior(scene, name, poses[anchor.name].matrix[None], pose.matrix[None])
        found[name] = float(np.sqrt((residual**2).mean()))
    return found


def visible_shares(scene: Scene, poses: Mapping[str, RigidTransform]) -> dict[str, float]:
    """Share of each bone's points that project onto image (not past its edge, nor onto collimation)."""
    geometry, valid = scene.level.geometry, scene.level.fixed.valid
    shares = {}
    for body in scene.bodies:
        points = poses[body.name].apply(body.points_mm)
        points = points[points[:, 2] > 1]
        if not len(points):
            shares[body.name] = 0.0
            continue
        column, row = np.rint(geometry.project(points)).astype(int).T
        inside = (row >= 0) & (row < geometry.rows) & (column >= 0) & (column < geometry.columns)
        inside[inside] = valid[row[inside], column[inside]]
        shares[body.name] = float(inside.sum() / len(body.points_mm))
    return shares


def curvatures(scene: Scene, poses: Poses, polished: Polished) -> dict[str, float]:
    """Standard deviation of each bone's points, mm, from the curvature of the cost at the pose.

    The noise of the cost is taken as what the similarity lacks to 1, shared among the patches.
    """
    patches = 1 / max(float((scene.level.fixed.weights**2).sum()), 1e-9)
    noise = max(1 - polished.score, 1e-3) / patches
    hessian = polished.hessian + 1e-9 * np.eye(len(polished.hessian))
    covariance = noise * np.linalg.pinv((hessian + hessian.T) / 2, hermitian=True)
    found = {}
    for k, body in enumerate(scene.bodies):
        block = covariance[6 * k : 6 * k + 6, 6 * k : 6 * k + 6]
        moves = _point_derivatives(body, poses[body.name])
        variance = np.einsum("pik,kl,pil->p", moves, block, moves)
        found[body.name] = float(np.sqrt(np.clip(variance, 0, 1e6).mean()))
    return found


def _point_derivatives(body: Body, pose: RigidTransform, width: float = 1e-3) -> np.ndarray:
    """Change of a bone's points (p, 3, 6), mm, by its six scaled values."""
    motion = Motion(pose, body.centre_mm)
    ends = motion.matrices(np.concatenate([np.eye(6), -np.eye(6)]) * width)
    seen = np.einsum("nij,pj->npi", ends[:, :3, :3], body.points_mm) + ends[:, None, :3, 3]
    return np.moveaxis((seen[:6] - seen[6:]) / (2 * width), 0, -1)


def scatter(
    scene: Scene, poses: Poses, rng: np.random.Generator, *, count: int = 2, size: float = 0.5
) -> tuple[dict[str, float], int]:
    """How far apart, mm in each bone, refinements end that start from randomly moved poses; and the poses rendered.

    Args:
        scene: Coarse, so that a refinement reaches far.
        poses: To be moved.
        rng: Of the moves.
        count: Refinements.
        size: Standard deviation of the moves, scaled units.
    """
    ends, evaluations = [], 0
    for _ in range(count):
        moved = {}
        shift = rng.standard_normal(6) * size
        for body in scene.bodies:
            own = np.concatenate([rng.standard_normal(3) * size / 2, np.zeros(3)])
            values = shift if body is scene.bodies[0] else shift + own
            moved[body.name] = Motion(poses[body.name], body.centre_mm).pose(values)
        end, polished = polish_all(scene, moved)
        ends.append(end)
        evaluations += polished.evaluations
    spread = {}
    for body in scene.bodies:
        seen = np.stack([end[body.name].apply(body.points_mm) for end in ends])
        spread[body.name] = float(np.linalg.norm(seen - seen.mean(0), axis=-1).mean())
    return spread, evaluations


def mirrored_gain(scene: Scene, poses: Poses) -> tuple[float, int]:
    """How much more alike the mirrored radiograph is than the one given; positive: it may be mirrored.

    The poses are reflected in the patient's median plane and in the camera, left and right femur exchanged, and
    refined against the flipped image.
    """
    joints = scene.bodies[0].joints_mm
    if scene.bodies[0].name != "pelvis" or len(joints) < 2:
        return -1.0, 0
    across = joints["L"] - joints["R"]
    across = across / np.linalg.norm(across)
    middle = (joints["L"] + joints["R"]) / 2
    median = np.eye(4)
    median[:3, :3] -= 2 * np.outer(across, across)
    median[:3, 3] = 2 * (middle @ across) * across
    flip = np.diag([-1.0, 1, 1, 1])
    partner = {"femur_L": "femur_R", "femur_R": "femur_L"}
    reflected = {}
    for name in poses:
        twin = poses.get(partner.get(name, name), poses["pelvis"])
        reflected[name] = RigidTransform(flip @ twin.matrix @ median)
    flipped = scene.flipped()
    _, mirrored = polish_all(flipped, reflected, iterations=6)
    _, straight = polish_all(scene, poses, iterations=1)
    return mirrored.score - straight.score, mirrored.evaluations + straight.evaluations
