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

from bmdkit.evaluation.agreement import Agreement, agreement, mean_absolute_error, pearson
from bmdkit.evaluation.familiarity import Familiarity
from bmdkit.evaluation.image_metrics import mean_above, multi_threshold_dice, psnr_db
from bmdkit.evaluation.plausibility import Plausibility
from bmdkit.io.results import finite, make_plain, write_json
from bmdkit.training.bone_density import TASKS, BmdLine, Projections, Task, fit_line
from bmdkit.training.montage import MontageRow, write_montage
from bmdkit.training.pair_batches import PairTensors
from bmdkit.training.ridge import read_features
from bmdkit.training.run import DecompositionRun
from bmdkit.training.run_layout import (
    BMD_COLUMNS,
    FAMILIARITY,
    METRICS,
    MONTAGE,
    PLAUSIBILITY,
    PREDICTED_MEAN,
    PREDICTIONS,
    TARGET_MEAN,
    TARGET_MEANS,
    PairPrediction,
    Split,
    predicted_column,
    write_predictions,
)
from bmdkit.training.weakness import describe_weaknesses, find_weaknesses


@dataclass(frozen=True, eq=False)
class FinishedTraining:
    """A finished training.

    Attributes:
        run: The trained network, its lines fitted.
        metrics: What metrics.json holds.
        folder: The run's folder.
    """

    run: DecompositionRun
    metrics: dict[str, Any]
    folder: Path


def write_results(
    run: DecompositionRun, shown: Mapping[Split, PairTensors], folder: Path, *, epochs: int, kept_epoch: int
) -> FinishedTraining:
    """Fit the lines to BMD on the training patients, measure on the others, and write the run.

    Args:
        run: Trained, without lines.
        shown: Pairs of each split, `train` among them; without `test` the figures are of the training patients, and say
            so.
        folder: Folder to write generator.safetensors, run.json, predictions.csv, metrics.json and montage.png to.
        epochs: Epochs that it was trained for.
        kept_epoch: Epoch whose network this is.
    """
    predictions = {split: inside_mask(run.predict(data.xray), data) for split, data in shown.items()}
    targets = {split: inside_mask(data.drr, data) for split, data in shown.items()}
    lines = fit_lines(run, shown, targets, predictions) if run.config.dataset == "B" else {}
    train, run = shown["train"], replace(run, lines=lines)
    rows = {split: _predict_rows(run, data, targets[split], predictions[split], split) for split, data in shown.items()}
    held_out = rows.get("test", [])
    weaknesses = [one for task in lines for one in find_weaknesses(rows["train"], held_out, task)]
    metrics: dict[str, Any] = {
        "dataset": run.config.dataset,
        "fold": run.config.fold,
        "epochs": epochs,
        **({"kept_epoch": kept_epoch} if "tune" in shown else {}),
        "projection_unit": run.unit,
        "scale_g_cm2": run.scale_g_cm2,
        **{split: _summarise(found) for split, found in rows.items()},
        "lines": {task: line.to_dict() for task, line in lines.items()},
        **describe_weaknesses(weaknesses),
    }
    run.save(folder, epochs=epochs)
    if run.config.dataset == "B":
        known, sides = targets["train"][:, 0], [pair.side for pair in train.pairs]
        threshold = min(mean_threshold(run), 0.5 * float(known.max()))  # so that some image has a silhouette
        described = Plausibility.of(known, sides, threshold).to_dict()
        write_json(folder / PLAUSIBILITY, described | {FAMILIARITY: _describe_familiar(run, shown).to_dict()})
    write_predictions(folder / PREDICTIONS, [row for found in rows.values() for row in found], unit=run.unit)
    write_json(folder / METRICS, metrics)
    split: Split = "test" if "test" in shown else "train"
    who = "Held-out" if split == "test" else "Training"
    write_montage(
        folder / MONTAGE,
        _montage_rows(run, shown[split], predictions[split]),
        channels=run.channels,
        title=f"{who} patients, dataset {run.config.dataset}, {epochs} epochs",
        unit=run.unit,
    )
    return FinishedTraining(run, metrics, folder)


def _describe_familiar(run: DecompositionRun, shown: Mapping[Split, PairTensors]) -> Familiarity:
    """What the training radiographs look like to the network; the tune patients give the limit where there are any."""
    features = {
        split: read_features(run.generator, shown[split].xray, shown[split].mask, run.scale_g_cm2)
        for split in ("train", "tune")
        if split in shown
    }
    return Familiarity.of(features["train"], features.get("tune", features["train"]))


def inside_mask(images: Tensor, data: PairTensors) -> np.ndarray:
    """Projections (N, C, H, W) of some pairs, 0 where their radiographs are no image: what is there, nobody taught."""
    return torch.where(data.mask.cpu() > 0, images.float().cpu(), 0.0).numpy()


def fit_lines(
    run: DecompositionRun,
    shown: Mapping[Split, PairTensors],
    targets: Mapping[Split, np.ndarray],
    predictions: Mapping[Split, np.ndarray],
) -> dict[Task, BmdLine]:
    """Fit the line of each task that has BMD values enough; patients that are held out take no part.

    Args:
        run: Trained.
        shown: Pairs of each split.
        targets: True projections of each split, (N, 1, H, W), g/cm2.
        predictions: Predicted ones.
    """

    def projections_of(split: Split, task: Task) -> Projections:
        who = tuple(pair.patient_id for pair in shown[split].pairs)
        return Projections(targets[split][:, 0], predictions[split][:, 0], shown[split].bmd(task), who)

    lines: dict[Task, BmdLine] = {}
    for task in TASKS:
        tune = projections_of("tune", task) if "tune" in shown else None
        train = projections_of("train", task)
        line = fit_line(task, train, run.config.bmd, largest_g_cm2=run.scale_g_cm2, tune=tune)
        if line is not None:
            lines[task] = line
    return lines


def mean_threshold(run: DecompositionRun) -> float:
    """Where the silhouette begins, g/cm2, when only the mean is asked for: that of the first line, or the fallback."""
    line = next(iter(run.lines.values()), None)
    return run.config.bmd.fallback_threshold_g_cm2 if line is None else line.threshold_g_cm2


def _predict_rows(
    run: DecompositionRun, data: PairTensors, targets: np.ndarray, predictions: np.ndarray, split: str
) -> list[PairPrediction]:
    """One row of predictions.csv for each pair; all image figures are over the pixels of the mask."""
    rows = []
    threshold = mean_threshold(run)
    for n, pair in enumerate(data.pairs):
        target, predicted = targets[n], predictions[n]
        inside = np.broadcast_to(data.mask[n].cpu().numpy() > 0, target.shape)
        values: dict[str, Any] = {
            "l1_g_cm2": mean_absolute_error(predicted[inside], target[inside]),
            "psnr_db": psnr_db(predicted[inside], target[inside], peak=run.scale_g_cm2),
            "dice": multi_threshold_dice(predicted[inside], target[inside], maximum=run.scale_g_cm2),
            TARGET_MEAN: mean_above(target, threshold),
            PREDICTED_MEAN: mean_above(predicted, threshold),
        }
        for column in BMD_COLUMNS.values():
            values[column] = getattr(pair, column)
        for task, line in run.lines.items():
            values[TARGET_MEANS[task]] = mean_above(target[0], line.threshold_of_targets_g_cm2)
            mean = mean_above(predicted[0], line.threshold_g_cm2)
            values[predicted_column(BMD_COLUMNS[task])] = float(line.bmd(mean))
        rows.append(replace(PairPrediction.of(pair, split), **values))
    return rows


def _summarise(rows: Sequence[PairPrediction]) -> dict[str, Any]:
    """Means of the image figures, and agreement of what was predicted with what is true; None where undefined."""
    summary: dict[str, Any] = {"images": len(rows), "patients": len({row.patient_id for row in rows})}
    for name in ("l1_g_cm2", "psnr_db", "dice"):
        summary[name] = finite(float(np.mean([getattr(row, name) for row in rows])))
    summary["pf_drr_mean_pcc"] = _correlate_means(rows)
    for task in BMD_COLUMNS:
        if any(row.predicted(task) is not None for row in rows):
            summary[task] = bmd_figures(rows, task)
    return summary


def bmd_agreement(rows: Sequence[PairPrediction], task: Task) -> Agreement | None:
    """Agreement of the predicted with the measured BMD of a task; None where no row has both."""
    known = [row for row in rows if row.predicted(task) is not None and row.measured(task) is not None]
    if not known:
        return None
    return agreement(
        [row.predicted(task) for row in known],
        [row.measured(task) for row in known],
        patients=[row.patient_id for row in known],
        hips=[row.hip for row in known],
        rng=np.random.default_rng(0),
    )


def bmd_figures(rows: Sequence[PairPrediction], task: Task) -> dict[str, Any]:
    """The same as metrics.json has it; None where a figure is undefined."""
    found = bmd_agreement(rows, task)
    if found is None:
        return {"n": 0}
    figures = {key: None if _is_open(value) else value for key, value in asdict(found).items() if key != "icc_fisher"}
    return {key: make_plain(value) for key, value in figures.items()}


def _is_open(value: Any) -> bool:
    """Whether an interval lacks a bound: then it is written as none."""
    return isinstance(value, tuple) and not all(math.isfinite(v) for v in value)


def _correlate_means(rows: Sequence[PairPrediction]) -> float | None:
    """Correlation of the projections' means; needs three images, since two always lie on a line."""
    if len(rows) < 3:
        return None
    predicted, target = ([getattr(row, name) for row in rows] for name in (PREDICTED_MEAN, TARGET_MEAN))
    return finite(pearson(predicted, target))


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
