"""Stored values of a DICOM radiograph into values that grow with attenuation, by what the file says of itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bmdkit.image_content.polarity import PolarityChoice, Refuse, decide_polarity
from bmdkit.io.dicom_parsing import DicomImage
from bmdkit.io.dicom_tables import unpack_tables
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.io.xray_views import OTHER_VIEW, find_other_view

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
    image: DicomImage, stored: np.ndarray, hidden: np.ndarray, config: XrayConfig, refuse: Refuse
) -> Intensity:
    """Turn stored values into ones that grow with attenuation, proportional to it up to contrast if the file allows.

    Args:
        image: The file.
        stored: [row, column], its stored values.
        hidden: [row, column], bool, pixels that are no image.
        config: Which value-of-interest transforms to apply, and who decides the polarity.
        refuse: Makes the error of a code and a message.

    Raises:
        CaseError: A table cannot be applied (BMD-XR-015); tags and content disagree (BMD-XR-023).
    """
    pixels = image.header.pixels
    _, bits, _ = pixels.bits
    floor = -(1 << (bits - 1)) if pixels.is_signed else 0
    values, bounds = stored.astype(np.float32), np.array([floor, floor + (1 << bits) - 1], np.float32)
    try:
        values, bounds, done = _apply_tables(image, stored, values, bounds, config.voi)
    except MemoryError:
        raise
    except Exception as error:  # a table that does not fit its descriptor
        raise refuse("BMD-XR-015", f"its look-up table cannot be applied ({type(error).__name__}).") from error
    tagged = _read_direction(image)

    def turned(direction: _Direction) -> np.ndarray:
        return _grow_with_density(values, bounds, direction, hidden)

    other = find_other_view(image.header.radiograph)
    if config.polarity == "auto" and other is not None and other.code == OTHER_VIEW:
        message = f"polarity: taken from {tagged.reason}; the content of what is no frontal view does not tell it"
        choice = PolarityChoice(tagged.lower_is_denser, tagged.reason, (message,))
    else:
        choice = decide_polarity(turned(tagged), hidden, tagged.lower_is_denser, tagged.reason, config.polarity, refuse)
    warnings = tagged.warnings + choice.warnings
    if choice.lower_is_denser == tagged.lower_is_denser:
        source = "-log, " + tagged.reason if tagged.is_beam else _word(tagged.lower_is_denser) + tagged.reason + done
        return Intensity(turned(tagged), source, warnings)
    is_beam = choice.lower_is_denser and tagged.is_linear
    direction = replace(tagged, lower_is_denser=choice.lower_is_denser, is_beam=is_beam)
    source = ("-log, " if is_beam else _word(direction.lower_is_denser)) + choice.reason + done
    return Intensity(turned(direction), source, warnings)


def _word(lower_is_denser: bool) -> str:
    return "inverted, " if lower_is_denser else "as stored, "


@dataclass(frozen=True)
class _Direction:
    """What tags say about the stored values.

    Attributes:
        lower_is_denser: Whether bone is dark.
        reason: Which tag says so.
        is_linear: Whether values may be proportional to the beam.
        is_beam: Whether they are, so that their logarithm is taken.
        warnings: What a user should know about it.
    """

    lower_is_denser: bool
    reason: str
    is_linear: bool
    is_beam: bool
    warnings: tuple[str, ...]


def _read_direction(image: DicomImage) -> _Direction:
    """Tags of the detector's data rule such data alone; an image for presentation is what its photometry says."""
    tags = image.header.radiograph
    relation, sign, shape = tags.relationship, tags.relationship_sign, tags.lut_shape
    raw, shown = (tags.presentation_intent == f"FOR {word}" for word in ("PROCESSING", "PRESENTATION"))
    one = image.header.pixels.photometric == "MONOCHROME1"
    warnings: tuple[str, ...] = ()
    if shape and (shape == "INVERSE") != one:
        warnings += (f"PresentationLUTShape {shape[:10]} with MONOCHROME{1 if one else 2}: inverted once",)
    linear = not shown and (relation == "LIN" or (raw and not relation))
    if raw and sign in (1, -1):
        return _Direction(sign == 1, "PixelIntensityRelationshipSign", linear, linear, warnings)
    if relation == "LIN" and not shown and sign != -1:
        return _Direction(True, "proportional to the beam", linear, True, warnings)
    if raw and not relation and not shape:
        warnings += ("raw image that names no intensity relationship: taken as proportional to the beam",)
        return _Direction(True, "raw, taken as proportional to the beam", linear, True, warnings)
    lower_is_denser = one or shape == "INVERSE"
    is_beam = linear and (raw or lower_is_denser)
    return _Direction(lower_is_denser, image.header.pixels.photometric, linear, is_beam, warnings)


def _grow_with_density(values: np.ndarray, bounds: np.ndarray, direction: _Direction, hidden: np.ndarray) -> np.ndarray:
    """Values that grow with attenuation; minus the logarithm of those that are proportional to the beam."""
    if not direction.is_beam:
        return bounds.max() - values if direction.lower_is_denser else values - bounds.min()
    beam = values - bounds.min() if direction.lower_is_denser else bounds.max() - values
    seen = beam if hidden.all() else beam[~hidden]
    least = max(float(np.percentile(seen, 0.1)), float(seen.max()) * 1e-4, 0.5)
    return np.asarray(-np.log(np.maximum(beam, least), dtype=np.float32))


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
