"""Stored values of a DICOM radiograph into values that grow with attenuation, by what the file says of itself."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bmdkit.io.dicom_header import number, text, whole
from bmdkit.io.xray_settings import XrayFacts

Voi = Literal["lut", "all", "none"]


def denser_is_brighter(header, stored: np.ndarray, voi: Voi, facts: XrayFacts, refuse) -> np.ndarray:
    """float32 values that grow with attenuation, proportional to it up to contrast where the file allows."""
    bits = whole(header, "BitsStored")
    floor = -(1 << (bits - 1)) if whole(header, "PixelRepresentation") == 1 else 0
    values, bounds = stored.astype(np.float32), np.array([floor, floor + (1 << bits) - 1], np.float32)
    try:
        values, bounds, done = _apply_luts(header, stored, values, bounds, voi)
    except MemoryError:
        raise
    except Exception as error:  # a table that does not fit its descriptor
        raise refuse("BMD-XR-015", f"its look-up table cannot be applied ({type(error).__name__}).") from error
    relation = text(header, "PixelIntensityRelationship").upper()
    sign = number(header, "PixelIntensityRelationshipSign")
    raw = text(header, "PresentationIntentType").upper() == "FOR PROCESSING"
    one = text(header, "PhotometricInterpretation").upper() == "MONOCHROME1"
    shape = text(header, "PresentationLUTShape").upper()
    inverse = one or shape == "INVERSE"
    if shape and (shape == "INVERSE") != one:
        facts.warnings.append(f"PresentationLUTShape {shape[:10]} with MONOCHROME{1 if one else 2}: inverted once")
    if raw and sign in (1, -1):
        lower_is_denser, why = sign == 1, "PixelIntensityRelationshipSign"
    elif relation == "LIN" and (raw or inverse or sign == 1):
        lower_is_denser, why = True, "proportional to the beam"
    elif raw and not relation and not shape:
        lower_is_denser, why = True, "raw, taken as proportional to the beam"
        facts.warnings.append("raw image that names no intensity relationship: taken as proportional to the beam")
    else:
        lower_is_denser, why = inverse, text(header, "PhotometricInterpretation").upper()
    linear = relation == "LIN" or (raw and not relation)
    if linear and (lower_is_denser or raw):
        beam = values - bounds.min() if lower_is_denser else bounds.max() - values
        seen = beam if facts.hidden.all() else beam[~facts.hidden]
        least = max(float(np.percentile(seen, 0.1)), float(seen.max()) * 1e-4, 0.5)
        facts.sources["intensity"] = f"-log, {why}"
        return -np.log(np.maximum(beam, least), dtype=np.float32)
    if linear:
        facts.warnings.append("LIN image that is already brighter where denser: no logarithm taken")
    facts.sources["intensity"] = ("inverted, " if lower_is_denser else "as stored, ") + why + done
    return bounds.max() - values if lower_is_denser else values - bounds.min()


def _apply_luts(header, stored, values, bounds, voi: Voi):
    """Modality LUT (table or rescale), then the VOI look-up table or window; bounds are mapped along."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    done = ""
    if "ModalityLUTSequence" in header:
        values = apply_modality_lut(stored, header).astype(np.float32)
        bounds = np.array([values.min(), values.max()], np.float32)
        done += ", modality table"
    elif (slope := number(header, "RescaleSlope")) and (intercept := number(header, "RescaleIntercept")) is not None:
        values, bounds = values * np.float32(slope) + np.float32(intercept), bounds * slope + intercept
        if slope < 0:
            bounds = bounds[::-1]
    table = "VOILUTSequence" in header and voi in ("lut", "all")
    window = "WindowCenter" in header and voi == "all" and not table
    if table or window:
        source = values.astype(np.int32) if table else values
        values = apply_voi_lut(source, header, prefer_lut=table).astype(np.float32)
        bounds = np.array([values.min(), values.max()], np.float32)
        done += ", value-of-interest table" if table else ", window"
    return values, bounds, done
