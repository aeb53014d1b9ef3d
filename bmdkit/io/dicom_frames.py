"""Enhanced CT: every frame of a multi-frame file as a slice with a header of its own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bmdkit.io.dicom_files import UnreadableError, is_dicom, read_data_set
from bmdkit.io.dicom_header import DicomHeader
from bmdkit.io.dicom_parsing import TagReader, parse_header, read_header

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""Enhanced CT, and legacy CT that was converted to it."""
MOST_FRAMES = 5000


def is_enhanced_ct(path: Path) -> bool:
    """Whether a file is an enhanced multi-frame CT."""
    try:
        return is_dicom(path) and read_header(path).sop_class_uid in ENHANCED_CT
    except UnreadableError:
        return False


def read_frame_headers(path: Path) -> list[DicomHeader]:
    """Read the header of every frame, its place and rescale from the functional groups.

    What a frame's own groups do not say is taken from the shared ones.

    Raises:
        UnreadableError: The file cannot be read, or its frames are not described one by one.
    """
    data_set = read_data_set(path)
    common = parse_header(data_set)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydicom would print quotes the file
        try:
            shared = list(data_set.get("SharedFunctionalGroupsSequence") or [])[:1]
            own = list(data_set.get("PerFrameFunctionalGroupsSequence") or [])
            if not 1 <= common.pixels.frames <= MOST_FRAMES or len(own) != common.pixels.frames:
                raise UnreadableError(f"{common.pixels.frames} frames, of which {len(own)} are described")
            return [_make_header(common, number, [group, *shared]) for number, group in enumerate(own)]
        except (UnreadableError, MemoryError):
            raise
        except Exception as error:  # a damaged sequence can fail in any way
            raise UnreadableError(f"its frames cannot be read ({type(error).__name__})") from error


def _make_header(common: DicomHeader, number: int, groups: list[Dataset]) -> DicomHeader:
    """The header of one frame; the first of its groups that holds a tag says it."""
    place, turn = _find(groups, "PlanePositionSequence"), _find(groups, "PlaneOrientationSequence")
    measures, rescale = _find(groups, "PixelMeasuresSequence"), _find(groups, "PixelValueTransformationSequence")
    kind = _find(groups, "CTImageFrameTypeSequence").words("FrameType")
    kernel = _find(groups, "CTReconstructionSequence").text("ConvolutionKernel")
    return replace(
        common,
        frame=number,
        image_type=kind or common.image_type,
        pixel_spacing_mm=measures.numbers("PixelSpacing"),
        rescale_slope=rescale.number("RescaleSlope"),
        rescale_intercept=rescale.number("RescaleIntercept"),
        ct=replace(
            common.ct,
            position_mm=place.vector("ImagePositionPatient", 3),
            orientation=turn.vector("ImageOrientationPatient", 6),
            kernel=kernel or common.ct.kernel,
            thickness=measures.text("SliceThickness"),
        ),
    )


def _find(groups: list[Dataset], name: str) -> TagReader:
    """The tags of the first item of a sequence, in the first group that has it."""

    def items() -> Iterator[Dataset]:
        for group in groups:
            yield from group.get(name) or []

    first = next(items(), None)
    return TagReader({} if first is None else first)
