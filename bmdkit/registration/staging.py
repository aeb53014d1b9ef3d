"""From radiographs and bones to the scenes of a search: cameras, sizes, and the parts of the images that count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bmdkit.core.calibrated_camera import CalibratedCamera, CameraSpread
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.radiograph import Radiograph
from bmdkit.registration.bodies import COARSE, FINE, Body
from bmdkit.registration.camera import CameraEstimate, estimate_camera
from bmdkit.registration.initialisation import make_default_start
from bmdkit.registration.priors import REACH_SD
from bmdkit.registration.pyramid import find_window, make_level
from bmdkit.registration.scene import Poses, Scene, View
from bmdkit.registration.settings import RegistrationConfig, StartSpread
from bmdkit.registration.sizes import find_cosines, find_unit, scale_config

_NEAR_MM = 10.0  # about a body at the fine level, for one of a pelvis's size
_VIRTUAL = "virtual"


@dataclass(frozen=True, eq=False)
class Shown:
    """One radiograph that is to be registered.

    Attributes:
        radiograph: The image.
        camera: Its camera as calibrated; None where it is no more than distances.
        geometry: Camera of its full-resolution pixels, instead of what the radiograph says.
        name: Name of the radiograph.

    Example:
        >>> from bmdkit import read_radiograph
        >>> Shown(read_radiograph("cohort/xray/sim000_standing.dcm"), name="standing").camera is None
        True
    """

    radiograph: Radiograph
    camera: CalibratedCamera | None = None
    geometry: ProjectionGeometry | None = None
    name: str = ""

    def find_geometry(self) -> ProjectionGeometry:
        """The camera of its full-resolution pixels."""
        if self.geometry is not None:
            return self.geometry
        return self.radiograph.geometry() if self.camera is None else self.camera.geometry


def believe_start(config: RegistrationConfig, spread: StartSpread | None) -> RegistrationConfig:
    """Take the uncertainty of a start as the prior of the first body."""
    if spread is None:
        return config
    known = replace(
        config.prior,
        rotation_deg=spread.rotation_deg,
        in_plane_mm=spread.in_plane_mm,
        depth_mm=spread.depth_mm,
    )
    return replace(config, prior=known)


_MIDDLE = 2.0
"""Pixel of the level between search and refinement, in pixels of the latter."""


@dataclass(frozen=True, eq=False)
class Staging:
    """What the scenes of one search are made of.

    Attributes:
        bodies: Bones.
        estimates: Every radiograph and its camera.
        rig: camera_from_first of every radiograph after the first.
        rig_sd: (6,), standard deviations of these, rad and mm; None where one is taken as it is.
        start: Pose of the first body that lengths and parts of the images follow.
        is_given: Whether the start was given.
        is_sure: Whether it was given with its uncertainty.
        config: Settings, cut to the size of the bodies.
        device: "cpu" or "cuda[:N]".
    """

    bodies: tuple[Body, ...]
    estimates: tuple[CameraEstimate, ...]
    rig: tuple[RigidTransform, ...]
    rig_sd: tuple[np.ndarray | None, ...]
    start: RigidTransform
    is_given: bool
    is_sure: bool
    config: RegistrationConfig
    device: str

    @classmethod
    def of(
        cls,
        bodies: tuple[Body, ...],
        shown: Sequence[Shown],
        start: RigidTransform | None,
        config: RegistrationConfig,
        device: str,
        spread: StartSpread | None = None,
    ) -> Staging:
        """From what is given, every length cut to the first body's size and magnification.

        Args:
            bodies: Bones.
            shown: Radiographs.
            start: camera_from_ct of the first; the standard view if not given.
            config: Settings, of the size of hips.
            device: "cpu" or "cuda[:N]".
            spread: How sure the start is: it is then the prior. None where that is not known.

        Raises:
            ValueError: Of several cameras one has no place.
        """
        config = believe_start(config, spread)
        estimates = tuple(estimate_camera(e.radiograph, e.find_geometry(), config, e.camera) for e in shown)
        first = estimates[0]
        begun = start or make_default_start(bodies, first.camera, first.config)
        depth = float(begun.apply(bodies[0].centre_mm)[2])
        magnification = first.camera.sdd_mm / depth if depth > 0 else 1.0
        own = scale_config(first.config, bodies[0].scale, magnification)
        if bodies[0].scale != 1.0:  # pixels finer than the voxels that are rendered show nothing more
            finest = float(bodies[0].pyramid[FINE].grid.spacing_mm.min()) * magnification
            sizes = {name: max(getattr(own, name), finest) for name in ("fine_pixel_mm", "camera_pixel_mm")}
            own = replace(own, **sizes)
        rig, rig_sd = _find_rig(shown)
        return cls(
            bodies,
            estimates,
            rig,
            rig_sd,
            begun,
            start is not None,
            start is not None and spread is not None,
            own,
            device,
        )

    @property
    def may_be_turned(self) -> bool:
        """Whether a lone radiograph could show the patient from behind."""
        return len(self.estimates) == 1 and not self.estimates[0].camera.reversed_columns

    def turned(self) -> Staging:
        """The same lone radiograph as a PA view, to be searched once, from its own standard view."""
        first = self.estimates[0]
        behind = replace(first, camera=replace(first.camera, reversed_columns=True))
        start = make_default_start(self.bodies, behind.camera, first.config)
        return replace(self, estimates=(behind,), start=start, config=replace(self.config, restarts=0))

    @property
    def intrinsics_sd(self) -> tuple[float, ...]:
        """Standard deviations of the camera's variables; none where further cameras fix what one view cannot."""
        return self.estimates[0].intrinsics_sd if len(self.estimates) == 1 else ()

    def make_coarse(self) -> Scene:
        """Make the scene of the search."""
        reaches = [self._find_reach(place) if self.is_given else np.full(2, np.inf) for place in self._places]
        poses = dict.fromkeys(self._names, self.start)
        return self._make(COARSE, self.config.coarse_pixel_mm, None, poses, reaches, is_known=False)

    def _find_reach(self, place: RigidTransform) -> np.ndarray:
        """How far, mm, the first body is looked for along columns and rows (2,) of a camera at a place."""
        p, centre = self.config.prior, self.start.apply(self.bodies[0].centre_mm)
        ray = place.rotation @ (centre / np.linalg.norm(centre))
        spread = p.in_plane_mm**2 * (np.eye(3) - np.outer(ray, ray)) + p.depth_mm**2 * np.outer(ray, ray)
        seen = place.apply(centre)
        across = np.column_stack([np.eye(2), -seen[:2] / seen[2]])  # a move along this camera's ray is not seen
        return REACH_SD * np.sqrt(np.maximum(np.diag(across @ spread @ across.T), 0))

    @property
    def _places(self) -> tuple[RigidTransform, ...]:
        """camera_from_first of every radiograph."""
        return (RigidTransform.identity(), *self.rig)

    def make_middle(self, poses: Poses) -> Scene:
        """Make the scene in which bones are told apart that hide each other in coarse pixels."""
        return self._make_known(_MIDDLE * self.config.fine_pixel_mm, poses)

    def make_fine(self, poses: Poses) -> Scene:
        """Make the scene of the refinement, about where the bodies were found."""
        return self._make_known(self.config.fine_pixel_mm, poses)

    def make_finest(self, poses: Poses) -> Scene:
        """Make the scene in which the camera is refined."""
        return self._make_known(self.config.camera_pixel_mm, poses)

    def _make_known(self, pixel_mm: float, poses: Poses) -> Scene:
        reach = [np.full(2, _NEAR_MM * self.bodies[0].scale)] * len(self.estimates)
        return self._make(FINE, pixel_mm, self.config.fine_patch_mm, poses, reach, is_known=True)

    @property
    def _names(self) -> list[str]:
        return [body.name for body in self.bodies]

    def _make(
        self,
        voxels: int,
        pixel_mm: float,
        patch_mm: float | None,
        poses: Poses,
        reaches_mm: Sequence[np.ndarray],
        *,
        is_known: bool,
    ) -> Scene:
        """One scene; where poses are known the bodies' own outlines bound what is looked at, else the room to turn."""
        config, views = self.config, []
        for k, (estimate, reach_mm) in enumerate(zip(self.estimates, reaches_mm, strict=True)):
            place = self._places[k]
            if is_known:
                points = np.concatenate([(place @ poses[b.name]).apply(b.points_mm) for b in self.bodies])
                radii = np.tile(reach_mm + config.mask_margin_mm, (len(points), 1))
            else:
                points = np.stack([(place @ poses[b.name]).apply(b.points_mm.mean(0)) for b in self.bodies])
                radii = np.array([_radius(b) + reach_mm + config.mask_margin_mm for b in self.bodies])
            is_whole = (
                self.bodies[0].scale == 1.0 or not np.isfinite(reach_mm).all()
            )  # the points of hips leave shafts out
            window = None if is_whole else find_window(points, radii, estimate.camera)
            image = estimate.radiograph
            level = make_level(
                image, estimate.camera, pixel_mm, config, patch_mm=patch_mm, window=window, with_noise=is_known
            )
            views.append(View(level, place if k else None, self.rig_sd[k - 1] if k else None))
        centre = self.start.apply(self.bodies[0].centre_mm)
        unit = find_unit(self.bodies[0].scale, float(centre[2]), find_cosines(centre, self.rig))
        first = self.estimates[0]
        is_virtual = first.sources.get("sdd_mm", "").startswith(_VIRTUAL)
        deepest = np.inf if is_virtual else first.camera.sdd_mm
        expected = self.start if self.is_sure else None
        return Scene(self.bodies, tuple(views), voxels, config, self.device, first.hips, unit, deepest, expected)


def _radius(body: Body) -> float:
    """Distance of the farthest point of a body from its middle, mm."""
    return float(np.linalg.norm(body.points_mm - body.points_mm.mean(0), axis=1).max())


def _find_rig(shown: Sequence[Shown]) -> tuple[tuple[RigidTransform, ...], tuple[np.ndarray | None, ...]]:
    """Places of further cameras against the first, and how sure they are."""
    rig: list[RigidTransform] = []
    spreads: list[np.ndarray | None] = []
    cameras = [each.camera for each in shown] if len(shown) > 1 else []
    for number, camera in enumerate(cameras):
        if camera is None or camera.camera_from_world is None:
            raise ValueError(f"shown[{number}]: expected a camera with its place, as there are several radiographs")
        first = cameras[0]
        if number and first is not None and first.camera_from_world is not None:
            rig.append(camera.camera_from_world @ first.camera_from_world.inverse())
            spreads.append(_join_spreads(first.sd, camera.sd))
    return tuple(rig), tuple(spreads)


def _join_spreads(first: CameraSpread, other: CameraSpread) -> np.ndarray | None:
    turn = np.radians(np.hypot(first.rotation_deg, other.rotation_deg))
    move = float(np.hypot(first.translation_mm, other.translation_mm))
    if turn == 0 and move == 0:
        return None
    return np.array([max(turn, 1e-6)] * 3 + [max(move, 1e-4)] * 3)
