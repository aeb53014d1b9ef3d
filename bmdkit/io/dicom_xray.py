"""Radiographs from DICOM (CR, DX, RF): direction of the intensities, distances with their source, mirror, shutters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from bmdkit.errors import CaseError
from bmdkit.io.camera_files import SDD_RANGE_MM, SPACING_RANGE_MM
from bmdkit.io.dicom_files import MissingDecoderError, UnreadableError
from bmdkit.io.dicom_header import DicomHeader, Pair
from bmdkit.io.dicom_parsing import DicomImage, make_pair, read_header, read_image
from bmdkit.io.dicom_pixels import GreyFrame, decode_grey_frame, decode_with_codec
from bmdkit.io.shutters import find_odd_shutters, mask_outside, mask_padding
from bmdkit.io.xray_intensity import orient_intensity
from bmdkit.io.xray_settings import XrayConfig, XrayFacts, XrayImage
from bmdkit.io.xray_views import find_other_view, find_resampling

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_J2K_SYNTAXES = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
RADIOGRAPH_MODALITIES = ("CR", "DX", "RF", "RG", "XA")
_LEAST_SIDE = 16

_Read = TypeVar("_Read")
Refuse = Callable[[str, str], CaseError]
"""Makes the error of a code and a message."""


def inspect_dicom(path: Path, config: XrayConfig, case: str | None) -> XrayFacts:
    """Say what the header of a DICOM radiograph tells.

    Raises:
        CaseError: BMD-XR-002 to -019.
    """
    refuse = _refusal(path, case)
    header = _open(read_header, path, refuse)
    return _gather_facts(header, _check_kind(header, config, refuse), config, refuse)[0]


def read_dicom(path: Path, config: XrayConfig, case: str | None) -> XrayImage:
    """Read a DICOM radiograph.

    Raises:
        CaseError: BMD-XR-002 to -019.
    """
    refuse = _refusal(path, case)
    image = _open(read_image, path, refuse)
    found = _check_kind(image.header, config, refuse) + _check_j2k_precision(image, config, refuse)
    facts, turn = _gather_facts(image.header, found, config, refuse)
    frame = _decode_frame(image, refuse)
    stored = frame.stored
    hidden = _find_hidden(image, stored)
    intensity = orient_intensity(image, stored, hidden, config, refuse)
    facts = replace(
        facts,
        sources={**facts.sources, "intensity": intensity.source},
        warnings=facts.warnings + frame.warnings + intensity.warnings + find_odd_shutters(image.header, stored.shape),
    )
    collimated = mask_outside(image.header, stored.shape, "Collimator")
    return XrayImage(facts, turn.apply(intensity.values), turn.apply(hidden), turn.apply(collimated))


def read_thumbnail(path: Path, config: XrayConfig, longest_side: int) -> XrayImage:
    """Read a DICOM radiograph in small, upright; whether bone is bright is not found out.

    Args:
        path: The file.
        config: What is refused.
        longest_side: Pixels of the longer side, at most twice as many.

    Returns:
        Facts, of which the spacing is that of the small image; values in either direction; nothing of collimators.

    Raises:
        CaseError: BMD-XR-002 to -019.
    """
    refuse = _refusal(path, None)
    image = _open(read_image, path, refuse)
    facts, turn = _gather_facts(image.header, _check_kind(image.header, config, refuse), config, refuse)
    stored = _decode_frame(image, refuse).stored
    hidden = _find_hidden(image, stored)
    step = max(1, max(stored.shape) // longest_side)
    rows, columns = (n - n % step for n in stored.shape)
    means = stored[:rows, :columns].reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))
    spacing_mm = None if facts.spacing_mm is None else (facts.spacing_mm[0] * step, facts.spacing_mm[1] * step)
    small = means.astype(np.float32)
    return XrayImage(
        replace(facts, spacing_mm=spacing_mm), turn.apply(small), turn.apply(hidden[:rows:step, :columns:step])
    )


def _open(read: Callable[[Path], _Read], path: Path, refuse: Refuse) -> _Read:
    """Read a file; one that is no DICOM, or is damaged, is refused."""
    try:
        return read(path)
    except UnreadableError as error:
        raise refuse("BMD-XR-002", f"{error}.") from error


def _find_hidden(image: DicomImage, stored: np.ndarray) -> np.ndarray:
    """Pixels that the header says are no image: behind a shutter, or padding."""
    return mask_outside(image.header, stored.shape, "Shutter") | mask_padding(image.header, stored)


def _refusal(path: Path, case: str | None) -> Refuse:
    def refuse(code: str, message: str) -> CaseError:
        return CaseError(code, message, case=case, file=path.name)

    return refuse


def _gather_facts(
    header: DicomHeader, warned: tuple[str, ...], config: XrayConfig, refuse: Refuse
) -> tuple[XrayFacts, _Turn]:
    """What the header tells, and how the image has to be turned; `warned` is what was said of its kind."""
    if header.radiograph.burned_in == "YES":
        warned += ("the file says that text is burned in",)
    if (other := find_other_view(header.radiograph)) is not None:
        warned += _decide(config.view, *other, refuse)
    distances = _find_distances(header)
    resampled = find_resampling(header.radiograph, header.pixels.shape, distances.spacing_mm)
    if resampled is not None:
        warned += _decide(config.resampled, *resampled, refuse)
    turn = _find_turn(header, refuse)
    spacing_mm = distances.spacing_mm[::-1] if turn.transpose and distances.spacing_mm else distances.spacing_mm
    sources = {**distances.sources}
    for name, value in (("view", header.radiograph.view_position), ("pose", header.radiograph.patient_position)):
        if value:
            sources[name] = value[:16]
    sources["orientation"] = turn.source
    facts = XrayFacts(
        spacing_mm=spacing_mm,
        sdd_mm=distances.sdd_mm,
        laterality=header.radiograph.laterality,
        patient_key=header.patient_key,
        sources=sources,
        warnings=warned + distances.warnings + turn.warnings,
        tube=header.radiograph.tube,
    )
    return facts, turn


def _decide(choice: str, code: str, message: str, refuse: Refuse) -> tuple[str, ...]:
    """Refuse an unsuitable image, or make a warning of it, as the settings choose."""
    if choice == "quarantine":
        raise refuse(code, message)
    return (f"{code}: {message}",)


def _check_kind(header: DicomHeader, config: XrayConfig, refuse: Refuse) -> tuple[str, ...]:
    """Refuse what is no plain grey radiograph; what the settings let pass is warned of."""
    warned: tuple[str, ...] = ()
    modality, tags, pixels = header.modality, header.radiograph, header.pixels
    if modality == "CT" or modality not in (*RADIOGRAPH_MODALITIES, "", "OT", "SC"):
        raise refuse("BMD-XR-018", f"modality {modality[:16]!r}, expected CR, DX or RF.")
    if header.sop_class_uid.startswith(_SECONDARY_CAPTURE) or modality in ("OT", "SC"):
        warned += _decide(config.screenshot, "BMD-XR-005", "a secondary capture.", refuse)
    elif {"WSD", "SI"} & set(tags.conversion_type) or "SCREEN SAVE" in header.image_type:
        warned += _decide(config.screenshot, "BMD-XR-005", "a screen save.", refuse)
    if not pixels.is_plausible(_LEAST_SIDE):
        measured = f"{pixels.rows} x {pixels.columns} pixels of {pixels.bits_stored} in {pixels.bits_allocated} bits"
        raise refuse("BMD-XR-002", f"header not plausible: {measured}.")
    if pixels.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        if not pixels.photometric.startswith(("RGB", "YBR")):
            raise refuse("BMD-XR-003", f"photometric interpretation {pixels.photometric[:20] or 'absent'!r}.")
        warned += _decide(config.color, "BMD-XR-003", f"photometric interpretation {pixels.photometric[:20]}.", refuse)
    if pixels.frames > 1:
        warned += _decide(config.multiframe, "BMD-XR-004", f"{pixels.frames} frames.", refuse)
    if header.is_lossy:
        ratio = header.lossy_ratio[:16]
        message = f"compressed with loss{', ratio ' + ratio if ratio else ''}."
        warned += _decide(config.lossy, "BMD-XR-006", message, refuse)
    return warned


def _check_j2k_precision(image: DicomImage, config: XrayConfig, refuse: Refuse) -> tuple[str, ...]:
    """Hold the precision of a JPEG 2000 stream against BitsStored."""
    if image.header.transfer_syntax_uid not in _J2K_SYNTAXES or "PixelData" not in image.data_set:
        return ()
    from pydicom.encaps import generate_frames
    from pydicom.pixels.utils import get_j2k_parameters

    try:
        stream = next(generate_frames(image.data_set.PixelData, number_of_frames=1))
        found = get_j2k_parameters(stream).get("precision")
    except MemoryError:
        raise
    except Exception as error:  # a damaged stream
        raise refuse("BMD-XR-002", f"its JPEG 2000 stream is damaged ({type(error).__name__}).") from error
    stored = image.header.pixels.bits_stored
    if found is None or found == stored:
        return ()
    message = f"JPEG 2000 precision {found} bits, BitsStored {stored}."
    return _decide(config.precision, "BMD-XR-007", message, refuse)


@dataclass(frozen=True)
class _Distances:
    """Distances of a radiograph: spacing between columns and between rows, at the detector."""

    sdd_mm: float | None
    spacing_mm: tuple[float, float] | None
    sources: dict[str, str]
    warnings: tuple[str, ...]


def _find_distances(header: DicomHeader) -> _Distances:
    sources: dict[str, str] = {}
    warned: list[str] = []
    sdd_mm = header.radiograph.sdd_mm
    if sdd_mm is not None and SDD_RANGE_MM[0] <= sdd_mm <= SDD_RANGE_MM[1]:
        sources["sdd_mm"] = "DistanceSourceToDetector"
    else:
        if sdd_mm:
            warned.append(f"DistanceSourceToDetector of {sdd_mm:g} mm is not plausible and not used")
        sdd_mm = None
    spacing, source = _find_spacing(header, warned)
    if spacing is None:
        return _Distances(sdd_mm, None, sources, tuple(warned))
    if not all(SPACING_RANGE_MM[0] <= v <= SPACING_RANGE_MM[1] for v in spacing):
        warned.append(f"{source} of {spacing[0]:g} x {spacing[1]:g} mm is not plausible and not used")
        return _Distances(sdd_mm, None, sources, tuple(warned))
    sources["spacing_mm"] = source
    return _Distances(sdd_mm, (spacing[1], spacing[0]), sources, tuple(warned))


def _find_spacing(header: DicomHeader, warned: list[str]) -> tuple[Pair | None, str]:
    """The spacing at the detector, rows first, and the tag that it comes from."""
    tags = header.radiograph
    if tags.imager_spacing_mm is not None:
        return tags.imager_spacing_mm, "ImagerPixelSpacing"
    if (element := tags.element_spacing_mm) is not None:
        binning = tags.binning or (1.0, 1.0)
        return (element[0] * binning[0], element[1] * binning[1]), "DetectorElementSpacing x DetectorBinning"
    if tags.scanned_spacing_mm is not None:
        return tags.scanned_spacing_mm, "NominalScannedPixelSpacing"
    calibrated, kind, factor = make_pair(header.pixel_spacing_mm), tags.calibration_type, tags.magnification
    if calibrated is None:
        return None, ""
    if kind not in ("GEOMETRY", "FIDUCIAL"):
        warned.append("pixel spacing from PixelSpacing, taken to be at the detector")
        return calibrated, "PixelSpacing, no calibration named"
    if factor is not None and 1 <= factor <= 3:
        source = f"PixelSpacing ({kind}) x EstimatedRadiographicMagnificationFactor"
        return (calibrated[0] * factor, calibrated[1] * factor), source
    warned.append(f"PixelSpacing is calibrated by {kind}, not at the detector, and not used")
    return None, ""


@dataclass(frozen=True)
class _Turn:
    """How an image is brought to the standard orientation: transposed, then turned upside down, then mirrored."""

    transpose: bool
    up_down: bool
    left_right: bool
    source: str
    warnings: tuple[str, ...]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The turned image, contiguous."""
        image = image.T if self.transpose else image
        image = image[::-1] if self.up_down else image
        image = image[:, ::-1] if self.left_right else image
        return np.ascontiguousarray(image)


def _find_turn(header: DicomHeader, refuse: Refuse) -> _Turn:
    """How to turn the image so that columns run to the patient's left and rows to the feet.

    PatientOrientation alone turns an image, and that is recorded; without it the image is taken as it is displayed,
    the patient's left on its right. ViewPosition, FieldOfViewRotation and FieldOfViewHorizontalFlip say how an image
    was taken, not how it is displayed.
    """
    given = header.radiograph.patient_orientation
    if len(given) != 2:
        return _Turn(False, False, False, "as displayed, not in the file", ())
    first, second = given[0][0], given[1][0]
    if first in "LR" and second in "HF":
        transpose, column, row = False, first, second
    elif first in "HF" and second in "LR":
        transpose, column, row = True, second, first
    else:
        raise refuse("BMD-XR-019", f"patient orientation {given[0][:4]}, {given[1][:4]}, expected a frontal view.")
    flips = (transpose, row == "H", column != "L")
    names = ("transposed", "turned upside down", "mirrored")
    done = " and ".join(name for name, is_done in zip(names, flips, strict=True) if is_done)
    if not done:
        return _Turn(*flips, "PatientOrientation", ())
    warned = (f"image {done} to the standard orientation, as PatientOrientation asks",)
    return _Turn(*flips, f"PatientOrientation, {done}", warned)


def _decode_frame(image: DicomImage, refuse: Refuse) -> GreyFrame:
    """The first frame, in grey."""
    pixels = image.header.pixels
    colour = pixels.samples > 1
    try:
        if not colour:
            return decode_grey_frame(image)
        frame = decode_with_codec(image)
    except MissingDecoderError as error:
        raise refuse("BMD-XR-008", f"{error}.") from error
    except UnreadableError as error:
        raise refuse("BMD-XR-002", f"{error}.") from error
    if frame.shape != (*pixels.shape, 3):
        raise refuse("BMD-XR-002", f"its pixels have the shape {frame.shape}.")
    grey = np.rint(frame @ np.array([0.299, 0.587, 0.114]))
    return GreyFrame(grey.astype(np.int32), image.warnings)
