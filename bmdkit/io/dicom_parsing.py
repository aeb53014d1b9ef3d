"""DICOM headers parsed: every tag that bmdkit looks at, converted and checked once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from bmdkit.core.radiograph import TubeSettings
from bmdkit.io.dicom_files import describe_end, read_data_set
from bmdkit.io.dicom_header import (
    LOSSY_SYNTAXES,
    SIMULATOR,
    DicomHeader,
    Laterality,
    Opening,
    OpeningShape,
    Pair,
    PixelFormat,
    RadiographTags,
    SliceTags,
)
from bmdkit.io.patient_identity import make_patient_key

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

_LARGEST_NUMBER = 1e30


@dataclass(frozen=True, eq=False)
class DicomImage:
    """One DICOM file with its pixels.

    Attributes:
        header: What its header says.
        data_set: The whole data set, for its pixels and look-up tables only.
        warnings: What was found after the pixels.
    """

    header: DicomHeader
    data_set: FileDataset
    warnings: tuple[str, ...] = ()


def read_header(path: Path) -> DicomHeader:
    """Read the header of one DICOM file.

    Raises:
        UnreadableError: It is empty, no DICOM, or damaged.
    """
    return parse_header(read_data_set(path))


def read_image(path: Path) -> DicomImage:
    """Read one DICOM file with its pixels, which are not decoded yet.

    Raises:
        UnreadableError: It is empty, no DICOM, or damaged.
    """
    data_set = read_data_set(path, pixels=True)
    after = describe_end(path, data_set)
    return DicomImage(parse_header(data_set), data_set, () if after is None else (after,))


def parse_header(data_set: FileDataset) -> DicomHeader:
    """Convert the tags that bmdkit looks at; a value that cannot be decoded counts as absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydicom would print quotes the file
        tags = TagReader(data_set)
        return DicomHeader(
            sop_class_uid=tags.text("SOPClassUID"),
            transfer_syntax_uid=str(data_set.file_meta.TransferSyntaxUID),
            series_uid=tags.text("SeriesInstanceUID"),
            frame_of_reference_uid=tags.text("FrameOfReferenceUID"),
            modality=tags.upper("Modality"),
            image_type=tags.words("ImageType"),
            patient_key=make_patient_key(
                *map(tags.text, ("PatientID", "PatientBirthDate", "PatientName", "PatientSex"))
            ),
            is_simulated=tags.text("Manufacturer") == SIMULATOR,
            pixels=_parse_pixel_format(tags),
            pixel_spacing_mm=tags.numbers("PixelSpacing"),
            rescale_slope=tags.number("RescaleSlope"),
            rescale_intercept=tags.number("RescaleIntercept"),
            padding=_parse_padding(tags),
            is_lossy=tags.text("LossyImageCompression") == "01"
            or str(data_set.file_meta.TransferSyntaxUID) in LOSSY_SYNTAXES,
            lossy_ratio=tags.text("LossyImageCompressionRatio"),
            ct=SliceTags(
                position_mm=tags.vector("ImagePositionPatient", 3),
                orientation=tags.vector("ImageOrientationPatient", 6),
                kernel=tags.text("ConvolutionKernel"),
                thickness=tags.text("SliceThickness"),
            ),
            radiograph=_parse_radiograph(tags),
        )


class TagReader:
    """The tags of one data set by name, as text and as numbers."""

    def __init__(self, data_set: Dataset | Mapping[str, Any]) -> None:
        """Read from a data set, or from nothing."""
        self._data_set = data_set

    def __contains__(self, name: str) -> bool:
        """Whether the data set has the tag."""
        return name in self._data_set

    def has_overlay_bits(self) -> bool:
        """Whether an overlay (groups 6000 to 601E) lies in unused bits of the pixels: it has a position and no data."""
        return any(
            (group << 16) + 0x0102 in self._data_set and (group << 16) + 0x3000 not in self._data_set
            for group in range(0x6000, 0x6020, 2)
        )

    def text(self, name: str) -> str:
        """A tag as plain text, several values joined by a backslash; empty if it is absent or damaged."""
        try:
            value: Any = self._data_set.get(name)
            if value is None:
                return ""
            if isinstance(value, str) or not isinstance(value, Sequence):  # the letters of a name are no values
                return str(value).strip()
            return "\\".join(str(v).strip() for v in value)
        except MemoryError:
            raise
        except Exception:  # a value that cannot be decoded counts as absent
            return ""

    def upper(self, name: str) -> str:
        """A tag as upper-case text."""
        return self.text(name).upper()

    def words(self, name: str) -> tuple[str, ...]:
        """The values of a tag as upper-case words."""
        return tuple(w.strip().upper() for w in self.text(name).split("\\") if w.strip())

    def numbers(self, name: str) -> tuple[float, ...]:
        """All values of a tag as finite numbers; empty if it is absent or any of them is none."""
        try:
            values = tuple(float(part) for part in self.text(name).split("\\"))
        except ValueError:
            return ()
        return values if all(abs(v) < _LARGEST_NUMBER for v in values) else ()

    def number(self, name: str) -> float | None:
        """The first value of a tag as a finite number, or None."""
        values = self.numbers(name)
        return values[0] if values else None

    def whole(self, name: str) -> int | None:
        """A tag as a whole number, or None."""
        value = self.number(name)
        return int(value) if value is not None and value == int(value) else None

    def items(self, sequence: str, name: str) -> tuple[str, ...]:
        """One tag of every item of a sequence, upper case; empty where the sequence is absent or damaged."""
        try:
            found = tuple(str(item.get(name) or "").strip().upper() for item in self._data_set.get(sequence) or ())
        except MemoryError:
            raise
        except Exception:  # a sequence that cannot be decoded counts as absent
            return ()
        return tuple(word for word in found if word)

    def nested_items(self, sequence: str, inner: str, name: str) -> tuple[str, ...]:
        """As `items`, of the sequence `inner` in every item of a sequence."""
        try:
            outer = list(self._data_set.get(sequence) or ())
        except MemoryError:
            raise
        except Exception:  # a sequence that cannot be decoded counts as absent
            return ()
        return tuple(word for item in outer for word in TagReader(item).items(inner, name))

    def vector(self, name: str, size: int) -> tuple[float, ...] | None:
        """Exactly `size` numbers, or None."""
        values = self.numbers(name)
        return values if len(values) == size else None

    def pair(self, name: str) -> Pair | None:
        """Two positive numbers, between rows and between columns; one counts for both."""
        return make_pair(self.numbers(name))


def make_pair(values: tuple[float, ...]) -> Pair | None:
    """Two positive numbers, of which one counts for both; None where there is none or one is not positive."""
    if not values or min(values) <= 0 or len(values) > 2:
        return None
    return values[0], values[-1]


def _parse_pixel_format(tags: TagReader) -> PixelFormat:
    stored, high = tags.whole("BitsStored"), tags.whole("HighBit")
    return PixelFormat(
        rows=tags.whole("Rows"),
        columns=tags.whole("Columns"),
        samples=tags.whole("SamplesPerPixel") or 1,
        frames=tags.whole("NumberOfFrames") or 1,
        overlay_bits=tags.has_overlay_bits(),
        bits_allocated=tags.whole("BitsAllocated"),
        bits_stored=stored,
        high_bit=stored - 1 if high is None and stored is not None else high,
        representation=tags.whole("PixelRepresentation"),
        photometric=tags.upper("PhotometricInterpretation"),
    )


def _parse_padding(tags: TagReader) -> tuple[float, float] | None:
    value, limit = tags.number("PixelPaddingValue"), tags.number("PixelPaddingRangeLimit")
    if value is None:
        return None
    low, high = (value, value) if limit is None else (min(value, limit), max(value, limit))
    if tags.whole("PixelRepresentation") == 1 and low > 32767:  # a signed value written as an unsigned one
        low, high = low - 65536, high - 65536
    return low, high


def _parse_positioner(tags: TagReader) -> Pair | None:
    primary, secondary = tags.number("PositionerPrimaryAngle"), tags.number("PositionerSecondaryAngle")
    return None if primary is None or secondary is None else (primary, secondary)


def _parse_tube(tags: TagReader) -> TubeSettings:
    """KVP and the exposure, which is written in one of four ways; zero stands for not known."""
    exposure_mas = tags.number("Exposure") or tags.number("ExposureInmAs")
    if not exposure_mas and (micro := tags.number("ExposureInuAs")):
        exposure_mas = micro / 1000
    if not exposure_mas:
        time_ms, current_ma = tags.number("ExposureTime"), tags.number("XRayTubeCurrent")
        exposure_mas = time_ms * current_ma / 1000 if time_ms and current_ma else None
    voltage_kv = tags.number("KVP")
    return TubeSettings(*(value if value and value > 0 else None for value in (voltage_kv, exposure_mas)))


def _parse_radiograph(tags: TagReader) -> RadiographTags:
    sides = tags.words("ImageLaterality") or tags.words("Laterality")
    return RadiographTags(
        sdd_mm=tags.number("DistanceSourceToDetector"),
        source_isocentre_mm=tags.number("DistanceSourceToPatient"),
        tube=_parse_tube(tags),
        positioner_deg=_parse_positioner(tags),
        imager_spacing_mm=tags.pair("ImagerPixelSpacing"),
        element_spacing_mm=tags.pair("DetectorElementSpacing"),
        scanned_spacing_mm=tags.pair("NominalScannedPixelSpacing"),
        binning=tags.pair("DetectorBinning"),
        calibration_type=tags.upper("PixelSpacingCalibrationType"),
        magnification=tags.number("EstimatedRadiographicMagnificationFactor"),
        view_position=tags.text("ViewPosition"),
        patient_position=tags.text("PatientPosition"),
        patient_orientation=tags.words("PatientOrientation"),
        view_codes=tags.items("ViewCodeSequence", "CodeValue"),
        view_meanings=tags.items("ViewCodeSequence", "CodeMeaning"),
        body_part=tags.upper("BodyPartExamined"),
        field_of_view_mm=tags.numbers("FieldOfViewDimensions") or tags.numbers("DetectorActiveDimensions"),
        laterality=cast(Laterality, sides[0]) if sides and sides[0] in ("L", "R", "B") else None,
        presentation_intent=tags.upper("PresentationIntentType"),
        relationship=tags.upper("PixelIntensityRelationship"),
        relationship_sign=tags.number("PixelIntensityRelationshipSign"),
        lut_shape=tags.upper("PresentationLUTShape"),
        conversion_type=tags.words("ConversionType"),
        burned_in=tags.upper("BurnedInAnnotation"),
        has_modality_table="ModalityLUTSequence" in tags,
        has_voi_table="VOILUTSequence" in tags,
        has_window="WindowCenter" in tags,
        openings=_parse_openings(tags, "Shutter") + _parse_openings(tags, "Collimator"),
    )


def _parse_openings(tags: TagReader, source: Literal["Shutter", "Collimator"]) -> tuple[Opening, ...]:
    described = [(shape, _parse_opening(tags, source, shape)) for shape in tags.words(f"{source}Shape")]
    return tuple(
        Opening(source, cast(OpeningShape, shape), numbers) for shape, numbers in described if numbers is not None
    )


def _parse_opening(tags: TagReader, source: str, shape: str) -> tuple[float, ...] | None:
    match shape:
        case "RECTANGULAR":
            names = ("LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge")
            edges = [tags.number(f"{source}{name}") for name in names]
            known = tuple(edge for edge in edges if edge is not None)
            return known if len(known) == len(names) else None
        case "CIRCULAR":
            centre, radius = tags.vector(f"CenterOfCircular{source}", 2), tags.number(f"RadiusOfCircular{source}")
            return None if centre is None or radius is None else (*centre, radius)
        case "POLYGONAL":
            corners = tags.numbers(f"VerticesOfThePolygonal{source}")
            return corners if len(corners) >= 6 and len(corners) % 2 == 0 else None
    return None
