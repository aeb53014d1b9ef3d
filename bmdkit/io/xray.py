"""A radiograph as the rest of bmdkit wants it: brighter is denser, [0, 1], what is no image masked out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.radiograph import Radiograph
from bmdkit.errors import CaseError
from bmdkit.io.dicom_header import Laterality
from bmdkit.io.image_area import image_area
from bmdkit.io.xray_settings import SDD_RANGE_MM, SPACING_RANGE_MM, XrayConfig, XrayFacts, XrayImage

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")


def read_radiograph(path: str | Path, *, config: XrayConfig | None = None, case: str | None = None) -> Radiograph:
    """Read a DICOM radiograph, or a 16-bit PNG or TIFF with its side-car.

    Args:
        path: The file.
        config: What to assume and what to refuse.
        case: Named in errors.

    Raises:
        CaseError: BMD-XR-001 to -019, as docs/errors.md lists them.

    Example:
        >>> read_radiograph("cohort/xray/sim000_standing.dcm")
        Radiograph(shape=(720, 860), spacing_mm=(0.5, 0.5), sdd_mm=1000, laterality=B, 100% image)
    """
    path, config = Path(path), config or XrayConfig()
    image = _read_file(path, config, case)
    facts, values, mask = image.facts.assume_defaults(config), image.values, ~image.hidden
    if mask.any():
        mask &= image_area(values, mask, borders=config.mask_borders, markers=config.mask_markers)
    inside = values[mask]
    low, high = np.percentile(inside, (config.low_percentile, config.high_percentile)) if inside.size else (0, 0)
    if inside.size < 0.05 * values.size or not high > low:
        share = inside.size / values.size
        reason = f"{share:.0%} of its pixels are image, required 5%." if share < 0.05 else f"all pixels are {low:g}."
        raise CaseError("BMD-XR-014", reason, case=case, file=path.name)
    pixels = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
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
    )


def inspect_radiograph(path: Path, *, config: XrayConfig | None = None, case: str | None = None) -> XrayFacts:
    """Say what a radiograph's header tells; refuses what `read_radiograph` would refuse by the header alone.

    Raises:
        CaseError: As `read_radiograph`.
    """
    from bmdkit.io.dicom_xray import inspect_dicom

    path, config = _require_file(path, case), config or XrayConfig()
    is_plain_image = path.suffix.lower() in IMAGE_SUFFIXES
    facts = _read_side_car(path, case)[0] if is_plain_image else inspect_dicom(path, config, case)
    return facts.assume_defaults(config)


def _read_file(path: Path, config: XrayConfig, case: str | None) -> XrayImage:
    from bmdkit.io.dicom_xray import read_dicom

    path = _require_file(path, case)
    return _read_image(path, case) if path.suffix.lower() in IMAGE_SUFFIXES else read_dicom(path, config, case)


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
    """Make sure that the file does not name the other side than the cohort does.

    Raises:
        CaseError: It does.
    """
    if radiograph.laterality in ("L", "R") and radiograph.laterality != side:
        raise CaseError(
            "BMD-XR-020", f"the file says {radiograph.laterality}, the cohort {side}.", case=case, file=file
        )


def _read_image(path: Path, case: str | None) -> XrayImage:
    """A PNG or TIFF with its side-car."""

    def refuse(code: str, message: str) -> CaseError:
        return CaseError(code, message, case=case, file=path.name)

    facts, brighter_is_denser = _read_side_car(path, case)
    image = _pixels_16_bit(path, refuse)
    values = image.astype(np.float32) if brighter_is_denser else float(image.max()) - image.astype(np.float32)
    return XrayImage(facts, values, np.zeros(values.shape, bool))


def _read_side_car(path: Path, case: str | None) -> tuple[XrayFacts, bool]:
    """What the side-car of a PNG or TIFF says, and whether its brighter pixels are denser."""
    beside = path.with_suffix(".json")
    try:
        data = json.loads(beside.read_text(encoding="utf-8-sig"))
        if not isinstance(data, Mapping):
            raise ValueError("expected a mapping")
        brighter = data["brighter_is_denser"]
        if not isinstance(brighter, bool):
            raise ValueError("brighter_is_denser: expected true or false")
        sdd_mm = _in_range(data.get("sdd_mm"), SDD_RANGE_MM, "sdd_mm")
        pixel = data.get("pixel_mm")
        pair = pixel if isinstance(pixel, list) and len(pixel) == 2 else [pixel, pixel]
        column_mm, row_mm = (_in_range(value, SPACING_RANGE_MM, "pixel_mm") for value in pair)
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = f"its side-car {beside.name} is not readable ({error})."
        raise CaseError("BMD-XR-016", message, case=case, file=path.name) from error
    spacing_mm = None if column_mm is None or row_mm is None else (column_mm, row_mm)
    sources = {}
    if sdd_mm is not None:
        sources["sdd_mm"] = "side-car"
    if spacing_mm is not None:
        sources["spacing_mm"] = "side-car"
    sources["intensity"] = "side-car, " + ("brighter is denser" if brighter else "inverted")
    sides: dict[str, Laterality] = {"L": "L", "R": "R"}
    facts = XrayFacts(
        spacing_mm=spacing_mm,
        sdd_mm=sdd_mm,
        laterality=sides.get(str(data.get("side", "")).upper()),
        patient_key=None,
        sources=sources,
        warnings=(),
    )
    return facts, brighter


def _pixels_16_bit(path: Path, refuse: Callable[[str, str], CaseError]) -> np.ndarray:
    try:
        if path.suffix.lower() == ".png":
            from PIL import Image

            with Image.open(path) as opened:
                if opened.size[0] * opened.size[1] > 8192**2:
                    raise refuse("BMD-XR-002", f"size {opened.size} is not plausible.")
                if opened.mode in ("RGB", "RGBA", "P", "LA"):
                    raise refuse("BMD-XR-003", f"mode {opened.mode}, expected grey.")
                image = np.array(opened)
                deep = opened.mode.startswith("I")
        else:
            import tifffile

            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                if len(file.pages) > 1:
                    raise refuse("BMD-XR-004", f"{len(file.pages)} pages, expected one.")
                if page.samplesperpixel > 1:
                    raise refuse("BMD-XR-003", f"{page.samplesperpixel} samples a pixel, expected grey.")
                if int(np.prod(page.shape)) > 8192**2:
                    raise refuse("BMD-XR-002", f"size {page.shape} is not plausible.")
                image = page.asarray()
                deep = image.dtype.itemsize > 1
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # image codecs fail in their own ways
        raise refuse("BMD-XR-002", f"not readable ({type(error).__name__}).") from error
    if not deep or image.ndim != 2 or image.dtype.kind not in "iuf" or not np.isfinite(image).all():
        raise refuse("BMD-XR-017", f"{image.ndim}-D {image.dtype}, expected 16-bit grey.")
    return image


def _in_range(value: object, allowed: tuple[float, float], name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not allowed[0] <= value <= allowed[1]:
        raise ValueError(f"{name}: expected {allowed[0]:g} to {allowed[1]:g} mm, got {value!r}")
    return float(value)
