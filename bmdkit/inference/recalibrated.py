"""A predictor that hips of known BMD have brought to their place."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace

from bmdkit.core.radiograph import Radiograph
from bmdkit.errors import CaseError, PreflightError
from bmdkit.evaluation.conformal import LEVEL
from bmdkit.evaluation.recalibration import FEWEST_PATIENTS, fit_recalibration
from bmdkit.inference.hip_prediction import choose_hips, predict_hip
from bmdkit.inference.predictor import PLACE, Predictor, Spread
from bmdkit.io.known_hips import KnownHip
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig

LINE = "recalibration"
"""Name of the line's hash among those of the runs."""

logger = logging.getLogger(__name__)


def recalibrate(predictor: Predictor, hips: Sequence[KnownHip], *, config: XrayConfig | None = None) -> Predictor:
    """Bring the DXA-BMD that a predictor tells to hips whose DXA-BMD is known.

    A hip whose radiograph cannot be read or is rejected, or whose patient the run has learnt from, has no part in it;
    the log says so.

    Args:
        predictor: What tells BMD.
        hips: Hips of one place, best of many patients.
        config: How radiographs are read; None: as those were that the run has learnt from.

    Returns:
        The predictor with its line, and with the errors of these patients for its intervals: each patient's by the line
        of the others.

    Raises:
        PreflightError: The predictor tells no DXA-BMD, or fewer than four patients are left (BMD-PRE-005).
    """
    hips = require_line(predictor, hips)
    plain = replace(predictor, recalibration=None)
    told, measured, patients = list[float](), list[float](), list[str]()
    read: dict[str, Radiograph] = {}
    for hip in hips:
        try:
            file = str(hip.xray)
            if file not in read:
                read = {file: read_radiograph(hip.xray, config=config or plain.xray, case=f"line {hip.line}")}
            choose_hips(read[file], hip.side, case=f"line {hip.line}", file=hip.xray.name)
            found = predict_hip(plain, read[file], hip.side)
        except CaseError as error:
            logger.warning("known hip of line %d left out: %s", hip.line, error, extra={"code": error.code})
            continue
        if found.quality == "reject":
            reasons = "; ".join(found.reasons)
            logger.warning("known hip of line %d (%s) left out, rejected: %s", hip.line, hip.xray.name, reasons)
            continue
        told.append(found.bmd["dxa"])
        measured.append(hip.dxa_bmd_g_cm2)
        patients.append(hip.patient_id)
    _require_patients(patients)
    line = fit_recalibration(told, measured, patients)
    logger.info(
        "known hips: %d images of %d patients; DXA-BMD = %.3f + %.2f x what the networks tell; mean error %.3f g/cm2 "
        "of patients that did not give the line, of the mean alone %.3f",
        *(line.images, line.patients, line.intercept_g_cm2, line.slope, line.mae_g_cm2, line.mae_of_mean_g_cm2),
    )
    if not line.is_of_use:
        errors = f"mean error {line.mae_g_cm2:.3f} g/cm2, of the mean {line.mae_of_mean_g_cm2:.3f}"
        useless = PreflightError("BMD-PRE-006", f"slope {line.slope:.2f}; {errors}.")
        logger.warning("%s", useless, extra={"code": useless.code})
    spreads = dict(predictor.spreads)
    spreads.pop("dxa", None)
    if line.half_width_g_cm2 is not None:
        spreads["dxa"] = Spread(line.half_width_g_cm2, LEVEL, line.images, line.patients, PLACE)
    digest = hashlib.sha256(json.dumps(asdict(line), sort_keys=True).encode()).hexdigest()
    return replace(
        predictor,
        name=f"recalibrated {predictor.name}",
        sha256={**predictor.sha256, LINE: digest},
        spreads=spreads,
        recalibration=line,
    )


def require_line(predictor: Predictor, hips: Sequence[KnownHip]) -> list[KnownHip]:
    """The known hips of patients that the run has not learnt from; looks at no radiograph.

    Raises:
        PreflightError: The predictor tells no DXA-BMD, or fewer than four patients are left (BMD-PRE-005).
    """
    if not predictor.tells_dxa:
        raise PreflightError("BMD-PRE-005", "the run tells no DXA-BMD.")
    others = [hip for hip in hips if hip.patient_id not in predictor.learnt]
    if len(others) < len(hips):
        lines = ", ".join(str(hip.line) for hip in hips if hip.patient_id in predictor.learnt)
        logger.warning("known hips left out, of patients that the run has learnt from: lines %s", lines)
    _require_patients([hip.patient_id for hip in others])
    return others


def _require_patients(patients: Sequence[str]) -> None:
    if (count := len(set(patients))) < FEWEST_PATIENTS:
        message = f"{count} patients of known DXA-BMD can be used, expected {FEWEST_PATIENTS} or more."
        raise PreflightError("BMD-PRE-005", message)
