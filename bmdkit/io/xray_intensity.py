"""Stored values of a DICOM radiograph into values that grow with attenuation, by what the file says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bmdkit.errors import CaseError
from bmdkit.io.dicom_parsing import DicomImage
from bmdkit.io.dicom_tables import unpack_tables

Voi = Literal["lut", "all", "none"]


@dataclass(frozen=True, eq=False)
class Intensity:
    """The values of a radiograph in their right direction.

    Attributes:
        values: [row, column], float32, growing with attenuation.
        source: What was done, and by which tag.
        warnings: What a user should know about it.
    """

    values: np.ndarray
    source: str
    warnings: tuple[str, ...]


def orient_intensity(
    image: DicomImage, stored: np.ndarray, hidden: np.ndarray, voi: Voi, refuse: Callable[[str, str], CaseError]
) -> Intensity:
    """Turn stored values into ones that grow with attenuation, proportional to it up to contrast if the file allows.

    Args:
        image: The file.
        stored: [row, column], its stored values.
        hidden: [row, column], bool, pixels that are no image.
        voi: Which value-of-interest transforms to apply.
        refuse: Makes the error of a code and a message.
    """
    pixels, tags = image.header.pixels, image.header.radiograph
    _, bits, _ = pixels.bits
    floor = -(1 << (bits - 1)) if pixels.is_signed else 0
    values, bounds = stored.astype(np.float32), np.array([floor, floor + (1 << bits) - 1], np.float32)
    try:
        values, bounds, done = _apply_tables(image, stored, values, bounds, voi)
    except MemoryError:
        raise
    except Exception as error:  # a table that does not fit its descriptor
        raise refuse("BMD-XR-015", f"its look-up table cannot be applied ({type(error).__name__}).") from error
    warnings: list[str] = []
    relation, sign, shape = tags.relationship, tags.relationship_sign, tags.lut_shape
    raw = tags.presentation_intent == "FOR PROCESSING"
    one = pixels.photometric == "MONOCHROME1"
    inverse = one or shape == "INVERSE"
    if shape and (shape == "INVERSE") != one:
        warnings.append(f"PresentationLUTShape {shape[:10]} with MONOCHROME{1 if one else 2}: inverted once")
    if raw and sign in (1, -1):
        lower_is_denser, why = sign == 1, "PixelIntensityRelationshipSign"
    elif relation == "LIN" and (raw or inverse or sign == 1):
        lower_is_denser, why = True, "proportional to the beam"
    elif raw and not relation and not shape:
        lower_is_denser, why = True, "raw, taken as proportional to the beam"
        warnings.append("raw image that names no intensity relationship: taken as proportional to the beam")
    else:
        lower_is_denser, why = inverse, pixels.photometric
    linear = relation == "LIN" or (raw and not relation)
    if linear and (lower_is_denser or raw):
        beam = values - bounds.min() if lower_is_denser else bounds.max() - values
        seen = beam if hidden.all() else beam[~hidden]
        least = max(float(np.percentile(seen, 0.1)), float(seen.max()) * 1e-4, 0.5)
        attenuation = -np.log(np.maximum(beam, least), dtype=np.float32)
        return Intensity(attenuation, f"-log, {why}", tuple(warnings))
    if linear:
        warnings.append("LIN image that is already brighter where denser: no logarithm taken")
    source = ("inverted, " if lower_is_denser else "as stored, ") + why + done
    return Intensity(bounds.max() - values if lower_is_denser else values - bounds.min(), source, tuple(warnings))


def _apply_tables(
    image: DicomImage, stored: np.ndarray, values: np.ndarray, bounds: np.ndarray, voi: Voi
) -> tuple[np.ndarray, np.ndarray, str]:
    """Modality LUT (table or rescale), then the VOI look-up table or window; bounds are mapped along."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    done = ""
    data_set = unpack_tables(image)
    tags, slope, intercept = image.header.radiograph, image.header.rescale_slope, image.header.rescale_intercept
    if tags.has_modality_table:
        values = apply_modality_lut(stored, data_set).astype(np.float32)
        bounds = np.array([values.min(), values.max()], np.float32)
        done += ", modality table"
    elif slope and intercept is not None:
        values, bounds = values * np.float32(slope) + np.float32(intercept), bounds * slope + intercept
        if slope < 0:
            bounds = bounds[::-1]
    table = tags.has_voi_table and voi in ("lut", "all")
    window = tags.has_window and voi == "all" and not table
    if table or window:
        source = values.astype(np.int32) if table else values
        values = apply_voi_lut(source, data_set, prefer_lut=table).astype(np.float32)
        bounds = np.array([values.min(), values.max()], np.float32)
        done += ", value-of-interest table" if table else ", window"
    return values, bounds, done
