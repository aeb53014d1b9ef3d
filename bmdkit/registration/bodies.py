"""The bones of one CT, made ready once for all of its radiographs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.core.anatomy import BODIES, SIDES, STRUCTURES_OF_BODY, Side
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.units import MG_CM3_MM_TO_G_CM2
from bmdkit.core.volume import LabelMap, Volume, bounding_box
from bmdkit.drr.channels import Channels
from bmdkit.drr.render import derive, render
from bmdkit.errors import CaseError
from bmdkit.regions.head import find_head
from bmdkit.regions.hip_angles import find_pelvis_frame, find_shaft_axis
from bmdkit.registration.joints import Joint, make_hip_joint
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.sizes import find_scale, scale_config
from bmdkit.registration.slice_sharpening import sharpen_slices

logger = logging.getLogger(__name__)

COARSE, FINE = 0, 1

_FINEST_MM = 1.0  # of the grid on which bones are cut, which bounds memory and time for fine scans


@dataclass(frozen=True, eq=False)
class Body:
    """One rigid bone.

    Attributes:
        name: Name of the bone; "pelvis", "femur_L" or "femur_R" for hips.
        pyramid: Density, mg/cm3, coarse then fine.
        centre_mm: (3,), LPS, centre that it turns about: the middle of the pelvis, the centre of a femoral head.
        joints_mm: Head centres (LPS, mm) by side, of the joints that it takes part in.
        points_mm: (n, 3), LPS, points of the bone near the hips, in which a pose's error is measured.
        axes: Frame of the pelvis (3, 3) or axis of a femur (3,), see `hip_angles`; None where the scan shows none.
        scale: Size as a part of a pelvis's, to which the settings' lengths are cut; 1 for all bones of the hips.
        joint: Joint that holds it to another bone; None for the first bone, and for one that lies free.

    Example:
        >>> from bmdkit.core.grid import Grid
        >>> from bmdkit.core.volume import Volume
        >>> grid = Grid((40, 40, 40), (1.5, 1.5, 1.5), (0.0, 0.0, 0.0), np.eye(3))
        >>> mask = np.zeros(grid.shape, bool)
        >>> mask[10:30, 12:28, 12:28] = True
        >>> bone = Body.from_mask(Volume(np.where(mask, 300.0, 0.0), grid, "density_mg_cm3"), mask, "bone")
        >>> bone.name, bone.scale < 1  # its lengths are cut, as it is smaller than a pelvis
        ('bone', True)
    """

    name: str
    pyramid: tuple[Channels, ...]
    centre_mm: np.ndarray
    joints_mm: Mapping[Side, np.ndarray]
    points_mm: np.ndarray
    axes: np.ndarray | None = None
    scale: float = 1.0
    joint: Joint | None = None

    @classmethod
    def from_mask(
        cls,
        density: Volume,
        mask: np.ndarray,
        name: str,
        *,
        joint: Joint | None = None,
        config: RegistrationConfig | None = None,
    ) -> Body:
        """Make a body of any structure; voxels and margins follow from its size.

        Args:
            density: Density, mg/cm3.
            mask: [slice, row, column], bool, where the structure lies, on the grid of the density.
            name: Name of the body.
            joint: Joint that holds it to another body, about whose centre it then turns.
            config: Settings, of the size of a hip; they are cut to this body.

        Raises:
            ValueError: The mask has another shape than the density, or is empty.

        Example:
            >>> from bmdkit.core.grid import Grid
            >>> ball = np.linalg.norm(np.indices((20, 20, 20)) - 9.5, axis=0) < 8
            >>> density = Volume(ball * 800.0, Grid(ball.shape, np.ones(3), np.zeros(3), np.eye(3)), "density_mg_cm3")
            >>> round(Body.from_mask(density, ball, "ball").scale, 2)
            0.07
        """
        density.require("density_mg_cm3")
        mask = np.asarray(mask, bool)
        if mask.shape != density.grid.shape or not mask.any():
            raise ValueError(
                f"mask: expected shape {density.grid.shape} and some voxels, got {mask.shape}, {mask.sum()}"
            )
        if joint is not None and joint.child != name:
            raise ValueError(f"joint: expected one of {name!r}, got one of {joint.child!r}")
        labels = LabelMap(mask.astype(np.uint8), density.grid, {name: 1})
        points = sample_points(mask, labels)
        scale = find_scale(points)
        own = scale_config(config or RegistrationConfig(), scale)
        _, pyramid = _cut_pyramid(name, [name], density, labels, own, _FINEST_MM * min(scale, 1.0))
        centre = points.mean(0) if joint is None else joint.centre_mm
        return cls(name, pyramid, centre, {}, points, None, scale, joint)

    def project(
        self, matrices: np.ndarray, geometry: ProjectionGeometry | Sequence[ProjectionGeometry], level: int, device: str
    ) -> np.ndarray:
        """DRRs, g/cm2, (n, rows, columns), under camera_from_ct (n, 4, 4)."""
        images = render(self.pyramid[level], matrices, geometry, device=device, behind="blank")
        return images[:, 0] * np.float32(MG_CM3_MM_TO_G_CM2)

    def derive(
        self,
        matrix: np.ndarray,
        geometry: ProjectionGeometry,
        ends: np.ndarray,
        end_geometries: ProjectionGeometry | Sequence[ProjectionGeometry],
        width: float,
        level: int,
        device: str,
    ) -> np.ndarray:
        """Derivatives of one DRR, g/cm2, (k, rows, columns), along motions by `width`; see `render.derive`."""
        images = derive(
            self.pyramid[level],
            matrix,
            geometry,
            ends,
            end_geometries,
            factor=MG_CM3_MM_TO_G_CM2 / width,
            device=device,
            behind="blank",
        )
        return images[:, 0]


def prepare_bodies(
    density: Volume,
    labels: LabelMap,
    landmarks_by_side: Mapping[Side, Landmarks] | None = None,
    config: RegistrationConfig | None = None,
) -> tuple[Body, ...]:
    """Cut the bones that the labels show out of the calibrated density, at every level of the pyramid.

    Args:
        density: Calibrated density, mg/cm3.
        labels: Label map with any of pelvis, axial, femur_L and femur_R.
        landmarks_by_side: Landmarks whose head_center is taken; where there is none the head is found in the labels.
        config: Voxel sizes and the growth of the masks.

    Returns:
        The bones; a femur without a head, about which it could turn, is left out.

    Raises:
        ValueError: The labels show neither a pelvis nor a femur with its head.
    """
    config = config or RegistrationConfig()
    density.require("density_mg_cm3")
    present = labels.present()
    heads = _head_centres(labels, landmarks_by_side or {})
    density = sharpen_slices(density, labels)
    bodies = []
    for name in BODIES:
        structures = [s for s in STRUCTURES_OF_BODY[name] if s in present]
        if not structures or structures == ["axial"]:
            continue
        joints = heads if name == "pelvis" else {side: head for side, head in heads.items() if side == name[-1]}
        if name != "pelvis" and not joints:
            continue
        bodies.append(_prepare(name, structures, density, labels, joints, config))
    if not bodies:
        raise ValueError(f"labels: expected a pelvis, or a femur with its head, got {present or 'nothing'}")
    return tuple(bodies)


def _head_centres(labels: LabelMap, landmarks_by_side: Mapping[Side, Landmarks]) -> dict[Side, np.ndarray]:
    """Centres (3,), LPS, mm, of the heads of all femurs in a label map, given or found."""
    centres: dict[Side, np.ndarray] = {}
    for side in SIDES:
        if f"femur_{side}" not in labels.present():
            continue
        given = landmarks_by_side.get(side)
        if given is not None and "head_center" in given:
            centres[side] = np.asarray(given["head_center"])
            continue
        try:
            centres[side] = find_head(labels, side).centre_mm
        except CaseError as error:
            logger.warning("femur_%s is not registered: %s", side, error.message)
    return centres


def _prepare(
    name: str,
    structures: Sequence[str],
    density: Volume,
    labels: LabelMap,
    joints: Mapping[Side, np.ndarray],
    config: RegistrationConfig,
) -> Body:
    cut, pyramid = _cut_pyramid(name, structures, density, labels, config, _FINEST_MM)
    mask = cut.mask(*structures)
    own = cut.mask(structures[0]) if structures[0] == "pelvis" else mask
    points = sample_points(own, cut, joints)
    centre = points.mean(0) if name == "pelvis" else next(iter(joints.values()))
    if name == "pelvis":
        return Body(name, pyramid, centre, dict(joints), points, find_pelvis_frame(labels, joints))
    side, head = next(iter(joints.items()))
    axis = find_shaft_axis(labels, side, head)
    return Body(name, pyramid, centre, dict(joints), points, axis, joint=make_hip_joint(side, head))


def _cut_pyramid(
    name: str,
    structures: Sequence[str],
    density: Volume,
    labels: LabelMap,
    config: RegistrationConfig,
    finest_mm: float,
) -> tuple[LabelMap, tuple[Channels, ...]]:
    """Labels about some structures, and their density at every level of the pyramid."""
    grid = labels.grid
    margin = int(np.ceil((2 * config.coarse_voxel_mm + config.dilate_mm) / grid.spacing_mm.min()))
    box = bounding_box(labels.mask(*structures), margin)
    cut = labels.crop(box)
    cut = cut.resample(cut.grid.with_spacing(np.maximum(cut.grid.spacing_mm, finest_mm)))
    grid = cut.grid
    mask = cut.mask(*structures)
    grown = mask
    if config.dilate_mm > 0:
        distance = ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm[::-1])
        grown = (distance <= config.dilate_mm) & (mask | (cut.array == 0))
    values = np.where(grown, np.maximum(density.resample(cut.grid).array, 0), 0).astype(np.float32)
    bone = Volume(values, cut.grid, "density_mg_cm3")
    levels = (config.coarse_voxel_mm, config.fine_voxel_mm)
    return cut, tuple(Channels.from_volume(_coarsened(bone, mm), name) for mm in levels)


def _coarsened(volume: Volume, voxel_mm: float) -> Volume:
    """Averaged to voxels of about `voxel_mm`; finer ones are never made."""
    spacing = volume.grid.spacing_mm
    wanted = np.maximum(spacing, voxel_mm)
    blur = np.where(wanted > 1.2 * spacing, 0.4 * wanted / spacing, 0)[::-1]
    array = ndimage.gaussian_filter(volume.array, blur, truncate=2.5) if blur.any() else volume.array
    return Volume(array, volume.grid, volume.quantity).resample(volume.grid.with_spacing(wanted))


def sample_points(
    mask: np.ndarray, labels: LabelMap, joints: Mapping[Side, np.ndarray] | None = None, count: int = 400
) -> np.ndarray:
    """Sample every n-th voxel of a bone, LPS, mm; only within 110 mm of the nearer hip where hips are given."""
    points = labels.grid.points(np.argwhere(mask))
    if joints:
        near = np.min([np.linalg.norm(points - c, axis=1) for c in joints.values()], axis=0) < 110
        points = points[near] if near.any() else points
    return points[:: max(len(points) // count, 1)]
