"""BMD of new radiographs from a finished run, each with an interval and a flag of its quality."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bmdkit.config import to_dict
from bmdkit.core.anatomy import Side
from bmdkit.core.radiograph import Radiograph
from bmdkit.dataset.layout import require_outside_dataset
from bmdkit.dicom_objects.source import SourceImages
from bmdkit.errors import CaseError
from bmdkit.evaluation.conformal import LEVEL
from bmdkit.inference.dicom_results import DicomJoin, write_dicom_results
from bmdkit.inference.hip_prediction import choose_hips, finish_picture, predict_hip
from bmdkit.inference.prediction_folder import (
    PredictionRow,
    RadiographRecord,
    examine_predictions,
    open_predictions,
)
from bmdkit.inference.predictor import Predictor, load_predictor
from bmdkit.inference.radiograph_files import find_radiographs, input_files, name_radiographs
from bmdkit.inference.recalibrated import LINE, recalibrate, require_line
from bmdkit.inference.t_score import Reference
from bmdkit.io.images import write_png, write_tiff
from bmdkit.io.known_hips import KnownHip, read_known_hips
from bmdkit.io.results import sha256_of
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.jobs.machine import MachineNeeds, check_machine
from bmdkit.training.bone_density import TASKS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    """What is asked of every radiograph."""

    predictor: Predictor
    out: Path
    side: Side | None
    xray: XrayConfig
    reference: Reference | None
    dicom: DicomJoin | None
    known: tuple[KnownHip, ...] = ()


@dataclass(frozen=True)
class _Prepared:
    """A prediction of which everything but its radiographs has been found to be there.

    Attributes:
        request: What is asked of every radiograph.
        device: Device to compute on.
        files: File of each radiograph by the name of its outputs.
        asked: What tells this prediction from another.
    """

    request: _Request
    device: str
    files: Mapping[str, Path]
    asked: Mapping[str, Any]


@dataclass(frozen=True)
class PredictionPlan:
    """What a prediction would do.

    Attributes:
        network: Names of the runs that predict.
        device: Device that it would compute on.
        radiographs: Names of the radiographs.
        kept: Names of those that an earlier call has predicted, and that would be kept.
        is_finished: Whether all is there, and nothing is left to do.
        has_projections: Whether projections would be written.
        known_hips: Number of radiographs of known hips that would be predicted first.
    """

    network: str
    device: str
    radiographs: tuple[str, ...]
    kept: tuple[str, ...]
    is_finished: bool
    has_projections: bool
    known_hips: int = 0


def plan_prediction(
    run: Path | Sequence[Path] | None,
    xrays: Sequence[Path],
    out: Path,
    *,
    side: Side | None = None,
    device: str = "auto",
    config: XrayConfig | None = None,
    reference: Reference | None = None,
    known: Path | None = None,
    dicom: bool = False,
    pseudonymise: bool = False,
    overwrite: bool = False,
) -> PredictionPlan:
    """Check everything that `predict_files` checks before it begins, and say what it would do; nothing is written.

    Whether a radiograph can be read is not known before. The arguments and errors are those of `predict_files`.
    """
    ready = _prepare(
        run,
        xrays,
        out,
        side=side,
        device=device,
        config=config,
        reference=reference,
        known=known,
        dicom=dicom,
        pseudonymise=pseudonymise,
    )
    found = examine_predictions(out, ready.asked, overwrite=overwrite)
    is_finished = found.finished is not None
    kept = [name for name in ready.files if is_finished or (not overwrite and found.read(name) is not None)]
    predictor = ready.request.predictor
    return PredictionPlan(
        predictor.name,
        ready.device,
        tuple(ready.files),
        tuple(kept),
        is_finished,
        predictor.unit is not None,
        len(ready.request.known),
    )


def _prepare(
    run: Path | Sequence[Path] | None,
    xrays: Sequence[Path],
    out: Path,
    *,
    side: Side | None,
    device: str,
    config: XrayConfig | None,
    reference: Reference | None,
    known: Path | None,
    dicom: bool,
    pseudonymise: bool,
) -> _Prepared:
    """Check and read what a prediction needs; nothing is written. Arguments and errors are those of `predict_files`."""
    if not xrays:
        raise ValueError("xrays: expected at least one file or folder, got none")
    if pseudonymise and not dicom:
        raise ValueError("pseudonymise: expected with dicom alone, the other outputs name nobody")
    if dicom:
        require_outside_dataset(out)
    there = check_machine(MachineNeeds(device=device, out=out))
    predictor = load_predictor(run, device=there)
    found = find_radiographs(xrays, out=out)
    join = DicomJoin(out, pseudonymise) if dicom else None
    hips = () if known is None else tuple(require_line(predictor, read_known_hips(known)))
    request = _Request(predictor, out, side, config or predictor.xray, reference, join, hips)
    files = dict(zip(name_radiographs(found), found, strict=True))
    every = {*files.values(), *(hip.xray for hip in hips)}
    hashes = {path: [sha256_of(file) for file in input_files(path)] for path in every}
    seen = {hashes[hip.xray][0] for hip in hips}
    if shared := sum(not seen.isdisjoint(hashes[path][:1]) for path in files.values()):
        logger.warning("radiographs that are predicted, of known hips: %d; the line has seen their BMD", shared)
    return _Prepared(request, there, files, _describe_input(request, files, hashes))


def predict_files(
    run: Path | Sequence[Path] | None,
    xrays: Sequence[Path],
    out: Path,
    *,
    side: Side | None = None,
    device: str = "auto",
    config: XrayConfig | None = None,
    reference: Reference | None = None,
    known: Path | None = None,
    dicom: bool = False,
    pseudonymise: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[PredictionRow]:
    """Predict radiographs and write predictions.csv, predictions.json, and a PF-DRR and an overlay of each hip.

    An interrupted prediction is resumed; a finished one of the same run, files and settings is kept.

    Args:
        run: Folder of a decomposition run of dataset B, of a regression, or of both; see `load_predictor`. None: the
            network that comes with the package.
        xrays: DICOM, or 16-bit PNG or TIFF with a side-car; or folders of them.
        out: The folder to write to.
        side: The hip; None: the one that the file names, else both.
        device: Device to compute on: auto, cpu or cuda[:N].
        config: How radiographs are read; None: as those were that the run has learnt from.
        reference: Reference of T-scores; there are none without it.
        known: Table of hips of the same place whose DXA-BMD is known, see `read_known_hips`: DXA-BMD is told by the
            line that they give, see `recalibrate`.
        dicom: Write the results as DICOM objects, too, which join the study of the radiograph: the projection as a
            parametric map, its picture as a secondary capture, the BMD as a structured report. They carry the
            patient's identification.
        pseudonymise: Put a pseudonym and new UIDs into these objects, and the pseudonym into their names; the key and
            the map lie beside `out`, readable by their owner only.
        overwrite: Replace predictions of another run, of other files or settings.
        progress: Called with the files done and all files.

    Returns:
        The rows of predictions.csv; a file that cannot be read has one that says why.

    Raises:
        PreflightError: The run cannot be used (BMD-TRN-009, BMD-PRE-001), a folder holds no radiograph (BMD-PRE-003),
            the table of known hips is not sound (BMD-COH-...) or they give no line (BMD-PRE-005), `out` holds something
            else (BMD-PRE-002) or, with `dicom`, lies in a dataset (BMD-DCM-002), or the machine lacks what is needed;
            nothing was written.
    """
    ready = _prepare(
        run,
        xrays,
        out,
        side=side,
        device=device,
        config=config,
        reference=reference,
        known=known,
        dicom=dicom,
        pseudonymise=pseudonymise,
    )
    request, files = ready.request, ready.files
    if request.known and examine_predictions(out, ready.asked, overwrite=overwrite).finished is None:
        request = _recalibrate(request)
    with open_predictions(out, ready.asked, overwrite=overwrite) as folder:
        if folder.finished is not None:
            logger.info("%s: finished earlier, kept", out.name)
            return folder.finished
        request = _recalibrate(request)  # where what was finished has gone in between
        folder.line = request.predictor.sha256.get(LINE)
        records = []
        for done, (name, path) in enumerate(files.items(), start=1):
            record = folder.read(name)
            if record is None:
                record = _predict_radiograph(request, name, path)
                folder.keep(name, record)
            records.append(record)
            if progress is not None:
                progress(done, len(files))
        rows = [row for record in records for row in record.rows]
        details = [detail for record in records for detail in record.details]
        folder.finish(rows, _describe_result(request, details))
    return rows


def _recalibrate(request: _Request) -> _Request:
    """The request with the line of its known hips; as it is where there are none, or where it has the line."""
    if not request.known or request.predictor.recalibration is not None:
        return request
    return replace(request, predictor=recalibrate(request.predictor, request.known, config=request.xray))


def _describe_input(
    request: _Request, files: Mapping[str, Path], hashes: Mapping[Path, Sequence[str]]
) -> dict[str, Any]:
    """What tells this prediction from another: run, radiographs and settings; neither the device nor any place.

    Args:
        request: What is asked.
        files: Radiographs by name.
        hashes: Of all files of each radiograph, those of known hips among them.
    """
    asked = {
        "run": request.predictor.sha256,
        "radiographs": {name: hashes[path] for name, path in files.items()},
        "side": request.side,
        "dicom": None if request.dicom is None else "pseudonym" if request.dicom.pseudonymise else "named",
        "xray": to_dict(request.xray),
        "reference": None if request.reference is None else asdict(request.reference),
    }
    if request.known:
        rows = [[hip.patient_id, hip.side, str(hip.dxa_bmd_g_cm2), *hashes[hip.xray]] for hip in request.known]
        asked["known"] = hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()  # of any order; names nobody
    return asked


def _describe_result(request: _Request, details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What predictions.json says."""
    predictor = request.predictor
    record = {"intended_use": predictor.intended_use, "run": predictor.name, "level": LEVEL, "hips": list(details)}
    record["spread"] = {task: asdict(spread) for task, spread in predictor.spreads.items()}
    if predictor.recalibration is not None:
        line = predictor.recalibration
        record["recalibration"] = asdict(line) | {"is_of_use": line.is_of_use, "images_given": len(request.known)}
    if request.reference is not None:
        record["t_score_reference"] = asdict(request.reference)
    units = dict(TASKS) | ({} if predictor.unit is None else {"pf_drr": predictor.unit})
    return record | {"units": units}


def _predict_radiograph(request: _Request, name: str, path: Path) -> RadiographRecord:
    """Predict the hips of one file; what cannot be read becomes a row that says why."""
    try:
        radiograph = read_radiograph(path, config=request.xray, case=name)
        hips = choose_hips(radiograph, request.side, case=name, file=path.name)
    except CaseError as error:
        logger.warning("%s", error, extra={"case": name, "code": error.code})
        return RadiographRecord(
            (
                PredictionRow(
                    name,
                    path.name,
                    request.side,
                    "failed",
                    code=error.code,
                    reason=error.message,
                    intended_use=request.predictor.intended_use,
                ),
            )
        )
    source = None if request.dicom is None else request.dicom.read_source(path, name)
    found = [_predict_hip(request, f"{name}_{hip}", path, hip, radiograph, source) for hip in hips]
    return RadiographRecord(tuple(row for row, _ in found), tuple(detail for _, detail in found))


def _predict_hip(
    request: _Request, name: str, path: Path, side: Side, radiograph: Radiograph, source: SourceImages | None
) -> tuple[PredictionRow, dict[str, Any]]:
    """Predict one hip, and write its files."""
    found = predict_hip(request.predictor, radiograph, side)
    pf_drr, overlay = None, f"{name}_overlay.png"
    if found.pf_drr_g_cm2 is not None and request.predictor.unit is not None:
        pf_drr = f"{name}_pf_drr.tif"
        write_tiff(request.out / pf_drr, found.pf_drr_g_cm2)
    objects: list[str] = []
    if source is not None:
        objects = write_dicom_results(request.out, name, found, source, radiograph, side, request.predictor)
    write_png(request.out / overlay, finish_picture(found, name, side, request.predictor.unit))
    dxa, qct = found.bmd.get("dxa"), found.bmd.get("qct")
    dxa_low, dxa_high = found.intervals.get("dxa", (None, None))
    qct_low, qct_high = found.intervals.get("qct", (None, None))
    row = PredictionRow(
        name,
        path.name,
        side,
        "ok",
        reason="; ".join(found.reasons),
        quality=found.quality,
        interval_from=request.predictor.interval_from,
        pf_drr=pf_drr,
        overlay=overlay,
        dicom=";".join(objects) or None,
        dxa_bmd_g_cm2=dxa,
        dxa_bmd_g_cm2_low=dxa_low,
        dxa_bmd_g_cm2_high=dxa_high,
        qct_bmd_mg_cm3=qct,
        qct_bmd_mg_cm3_low=qct_low,
        qct_bmd_mg_cm3_high=qct_high,
        t_score=None if request.reference is None or dxa is None else request.reference.t_score(dxa),
        intended_use=found.intended_use,
    )
    detail = {"name": name, "side": side, "bmd": found.bmd, "quality": found.quality, "reasons": found.reasons}
    detail |= {"window": found.window.to_dict(), "warnings": radiograph.warnings}
    return row, detail | {"intended_use": found.intended_use}
