"""Radiographs from DICOM (CR, DX, RF): direction of the intensities, distances with their source, mirror, shutters."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from bmdkit.errors import CaseError
from bmdkit.io.ct import stored_values
from bmdkit.io.dicom_header import (
    MAX_SIDE,
    UnreadableError,
    number,
    numbers,
    patient_key,
    read_header,
    text,
    whole,
    words,
)
from bmdkit.io.shutters import hidden_by_shutters, padding
from bmdkit.io.xray_intensity import denser_is_brighter
from bmdkit.io.xray_settings import SDD_RANGE_MM, SPACING_RANGE_MM, XrayConfig, XrayFacts

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LOSSY_SYNTAXES = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81"}
_J2K_SYNTAXES = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
_MODALITIES = ("CR", "DX", "RF", "RG", "XA")


def read_dicom(path: Path, config: XrayConfig, case: str | None, pixels: bool) -> XrayFacts:
    """What a DICOM radiograph says, and its values if they are asked for.

    Raises:
        CaseError: BMD-XR-002 to -019.
    """

    def refuse(code: str, message: str) -> CaseError:
        return CaseError(code, message, case=case, file=path.name)

    try:
        header = read_header(path, pixels=pixels)
    except UnreadableError as error:
        raise refuse("BMD-XR-002", f"{error}.") from error
    facts = XrayFacts(patient_key=patient_key(header))
    _check_kind(header, config, facts, refuse)
    _distances(header, facts)
    sides = words(header, "ImageLaterality") or words(header, "Laterality")
    facts.laterality = sides[0] if sides and sides[0] in ("L", "R", "B") else None
    flips = _orientation(header, facts, refuse)
    if pixels:
        frame = _frame(header, config, facts, refuse)
        facts.hidden = hidden_by_shutters(header, frame.shape) | padding(header, frame)
        facts.values = denser_is_brighter(header, frame, config.voi, facts, refuse)
    transpose, up_down, left_right = flips
    for name in ("values", "hidden"):
        image = getattr(facts, name)
        if image is not None:
            image = image.T if transpose else image
            image = image[::-1] if up_down else image
            image = image[:, ::-1] if left_right else image
            setattr(facts, name, np.ascontiguousarray(image))
    if transpose and facts.spacing_mm:
        facts.spacing_mm = facts.spacing_mm[::-1]
    return facts


def _check_kind(header, config: XrayConfig, facts: XrayFacts, refuse) -> None:
    def decide(choice: str, code: str, message: str) -> None:
        if choice == "quarantine":
            raise refuse(code, message)
        facts.warnings.append(f"{code}: {message}")

    modality = text(header, "Modality").upper()
    if modality == "CT" or modality not in (*_MODALITIES, "", "OT", "SC"):
        raise refuse("BMD-XR-018", f"modality {modality[:16]!r}, expected CR, DX or RF.")
    if text(header, "SOPClassUID").startswith(_SECONDARY_CAPTURE) or modality in ("OT", "SC"):
        decide(config.screenshot, "BMD-XR-005", "a secondary capture.")
    elif {"WSD", "SI"} & set(words(header, "ConversionType")) or "SCREEN SAVE" in words(header, "ImageType"):
        decide(config.screenshot, "BMD-XR-005", "a screen save.")
    rows, columns, stored, allocated = (whole(header, n) for n in ("Rows", "Columns", "BitsStored", "BitsAllocated"))
    if (
        rows is None
        or columns is None
        or not (min(rows, columns) >= 16 and max(rows, columns) <= MAX_SIDE)
        or allocated not in (8, 16, 32)
        or stored is None
        or not 1 <= stored <= allocated
        or whole(header, "PixelRepresentation") not in (0, 1)
        or not (
            stored - 1 <= (stored - 1 if whole(header, "HighBit") is None else whole(header, "HighBit")) < allocated
        )
    ):
        raise refuse("BMD-XR-002", f"header not plausible: {rows} x {columns} pixels of {stored} in {allocated} bits.")
    photometric = text(header, "PhotometricInterpretation").upper()
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        if not photometric.startswith(("RGB", "YBR")):
            raise refuse("BMD-XR-003", f"photometric interpretation {photometric[:20] or 'absent'!r}.")
        decide(config.color, "BMD-XR-003", f"photometric interpretation {photometric[:20]}.")
    if (frames := whole(header, "NumberOfFrames") or 1) > 1:
        decide(config.multiframe, "BMD-XR-004", f"{frames} frames.")
    syntax = str(header.file_meta.TransferSyntaxUID)
    if text(header, "LossyImageCompression") == "01" or syntax in _LOSSY_SYNTAXES:
        ratio = text(header, "LossyImageCompressionRatio")[:16]
        decide(config.lossy, "BMD-XR-006", f"compressed with loss{', ratio ' + ratio if ratio else ''}.")
    if syntax in _J2K_SYNTAXES and "PixelData" in header:
        from pydicom.encaps import generate_frames
        from pydicom.pixels.utils import get_j2k_parameters

        try:
            found = get_j2k_parameters(next(generate_frames(header.PixelData, number_of_frames=1))).get("precision")
        except MemoryError:
            raise
        except Exception as error:  # a damaged stream
            raise refuse("BMD-XR-002", f"its JPEG 2000 stream is damaged ({type(error).__name__}).") from error
        if found is not None and found != stored:
            decide(config.precision, "BMD-XR-007", f"JPEG 2000 precision {found} bits, BitsStored {stored}.")
    if text(header, "BurnedInAnnotation").upper() == "YES":
        facts.warnings.append("the file says that text is burned in")


def _distances(header, facts: XrayFacts) -> None:
    sdd = number(header, "DistanceSourceToDetector")
    if sdd is not None and SDD_RANGE_MM[0] <= sdd <= SDD_RANGE_MM[1]:
        facts.sdd_mm, facts.sources["sdd_mm"] = sdd, "DistanceSourceToDetector"
    elif sdd:
        facts.warnings.append(f"DistanceSourceToDetector of {sdd:g} mm is not plausible and not used")
    imager = _pair(header, "ImagerPixelSpacing")
    element, binning = _pair(header, "DetectorElementSpacing"), _pair(header, "DetectorBinning", plain=True)
    kind = text(header, "PixelSpacingCalibrationType").upper()
    spacing, source = imager, "ImagerPixelSpacing"
    if spacing is None and element is not None:
        binned = binning or (1.0, 1.0)
        spacing, source = (element[0] * binned[0], element[1] * binned[1]), "DetectorElementSpacing x DetectorBinning"
    if spacing is None:
        spacing, source = _pair(header, "NominalScannedPixelSpacing"), "NominalScannedPixelSpacing"
    if spacing is None and (calibrated := _pair(header, "PixelSpacing")) is not None:
        factor = number(header, "EstimatedRadiographicMagnificationFactor")
        if kind == "" or kind not in ("GEOMETRY", "FIDUCIAL"):
            spacing, source = calibrated, "PixelSpacing, no calibration named"
            facts.warnings.append("pixel spacing from PixelSpacing, taken to be at the detector")
        elif factor is not None and 1 <= factor <= 3:
            spacing = (calibrated[0] * factor, calibrated[1] * factor)
            source = f"PixelSpacing ({kind}) x EstimatedRadiographicMagnificationFactor"
        else:
            facts.warnings.append(f"PixelSpacing is calibrated by {kind}, not at the detector, and not used")
    if spacing is not None:
        if all(SPACING_RANGE_MM[0] <= v <= SPACING_RANGE_MM[1] for v in spacing):
            facts.spacing_mm, facts.sources["spacing_mm"] = (spacing[1], spacing[0]), source
        else:
            facts.warnings.append(f"{source} of {spacing[0]:g} x {spacing[1]:g} mm is not plausible and not used")
    for name in ("view", "pose"):
        if value := text(header, {"view": "ViewPosition", "pose": "PatientPosition"}[name])[:16]:
            facts.sources[name] = value


def _pair(header, name: str, plain: bool = False) -> tuple[float, float] | None:
    """Between rows, between columns; one value counts for both."""
    values = numbers(header, name)
    if not values or min(values) <= 0 or len(values) > 2:
        return None
    return values[0], values[-1]


def _orientation(header, facts: XrayFacts, refuse) -> tuple[bool, bool, bool]:
    """Whether to transpose, then turn upside down, then mirror, so that columns run to the patient's left and rows to
    the feet as seen from the source; only ever from explicit tags, and recorded."""
    view = text(header, "ViewPosition").upper()
    if view in ("LL", "RL", "LLD", "RLD", "LLO", "RLO", "LATERAL", "LAT", "RPO", "LPO", "RAO", "LAO"):
        raise refuse("BMD-XR-019", f"view {view}.")
    across = "R" if view == "PA" else "L"  # seen from a source behind the patient, the right side lies right
    if view == "PA":
        facts.warnings.append("postero-anterior view: columns run to the patient's right")
    given = words(header, "PatientOrientation")
    flipped = text(header, "FieldOfViewHorizontalFlip").upper()
    if len(given) == 2 and all(given):
        first, second = given[0][0], given[1][0]
        if first in "LR" and second in "HF":
            transpose, column, row = False, first, second
        elif first in "HF" and second in "LR":
            transpose, column, row = True, second, first
        else:
            raise refuse("BMD-XR-019", f"patient orientation {given[0][:4]}, {given[1][:4]}, expected a frontal view.")
        if flipped == "YES" and column == across and view != "PA":
            facts.warnings.append(
                "BMD-XR-022: suspected mirror, FieldOfViewHorizontalFlip and PatientOrientation contradict each other"
            )
        flips = (transpose, row == "H", column != across)
        if any(flips):
            done = [
                word for word, on in zip(("transposed", "turned upside down", "mirrored"), flips, strict=True) if on
            ]
            facts.sources["orientation"] = "PatientOrientation, " + " and ".join(done)
            facts.warnings.append(f"image {' and '.join(done)} to the standard orientation, as PatientOrientation asks")
        else:
            facts.sources["orientation"] = "PatientOrientation"
        return flips
    if flipped == "YES":
        facts.sources["orientation"] = "FieldOfViewHorizontalFlip, mirrored back"
        facts.warnings.append("image mirrored back, as FieldOfViewHorizontalFlip says that it was flipped")
        return False, False, True
    facts.sources["orientation"] = "not in the file"
    return False, False, False


def _frame(header, config: XrayConfig, facts: XrayFacts, refuse) -> np.ndarray:
    """Stored values of one grey frame, int32."""
    colour = (whole(header, "SamplesPerPixel") or 1) > 1
    frames = whole(header, "NumberOfFrames") or 1
    try:
        if not colour and frames == 1:
            return stored_values(header)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = np.asarray(header.pixel_array)
    except UnreadableError as error:
        raise refuse("BMD-XR-002", f"{error}.") from error
    except MemoryError:
        raise
    except Exception as error:  # codecs fail in their own ways
        raise refuse("BMD-XR-002", f"its pixels cannot be decoded ({type(error).__name__}).") from error
    image = image[0] if frames > 1 else image
    if colour:
        from pydicom.pixels import convert_color_space

        space = text(header, "PhotometricInterpretation").upper()
        image = image if space == "RGB" else convert_color_space(image, space, "RGB")
        image = np.rint(image[..., :3] @ np.array([0.299, 0.587, 0.114]))
    if image.shape != (whole(header, "Rows"), whole(header, "Columns")):
        raise refuse("BMD-XR-002", f"its pixels have the shape {image.shape}.")
    return image.astype(np.int32)
