"""BMD of new radiographs from a finished run, each with an interval and a flag of its quality."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.radiograph import Radiograph
from bmdkit.dataset.pairs import PairWindow, pair_window
from bmdkit.errors import CaseError, PreflightError
from bmdkit.evaluation.plausibility import Plausibility
from bmdkit.io.images import write_png, write_tiff
from bmdkit.io.results import write_csv, write_json
from bmdkit.io.secondary_capture import write_secondary_capture
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.training.bone_density import TASKS
from bmdkit.training.metrics import BMD_COLUMNS, PLAUSIBILITY
from bmdkit.training.montage import DENSITY_MAP
from bmdkit.training.run import DecompositionRun, estimate_bmd, load_run, predict_pf_drr

logger = logging.getLogger(__name__)

LEVEL = 0.95
SOURCES = {"train": "training patients", "test": "held-out patients"}
"""Whose errors an interval is of; those of training patients are too small for new ones."""

FEWEST = 3
COLUMNS = ("name", "xray", "side", "status", "code", "reason", "quality")
COLUMNS += tuple(f"{column}{end}" for column in BMD_COLUMNS.values() for end in ("", "_low", "_high"))
COLUMNS += ("interval_from",)
COLUMNS += ("t_score", "pf_drr", "overlay")
USE = "For research. Not for diagnosis."


@dataclass(frozen=True)
class Spread:
    """How far predictions were off where the truth is known.

    Attributes:
        rms: Root mean square error, in the task's unit.
        n: Of how many predictions.
        patients: Of how many patients; they count for the interval, since one's errors are alike.
        split: "test" (held-out patients) or "train", which is too small a spread for new patients.
    """

    rms: float
    n: int
    patients: int
    split: str

    def interval(self, value: float) -> tuple[float, float]:
        """95 % prediction interval about a value, Student's t with a degree of freedom for each patient."""
        half = float(stats.t.ppf(0.5 + LEVEL / 2, self.patients)) * self.rms
        return value - half, value + half


@dataclass(frozen=True)
class Reference:
    """Young adults' DXA-BMD of a reference population, from which a T-score counts.

    Attributes:
        name: Of the population and the device, as it is to be cited.
        mean_g_cm2, sd_g_cm2: Of the total proximal femur.
    """

    name: str
    mean_g_cm2: float
    sd_g_cm2: float

    def __post_init__(self) -> None:
        if not (self.mean_g_cm2 > 0 and self.sd_g_cm2 > 0):
            raise ValueError(f"mean_g_cm2, sd_g_cm2: expected positive, got {self.mean_g_cm2}, {self.sd_g_cm2}")
        if self.sd_g_cm2 >= self.mean_g_cm2:
            raise ValueError(f"sd_g_cm2: expected less than the mean {self.mean_g_cm2}, got {self.sd_g_cm2}")

    def t_score(self, dxa_g_cm2: float) -> float:
        """Standard deviations above (positive) or below the young adults' mean."""
        return (dxa_g_cm2 - self.mean_g_cm2) / self.sd_g_cm2


@dataclass(frozen=True, eq=False)
class Predictor:
    """A run with what is known of its errors and its training data.

    Attributes:
        run: Of dataset B, its lines fitted.
        spreads: By task.
        plausibility: Of the training data.
    """

    run: DecompositionRun
    spreads: dict[str, Spread]
    plausibility: Plausibility


def load_predictor(folder: Path, *, device: str = "cpu") -> Predictor:
    """Read a finished decomposition run of dataset B.

    Raises:
        PreflightError: No finished run (BMD-TRN-009), or one that cannot predict BMD (BMD-PRE-001).
    """
    run = load_run(folder, device=device)
    if run.config.dataset != "B" or not run.lines:
        message = f"dataset {run.config.dataset}, {len(run.lines)} lines to BMD."
        raise PreflightError("BMD-PRE-001", message, file=folder)
    try:
        known = Plausibility.from_dict(json.loads((folder / PLAUSIBILITY).read_text(encoding="utf-8")))
        with (folder / "predictions.csv").open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        spreads = {task: spread for task in run.lines if (spread := _spread(rows, BMD_COLUMNS[task])) is not None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError("BMD-PRE-001", f"{error!r}.", file=folder) from error
    return Predictor(run, spreads, known)


def _spread(rows: Sequence[dict[str, str]], column: str) -> Spread | None:
    for split in ("test", "train"):
        known = [row for row in rows if row["split"] == split and row[column] and row[f"predicted_{column}"]]
        if len(known) >= FEWEST:
            errors = np.array([float(row[f"predicted_{column}"]) - float(row[column]) for row in known])
            patients = len({row["patient_id"] for row in known})
            return Spread(float(np.sqrt(np.mean(errors**2))), len(known), patients, split)
    return None


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a run sees in one hip of one radiograph.

    Attributes:
        pf_drr_g_cm2: (rows, columns) of the run's image size; 0 where the radiograph is no image.
        bmd: By task.
        quality: accept, review or reject.
        reasons: For a quality other than accept.
        overlay: (rows, columns, 3), uint8, of a pair's size: the radiograph with the projection in colour.
        window: Of the radiograph that was looked at.
    """

    pf_drr_g_cm2: np.ndarray
    bmd: dict[str, float]
    quality: str
    reasons: tuple[str, ...]
    overlay: np.ndarray
    window: PairWindow


def predict_hip(predictor: Predictor, radiograph: Radiograph, side: Side) -> Prediction:
    """Predict one hip of an AP radiograph, cut as the pairs were that the run has learnt from.

    Args:
        predictor: Of the run.
        radiograph: The whole pelvis, as it was read; the patient's left on the image's right.
        side: The patient's own.
    """
    config = predictor.run.pairs
    window = pair_window(*radiograph.shape, side, config)
    image, coverage = window.carry_inside(radiograph.pixels, radiograph.mask)
    seen = coverage >= config.mask_coverage
    run = predictor.run
    drr = predict_pf_drr(run, np.clip(image, 0, 1), seen)
    quality, reasons = predictor.plausibility.check(drr, side)
    if coverage.mean() < 0.5:
        quality, reasons = "reject", (f"{coverage.mean():.0%} of the hip's half is image", *reasons)
    overlay = draw_overlay(image, _resized(drr, image.shape, "bilinear"), run.scale_g_cm2)
    return Prediction(drr, estimate_bmd(run, drr), quality, reasons, overlay, window)


def draw_overlay(xray: np.ndarray, drr_g_cm2: np.ndarray, scale_g_cm2: float) -> np.ndarray:
    """A radiograph (rows, columns), [0, 1], with a projection of the same size in colour, uint8 RGB."""
    from matplotlib import colormaps

    share = np.clip(drr_g_cm2 / scale_g_cm2, 0, 1)
    colour = colormaps[DENSITY_MAP](share)[..., :3]
    opaque = np.clip(share / 0.15, 0, 1)[..., None] * 0.7
    grey = np.clip(xray, 0, 1)[..., None]
    return np.rint(255 * (grey * (1 - opaque) + colour * opaque)).astype(np.uint8)


def predict_files(
    run: Path,
    xrays: Sequence[Path],
    out: Path,
    *,
    side: Side | None = None,
    device: str = "auto",
    config: XrayConfig | None = None,
    reference: Reference | None = None,
    dicom: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Predict radiographs and write predictions.csv, predictions.json, and a PF-DRR and an overlay of each hip.

    Args:
        run: A decomposition run of dataset B.
        xrays: DICOM, or 16-bit PNG or TIFF with a side-car.
        out: The folder to write to.
        side: The hip; None: the one that the file names, else both.
        device: auto, cpu or cuda[:N].
        config: How radiographs are read; None: as those were that the run has learnt from.
        reference: Of T-scores; there are none without it.
        dicom: Write each projection as a DICOM secondary capture, too.
        progress: Called with the files done and all files.

    Returns:
        The rows of predictions.csv; a file that cannot be read has one that says why.

    Raises:
        PreflightError: The run cannot be used; nothing was written.
    """
    predictor = load_predictor(run, device=device)
    rows: list[dict[str, Any]] = []
    details = []
    for done, (path, name) in enumerate(zip(xrays, _names(xrays), strict=True), start=1):
        try:
            radiograph = read_radiograph(path, config=config or predictor.run.xray, case=name)
            named = radiograph.laterality if radiograph.laterality in SIDES else None
            if side is not None and named not in (None, side):
                raise CaseError(
                    "BMD-XR-020", f"the file says {named}, asked for was {side}.", case=name, file=path.name
                )
        except CaseError as error:
            row = {"name": name, "xray": path.name, "side": side, "status": "failed", "code": error.code}
            rows.append(row | {"reason": error.message})
            logger.warning("%s", error, extra={"case": name, "code": error.code})
        else:
            chosen = side or named
            for hip in (chosen,) if chosen else SIDES:
                row, detail = _write(out, f"{name}_{hip}", path, hip, predictor, radiograph, dicom)
                if reference is not None and BMD_COLUMNS["dxa"] in row:
                    row["t_score"] = reference.t_score(row[BMD_COLUMNS["dxa"]])
                rows.append(row)
                details.append(detail)
        if progress is not None:
            progress(done, len(xrays))
    write_csv(out / "predictions.csv", rows, COLUMNS)
    record = {"intended_use": USE, "run": run.name, "level": LEVEL, "hips": details}
    record["spread"] = {task: asdict(s) for task, s in predictor.spreads.items()}
    if reference is not None:
        record["t_score_reference"] = asdict(reference)
    write_json(out / "predictions.json", record | {"units": dict(TASKS)})
    return rows


def _write(out: Path, name: str, path: Path, side: Side, predictor: Predictor, radiograph: Radiograph, dicom: bool):
    found = predict_hip(predictor, radiograph, side)
    row: dict[str, Any] = {"name": name, "xray": path.name, "side": side, "status": "ok", "quality": found.quality}
    row |= {"reason": "; ".join(found.reasons), "pf_drr": f"{name}_pf_drr.tif", "overlay": f"{name}_overlay.png"}
    for task, value in found.bmd.items():
        row[BMD_COLUMNS[task]] = value
        if task in predictor.spreads:
            low, high = predictor.spreads[task].interval(value)
            row |= {f"{BMD_COLUMNS[task]}_low": low, f"{BMD_COLUMNS[task]}_high": high}
    if predictor.spreads:
        row["interval_from"] = SOURCES[min((s.split for s in predictor.spreads.values()), key=list(SOURCES).index)]
    write_tiff(out / row["pf_drr"], found.pf_drr_g_cm2)
    write_png(out / row["overlay"], found.overlay)
    if dicom:
        _write_dicom(out / f"{name}_pf_drr.dcm", found, radiograph)
    detail = {"name": name, "side": side, "bmd": found.bmd, "quality": found.quality, "reasons": found.reasons}
    return row, detail | {"window": found.window.to_dict(), "warnings": radiograph.warnings}


def _write_dicom(path: Path, found: Prediction, radiograph: Radiograph) -> None:
    """The projection with the camera of its window, at the image size of the run."""
    try:
        geometry = radiograph.geometry()
    except ValueError as error:
        logger.warning("%s not written: %s", path.name, error)
        return
    rows, columns = found.pf_drr_g_cm2.shape
    camera = found.window.camera(geometry).resized(rows, columns)
    about = {"what": "predicted PF-DRR", "intended_use": USE, "bmd": found.bmd, "quality": found.quality}
    high = float(max(found.pf_drr_g_cm2.max(), 1e-3))
    write_secondary_capture(path, found.pf_drr_g_cm2, camera, unit="g/cm2", about=about, window=(0.0, high))


def _names(paths: Sequence[Path]) -> list[str]:
    names: list[str] = []
    for path in paths:
        stem = re.sub(r"[^A-Za-z0-9.-]+", "_", path.stem).strip("_.-")[:80] or "xray"
        name, number = stem, 1
        while name.casefold() in {taken.casefold() for taken in names}:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def _resized(image: np.ndarray, size: tuple[int, ...], mode: str) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return torch.nn.functional.interpolate(tensor, size=tuple(size), mode=mode)[0, 0].numpy()
