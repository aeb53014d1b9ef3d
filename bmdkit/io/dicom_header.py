"""A DICOM header as one typed noun: every tag that bmdkit looks at, converted and checked once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from bmdkit.io.dicom_files import describe_end, read_data_set
from bmdkit.io.patient_identity import make_patient_key

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

MAX_SIDE = 8192
"""The largest number of rows or columns that is believed."""
_LARGEST_NUMBER = 1e30

LOSSY_SYNTAXES = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81")
"""Transfer syntaxes that always lose: JPEG Baseline and Extended, JPEG-LS Near-lossless."""

Pair = tuple[float, float]
"""Between rows, between columns, in DICOM's order."""
Laterality = Literal["L", "R", "B"]
OpeningShape = Literal["RECTANGULAR", "CIRCULAR", "POLYGONAL"]


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of an image are stored; a number is None where the tag is absent or no whole number.

    Attributes:
        rows, columns: Size of a frame.
        samples: Values of a pixel; 1 where the tag is absent.
        frames: Number of frames; 1 where the tag is absent.
        overlay_bits: Whether overlays are kept in bits of the pixels that the values do not use.
        bits_allocated, bits_stored, high_bit: Bits of a value; high_bit is bits_stored - 1 where the tag is absent.
        representation: 0 for unsigned and 1 for signed values.
        photometric: Photometric interpretation, upper case.
    """

    rows: int | None
    columns: int | None
    samples: int
    frames: int
    overlay_bits: bool
    bits_allocated: int | None
    bits_stored: int | None
    high_bit: int | None
    representation: int | None
    photometric: str

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns); only of a plausible format."""
        if self.rows is None or self.columns is None:
            raise ValueError("shape: the header has no rows or no columns")
        return self.rows, self.columns

    @property
    def bits(self) -> tuple[int, int, int]:
        """Bits allocated, bits stored and the high bit; only of a plausible format."""
        if self.bits_allocated is None or self.bits_stored is None or self.high_bit is None:
            raise ValueError("bits: the header does not say how values are stored")
        return self.bits_allocated, self.bits_stored, self.high_bit

    @property
    def is_signed(self) -> bool:
        """Whether values may be negative."""
        return self.representation == 1

    def is_plausible(self, least_side: int) -> bool:
        """Whether size and bits can be those of an image with at least `least_side` rows and columns."""
        return (
            self.rows is not None
            and self.columns is not None
            and min(self.rows, self.columns) >= least_side
            and max(self.rows, self.columns) <= MAX_SIDE
            and self.bits_allocated in (8, 16, 32)
            and self.bits_stored is not None
            and self.high_bit is not None
            and 1 <= self.bits_stored <= self.bits_allocated
            and self.bits_stored - 1 <= self.high_bit < self.bits_allocated
            and self.representation in (0, 1)
        )


@dataclass(frozen=True)
class SliceTags:
    """What a header says about the place of a CT slice, and about its reconstruction.

    Attributes:
        position_mm: LPS of the centre of the first pixel, (3,); None where absent or no three numbers.
        orientation: Directions along a row and along a column, (6,); None where absent or no six numbers.
        kernel: Convolution kernel as text.
        thickness: Slice thickness as text.
    """

    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    kernel: str
    thickness: str


@dataclass(frozen=True)
class Opening:
    """One opening of a display shutter or of a collimator, in pixels counted from 1.

    Attributes:
        source: Which tags it comes from.
        shape: Its shape.
        numbers: Left, right, upper and lower edge of a rectangle; row, column and radius of a circle; row and column
            of every corner of a polygon.
    """

    source: Literal["Shutter", "Collimator"]
    shape: OpeningShape
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class RadiographTags:
    """What a header says about a projection image; texts are upper case and empty where a tag is absent.

    Attributes:
        sdd_mm: DistanceSourceToDetector.
        imager_spacing_mm, element_spacing_mm, scanned_spacing_mm: ImagerPixelSpacing, DetectorElementSpacing and
            NominalScannedPixelSpacing.
        binning: DetectorBinning.
        calibration_type: PixelSpacingCalibrationType.
        magnification: EstimatedRadiographicMagnificationFactor.
        view_position, patient_position: As written, not in upper case.
        patient_orientation: Directions of rows and of columns.
        field_of_view_flip: FieldOfViewHorizontalFlip.
        laterality: ImageLaterality, else Laterality.
        presentation_intent, relationship, lut_shape: PresentationIntentType, PixelIntensityRelationship and
            PresentationLUTShape.
        relationship_sign: PixelIntensityRelationshipSign.
        conversion_type: ConversionType.
        burned_in: BurnedInAnnotation.
        has_modality_table, has_voi_table, has_window: Which transforms of the values the file holds.
        openings: Every shutter and collimator that is described completely.
    """

    sdd_mm: float | None
    imager_spacing_mm: Pair | None
    element_spacing_mm: Pair | None
    scanned_spacing_mm: Pair | None
    binning: Pair | None
    calibration_type: str
    magnification: float | None
    view_position: str
    patient_position: str
    patient_orientation: tuple[str, ...]
    field_of_view_flip: str
    laterality: Laterality | None
    presentation_intent: str
    relationship: str
    relationship_sign: float | None
    lut_shape: str
    conversion_type: tuple[str, ...]
    burned_in: str
    has_modality_table: bool
    has_voi_table: bool
    has_window: bool
    openings: tuple[Opening, ...]


@dataclass(frozen=True)
class DicomHeader:
    """One DICOM header, parsed.

    Attributes:
        sop_class_uid, transfer_syntax_uid, series_uid, frame_of_reference_uid: Identifiers; empty where absent.
        modality: Upper case.
        image_type: Upper-case words.
        patient_key: Hashes of who the image shows (see `patient_identity`); None if nothing says it.
        pixels: How the pixels are stored.
        pixel_spacing_mm: PixelSpacing as it stands there, between rows first; empty where absent.
        rescale_slope, rescale_intercept: From stored values to values.
        padding: Lowest and highest stored value that stand for no image; None where there are none.
        is_lossy: Whether LossyImageCompression or the transfer syntax says so.
        lossy_ratio: Its ratio as text.
        ct: Tags of a CT slice.
        radiograph: Tags of a projection image.
        frame: Number of the frame that is meant, from 0.
    """

    sop_class_uid: str
    transfer_syntax_uid: str
    series_uid: str
    frame_of_reference_uid: str
    modality: str
    image_type: tuple[str, ...]
    patient_key: str | None
    pixels: PixelFormat
    pixel_spacing_mm: tuple[float, ...]
    rescale_slope: float | None
    rescale_intercept: float | None
    padding: tuple[float, float] | None
    is_lossy: bool
    lossy_ratio: str
    ct: SliceTags
    radiograph: RadiographTags
    frame: int = 0

    @property
    def is_localizer(self) -> bool:
        """Whether the image type says that it is a scout view."""
        return bool({"LOCALIZER", "SCOUT", "TOPOGRAM"} & set(self.image_type))


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
            if isinstance(value, str) or not hasattr(value, "__iter__"):
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


def _parse_radiograph(tags: TagReader) -> RadiographTags:
    sides = tags.words("ImageLaterality") or tags.words("Laterality")
    return RadiographTags(
        sdd_mm=tags.number("DistanceSourceToDetector"),
        imager_spacing_mm=tags.pair("ImagerPixelSpacing"),
        element_spacing_mm=tags.pair("DetectorElementSpacing"),
        scanned_spacing_mm=tags.pair("NominalScannedPixelSpacing"),
        binning=tags.pair("DetectorBinning"),
        calibration_type=tags.upper("PixelSpacingCalibrationType"),
        magnification=tags.number("EstimatedRadiographicMagnificationFactor"),
        view_position=tags.text("ViewPosition"),
        patient_position=tags.text("PatientPosition"),
        patient_orientation=tags.words("PatientOrientation"),
        field_of_view_flip=tags.upper("FieldOfViewHorizontalFlip"),
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
