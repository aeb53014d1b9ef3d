"""What is known of the camera before the search: from the file, the settings, and a magnification marker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bmdkit.core.calibrated_camera import CalibratedCamera
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.radiograph import Radiograph
from bmdkit.registration.intrinsics import PRINCIPAL_POINT_UNIT_MM, SDD_UNIT
from bmdkit.registration.marker import DepthPrior, Marker, find_marker
from bmdkit.registration.settings import RegistrationConfig

_DISAGREES = 3.0  # standard deviations


@dataclass(frozen=True, eq=False)
class CameraEstimate:
    """A radiograph and its camera, as the search takes them.

    Attributes:
        radiograph: Radiograph with the marker masked out.
        camera: Camera, its source distance joined with what the marker says.
        config: Settings, with the default start at the marker's depth.
        intrinsics_sd: Standard deviations, scaled, of the intrinsics that are refined: none, the two of the principal
            point, or the source distance too; empty if the camera's numbers are taken as they are.
        marker: Marker, if there is one.
        hips: Knowledge from the marker of the hips' depth.
        sources: Origin of each number, and how uncertain it is.
        warnings: Sentences that a user should read.
    """

    radiograph: Radiograph
    camera: ProjectionGeometry
    config: RegistrationConfig
    intrinsics_sd: tuple[float, ...]
    marker: Marker | None
    hips: DepthPrior | None
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


def estimate_camera(
    radiograph: Radiograph,
    camera: ProjectionGeometry,
    config: RegistrationConfig,
    calibrated: CalibratedCamera | None = None,
) -> CameraEstimate:
    """Join what the file, the settings and the marker say about the camera.

    A source distance that is taken as it is (standard deviation 0) is not changed by the marker, only compared. A
    principal point that was given is believed: only one that was assumed, the image's middle, is as uncertain as the
    settings say.

    Args:
        radiograph: The radiograph.
        camera: Camera of its full-resolution pixels.
        config: Settings.
        calibrated: The camera as it was calibrated, with its uncertainty; None where it is no more than distances.
    """
    sources, warnings = dict(radiograph.sources), list(radiograph.warnings)
    if calibrated is not None:
        sources |= dict.fromkeys(("sdd_mm", "principal_point_uv"), calibrated.source)
    sdd, sd = camera.sdd_mm, camera.sdd_mm * _sdd_pct(config, radiograph, calibrated) / 100
    marker, hips = None, None
    if config.marker.diameter_mm is not None:
        marker = find_marker(radiograph, camera, config.marker)
        if marker is None:
            warnings.append(f"magnification marker of {config.marker.diameter_mm:g} mm not found")
    if marker:
        radiograph = replace(radiograph, mask=radiograph.mask & ~marker.covered(camera))
        measured = marker.sdd_mm(config.marker)
        if measured and sd > 0:
            weight = np.array([1 / sd**2, 1 / measured[1] ** 2])
            sdd, sd = float(weight @ (sdd, measured[0]) / weight.sum()), float(weight.sum() ** -0.5)
            sources["sdd_mm"] = f"{sources.get('sdd_mm', 'given')} and magnification marker"
        elif measured and abs(measured[0] - sdd) > _DISAGREES * measured[1]:
            warnings.append(f"source distance {sdd:.0f} mm, but {measured[0]:.0f} mm by the magnification marker")
        camera = replace(camera, sdd_mm=sdd)
        hips = DepthPrior.of(marker, config.marker, sdd)
        sources["magnification"] = f"marker of {config.marker.diameter_mm:g} mm"
        config = replace(config, object_to_detector_mm=max(sdd * (1 - 1 / marker.magnification), 1.0))
    if sd > 0:
        sources["sdd_mm"] = f"{sources.get('sdd_mm', 'given')}, uncertain by {100 * sd / sdd:.2g} %"
        warnings.append(f"source distance uncertain by {sd:.0f} mm: depths are too, projections are not")
    point = _principal_point_mm(config, camera, calibrated)
    intrinsics_sd: tuple[float, ...] = ()
    if point > 0 or sd > 0:
        intrinsics_sd = (max(point, 1e-3) / PRINCIPAL_POINT_UNIT_MM,) * 2 + ((sd / sdd / SDD_UNIT,) if sd > 0 else ())
    return CameraEstimate(radiograph, camera, config, intrinsics_sd, marker, hips, sources, tuple(warnings))


def check_depth(estimate: CameraEstimate, camera: ProjectionGeometry, depth_mm: float) -> str | None:
    """Check that the bones lie at the depth that the marker says.

    Args:
        estimate: Camera from `estimate_camera`.
        camera: Camera as refined.
        depth_mm: Depth of the hips, from the source.

    Returns:
        A warning, or None.
    """
    if estimate.hips is None or abs(float(estimate.hips.residual(depth_mm, camera.sdd_mm))) <= _DISAGREES:
        return None
    there = camera.sdd_mm / depth_mm
    return f"magnification {estimate.hips.magnification:.3f} by the marker, but {there:.3f} by the bones at the hips"


def _sdd_pct(config: RegistrationConfig, radiograph: Radiograph, calibrated: CalibratedCamera | None) -> float:
    if calibrated is not None:
        return calibrated.sd.sdd_pct
    assumed = radiograph.sources.get("sdd_mm") == "assumed"
    return config.camera.assumed_sdd_pct if assumed else config.camera.sdd_pct


def _principal_point_mm(
    config: RegistrationConfig, camera: ProjectionGeometry, calibrated: CalibratedCamera | None
) -> float:
    if calibrated is not None:
        return calibrated.sd.principal_point_mm
    middle = np.array([camera.columns - 1, camera.rows - 1]) / 2
    is_assumed = bool(np.abs(camera.principal_point_uv - middle).max() < 1e-6)
    return config.camera.principal_point_mm if is_assumed else 0.0
