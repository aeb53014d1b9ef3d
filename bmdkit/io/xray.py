"""A radiograph as the rest of bmdkit wants it: brighter is denser, [0, 1], what is no image masked out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.calibrated_camera import CalibratedCamera
from bmdkit.core.geometry import GeometryError, ProjectionGeometry
from bmdkit.core.radiograph import Radiograph
from bmdkit.errors import CaseError
from bmdkit.image_content.hip_count import find_single_hip
from bmdkit.image_content.image_area import find_image_area
from bmdkit.io.xray_plain import IMAGE_SUFFIXES, read_plain_image, read_side_car
from bmdkit.io.xray_settings import XrayConfig, XrayFacts, XrayImage

logger = logging.getLogger(__name__)

COLLIMATOR_SEEN = 0.8
"""The part of what a collimator's tags hide that the image has to show as hidden, for the tags to be believed."""


def read_radiograph(path: str | Path, *, config: XrayConfig | None = None, case: str | None = None) -> Radiograph:
    """Read a DICOM radiograph, or a PNG or TIFF with its side-car.

    Args:
        path: The file.
        config: What to assume and what to refuse.
        case: Named in errors.

    Raises:
        CaseError: BMD-XR-001 to -019 and -023 to -026, as docs/errors.md lists them.

    Example:
        >>> read_radiograph("cohort/xray/sim000_standing.dcm")
        Radiograph(shape=(720, 860), spacing_mm=(0.5, 0.5), sdd_mm=1200, laterality=B, 100% image)
    """
    path, config = Path(path), config or XrayConfig()
    image = _read_file(path, config, case)
    facts, values, mask = image.facts.assume_defaults(config), image.values, ~image.hidden
    if mask.any():
        mask &= find_image_area(values, mask, borders=config.mask_borders, markers=config.mask_markers)
        facts, mask = _compare_collimator(facts, mask, image.collimated)
    inside = values[mask]
    low, high = np.percentile(inside, (config.low_percentile, config.high_percentile)) if inside.size else (0, 0)
    if inside.size < 0.05 * values.size or not high > low:
        share = inside.size / values.size
        reason = f"{share:.0%} of its pixels are image, required 5%." if share < 0.05 else f"all pixels are {low:g}."
        raise CaseError("BMD-XR-014", reason, case=case, file=path.name)
    pixels = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    camera = _fit_camera(facts, pixels.shape, case, path.name)
    for message in facts.warnings:
        logger.warning("%s", message, extra={"case": case})
    column_mm, row_mm = facts.spacing_mm or (None, None)
    return Radiograph(
        pixels,
        mask,
        column_mm,
        row_mm,
        facts.sdd_mm,
        facts.sources,
        facts.laterality,
        facts.warnings,
        facts.patient_key,
        find_single_hip(pixels, mask, column_mm),
        camera,
        facts.tube,
    )


def _fit_camera(facts: XrayFacts, shape: tuple[int, int], case: str | None, file: str) -> CalibratedCamera | None:
    """The whole camera that belongs to an image of that shape, if its side-car gives one."""
    if facts.camera is None:
        return None
    try:
        return facts.camera.fit(*shape)
    except GeometryError as error:
        raise CaseError("BMD-XR-016", f"{error}.", case=case, file=file) from error


def _compare_collimator(
    facts: XrayFacts, mask: np.ndarray, collimated: np.ndarray | None
) -> tuple[XrayFacts, np.ndarray]:
    """Hold the collimator that the tags describe against the image: it is believed where the image shows it."""
    if collimated is None or not collimated.any():
        return facts, mask
    share = float((~mask)[collimated].mean())
    if share >= COLLIMATOR_SEEN:
        return facts, mask & ~collimated
    message = f"collimator tags not used: the image shows {share:.0%} of what they hide, required {COLLIMATOR_SEEN:.0%}"
    return replace(facts, warnings=(*facts.warnings, message)), mask


def inspect_radiograph(path: Path, *, config: XrayConfig | None = None, case: str | None = None) -> XrayFacts:
    """Say what a radiograph's header tells; refuses what `read_radiograph` would refuse by the header alone.

    Raises:
        CaseError: As `read_radiograph`.
    """
    from bmdkit.io.dicom_xray import inspect_dicom

    path, config = _require_file(path, case), config or XrayConfig()
    is_plain_image = path.suffix.lower() in IMAGE_SUFFIXES
    facts = read_side_car(path, case)[0] if is_plain_image else inspect_dicom(path, config, case)
    return facts.assume_defaults(config)


def _read_file(path: Path, config: XrayConfig, case: str | None) -> XrayImage:
    from bmdkit.io.dicom_xray import read_dicom

    path = _require_file(path, case)
    is_plain_image = path.suffix.lower() in IMAGE_SUFFIXES
    return read_plain_image(path, config, case) if is_plain_image else read_dicom(path, config, case)


def _require_file(path: Path, case: str | None) -> Path:
    path = Path(path)
    if not path.is_file():
        raise CaseError("BMD-XR-001", "no such file.", case=case, file=path.name)
    return path


def require_geometry(
    radiograph: Radiograph | XrayFacts, *, case: str | None = None, file: str | Path | None = None
) -> ProjectionGeometry | None:
    """The camera of a radiograph whose distances are known (None for facts without pixels).

    Raises:
        CaseError: The pixel spacing (BMD-XR-010) or the distance from the source (BMD-XR-011) is not known.
    """
    if isinstance(radiograph, Radiograph):
        is_known = radiograph.column_spacing_mm is not None and radiograph.row_spacing_mm is not None
    else:
        is_known = radiograph.spacing_mm is not None
    if not is_known:
        raise CaseError("BMD-XR-010", "no tag gives it at the detector.", case=case, file=file)
    if radiograph.sdd_mm is None:
        raise CaseError("BMD-XR-011", "DistanceSourceToDetector is absent or not plausible.", case=case, file=file)
    return radiograph.geometry() if isinstance(radiograph, Radiograph) else None


def check_laterality(
    radiograph: Radiograph | XrayFacts, side: Side, *, case: str | None = None, file: str | Path | None = None
) -> None:
    """Make sure that neither the file nor its image shows the other side than the cohort names.

    Raises:
        CaseError: It does.
    """
    if radiograph.laterality in ("L", "R") and radiograph.laterality != side:
        raise CaseError(
            "BMD-XR-020", f"the file says {radiograph.laterality}, the cohort {side}.", case=case, file=file
        )
    shown = radiograph.single_hip if isinstance(radiograph, Radiograph) else None
    if shown is not None and shown.side not in (None, side):
        message = f"the image shows the hip of side {shown.side} alone, the cohort says {side}."
        raise CaseError("BMD-XR-020", message, case=case, file=file)
