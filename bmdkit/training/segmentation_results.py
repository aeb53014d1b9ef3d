"""How good a trained segmentation is: Dice, surface distance and uncertainty of every structure of every CT."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.evaluation.segmentation_metrics import auroc, dice, surface_distance
from bmdkit.io.results import finite, write_csv, write_json
from bmdkit.segmentation.dropout_prediction import predict
from bmdkit.segmentation.model import CLASSES, SegmentationModel
from bmdkit.training.labelled_slices import LabelledCt, class_map
from bmdkit.training.segmentation_settings import SegmentationTrainingConfig

COLUMNS = ("name", "patient_id", "fold", "split", "structure", "dice", "assd_mm", "hd95_mm", "uncertainty")
TABLE, METRICS, FIGURE = "structures.csv", "metrics.json", "uncertainty_dice"
FAILED_DICE = 0.9
"""A structure below this counts as failed when uncertainty is judged."""


def write_results(
    model: SegmentationModel,
    cts: Sequence[LabelledCt],
    folder: Path,
    config: SegmentationTrainingConfig,
    *,
    seed: int,
    held_out: bool,
    epochs: int,
) -> dict[str, Any]:
    """Segment CTs as a user would, before any cleaning, and write structures.csv, metrics.json and a figure.

    Args:
        model: Trained network.
        cts: Held out; those trained on if nobody is.
        folder: Folder of the run.
        config: Settings of the training.
        seed: Seed of the dropout.
        held_out: Which of both groups they are.
        epochs: The model was trained for.
    """
    split = "test" if held_out else "train"
    rows = [row for ct in cts for row in _rows(ct, model, config, seed, split)]
    metrics = {
        "fold": config.fold,
        "epochs": epochs,
        "split": split,
        "patients": len({ct.patient_id for ct in cts}),
        "cts": len(cts),
        "structures": {name: _summary([row for row in rows if row["structure"] == name]) for name in CLASSES[1:]},
        "uncertainty_auroc": finite(_auroc(rows)),
        "failed_below_dice": FAILED_DICE,
    }
    write_csv(folder / TABLE, rows, COLUMNS)
    _draw(folder / FIGURE, rows, metrics)
    write_json(folder / METRICS, metrics)
    return metrics


def _rows(
    ct: LabelledCt, model: SegmentationModel, config: SegmentationTrainingConfig, seed: int, split: str
) -> list[dict[str, Any]]:
    volume, labels = ct.read()
    truth = class_map(labels.resample(volume.grid))
    predicted = predict(volume, model, config.predict, seed=seed)
    variance = None if predicted.variance is None else predicted.variance.array
    rows = []
    for value, name in enumerate(CLASSES[1:], start=1):
        one, other = predicted.labels.array == value, truth == value
        if not (one.any() or other.any()):
            continue
        apart = surface_distance(one, other, volume.grid.spacing_mm)
        rows.append(
            {
                "name": ct.name,
                "patient_id": ct.patient_id,
                "fold": ct.fold,
                "split": split,
                "structure": name,
                "dice": dice(one, other),
                "assd_mm": apart.mean_mm,
                "hd95_mm": apart.p95_mm,
                "uncertainty": math.nan
                if variance is None or not one.any()
                else float(variance[one].mean(dtype=float)),
            }
        )
    return rows


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the CTs that have a value."""
    means = {}
    for name in ("dice", "assd_mm", "hd95_mm", "uncertainty"):
        known = [row[name] for row in rows if math.isfinite(row[name])]
        means[name] = float(np.mean(known)) if known else None
    return {"n": len(rows), **means}


def _auroc(rows: list[dict[str, Any]]) -> float:
    known = [row for row in rows if math.isfinite(row["uncertainty"])]
    failed = np.array([row["dice"] < FAILED_DICE for row in known], bool)
    return auroc(np.array([row["uncertainty"] for row in known], float), failed)


def _draw(path: Path, rows: list[dict[str, Any]], metrics: dict[str, Any]) -> None:
    """Dice against uncertainty, one point per structure and CT."""
    from matplotlib.figure import Figure

    from bmdkit.evaluation.figure_style import MUTED, SERIES, drawing, save

    with drawing():
        figure = Figure(figsize=(4.4, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for colour, name in zip(SERIES, CLASSES[1:], strict=False):
            shown = [row for row in rows if row["structure"] == name]
            axes.plot(
                [r["uncertainty"] for r in shown], [r["dice"] for r in shown], "o", ms=4, color=colour, label=name
            )
        axes.axhline(FAILED_DICE, color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.set_xlabel("mean variance within the structure")
        axes.set_ylabel("Dice")
        area = metrics["uncertainty_auroc"]
        words = f"AUROC for Dice < {FAILED_DICE:g}: {area:.3f}" if area is not None else "Dice against uncertainty"
        axes.set_title(words)
        axes.legend(loc="lower left")
        held = "held out" if metrics["split"] == "test" else "trained on"
        figure.supxlabel(f"{metrics['cts']} CTs of {metrics['patients']} patients, {held}", fontsize=8, color=MUTED)
        save(figure, path)
