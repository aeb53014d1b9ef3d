"""One pixel size of the radiographs of one moment, and the bones that are to be found in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.registration.bodies import Body
from bmdkit.registration.intrinsics import adjust_camera
from bmdkit.registration.marker import DepthPrior
from bmdkit.registration.pose_parameters import UNIT, PoseParameters
from bmdkit.registration.pyramid import Level
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.similarity import FixedImage

Poses = dict[str, RigidTransform]
"""camera_from_ct by body, of the first radiograph's camera."""

Images = tuple[np.ndarray, ...]
"""One array for each radiograph: DRRs (n, rows, columns), or single images (rows, columns)."""

_DEPTHS = (0.05, 1.0)
"""Where a body may lie between source and detector, as a part of their distance."""


def add_images(images: Iterable[Images]) -> Images:
    """Add images of the same radiographs, at least one set, in their order."""
    first, *others = images
    for other in others:
        first = tuple(a + b for a, b in zip(first, other, strict=True))
    return first


class Likeness(NamedTuple):
    """How alike radiographs and DRRs are.

    Attributes:
        similarity: Similarity, in [-1, 1].
        attainable: That of DRRs which show all but the radiographs' noise.
    """

    similarity: float
    attainable: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """The radiographs of one moment, ready to be compared with DRRs; all count alike.

    Attributes:
        fixed: Each radiograph.
    """

    fixed: tuple[FixedImage, ...]

    def scores(self, images: Images) -> np.ndarray:
        """Similarity in [-1, 1] of DRRs (n, rows, columns) of each radiograph, (n,): the mean over radiographs."""
        found = [fixed.scores(image) for fixed, image in zip(self.fixed, images, strict=True)]
        return found[0] if len(found) == 1 else np.mean(found, axis=0)

    def within(self, regions: Images) -> Comparison:
        """The same compared only where the regions [row, column] are True."""
        return Comparison(tuple(fixed.within(region) for fixed, region in zip(self.fixed, regions, strict=True)))

    @property
    def attainable(self) -> float:
        """Similarity of DRRs that show all but the radiographs' noise: the mean over radiographs."""
        return float(np.mean([fixed.attainable for fixed in self.fixed]))

    @property
    def support(self) -> float:
        """Number of patches that are compared, in the radiograph that has least of them."""
        return min(float((fixed.weights > 0).sum()) for fixed in self.fixed)


@dataclass(frozen=True, eq=False)
class View:
    """One radiograph of a scene.

    Attributes:
        level: Pixels and camera.
        camera_from_first: Place of its camera against the first radiograph's; None for the first.
        sd: (6,), standard deviations of that place: turns about the camera's axes, rad, and moves, mm; None where it
            is taken as it is.
    """

    level: Level
    camera_from_first: RigidTransform | None = None
    sd: np.ndarray | None = None

    def place(self, matrices: np.ndarray) -> np.ndarray:
        """Matrices camera_from_ct (n, 4, 4) of this camera, from those of the first one."""
        return matrices if self.camera_from_first is None else self.camera_from_first.matrix @ matrices


@dataclass(frozen=True, eq=False)
class Scene:
    """The radiographs of one moment at one pixel size, and the bones to be found in them.

    Attributes:
        bodies: Bones that move.
        views: Radiographs; the first one's camera is the frame of all poses.
        voxels: Level of the bodies' pyramids that is rendered.
        config: Settings, cut to the size of the bodies.
        device: "cpu" or "cuda[:N]".
        hips: Knowledge of the hips' depth from a magnification marker.
        unit: (6,), one unit of the six values of a pose.
        expected: Pose of the first body that was given with its uncertainty, about which all refinements believe it;
            None: each believes where it begins.
        deepest_mm: Depth in the first view beyond which no body lies: the detector; infinite where that is not known.
    """

    bodies: tuple[Body, ...]
    views: tuple[View, ...]
    voxels: int
    config: RegistrationConfig
    device: str = "cpu"
    hips: DepthPrior | None = None
    unit: np.ndarray = field(default_factory=lambda: UNIT)
    deepest_mm: float = np.inf
    expected: RigidTransform | None = None

    @property
    def level(self) -> Level:
        """Pixels and camera of the first radiograph."""
        return self.views[0].level

    @cached_property
    def comparison(self) -> Comparison:
        """All radiographs, ready to be compared."""
        return Comparison(tuple(view.level.fixed for view in self.views))

    def body(self, name: str) -> Body:
        """The bone of a name."""
        return next(b for b in self.bodies if b.name == name)

    def parameters(self, pose: RigidTransform, name: str | None = None) -> PoseParameters:
        """Six scaled values about a pose of a body, the first one if none is named."""
        body = self.bodies[0] if name is None else self.body(name)
        return PoseParameters(pose, body.centre_mm, self.unit)

    def render(
        self,
        name: str,
        matrices: np.ndarray,
        cameras: Sequence[ProjectionGeometry | Sequence[ProjectionGeometry]] | None = None,
        rig: Sequence[np.ndarray] | None = None,
    ) -> Images:
        """DRRs (n, rows, columns), g/cm2, of one body in every radiograph.

        Args:
            name: Name of the body.
            matrices: (n, 4, 4), camera_from_ct of the first camera.
            cameras: One camera, or n, of every radiograph; those of the views if not given.
            rig: (n, 4, 4), camera_from_first of every radiograph after the first; those of the views if not given.
        """
        body, found = self.body(name), []
        for k, view in enumerate(self.views):
            placed = view.place(matrices) if rig is None or k == 0 else rig[k - 1] @ matrices
            camera = view.level.geometry if cameras is None else cameras[k]
            found.append(body.project(placed, camera, self.voxels, self.device))
        return tuple(found)

    def derive(
        self,
        name: str,
        matrices: np.ndarray,
        width: float,
        cameras: Sequence[ProjectionGeometry | Sequence[ProjectionGeometry]] | None = None,
        rig: Sequence[np.ndarray] | None = None,
    ) -> Images:
        """Derivatives (k, rows, columns), g/cm2, of one body's DRR along motions, in every radiograph.

        Args:
            name: Name of the body.
            matrices: (1 + 2 k, 4, 4), camera_from_ct of the DRR, then where motions lead, then where they come from.
            width: Change of the variable along each motion, from one end to the other.
            cameras: One camera, or 1 + 2 k, of every radiograph, as in `render`.
            rig: (1 + 2 k, 4, 4), camera_from_first of every radiograph after the first, as in `render`.
        """
        body, found = self.body(name), []
        for k, view in enumerate(self.views):
            placed = view.place(matrices) if rig is None or k == 0 else rig[k - 1] @ matrices
            camera = view.level.geometry if cameras is None else cameras[k]
            own, ends = (camera, camera) if isinstance(camera, ProjectionGeometry) else (camera[0], camera[1:])
            found.append(body.derive(placed[0], own, placed[1:], ends, width, self.voxels, self.device))
        return tuple(found)

    @property
    def hip_mm(self) -> np.ndarray:
        """(3,), LPS: middle of the hips that the first body takes part in; its centre where it has none."""
        anchor = self.bodies[0]
        return np.mean(list(anchor.joints_mm.values()), axis=0) if anchor.joints_mm else anchor.centre_mm

    def is_within_reach(self, matrices: np.ndarray) -> np.ndarray:
        """Whether the first body lies between source and detector, (n,), under camera_from_ct (n, 4, 4)."""
        depth = matrices[:, 2, :3] @ self.bodies[0].centre_mm + matrices[:, 2, 3]
        return (depth > _DEPTHS[0] * self.level.geometry.sdd_mm) & (depth < _DEPTHS[1] * self.deepest_mm)

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
        """The same with the first camera moved by scaled values, see `adjust_camera`."""
        first = self.views[0]
        level = replace(first.level, geometry=adjust_camera(first.level.geometry, intrinsics))
        return replace(self, views=(replace(first, level=level), *self.views[1:]))

    def with_rig(self, rig: Sequence[RigidTransform]) -> Scene:
        """The same with its further cameras placed anew."""
        further = (replace(view, camera_from_first=at) for view, at in zip(self.views[1:], rig, strict=True))
        return replace(self, views=(self.views[0], *further))

    def render_all(self, poses: Mapping[str, RigidTransform]) -> Images:
        """One DRR (rows, columns) of all bodies in every radiograph, each under its own pose."""
        together = add_images(self.render(name, pose.matrix[None]) for name, pose in poses.items())
        return tuple(image[0] for image in together)

    def render_together(self, matrices: np.ndarray) -> Images:
        """DRRs (n, rows, columns) of all bodies under the same poses (n, 4, 4)."""
        return add_images(self.render(body.name, matrices) for body in self.bodies)

    def render_view(self, number: int, matrices: np.ndarray, camera: ProjectionGeometry) -> np.ndarray:
        """DRRs (n, rows, columns) of all bodies under the same poses (n, 4, 4) in one radiograph, by another camera."""
        placed = self.views[number].place(matrices)
        return np.asarray(sum(body.project(placed, camera, self.voxels, self.device) for body in self.bodies))

    def flipped(self) -> Scene:
        """The same with its first radiograph alone, mirrored left to right."""
        camera = self.level.geometry
        point = np.array([camera.columns - 1 - camera.principal_point_uv[0], camera.principal_point_uv[1]])
        level = Level(self.level.fixed.flipped(), replace(camera, principal_point_uv=point))
        return replace(self, views=(View(level),))

    def cut_about(self, images: Images) -> tuple[Scene, Images]:
        """The same and DRRs (rows, columns), every radiograph cut to the box about the bone and compared near it alone.

        Where bodies are small in their radiographs, this compares the same pixels as `near` in a fraction of the time.
        """
        views, parts = [], []
        for view, image in zip(self.views, images, strict=True):
            spacing = min(view.level.geometry.row_spacing_mm, view.level.geometry.column_spacing_mm)
            margin = int(np.ceil(self.config.mask_margin_mm / spacing))
            bone = image > 0.02 * image.max(initial=0)
            wide = bone if not margin else ndimage.maximum_filter(bone, 2 * margin + 1)
            box = view.level.find_box(wide)
            level = view.level.cut_to(box)
            part = image[box]
            near = level.fixed.within(self._near(part, level.geometry))
            views.append(replace(view, level=replace(level, fixed=near)))
            parts.append(part)
        return replace(self, views=tuple(views)), tuple(parts)

    def near(self, images: Images) -> Images:
        """Where bone projects, grown by the configured margin, (rows, columns), bool, in every radiograph."""
        return tuple(self._near(image, view.level.geometry) for image, view in zip(images, self.views, strict=True))

    def _near(self, image: np.ndarray, geometry: ProjectionGeometry) -> np.ndarray:
        margin = self.config.mask_margin_mm / np.array([geometry.row_spacing_mm, geometry.column_spacing_mm])
        bone = image > 0.02 * image.max(initial=0)
        distance = (
            ndimage.distance_transform_edt(~bone, sampling=1 / margin) if bone.any() else np.full(bone.shape, 9.0)
        )
        return distance <= 1

    def likeness(self, poses: Mapping[str, RigidTransform]) -> float:
        """Similarity near all bodies together, less where few patches bear it."""
        cut, images = self.cut_about(self.render_all(poses))
        near = cut.comparison
        score = float(near.scores(tuple(image[None] for image in images))[0])
        return score * min(near.support / LEAST_SUPPORT, 1.0)

    def similarities(self, poses: Mapping[str, RigidTransform]) -> dict[str, Likeness]:
        """How alike radiograph and DRR are near each body, all bodies in the DRR."""
        images = {name: self.render(name, pose.matrix[None]) for name, pose in poses.items()}
        whole = add_images(images.values())
        found = {}
        for name, own in images.items():
            near = self.comparison.within(self.near(tuple(view[0] for view in own)))
            found[name] = Likeness(float(near.scores(whole)[0]), near.attainable)
        return found


LEAST_SUPPORT = 36.0
"""Number of patches below which a similarity is taken for less than it says: a few patches fit by chance."""
