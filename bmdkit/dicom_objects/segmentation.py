"""Labels of the bones of a CT, and the proximal femora, as a segmentation that lies on the CT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmdkit.core.anatomy import SIDES, Side, choose_colour
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap
from bmdkit.dicom_objects.codes import code_category, code_structure, describe_algorithm
from bmdkit.dicom_objects.source import SourceImages
from bmdkit.dicom_objects.writing import make_identity, quiet, write_object

if TYPE_CHECKING:
    from highdicom import Volume
    from highdicom.seg import SegmentDescription


def write_segmentation(
    path: Path,
    labels: LabelMap,
    source: SourceImages,
    *,
    algorithm: str,
    sha256: str,
    regions: Mapping[Side, np.ndarray] | None = None,
) -> None:
    """Write each structure, and each proximal femur, as a binary segment.

    Args:
        path: File to be written.
        labels: Structures, on a grid of the CT.
        source: The slices of the CT.
        algorithm: Name of the network or program that found the labels.
        sha256: Digest of what the labels come from, else of the labels.
        regions: Proximal femur by side, bool, on the labels' grid.

    Raises:
        ValueError: There is no structure to write.
    """
    from highdicom.seg import Segmentation

    regions = {} if regions is None else regions
    names = list(labels.present())
    masks = [labels.mask(name) for name in names] + [regions[side] for side in SIDES if side in regions]
    if not masks:
        raise ValueError("labels: expected at least one structure, got none")
    identified = {"algorithm": algorithm, "sha256": sha256}
    described = [_describe(number, name, **identified) for number, name in enumerate(names, start=1)]
    for side in SIDES:
        if side in regions:
            described.append(_describe(len(described) + 1, f"proximal_femur_{side}", **identified))
    stacked = np.stack(masks, axis=-1)
    with quiet():
        data = Segmentation(
            list(source.headers),
            _place(stacked, labels.grid, str(source.first.FrameOfReferenceUID)),
            segmentation_type="BINARY",
            segment_descriptions=described,
            **make_identity(source, "segmentation", np.packbits(stacked).tobytes(), algorithm, sha256),
            content_label="BONES",
            content_description="Bones of the hip. For research.",
        )
    write_object(path, data, source, "Bones of the hip. For research.")


def _place(stacked: np.ndarray, grid: Grid, frame_uid: str) -> Volume:
    """Segments [slice, row, column, segment] with where they lie; highdicom's axes begin with the slice."""
    from highdicom import Volume

    affine = np.eye(4)
    affine[:3, :3] = (grid.direction * grid.spacing_mm)[:, ::-1]
    affine[:3, 3] = grid.origin_mm
    return Volume(
        stacked.astype(np.uint8),
        affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=frame_uid,
        channels={"SegmentNumber": list(range(1, stacked.shape[-1] + 1))},
    )


def _describe(number: int, name: str, *, algorithm: str, sha256: str) -> SegmentDescription:
    """A segment under the name of the label map, with its place in SNOMED and its colour."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    kind, side = code_structure(name)
    described = describe_algorithm(algorithm, sha256)
    found = SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=code_category(),
        segmented_property_type=kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=described.name,
            family=codes.DCM.ArtificialIntelligence,
            version=described.version,
            parameters={"SHA-256": sha256},
        ),
        tracking_id=name,
        tracking_uid=generate_uid(entropy_srcs=[sha256, name]),
        display_color=CIELabColor.from_rgb(*choose_colour(name, number - 1)),
    )
    if side is not None:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = side.value, side.scheme_designator, side.meaning
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [item]
    return found
