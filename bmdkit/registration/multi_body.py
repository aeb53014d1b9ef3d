"""Several bones, and if wanted the camera, refined together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.registration.intrinsics import SDD_UNIT, adjust_camera, follow_principal_point
from bmdkit.registration.pose_parameters import PoseParameters, make_rotations
from bmdkit.registration.priors import find_anchor_deviations, find_parent, measure_joint_residuals
from bmdkit.registration.scene import Images, Poses, Scene, add_images

STEP = 1e-4
"""Scaled values along which a pose or camera moves, for the derivatives of its rays; these are nearly linear in it."""


@dataclass(frozen=True, eq=False)
class MultiBodyProblem:
    """Poses of some bodies of a scene, six variables each, then those of the first camera, then of further ones.

    Attributes:
        scene: Radiograph level and bodies.
        poses: Poses of all bodies, where the variables are zero.
        names: Names of the bodies that move.
        intrinsics_sd: Standard deviations of the first camera's variables, scaled: none, principal point, or with
            source distance. All bodies turn with the principal point, see `follow_principal_point`.
        moves_rig: Whether further cameras whose place is uncertain move, six variables each, in standard deviations.
        parameters: Parameters of every moving body's pose.
    """

    scene: Scene
    poses: Poses
    names: tuple[str, ...]
    intrinsics_sd: tuple[float, ...] = ()
    moves_rig: bool = False
    parameters: Mapping[str, PoseParameters] = field(init=False)

    def __post_init__(self) -> None:
        """Check that the camera moves with all bodies only."""
        if self.intrinsics_sd and len(self.names) < len(self.poses):
            raise ValueError("intrinsics_sd: expected all bodies to move where the camera does")
        parameters = {name: self.scene.parameters(self.poses[name], name) for name in self.names}
        object.__setattr__(self, "parameters", parameters)

    @property
    def size(self) -> int:
        """Number of variables."""
        return self._first_of_rig + 6 * len(self._loose)

    @property
    def _first_of_rig(self) -> int:
        return 6 * len(self.names) + len(self.intrinsics_sd)

    @cached_property
    def _loose(self) -> tuple[int, ...]:
        """Which of the further views have a place that moves."""
        return tuple(k for k, view in enumerate(self.scene.views) if k and view.sd is not None and self.moves_rig)

    @cached_property
    def _background(self) -> Images | None:
        still = {name: pose for name, pose in self.poses.items() if name not in self.names}
        return self.scene.render_all(still) if still else None

    @cached_property
    def _begun_away(self) -> np.ndarray:
        """Scaled values of the first body, where the variables are zero, about where it is expected."""
        if self.scene.expected is None:
            return np.zeros(6)
        anchor = self.scene.bodies[0].name
        return self.scene.parameters(self.scene.expected).values(self.poses[anchor])

    def _own(self, x: np.ndarray, k: int) -> np.ndarray:
        return x[..., 6 * k : 6 * k + 6]

    def _intrinsics(self, x: np.ndarray) -> np.ndarray:
        return x[..., 6 * len(self.names) : self._first_of_rig]

    def _cameras(self, x: np.ndarray) -> list[ProjectionGeometry | Sequence[ProjectionGeometry]] | None:
        if not self.intrinsics_sd:
            return None
        first = [adjust_camera(self.scene.level.geometry, v) for v in self._intrinsics(x)]
        return [first, *(view.level.geometry for view in self.scene.views[1:])]

    def _rig(self, x: np.ndarray) -> list[np.ndarray] | None:
        """camera_from_first (n, 4, 4) of every further radiograph; None where all stay."""
        if not self._loose:
            return None
        found = []
        for k, view in enumerate(self.scene.views[1:], start=1):
            still = np.eye(4) if view.camera_from_first is None else view.camera_from_first.matrix
            placed = np.broadcast_to(still, (len(x), 4, 4))
            if k in self._loose and view.sd is not None:
                first = self._first_of_rig + 6 * self._loose.index(k)
                moved = x[:, first : first + 6] * view.sd
                turn = np.tile(np.eye(4), (len(x), 1, 1))
                turn[:, :3, :3] = make_rotations(moved[:, :3])
                turn[:, :3, 3] = moved[:, 3:]
                placed = turn @ placed
            found.append(placed)
        return found

    def _matrices(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """camera_from_ct (n, 4, 4) of every moving body."""
        found = {name: self.parameters[name].matrices(self._own(x, k)) for k, name in enumerate(self.names)}
        if not self.intrinsics_sd:
            return found
        turns = follow_principal_point(self.scene.level.geometry, self._intrinsics(x))
        return {name: turns @ matrices for name, matrices in found.items()}

    def images(self, x: np.ndarray) -> Images:
        """DRRs (n, rows, columns) of every radiograph."""
        cameras, rig = self._cameras(x), self._rig(x)
        moving = [self.scene.render(name, matrices, cameras, rig) for name, matrices in self._matrices(x).items()]
        return add_images(moving if self._background is None else [self._background, *moving])

    def derivatives(self, x: np.ndarray) -> Images:
        """Of the DRRs by all variables, (size, rows, columns), for every radiograph."""
        steps = STEP * np.eye(self.size)
        nearby = np.concatenate([x[None], x + steps, x - steps])
        matrices, cameras, rig = self._matrices(nearby), self._cameras(nearby), self._rig(nearby)
        parts = []
        for k, name in enumerate(self.names):
            moving = np.array([*range(6 * k, 6 * k + 6), *range(6 * len(self.names), self.size)])
            kept = np.concatenate([[0], 1 + moving, 1 + self.size + moving])
            seen = cameras and [c if isinstance(c, ProjectionGeometry) else [c[n] for n in kept] for c in cameras]
            placed = rig and [each[kept] for each in rig]
            parts.append(self.scene.derive(name, matrices[name][kept], 2 * STEP, seen, placed))
        return tuple(
            np.concatenate([*(part[:6] for part in view), sum(part[6:] for part in view)])
            for view in zip(*parts, strict=True)
        )

    def prior(self, x: np.ndarray) -> np.ndarray:
        """Residuals (n, k): of the first body against where it was and the marker, of joints, of the cameras."""
        scene, anchor = self.scene, self.scene.bodies[0].name
        now = {name: np.broadcast_to(pose.matrix, (len(x), 4, 4)) for name, pose in self.poses.items()}
        now |= self._matrices(x)
        parts = []
        if anchor in self.names:
            away = self._own(x, self.names.index(anchor)) + self._begun_away
            parts.append(away / find_anchor_deviations(scene))
            if scene.hips:
                scale = 1 + SDD_UNIT * self._intrinsics(x)[:, -1] if len(self.intrinsics_sd) > 2 else np.ones(1)
                sdd = scene.level.geometry.sdd_mm * scale
                parts.append(scene.hip_residual(now[anchor], sdd)[:, None])
        jointed = [name for name in now if name != anchor]
        parts += [measure_joint_residuals(scene, name, now[find_parent(scene, name)], now[name]) for name in jointed]
        if self.intrinsics_sd:
            share = np.ones(len(self.intrinsics_sd))
            share[:2] = np.sqrt(scene.config.prior.camera_weight / scene.config.prior.polish_weight)
            parts.append(share * self._intrinsics(x) / np.array(self.intrinsics_sd))
        parts.append(x[:, self._first_of_rig :])
        return np.sqrt(2 * scene.config.prior.polish_weight) * np.concatenate(parts, axis=1)

    def poses_at(self, x: np.ndarray) -> Poses:
        """camera_from_ct of all bodies at variables (size,)."""
        return dict(self.poses) | {name: RigidTransform(m[0]) for name, m in self._matrices(x[None]).items()}

    def rig_at(self, x: np.ndarray) -> list[RigidTransform]:
        """camera_from_first of every further radiograph at variables (size,)."""
        found = self._rig(x[None])
        if found is not None:
            return [RigidTransform(matrix[0]) for matrix in found]
        return [view.camera_from_first or RigidTransform.identity() for view in self.scene.views[1:]]
