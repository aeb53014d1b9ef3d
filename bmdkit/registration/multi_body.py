"""Several bones, and if wanted the camera, refined together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.registration.intrinsics import SDD_UNIT, adjust_camera, follow_principal_point
from bmdkit.registration.pose_parameters import PoseParameters
from bmdkit.registration.priors import find_anchor_deviations, measure_femur_residuals
from bmdkit.registration.scene import Poses, Scene, add_images

STEP = np.array([1 / 12, 1 / 12, 1 / 12, 0.05, 0.05, 0.1])
"""Half a difference quotient's width, scaled: half a degree, half a millimetre in plane, three along the ray."""

INTRINSICS_STEP = 0.2
"""Half the width of the camera's difference quotient; wider, as bodies that follow it leave little to be seen."""


@dataclass(frozen=True, eq=False)
class MultiBodyProblem:
    """Poses of some bodies of a scene, six variables each, then those of the camera.

    Attributes:
        scene: Radiograph level and bodies.
        poses: Poses of all bodies, where the variables are zero.
        names: Names of the bodies that move.
        intrinsics_sd: Standard deviations of the camera's variables, scaled: none, principal point, or with source
            distance. All bodies turn with the principal point, see `follow_principal_point`.
        parameters: Parameters of every moving body's pose.
    """

    scene: Scene
    poses: Poses
    names: tuple[str, ...]
    intrinsics_sd: tuple[float, ...] = ()
    parameters: Mapping[str, PoseParameters] = field(init=False)

    def __post_init__(self) -> None:
        """Check that the camera moves with all bodies only."""
        if self.intrinsics_sd and len(self.names) < len(self.poses):
            raise ValueError("intrinsics_sd: expected all bodies to move where the camera does")
        parameters = {name: PoseParameters(self.poses[name], self.scene.body(name).centre_mm) for name in self.names}
        object.__setattr__(self, "parameters", parameters)

    @property
    def size(self) -> int:
        """Number of variables."""
        return 6 * len(self.names) + len(self.intrinsics_sd)

    @cached_property
    def _background(self) -> np.ndarray:
        still = {name: pose for name, pose in self.poses.items() if name not in self.names}
        return self.scene.render_all(still) if still else np.zeros((), np.float32)

    def _own(self, x: np.ndarray, k: int) -> np.ndarray:
        return x[..., 6 * k : 6 * k + 6]

    def _cameras(self, x: np.ndarray) -> ProjectionGeometry | Sequence[ProjectionGeometry]:
        geometry = self.scene.level.geometry
        return [adjust_camera(geometry, v) for v in x[:, 6 * len(self.names) :]] if self.intrinsics_sd else geometry

    def _matrices(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """camera_from_ct (n, 4, 4) of every moving body."""
        found = {name: self.parameters[name].matrices(self._own(x, k)) for k, name in enumerate(self.names)}
        if not self.intrinsics_sd:
            return found
        turns = follow_principal_point(self.scene.level.geometry, x[:, 6 * len(self.names) :])
        return {name: turns @ matrices for name, matrices in found.items()}

    def images(self, x: np.ndarray) -> np.ndarray:
        """DRRs (n, rows, columns)."""
        cameras = self._cameras(x)
        views = (self.scene.render(name, matrices, cameras) for name, matrices in self._matrices(x).items())
        return self._background + add_images(views)

    def derivatives(self, x: np.ndarray) -> np.ndarray:
        """Central differences of the DRR by all variables, (size, rows, columns)."""
        steps, offsets = STEP, np.concatenate([np.diag(STEP), -np.diag(STEP)])
        camera = adjust_camera(self.scene.level.geometry, x[6 * len(self.names) :]) if self.intrinsics_sd else None
        parts = []
        for k, name in enumerate(self.names):
            moved = np.repeat(x[None], len(offsets), axis=0)
            moved[:, 6 * k : 6 * k + 6] += offsets
            views = self.scene.render(name, self._matrices(moved)[name], camera)
            parts.append((views[:6] - views[6:]) / (2 * steps)[:, None, None].astype(np.float32))
        if self.intrinsics_sd:
            count = len(self.intrinsics_sd)
            moved = np.repeat(x[None], 2 * count, axis=0)
            moved[:, 6 * len(self.names) :] += INTRINSICS_STEP * np.concatenate([np.eye(count), -np.eye(count)])
            views = self.images(moved)
            parts.append((views[:count] - views[count:]) / np.float32(2 * INTRINSICS_STEP))
        return np.concatenate(parts)

    def prior(self, x: np.ndarray) -> np.ndarray:
        """Residuals (n, k): of the first body against where it was and the marker, of femurs to it, of the camera."""
        scene, anchor = self.scene, self.scene.bodies[0].name
        now = {name: np.broadcast_to(pose.matrix, (len(x), 4, 4)) for name, pose in self.poses.items()}
        now |= self._matrices(x)
        parts = []
        if anchor in self.names:
            parts.append(self._own(x, self.names.index(anchor)) / find_anchor_deviations(scene.config))
            if scene.hips:
                scale = 1 + SDD_UNIT * x[:, -1] if len(self.intrinsics_sd) > 2 else np.ones(1)
                sdd = scene.level.geometry.sdd_mm * scale
                parts.append(scene.hip_residual(now[anchor], sdd)[:, None])
        parts += [measure_femur_residuals(scene, name, now[anchor], now[name]) for name in now if name != anchor]
        if self.intrinsics_sd:
            share = np.ones(len(self.intrinsics_sd))
            share[:2] = np.sqrt(scene.config.prior.camera_weight / scene.config.prior.polish_weight)
            parts.append(share * x[:, 6 * len(self.names) :] / np.array(self.intrinsics_sd))
        return np.sqrt(2 * scene.config.prior.polish_weight) * np.concatenate(parts, axis=1)

    def poses_at(self, x: np.ndarray) -> Poses:
        """camera_from_ct of all bodies at variables (size,)."""
        return dict(self.poses) | {name: RigidTransform(m[0]) for name, m in self._matrices(x[None]).items()}
