"""One pixel size of a radiograph and the bones that are to be found in it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.registration.bodies import Body
from bmdkit.registration.intrinsics import adjust_camera
from bmdkit.registration.marker import DepthPrior
from bmdkit.registration.pyramid import Level
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.similarity import FixedImage

Poses = dict[str, RigidTransform]
"""camera_from_ct by body."""


def add_images(images: Iterable[np.ndarray]) -> np.ndarray:
    """Add images of one shape, at least one, in their order."""
    return functools.reduce(operator.add, images)


@dataclass(frozen=True, eq=False)
class Scene:
    """One radiograph level and the bones to be found in it.

    Attributes:
        bodies: Bones that move.
        level: Pixels and camera.
        voxels: Level of the bodies' pyramids that is rendered.
        config: Settings.
        device: "cpu" or "cuda[:N]".
        hips: Knowledge of the hips' depth from a magnification marker.
    """

    bodies: tuple[Body, ...]
    level: Level
    voxels: int
    config: RegistrationConfig
    device: str = "cpu"
    hips: DepthPrior | None = None

    def body(self, name: str) -> Body:
        """The bone of a name."""
        return next(b for b in self.bodies if b.name == name)

    def render(
        self,
        name: str,
        matrices: np.ndarray,
        camera: ProjectionGeometry | Sequence[ProjectionGeometry] | None = None,
    ) -> np.ndarray:
        """DRRs (n, rows, columns), g/cm2, of one body; the level's own camera if none is given."""
        return self.body(name).project(matrices, camera or self.level.geometry, self.voxels, self.device)

    @property
    def hip_mm(self) -> np.ndarray:
        """(3,), LPS: middle of the hips that the first body takes part in."""
        anchor = self.bodies[0]
        return np.mean(list(anchor.joints_mm.values()), axis=0) if anchor.joints_mm else anchor.centre_mm

    def hip_residual(self, matrices: np.ndarray, sdd_mm: np.ndarray | float | None = None) -> np.ndarray:
        """Distance of the first body's poses (n, 4, 4) from the marker's depth, (n,), in standard deviations.

        Raises:
            ValueError: There is no marker.
        """
        if self.hips is None:
            raise ValueError("hips: expected what a marker says of their depth, got none")
        depth = matrices[:, 2, :3] @ self.hip_mm + matrices[:, 2, 3]
        return self.hips.residual(depth, self.level.geometry.sdd_mm if sdd_mm is None else sdd_mm)

    def with_intrinsics(self, intrinsics: np.ndarray) -> Scene:
        """The same with its camera moved by scaled values, see `adjust_camera`."""
        return replace(self, level=replace(self.level, geometry=adjust_camera(self.level.geometry, intrinsics)))

    def render_all(self, poses: Mapping[str, RigidTransform]) -> np.ndarray:
        """One DRR of all bodies, each under its own pose, (rows, columns)."""
        return add_images(self.render(name, pose.matrix[None])[0] for name, pose in poses.items())

    def render_together(self, matrices: np.ndarray) -> np.ndarray:
        """DRRs (n, rows, columns) of all bodies under the same poses (n, 4, 4)."""
        return add_images(self.render(body.name, matrices) for body in self.bodies)

    def flipped(self) -> Scene:
        """The same with its radiograph mirrored left to right."""
        fixed, camera = self.level.fixed, self.level.geometry
        image = FixedImage(fixed.pixels[:, ::-1].copy(), fixed.valid[:, ::-1].copy(), fixed.measure, fixed.cell)
        point = np.array([camera.columns - 1 - camera.principal_point_uv[0], camera.principal_point_uv[1]])
        return replace(self, level=Level(image, replace(camera, principal_point_uv=point)))

    def near(self, image: np.ndarray) -> np.ndarray:
        """Where bone projects, grown by the configured margin, (rows, columns), bool."""
        geometry = self.level.geometry
        margin = self.config.mask_margin_mm / np.array([geometry.row_spacing_mm, geometry.column_spacing_mm])
        bone = image > 0.02 * image.max(initial=0)
        distance = (
            ndimage.distance_transform_edt(~bone, sampling=1 / margin) if bone.any() else np.full(bone.shape, 9.0)
        )
        return distance <= 1

    def likeness(self, poses: Mapping[str, RigidTransform]) -> float:
        """Similarity near all bodies together."""
        image = self.render_all(poses)
        return float(self.level.fixed.within(self.near(image)).scores(image[None])[0])

    def similarities(self, poses: Mapping[str, RigidTransform]) -> dict[str, float]:
        """Similarity near each body, all bodies in the DRR."""
        images = {name: self.render(name, pose.matrix[None])[0] for name, pose in poses.items()}
        whole = add_images(images.values())
        return {
            name: float(self.level.fixed.within(self.near(image)).scores(whole[None])[0])
            for name, image in images.items()
        }
