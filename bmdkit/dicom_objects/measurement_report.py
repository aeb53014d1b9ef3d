"""The BMD of one hip as a structured report of template 1500."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bmdkit import __version__
from bmdkit.core.anatomy import Side
from bmdkit.dicom_objects.codes import (
    MANUFACTURER,
    MODEL,
    Word,
    code_side,
    code_unit,
    describe_algorithm,
    make_code,
)
from bmdkit.dicom_objects.source import SourceImages
from bmdkit.dicom_objects.writing import make_identity, quiet, write_object

if TYPE_CHECKING:
    from highdicom.sr import Measurement

Kind = Literal["dxa", "qct"]

_WORDS: dict[Kind, tuple[Word, Word, Word]] = {
    "dxa": ("dxa-bmd", "dxa-low", "dxa-high"),
    "qct": ("qct-bmd", "qct-low", "qct-high"),
}
_QUALITIES: dict[str, Word] = {"accept": "accept", "review": "review", "reject": "reject"}


@dataclass(frozen=True)
class HipMeasurements:
    """What a report says of one hip.

    Attributes:
        side: The patient's own.
        bmd: Value by kind.
        units: Unit by kind.
        intervals: Lower and upper end of the 90 % prediction interval by kind, where there is one.
        quality: accept, review or reject.
        reasons: Reasons for a quality other than accept.
        intended_use: What has to be told with every number.
        simulated_only: Whether the algorithm has learnt from simulated images alone.
        algorithm: Name of the network or the run.
        sha256: Digest of the files that the numbers come from.
    """

    side: Side
    bmd: Mapping[Kind, float]
    units: Mapping[Kind, str]
    intervals: Mapping[Kind, tuple[float, float]]
    quality: str
    reasons: Sequence[str]
    intended_use: str
    simulated_only: bool
    algorithm: str
    sha256: str


def write_measurement_report(path: Path, found: HipMeasurements, source: SourceImages) -> None:
    """Write the report; it is complete, not verified, and preliminary: nobody has read it.

    Args:
        path: File to be written.
        found: The measurements.
        source: The radiograph.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    identity = make_identity(source, "report", repr(found))
    for word in ("manufacturer_model_name", "software_versions", "device_serial_number"):
        identity.pop(word)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[MODEL, __version__]),
        name=f"{MODEL} {__version__}",
        manufacturer_name=MANUFACTURER,
        model_name=MODEL,
    )
    observer = sr.ObserverContext(codes.DCM.Device, device)
    tracking = sr.TrackingIdentifier(
        uid=generate_uid(entropy_srcs=[identity["sop_instance_uid"], "tracking"]), identifier=f"hip {found.side}"
    )
    told = describe_algorithm(found.algorithm, found.sha256)
    algorithm = sr.AlgorithmIdentification(told.name, told.version, told.parameters)
    use = make_code("simulated" if found.simulated_only else "research")
    with quiet():
        group = sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_type=codes.SCT.BoneStructureOfProximalFemur,
            algorithm_id=algorithm,
            finding_sites=[sr.FindingSite(codes.SCT.BoneStructureOfProximalFemur, laterality=code_side(found.side))],
            source_images=[sr.SourceImageForMeasurementGroup.from_source_image(source.first)],
            measurements=[one for kind in found.bmd for one in _measure(kind, found)],
            qualitative_evaluations=[
                sr.QualitativeEvaluation(make_code("quality"), make_code(_QUALITIES[found.quality])),
                sr.QualitativeEvaluation(make_code("intended-use"), use),
            ],
        )
        for text in (found.intended_use, *found.reasons):
            comment = sr.TextContentItem(codes.DCM.Comment, text, sr.RelationshipTypeValues.CONTAINS)
            group[0].ContentSequence.append(comment)
        report = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=observer),
            procedure_reported=codes.DCM.ComputedRadiography
            if source.first.get("Modality") == "CR"
            else codes.DCM.DigitalRadiography,
            imaging_measurements=[group],
            title=codes.DCM.ImagingMeasurementReport,
        )
        data = sr.ComprehensiveSR(
            evidence=[source.first], content=report, is_complete=True, is_final=False, is_verified=False, **identity
        )
    data.ManufacturerModelName, data.SoftwareVersions = MODEL, __version__
    write_object(path, data, source, f"BMD {found.side}. {found.intended_use}"[:64])


def _measure(kind: Kind, found: HipMeasurements) -> list[Measurement]:
    """The value, and the ends of its interval where there is one."""
    from highdicom import sr

    name, low, high = _WORDS[kind]
    values: dict[Word, float] = {name: found.bmd[kind]}
    if kind in found.intervals:
        values[low], values[high] = found.intervals[kind]
    unit = code_unit(found.units[kind])
    return [sr.Measurement(name=make_code(word), value=float(value), unit=unit) for word, value in values.items()]
