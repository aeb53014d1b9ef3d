"""The DICOM objects of one hip's prediction, which join the study of the radiograph."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from bmdkit.core.anatomy import Side
from bmdkit.core.radiograph import Radiograph
from bmdkit.dicom_objects.measurement_report import HipMeasurements, write_measurement_report
from bmdkit.dicom_objects.projection import write_overlay, write_parametric_map
from bmdkit.dicom_objects.source import SourceImages, read_source_images
from bmdkit.errors import CaseError
from bmdkit.inference.hip_prediction import Prediction, finish_picture
from bmdkit.inference.predictor import Predictor
from bmdkit.io.pseudonyms import add_to_key_map, keep_key
from bmdkit.training.bone_density import TASKS
from bmdkit.training.shipped import SIMULATED_USE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DicomJoin:
    """How the objects of a prediction name the patient.

    Attributes:
        out: Folder of the prediction.
        pseudonymise: Whether a pseudonym stands for the patient, whose key is kept beside the output.
    """

    out: Path
    pseudonymise: bool = False

    def read_source(self, radiograph: Path, case: str) -> SourceImages | None:
        """The study to join; None of a file that is no DICOM, which the log says."""
        try:
            source = read_source_images([radiograph], case=case)
        except CaseError as error:
            logger.warning("%s", error, extra={"case": case, "code": error.code})
            return None
        if not self.pseudonymise:
            return source
        hidden = source.pseudonymise(keep_key(self.out))
        add_to_key_map(self.out, {hidden.identifier: source.identifier})
        return hidden


def write_dicom_results(
    out: Path,
    name: str,
    found: Prediction,
    source: SourceImages,
    radiograph: Radiograph,
    side: Side,
    predictor: Predictor,
) -> list[str]:
    """Write the projection, its picture and the measurements of one hip.

    Args:
        out: Folder to write to.
        name: Name of the hip's outputs. Of a pseudonymous source, the pseudonym takes its place.
        found: The prediction.
        source: The study to join.
        radiograph: The radiograph, as it was read.
        side: The patient's own.
        predictor: What made the prediction.

    Returns:
        Names of the files. A radiograph of unknown pixel spacing has no parametric map.
    """
    if source.is_pseudonymous:
        image = hashlib.sha256(str(source.first.SOPInstanceUID).encode()).hexdigest()[:8]
        name = f"{source.identifier}_{image}_{side}"
    written = []
    if _write_map(out / f"{name}_pf_drr.dcm", found, source, radiograph, side, predictor.unit):
        written.append(f"{name}_pf_drr.dcm")
    picture = finish_picture(found, "PF-DRR", side, predictor.unit)
    write_overlay(out / f"{name}_overlay.dcm", picture, source, side=side, use=found.intended_use)
    measured = HipMeasurements(
        side=side,
        bmd=dict(found.bmd),
        units=dict(TASKS),
        intervals=dict(found.intervals),
        quality=found.quality,
        reasons=found.reasons,
        intended_use=found.intended_use,
        simulated_only=found.intended_use == SIMULATED_USE,
        algorithm=predictor.name,
        sha256=hashlib.sha256(json.dumps(predictor.sha256, sort_keys=True).encode()).hexdigest(),
    )
    write_measurement_report(out / f"{name}_bmd.dcm", measured, source)
    return [*written, f"{name}_overlay.dcm", f"{name}_bmd.dcm"]


def _write_map(
    path: Path, found: Prediction, source: SourceImages, radiograph: Radiograph, side: Side, unit: str | None
) -> bool:
    """Write the projection at the image size of the run, where it lies on the detector."""
    drr, window = found.pf_drr_g_cm2, found.window
    if drr is None or unit is None:
        return False
    row_mm, column_mm = radiograph.row_spacing_mm, radiograph.column_spacing_mm
    if row_mm is None or column_mm is None:
        logger.warning("%s not written: the radiograph's pixel spacing is not known", path.name)
        return False
    rows, columns = drr.shape
    write_parametric_map(
        path,
        drr,
        source,
        spacing_mm=(row_mm * window.rows / window.scale / rows, column_mm * window.columns / window.scale / columns),
        corner_mm=(window.first_column * column_mm, window.first_row * row_mm),
        side=side,
        unit=unit,
        use=found.intended_use,
    )
    return True
