"""What a registration found, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.pose import Pose
from bmdkit.core.pose_json import PoseSpread, encode_pose
from bmdkit.regions.hip_angles import HipAngles
from bmdkit.registration.marker import Marker
from bmdkit.registration.quality import Evidence, Verdict


@dataclass(frozen=True, eq=False)
class BodyResult:
    """One bone's pose.

    Attributes:
        camera_from_ct: The pose.
        similarity_at_start: Similarity near this bone at the start pose, in [-1, 1].
        verdict: accept, review or reject.
        evidence: Evidence that the verdict is made of.
        pose_spread: How sure the pose is, by the curvature of the cost; None where that is not known.
    """

    camera_from_ct: RigidTransform
    similarity_at_start: float
    verdict: Verdict
    evidence: Evidence
    pose_spread: PoseSpread | None = None

    @property
    def similarity(self) -> float:
        """Similarity near this bone at the finest level, in [-1, 1]."""
        return self.evidence.similarity

    @property
    def spread(self) -> float:
        """Mean distance in the bone, mm, between the ends of refinements from scattered poses."""
        return self.evidence.spread_mm

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, as in a registration file."""
        return {
            **encode_pose(self.camera_from_ct),
            "similarity": round(self.similarity, 6),
            "similarity_at_start": round(self.similarity_at_start, 6),
            "spread": round(self.spread, 4),
            "verdict": self.verdict,
            "evidence": {name: round(value, 6) for name, value in self.evidence.to_dict().items()},
            **(self.pose_spread.to_dict() if self.pose_spread else {}),
        }


@dataclass(frozen=True, eq=False)
class RegistrationResult:
    """The poses of all bones in one radiograph.

    Attributes:
        camera: The geometry that the poses belong to, in full-resolution pixels; reversed columns tell of a PA view.
        sources: Origin of each number of the camera.
        bodies: Results of the bones by name.
        start: camera_from_ct that the search started from.
        evaluations: Number of DRRs that were scored.
        seconds: CPU time of the calling process, from start to verdict.
        traces: Stage -> best cost after each generation.
        warnings: Sentences that a user should read.
        angles: Side -> "ct" and "radiograph" -> hip joint angles.
        marker: The magnification marker, if one was found.
        views: Names of the radiographs that were registered together; empty for one alone.
    """

    camera: ProjectionGeometry
    sources: Mapping[str, str]
    bodies: Mapping[str, BodyResult]
    start: RigidTransform
    evaluations: int
    seconds: float
    traces: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    angles: Mapping[str, Mapping[str, HipAngles]] = field(default_factory=dict)
    marker: Marker | None = None
    views: tuple[str, ...] = ()

    def poses(self) -> tuple[Pose, ...]:
        """Every bone's pose."""
        return tuple(Pose(name, body.camera_from_ct) for name, body in self.bodies.items())

    @property
    def verdict(self) -> Verdict:
        """The worst of the bones' verdicts."""
        order: tuple[Verdict, ...] = ("reject", "review", "accept")
        return min((body.verdict for body in self.bodies.values()), key=order.index)

    def to_dict(self, *, seed: int | None = None) -> dict[str, Any]:
        """Plain numbers and texts, as in registration_<xray>.json.

        Args:
            seed: Seed that is recorded.
        """
        camera = {**self.camera.to_dict(), "sources": dict(self.sources)}
        if self.marker:
            camera["marker"] = self.marker.to_dict()
        return {
            "camera": camera,
            "bodies": {name: body.to_dict() for name, body in self.bodies.items()},
            "start": self.start.matrix.tolist(),
            "seed": seed,
            "evaluations": self.evaluations,
            "seconds": round(self.seconds, 2),
            "traces": {stage: [round(v, 6) for v in trace] for stage, trace in self.traces.items()},
            "angles": {
                side: {where: angles.to_dict() for where, angles in both.items()} for side, both in self.angles.items()
            },
            "warnings": list(self.warnings),
            **({"views": list(self.views)} if self.views else {}),
        }
