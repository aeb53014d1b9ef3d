"""A DICOM header as one typed noun: every tag that bmdkit looks at, converted and checked once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from bmdkit.core.radiograph import TubeSettings

SIMULATOR = "bmdkit simulate"
"""Manufacturer that images of simulated patients name."""

MAX_SIDE = 8192
"""The largest number of rows or columns that is believed."""

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
        source: Tags that it comes from.
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
        source_isocentre_mm: DistanceSourceToPatient.
        tube: KVP and Exposure; see `TubeSettings`.
        positioner_deg: PositionerPrimaryAngle and PositionerSecondaryAngle.
        imager_spacing_mm, element_spacing_mm, scanned_spacing_mm: ImagerPixelSpacing, DetectorElementSpacing and
            NominalScannedPixelSpacing.
        binning: DetectorBinning.
        calibration_type: PixelSpacingCalibrationType.
        magnification: EstimatedRadiographicMagnificationFactor.
        view_position, patient_position: Words as written, not in upper case.
        patient_orientation: Directions of rows and of columns.
        view_codes: Values of ViewCodeSequence.
        view_meanings: Their meanings, upper case.
        body_part: BodyPartExamined.
        field_of_view_mm: FieldOfViewDimensions, else DetectorActiveDimensions; empty where absent.
        laterality: ImageLaterality, else Laterality.
        presentation_intent, relationship, lut_shape: PresentationIntentType, PixelIntensityRelationship and
            PresentationLUTShape.
        relationship_sign: PixelIntensityRelationshipSign.
        conversion_type: ConversionType.
        burned_in: BurnedInAnnotation.
        has_modality_table, has_voi_table, has_window: Whether the file holds this transform of the values.
        openings: Every shutter and collimator that is described completely.
    """

    sdd_mm: float | None
    source_isocentre_mm: float | None
    tube: TubeSettings
    positioner_deg: Pair | None
    imager_spacing_mm: Pair | None
    element_spacing_mm: Pair | None
    scanned_spacing_mm: Pair | None
    binning: Pair | None
    calibration_type: str
    magnification: float | None
    view_position: str
    patient_position: str
    patient_orientation: tuple[str, ...]
    view_codes: tuple[str, ...]
    view_meanings: tuple[str, ...]
    body_part: str
    field_of_view_mm: tuple[float, ...]
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
        is_simulated: Whether bmdkit simulated the image.
        pixels: How the pixels are stored.
        pixel_spacing_mm: PixelSpacing as it stands there, between rows first; empty where absent.
        rescale_slope, rescale_intercept: Line from stored values to values.
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
    is_simulated: bool
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
        return is_localizer(self.image_type)


def is_localizer(image_type: Collection[str]) -> bool:
    """Whether the words of an image type are those of a scout view."""
    return not {"LOCALIZER", "SCOUT", "TOPOGRAM"}.isdisjoint(image_type)
