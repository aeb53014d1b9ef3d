"""Radiographs as PNG or TIFF with a side-car that says what such files cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.errors import CaseError
from bmdkit.image_content.polarity import Refuse, decide_polarity
from bmdkit.io.camera_files import (
    CAMERA_KEYS,
    SDD_RANGE_MM,
    SPACING_RANGE_MM,
    CameraEntry,
    parse_camera,
    require_in_range,
)
from bmdkit.io.dicom_header import Laterality
from bmdkit.io.tiff_pages import decode_page
from bmdkit.io.xray_settings import XrayConfig, XrayFacts, XrayImage

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
_MAX_PIXELS = 8192**2
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_TRANSPOSED = (5, 6, 7, 8)
"""Values of the TIFF tag Orientation whose rows are columns of the displayed image."""
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class _Displayed:
    """An image as a viewer shows it.

    Attributes:
        grey: [row, column], brighter is brighter.
        hidden: [row, column], bool, transparent pixels.
        is_deep: Whether it has more than 8 bits.
        is_transposed: Whether rows of the file are columns.
        warnings: What a user should know about it.
    """

    grey: np.ndarray
    hidden: np.ndarray
    is_deep: bool
    is_transposed: bool = False
    warnings: tuple[str, ...] = ()


def read_plain_image(path: Path, config: XrayConfig, case: str | None) -> XrayImage:
    """Read a PNG or TIFF with its side-car.

    Args:
        path: The file; its side-car has the same name and the suffix .json.
        config: What to refuse, and who decides the polarity.
        case: Case that errors name.

    Raises:
        CaseError: BMD-XR-002 to -004, -016, -017 and -023.
    """

    def refuse(code: str, message: str) -> CaseError:
        return CaseError(code, message, case=case, file=path.name)

    facts, brighter_is_denser = read_side_car(path, case)
    shown = _read_pixels(path, config, refuse)
    if shown.grey.ndim != 2 or shown.grey.dtype.kind not in "iuf" or not np.isfinite(shown.grey).all():
        raise refuse("BMD-XR-017", f"{shown.grey.ndim}-D {shown.grey.dtype}, expected grey of 8 or 16 bits.")
    shallow = () if shown.is_deep else ("BMD-XR-017: 8 bits a pixel: fine differences of density are lost",)
    if facts.camera is not None and shown.is_transposed:
        raise refuse("BMD-XR-016", "the side-car gives a camera, and the TIFF tag Orientation turns the image.")
    grey = shown.grey.astype(np.float32)
    inverted = float(grey.max()) - grey
    tagged = grey if brighter_is_denser else inverted
    choice = decide_polarity(tagged, shown.hidden, not brighter_is_denser, "the side-car", config.polarity, refuse)
    values = inverted if choice.lower_is_denser else grey
    sources = dict(facts.sources)
    if choice.lower_is_denser == brighter_is_denser:
        sources["intensity"] = f"{choice.reason}, " + ("inverted" if choice.lower_is_denser else "as stored")
    spacing_mm = facts.spacing_mm[::-1] if facts.spacing_mm and shown.is_transposed else facts.spacing_mm
    warnings = facts.warnings + shown.warnings + shallow + choice.warnings
    facts = replace(facts, spacing_mm=spacing_mm, sources=sources, warnings=warnings)
    return XrayImage(facts, values, shown.hidden)


def read_side_car(path: Path, case: str | None) -> tuple[XrayFacts, bool]:
    """Read what the side-car of a PNG or TIFF says, and whether brighter pixels, as displayed, are denser.

    Raises:
        CaseError: It is absent or wrong (BMD-XR-016).
    """
    beside = path.with_suffix(".json")
    try:
        data = json.loads(beside.read_text(encoding="utf-8-sig"))
        if not isinstance(data, Mapping):
            raise ValueError("expected a mapping")
        brighter = data["brighter_is_denser"]
        camera = _parse_whole_camera(data)
        if not isinstance(brighter, bool):
            raise ValueError("brighter_is_denser: expected true or false")
        sdd_mm = require_in_range(data.get("sdd_mm"), SDD_RANGE_MM, "sdd_mm")
        pixel = data.get("pixel_mm")
        pair = pixel if isinstance(pixel, list) and len(pixel) == 2 else [pixel, pixel]
        column_mm, row_mm = (require_in_range(value, SPACING_RANGE_MM, "pixel_mm") for value in pair)
        if camera is not None:
            sdd_mm, (column_mm, row_mm) = camera.find_scale()
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = f"its side-car {beside.name} is not readable ({error})."
        raise CaseError("BMD-XR-016", message, case=case, file=path.name) from error
    spacing_mm = None if column_mm is None or row_mm is None else (column_mm, row_mm)
    sources = {}
    if sdd_mm is not None:
        is_virtual = camera is not None and camera.sdd_mm is None and camera.spacing_mm is None
        sources["sdd_mm"] = "virtual: the side-car gives K alone" if is_virtual else "side-car"
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
        camera=camera,
    )
    return facts, brighter


def _parse_whole_camera(data: Mapping[str, Any]) -> CameraEntry | None:
    """The camera of a side-car that gives more than distances; pixel_mm is understood there too."""
    if not any(key in data for key in CAMERA_KEYS):
        return None
    own = {key: value for key, value in data.items() if key not in ("pixel_mm", "brighter_is_denser", "side")}
    if "pixel_mm" in data and "column_spacing_mm" not in own:
        pixel = data["pixel_mm"]
        column_mm, row_mm = pixel if isinstance(pixel, list) else (pixel, pixel)
        own |= {"column_spacing_mm": column_mm, "row_spacing_mm": row_mm}
    return parse_camera(own, "side-car")


def _read_pixels(path: Path, config: XrayConfig, refuse: Refuse) -> _Displayed:
    try:
        return (_read_png if path.suffix.lower() == ".png" else _read_tiff)(path, config, refuse)
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # image codecs fail in their own ways
        raise refuse("BMD-XR-002", f"not readable ({type(error).__name__}).") from error


def _accept_colour(config: XrayConfig, what: str, refuse: Refuse) -> tuple[str, ...]:
    """Refuse a colour image, or make a warning of it, as the settings choose."""
    if config.color == "quarantine":
        raise refuse("BMD-XR-003", f"{what}, expected grey.")
    return (f"BMD-XR-003: {what}, read as grey of 8 bits",)


def _read_png(path: Path, config: XrayConfig, refuse: Refuse) -> _Displayed:
    from PIL import Image

    with Image.open(path) as opened:
        if opened.size[0] * opened.size[1] > _MAX_PIXELS:
            raise refuse("BMD-XR-002", f"size {opened.size} is not plausible.")
        if opened.mode not in ("RGB", "RGBA", "P", "PA", "LA"):
            grey = np.array(opened)
            return _Displayed(grey, np.zeros(grey.shape[:2], bool), opened.mode.startswith("I"))
        warned = _accept_colour(config, f"mode {opened.mode}", refuse)
        pixels = np.array(opened.convert("RGBA"))
    return _Displayed(np.rint(pixels[..., :3] @ _LUMINANCE), pixels[..., 3] == 0, False, warnings=warned)


def _read_tiff(path: Path, config: XrayConfig, refuse: Refuse) -> _Displayed:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if len(file.pages) > 1:
            raise refuse("BMD-XR-004", f"{len(file.pages)} pages, expected one.")
        if int(np.prod(page.shape)) > _MAX_PIXELS:
            raise refuse("BMD-XR-002", f"size {page.shape} is not plausible.")
        photometric, samples, extra = int(page.photometric), page.samplesperpixel, len(page.extrasamples)
        warned: tuple[str, ...] = ()
        if photometric == _PALETTE or samples - extra > 1:
            name = "palette" if photometric == _PALETTE else f"{samples} samples a pixel"
            warned = _accept_colour(config, name, refuse)
        pixels = decode_page(path, page)
        if samples > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = np.moveaxis(pixels, 0, -1)
        table = page.colormap
        orientation = page.tags.valueof("Orientation", default=1)
    is_deep = pixels.dtype.itemsize > 1
    hidden = np.zeros(pixels.shape[:2], bool)
    if extra:
        hidden = pixels[..., samples - extra] == 0
        pixels = pixels[..., : samples - extra]
        pixels = pixels[..., 0] if samples - extra == 1 else pixels
    if photometric == _PALETTE:
        pixels, is_deep = np.rint(np.moveaxis(np.asarray(table)[:, pixels], 0, -1) @ _LUMINANCE), False
    elif pixels.ndim == 3:
        pixels, is_deep = np.rint(pixels[..., :3] @ _LUMINANCE), False
    elif photometric == _MIN_IS_WHITE:
        pixels = (float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else float(pixels.max())) - pixels
    shown, hidden = _orient(pixels, orientation), _orient(hidden, orientation)
    if orientation not in (0, 1):
        warned += (f"image turned as its TIFF tag Orientation ({orientation}) asks",)
    return _Displayed(shown, hidden, is_deep, orientation in _TRANSPOSED, warned)


def _orient(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image as the TIFF tag Orientation asks. Source: TIFF 6.0, section 8."""
    image = image.swapaxes(0, 1) if orientation in _TRANSPOSED else image
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    image = image[::-1] if orientation in (3, 4, 7, 8) else image
    return np.ascontiguousarray(image)
