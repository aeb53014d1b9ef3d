"""What a training has come to: its densities, its figures on the held-out patients, its montage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bmdkit.evaluation.agreement import agreement, mean_absolute_error, pearson
from bmdkit.evaluation.image_metrics import mean_above, multi_threshold_dice, psnr_db
from bmdkit.evaluation.plausibility import Plausibility
from bmdkit.io.results import finite, write_csv, write_json
from bmdkit.training.bone_density import TASKS, BmdLine, fit_line
from bmdkit.training.montage import MontageRow, write_montage
from bmdkit.training.pair_batches import PairTensors
from bmdkit.training.run import DecompositionRun

BMD_COLUMNS = {"dxa": "dxa_bmd_g_cm2", "qct": "qct_bmd_mg_cm3"}
"""Where the manifest and predictions.csv have the measured values of a task."""

PLAUSIBILITY = "plausibility.json"
"""What the training projections of the proximal femur are like; of runs on dataset B."""

TARGET_MEAN = "target_mean_g_cm2"
TARGET_MEANS = {task: f"target_mean_{task}_g_cm2" for task in BMD_COLUMNS}
"""Mean of the true projection, over the threshold that the images are compared with, and over that of each task."""

COLUMNS = (
    "pair_id",
    "patient_id",
    "side",
    "pose",
    "fold",
    "split",
    "l1_g_cm2",
    "psnr_db",
    "dice",
    TARGET_MEAN,
    *TARGET_MEANS.values(),
    "predicted_mean_g_cm2",
    "dxa_bmd_g_cm2",
    "predicted_dxa_bmd_g_cm2",
    "qct_bmd_mg_cm3",
    "predicted_qct_bmd_mg_cm3",
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished training.

    Attributes:
        run: The trained network, its lines fitted.
        metrics: What metrics.json holds.
        folder: The run's folder.
    """

    run: DecompositionRun
    metrics: dict[str, Any]
    folder: Path


def conclude(
    run: DecompositionRun, train: PairTensors, test: PairTensors | None, folder: Path, *, epochs: int
) -> Outcome:
    """Fit the lines to BMD on the training patients, measure on the others, and write the run.

    Args:
        run: Trained, without lines.
        train, test: Its patients and those held out; without the latter the figures are of the training patients, and
            say so.
        folder: To write generator.safetensors, run.json, predictions.csv, metrics.json and montage.png to.
        epochs: It was trained for.
    """
    shown = {"train": train} if test is None else {"train": train, "test": test}
    predictions = {split: inside_mask(run.predict(data.xray), data) for split, data in shown.items()}
    targets = {split: inside_mask(data.drr, data) for split, data in shown.items()}
    lines = fit_lines(run, train, targets["train"], predictions["train"]) if run.config.dataset == "B" else {}
    run = replace(run, lines=lines)
    rows = [row for split, data in shown.items() for row in _rows(run, data, targets[split], predictions[split], split)]
    metrics = {
        "dataset": run.config.dataset,
        "fold": run.config.fold,
        "epochs": epochs,
        "scale_g_cm2": run.scale_g_cm2,
        **{split: _summary([row for row in rows if row["split"] == split]) for split in shown},
        "lines": {task: line.to_dict() for task, line in lines.items()},
    }
    run.save(folder, epochs=epochs)
    if run.config.dataset == "B":
        known, sides = targets["train"][:, 0], [pair.side for pair in train.pairs]
        threshold = min(mean_threshold(run), 0.5 * float(known.max()))  # so that some image has a silhouette
        write_json(folder / PLAUSIBILITY, Plausibility.of(known, sides, threshold).to_dict())
    write_csv(folder / "predictions.csv", rows, COLUMNS)
    write_json(folder / "metrics.json", metrics)
    split = "train" if test is None else "test"
    write_montage(
        folder / "montage.png",
        _montage_rows(run, shown[split], predictions[split]),
        channels=run.channels,
        title=f"{'Training' if test is None else 'Held-out'} patients, dataset {run.config.dataset}, {epochs} epochs",
    )
    return Outcome(run, metrics, folder)


def inside_mask(images: Tensor, data: PairTensors) -> np.ndarray:
    """Projections (N, C, H, W) of some pairs, 0 where their radiographs are no image: what is there, nobody taught."""
    return torch.where(data.mask.cpu() > 0, images.float().cpu(), 0.0).numpy()


def fit_lines(
    run: DecompositionRun, train: PairTensors, targets: np.ndarray, predictions: np.ndarray
) -> dict[str, BmdLine]:
    """The line of each task that has BMD values enough; targets and predictions (N, 1, H, W), g/cm2, of `train`."""
    lines = {}
    for task in TASKS:
        line = fit_line(
            task,
            targets[:, 0],
            predictions[:, 0],
            train.bmd(task),
            [pair.patient_id for pair in train.pairs],
            run.config.bmd,
            largest_g_cm2=run.scale_g_cm2,
        )
        if line is not None:
            lines[task] = line
    return lines


def mean_threshold(run: DecompositionRun) -> float:
    """Where the silhouette begins, g/cm2, when only the mean is asked for: that of the first line, or the fallback."""
    line = next(iter(run.lines.values()), None)
    return run.config.bmd.fallback_threshold_g_cm2 if line is None else line.threshold_g_cm2


def _rows(
    run: DecompositionRun, data: PairTensors, targets: np.ndarray, predictions: np.ndarray, split: str
) -> list[dict[str, Any]]:
    """One line of predictions.csv per pair; all image figures are over the pixels of the mask."""
    rows = []
    threshold = mean_threshold(run)
    for n, pair in enumerate(data.pairs):
        target, predicted = targets[n], predictions[n]
        inside = np.broadcast_to(data.mask[n].cpu().numpy() > 0, target.shape)
        row = {
            "pair_id": pair.pair_id,
            "patient_id": pair.patient_id,
            "side": pair.side,
            "pose": pair.pose,
            "fold": pair.fold,
            "split": split,
            "l1_g_cm2": mean_absolute_error(predicted[inside], target[inside]),
            "psnr_db": psnr_db(predicted[inside], target[inside], peak=run.scale_g_cm2),
            "dice": multi_threshold_dice(predicted[inside], target[inside], maximum=run.scale_g_cm2),
            TARGET_MEAN: mean_above(target, threshold),
            "predicted_mean_g_cm2": mean_above(predicted, threshold),
            "dxa_bmd_g_cm2": pair.dxa_bmd_g_cm2,
            "qct_bmd_mg_cm3": pair.qct_bmd_mg_cm3,
        }
        for task, line in run.lines.items():
            row[TARGET_MEANS[task]] = mean_above(target[0], line.threshold_g_cm2)
            row[f"predicted_{BMD_COLUMNS[task]}"] = float(line.bmd(mean_above(predicted[0], line.threshold_g_cm2)))
        rows.append(row)
    return rows


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of the image figures, and agreement of what was predicted with what is true; None where undefined."""
    summary: dict[str, Any] = {"images": len(rows), "patients": len({row["patient_id"] for row in rows})}
    for name in ("l1_g_cm2", "psnr_db", "dice"):
        summary[name] = finite(float(np.mean([row[name] for row in rows])))
    summary["pf_drr_mean_pcc"] = _correlation(rows, "predicted_mean_g_cm2", "target_mean_g_cm2")
    for task, name in BMD_COLUMNS.items():
        if any(row.get(f"predicted_{name}") is not None for row in rows):
            summary[task] = bmd_figures(rows, name)
    return summary


def bmd_figures(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Agreement of a predicted BMD with the measured one over the rows of predictions.csv; None where undefined.

    Args:
        rows: With `name`, `predicted_<name>`, `patient_id` and `side`.
        name: Column of the measured values.
    """
    known = [row for row in rows if row.get(f"predicted_{name}") is not None and row[name] is not None]
    if not known:
        return {"n": 0}
    found = agreement(
        [row[f"predicted_{name}"] for row in known],
        [row[name] for row in known],
        patients=[row["patient_id"] for row in known],
        hips=[f"{row['patient_id']} {row['side']}" for row in known],
        rng=np.random.default_rng(0),
    )
    figures = {key: value for key, value in asdict(found).items() if key != "icc_fisher"}
    return {key: _plain(value) for key, value in figures.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return None if any(not math.isfinite(v) for v in value) else list(value)
    return finite(value) if isinstance(value, float) else value


def _correlation(rows: list[dict[str, Any]], first: str, second: str) -> float | None:
    """Needs three images: two always lie on a line."""
    if len(rows) < 3:
        return None
    return finite(pearson([row[first] for row in rows], [row[second] for row in rows]))


def _montage_rows(run: DecompositionRun, data: PairTensors, predictions: np.ndarray) -> list[MontageRow]:
    """Evenly drawn pairs, in the order of their names."""
    count = min(run.config.montage_pairs, len(data))
    chosen = np.unique(np.linspace(0, len(data) - 1, count).round().astype(int))
    return [
        MontageRow(
            label="\n".join((data.pairs[n].patient_id, f"{data.pairs[n].side} {data.pairs[n].pose}")),
            xray=0.5 * (data.xray[n, 0].float().cpu().numpy() + 1.0),
            target=data.drr[n].float().cpu().numpy(),
            predicted=predictions[n],
            mask=data.mask[n, 0].cpu().numpy() > 0,
        )
        for n in chosen
    ]
