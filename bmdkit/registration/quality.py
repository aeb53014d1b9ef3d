"""How far poses can be trusted: the evidence for them, the probability that they are wrong, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.bodies import Body
from bmdkit.registration.priors import find_anchor_deviations, find_parent, measure_joint_residuals
from bmdkit.registration.refinement import Refinement
from bmdkit.registration.scene import Poses, Scene, View
from bmdkit.registration.search_stages import refine_bodies
from bmdkit.registration.settings import VerdictConfig
from bmdkit.registration.similarity import FITTED_MEASURE, Measure
from bmdkit.registration.uncertainty import find_covariances, find_rays

Verdict = Literal["accept", "review", "reject"]

FITTED_ON = (
    "369 poses of bones in 22 simulated radiographs of 6 warped patients (two anatomies; four postures; with and "
    "without marker, collimation and off-centre beam): full searches, refinements from 1, 2 and 3.5 scaled units away, "
    "femurs turned by up to 30 degrees, labels eroded and dilated by a voxel, mirrored images, CTs of other patients; "
    "154 of them off by more than 10 mm. Each patient judged by a fit to the others: AUROC 0.996 for more than 10 mm, "
    "0.983 for more than 2 mm; of the poses within 2 mm, 94 % accepted; of the accepted, none off by more than 10 mm "
    "and 2.6 % by more than 2 mm (the largest 3.1 mm). Radiographs of patients may score lower: fit again where truth "
    "is known."
)
"""What the coefficients of `OVER_2MM` and `OVER_10MM` were fitted to."""

BODIES_FITTED_ON = (
    "360 poses of 120 drawn bones (vertebrae, tibiae, metacarpals, short bones) in radiographs from clean to hardly "
    "readable, with bones alike beside and over them, one view and two, starts 3 to 25 degrees off; one radiograph in "
    "eight shows other bones only; 141 poses mislead. Each bone judged by a fit to the others: AUROC 0.879 for "
    "misleading, 0.884 for lost, 0.807 for far poses; at a probability of 0.1, 46 % of the right are accepted, and of "
    "105 accepted 4 mislead. No slope may make worse evidence look better. Fit again where truth is known: "
    "benchmarks/verdict_fit.py."
)
"""What the coefficients of `MISLEADING`, `LOST` and `FAR` were fitted to: no real image."""

_LEAST_MM, _LEAST_DEG = 0.05, 0.05

_LEAST_ATTAINABLE = 0.6
"""Least similarity that noise is taken to allow: where a radiograph shows hardly any edge, none can be missed."""


@dataclass(frozen=True)
class Evidence:
    """What is known about the pose of one bone.

    Attributes:
        similarity: Similarity near the bone, in [-1, 1].
        spread_mm: Mean distance in the bone between the ends of refinements from scattered poses.
        curvature_mm: Error that the curvature of the cost predicts.
        prior: Distance from what was expected, in standard deviations.
        visible: Share of the bone in the image.
        mirrored: Whether the mirrored radiograph fits better.
        scale: Size of the body as a part of a pelvis's: lengths are judged as parts of it.
        depth_sd_mm: Standard deviation of its depth that the curvature predicts: one view hardly shows it, and the
            verdict is not about it alone.
        across_mm: Error across the rays that the curvature predicts.
        spread_across_mm: Mean distance across the rays between the ends of refinements from scattered poses.
        lead: By how much the pose fits better than the best at an unlike one; 1 where none was looked for.
        rotation_sd_deg: Standard deviation of its turns that the curvature predicts.
        spread_rotation_deg: Largest turn between the pose and the ends of refinements from scattered poses.
        attainable: Similarity there of a DRR that shows all but the radiograph's noise.
    """

    similarity: float
    spread_mm: float
    curvature_mm: float
    prior: float
    visible: float
    mirrored: bool = False
    scale: float = 1.0
    depth_sd_mm: float = 0.0
    across_mm: float = 0.0
    spread_across_mm: float = 0.0
    lead: float = 1.0
    rotation_sd_deg: float = 0.0
    spread_rotation_deg: float = 0.0
    attainable: float = 1.0

    @property
    def relative_similarity(self) -> float:
        """Similarity as a part of what the radiograph's noise allows, but of no less than `_LEAST_ATTAINABLE`.

        Of bones that are none of the hips the similarity itself: in their fit it tells more (360 poses of drawn bones).
        """
        return self.similarity / max(self.attainable, _LEAST_ATTAINABLE) if self.is_of_hips else self.similarity

    @property
    def is_of_hips(self) -> bool:
        """Whether the bone is one of the hips, whose verdicts have a fit of their own."""
        return self.scale == 1.0

    @property
    def probability_over_2mm(self) -> float:
        """Probability that the pose of a bone of the hips is off by more than 2 mm."""
        return OVER_2MM.probability(self)

    @property
    def probability_over_10mm(self) -> float:
        """Probability that the pose is off by more than 10 mm, depth included."""
        return (OVER_10MM if self.is_of_hips else FAR).probability(self)

    @property
    def probability_misleading(self) -> float:
        """Probability that the pose of another bone misleads: off in plane by over 4 mm x scale, or over 5 degrees."""
        return MISLEADING.probability(self)

    @property
    def probability_lost(self) -> float:
        """Probability that the pose of another bone is lost: off in plane by over 10 mm x scale, or over 15 degrees."""
        return LOST.probability(self)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, with the probabilities of such a bone; 1 for a mirrored radiograph."""
        facts = {name: float(value) for name, value in asdict(self).items()}
        own = ("probability_over_2mm",) if self.is_of_hips else ("probability_misleading", "probability_lost")
        return facts | {name: getattr(self, name) for name in (*own, "probability_over_10mm")}


@dataclass(frozen=True)
class Logistic:
    """Model of a probability p: log(p / (1 - p)) is a line in relative similarity, lead, and logarithms of the rest.

    Attributes:
        intercept: Value of the line at zero.
        similarity: Slope along the relative similarity.
        log_curvature, log_spread: Slopes along the logarithms of curvature_mm and spread_mm.
        log_across: Along that of across_mm.
        log_rotation: Along that of rotation_sd_deg.
        log_depth: Along that of depth_sd_mm, whatever the body's size.
        lead: Slope along the lead.
    """

    intercept: float
    similarity: float = 0.0
    log_curvature: float = 0.0
    log_spread: float = 0.0
    log_across: float = 0.0
    log_rotation: float = 0.0
    log_depth: float = 0.0
    lead: float = 0.0

    def probability(self, evidence: Evidence) -> float:
        """Probability of the event that was fitted."""
        value = self.intercept
        for name, feature in describe_evidence(evidence).items():
            value += getattr(self, name) * feature
        return 1 / (1 + math.exp(-min(max(value, -50.0), 50.0)))


def describe_evidence(evidence: Evidence) -> dict[str, float]:
    """The features of a `Logistic` by the names of its slopes: lengths as parts of the body's size."""
    lengths = {
        "log_curvature": evidence.curvature_mm,
        "log_spread": evidence.spread_mm,
        "log_across": evidence.across_mm,
    }
    return {
        "similarity": evidence.relative_similarity,
        "lead": evidence.lead,
        "log_depth": math.log(max(evidence.depth_sd_mm, _LEAST_MM)),
        "log_rotation": math.log(max(evidence.rotation_sd_deg, _LEAST_DEG)),
    } | {name: math.log(max(value / evidence.scale, _LEAST_MM)) for name, value in lengths.items()}


OVER_2MM = Logistic(9.013, -10.843, 4.169, 0.081)
"""Probability of an error over 2 mm, of a bone of the hips."""

OVER_10MM = Logistic(6.297, -9.311, 5.069, 0.020)
"""Probability of an error over 10 mm, of a bone of the hips."""

MISLEADING = Logistic(2.884, -3.340, lead=-2.444, log_rotation=2.166)
"""Probability that the pose of another bone misleads."""

LOST = Logistic(2.524, -4.352, lead=-5.588, log_rotation=1.231)
"""Probability that the pose of another bone is lost."""

FAR = Logistic(1.608, -2.320, lead=-1.924, log_rotation=0.343, log_depth=0.710)
"""Probability of an error over 10 mm, depth included, of another bone."""


def judge(evidence: Evidence, config: VerdictConfig | None = None, *, measure: Measure = FITTED_MEASURE) -> Verdict:
    """Judge the pose of one bone.

    Args:
        evidence: What is known about it.
        config: Thresholds.
        measure: Measure of the similarity; by another than that of the fit, no pose is accepted.

    Example:
        >>> judge(Evidence(similarity=0.9, spread_mm=0.2, curvature_mm=0.4, prior=0.5, visible=1.0))
        'accept'
        >>> judge(Evidence(similarity=0.2, spread_mm=9.0, curvature_mm=5.0, prior=2.5, visible=0.4))
        'reject'
    """
    config = config or VerdictConfig()
    if evidence.is_of_hips:
        is_lost = evidence.probability_over_10mm > config.reject_over_10mm
        is_good = (
            evidence.probability_over_10mm <= config.accept_over_10mm
            and evidence.probability_over_2mm <= config.accept_over_2mm
            and evidence.similarity >= config.accept_similarity
            and evidence.spread_mm <= config.accept_spread_mm
        )
    else:
        is_lost = evidence.probability_lost > config.reject_lost or evidence.similarity < config.reject_similarity
        is_good = evidence.probability_misleading <= config.accept_misleading
    if evidence.mirrored or is_lost:
        return "reject"
    is_seen = evidence.visible >= config.accept_visible and evidence.prior <= config.accept_prior
    return "accept" if is_good and is_seen and measure == FITTED_MEASURE else "review"


def gather_evidence(
    coarse: Scene,
    fine: Scene,
    poses: Poses,
    refinement: Refinement,
    start: RigidTransform,
    rng: np.random.Generator,
    *,
    lead: float = 1.0,
) -> tuple[dict[str, Evidence], int]:
    """Gather everything that is known about the poses of all bodies.

    Args:
        coarse: Coarse level of one radiograph.
        fine: Fine level of the same.
        poses: Poses as found at the fine level.
        refinement: Refinement that ended there.
        start: Start of the search.
        rng: Generator of the scattered restarts.
        lead: By how much the poses fit better than the best at unlike ones.

    Returns:
        Evidence by body; and the number of poses rendered for it.
    """
    spread, used = measure_spread(coarse, poses, rng)
    gain = -1.0
    if coarse.config.check_mirror:
        gain, more = measure_mirrored_gain(coarse, poses)
        used += more
    similarity = fine.similarities(poses)
    covariances = find_covariances(fine, poses, refinement)
    curvature = {name: each.point_error_mm for name, each in covariances.items()}
    prior = measure_prior_distances(fine, poses, start)
    visible = measure_visible_shares(fine, poses)
    evidence = {
        body.name: Evidence(
            similarity[body.name].similarity,
            spread[body.name].points_mm,
            curvature[body.name],
            prior[body.name],
            visible[body.name],
            gain > 0,
            coarse.bodies[0].scale,
            covariances[body.name].depth_sd_mm,
            covariances[body.name].across_mm,
            spread[body.name].across_mm,
            lead,
            covariances[body.name].rotation_sd_deg,
            spread[body.name].rotation_deg,
            similarity[body.name].attainable,
        )
        for body in fine.bodies
    }
    return evidence, used


def measure_prior_distances(
    scene: Scene, poses: Mapping[str, RigidTransform], start: RigidTransform
) -> dict[str, float]:
    """Measure the root mean square of each body's prior residuals, in standard deviations."""
    anchor = scene.bodies[0]
    found = {}
    for name, pose in poses.items():
        if name == anchor.name:
            residual = scene.parameters(start).values(pose) / find_anchor_deviations(scene)
        else:
            parent = poses[find_parent(scene, name)]
            residual = measure_joint_residuals(scene, name, parent.matrix[None], pose.matrix[None])
        found[name] = float(np.sqrt((residual**2).mean()))
    return found


def measure_visible_shares(scene: Scene, poses: Poses) -> dict[str, float]:
    """Measure which share of each bone's points projects onto image: not past its edge, nor onto collimation.

    Of several radiographs, that which shows least of it.
    """
    return {
        body.name: min(_visible_share(body, view, poses[body.name]) for view in scene.views) for body in scene.bodies
    }


def _visible_share(body: Body, view: View, pose: RigidTransform) -> float:
    geometry, valid = view.level.geometry, view.level.fixed.valid
    points = RigidTransform(view.place(pose.matrix[None])[0]).apply(body.points_mm)
    points = points[points[:, 2] > 1]
    if not len(points):
        return 0.0
    column, row = np.rint(geometry.project(points)).astype(int).T
    inside = (row >= 0) & (row < geometry.rows) & (column >= 0) & (column < geometry.columns)
    inside[inside] = valid[row[inside], column[inside]]
    return float(inside.sum() / len(body.points_mm))


class Spread(NamedTuple):
    """How far apart refinements of a bone end.

    Attributes:
        points_mm: Mean distance of its points from their mean over the ends.
        across_mm: The same across the rays.
        rotation_deg: Largest turn between the pose and the ends.
    """

    points_mm: float
    across_mm: float
    rotation_deg: float


def measure_spread(
    scene: Scene, poses: Poses, rng: np.random.Generator, *, count: int = 2, size: float = 0.5
) -> tuple[dict[str, Spread], int]:
    """Measure how far apart refinements end that start from randomly moved poses.

    Args:
        scene: Coarse level, so that a refinement reaches far.
        poses: Poses that are moved.
        rng: Generator of the moves.
        count: Number of refinements.
        size: Standard deviation of the moves, scaled units.

    Returns:
        Spread by body, and the number of poses rendered.
    """
    ends, evaluations = [], 0
    for _ in range(count):
        moved = {}
        shift = rng.standard_normal(6) * size
        for body in scene.bodies:
            own = np.concatenate([rng.standard_normal(3) * size / 2, np.zeros(3)])
            values = shift if body is scene.bodies[0] else shift + own
            moved[body.name] = scene.parameters(poses[body.name], body.name).pose(values)
        end, refinement = refine_bodies(scene, moved)
        ends.append(end)
        evaluations += refinement.evaluations
    spread = {}
    for body in scene.bodies:
        seen = np.stack([end[body.name].apply(body.points_mm) for end in ends])
        apart = seen - seen.mean(0)
        across = [apart - rays * (apart * rays).sum(-1, keepdims=True) for rays in find_rays(scene, seen.mean(0))]
        turns = [(end[body.name] @ poses[body.name].inverse()).angle_rad() for end in ends]
        spread[body.name] = Spread(
            float(np.linalg.norm(apart, axis=-1).mean()),
            float(np.mean([np.linalg.norm(part, axis=-1).mean() for part in across])),
            float(np.degrees(max(turns))),
        )
    return spread, evaluations


def measure_mirrored_gain(scene: Scene, poses: Poses) -> tuple[float, int]:
    """Measure how much more alike the mirrored radiograph is than the one given; positive: it may be mirrored.

    The poses are reflected in the patient's median plane and in the camera, left and right femur exchanged, and
    refined against the flipped image.
    """
    joints = scene.bodies[0].joints_mm
    if scene.bodies[0].name != "pelvis" or len(joints) < 2 or len(scene.views) > 1:
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
    _, mirrored = refine_bodies(flipped, reflected, iterations=6)
    _, straight = refine_bodies(scene, poses, iterations=1)
    return mirrored.score - straight.score, mirrored.evaluations + straight.evaluations
