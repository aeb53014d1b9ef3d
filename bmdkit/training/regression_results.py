"""What a regression has come to: its predictions and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bmdkit.dataset.samples import Fold, Pair
from bmdkit.evaluation.agreement import pearson
from bmdkit.evaluation.familiarity import Familiarity
from bmdkit.io.results import write_json
from bmdkit.models.regression_head import Regressor
from bmdkit.training.bone_density import Task
from bmdkit.training.metrics import bmd_figures
from bmdkit.training.pair_batches import PairTensors
from bmdkit.training.run_layout import (
    BMD_COLUMNS,
    FAMILIARITY,
    METRICS,
    PAIR_COLUMNS,
    PLAUSIBILITY,
    PREDICTION_COLUMNS,
    PREDICTIONS,
    PairPrediction,
    Split,
    predicted_column,
    write_predictions,
)
from bmdkit.training.watch import LOSS, Measure
from bmdkit.training.weakness import describe_weaknesses, find_weaknesses


@dataclass(frozen=True)
class BmdScale:
    """Mean and standard deviation of the BMD of a training set, in the task's unit."""

    mean: float
    sd: float


@torch.inference_mode()
def predict_bmd(network: nn.Module, xrays: Tensor, scale: BmdScale, *, batch_size: int = 16) -> np.ndarray:
    """BMD of radiographs.

    Args:
        network: Gives standardised values.
        xrays: (N, 1, H, W), in [-1, 1].
        scale: Scale of the training set.
        batch_size: Radiographs computed at a time.

    Returns:
        (N,), in the unit of `scale`.
    """
    network.eval()
    device = next(network.parameters()).device
    parts = [network(part.to(device, torch.float32)).float().cpu() for part in xrays.split(batch_size)]
    return scale.mean + scale.sd * torch.cat(parts).double().numpy()


@torch.inference_mode()
def pool_fused_maps(network: Regressor, xrays: Tensor, *, batch_size: int = 16) -> np.ndarray:
    """Features of radiographs: mean and standard deviation of each channel of the fused map over its places.

    Args:
        network: Its encoder is used.
        xrays: (N, 1, H, W), in [-1, 1].
        batch_size: Radiographs computed at a time.

    Returns:
        (N, 2 channels).
    """
    network.eval()
    device = next(network.parameters()).device
    maps = [network.encoder(part.to(device, torch.float32)).float().flatten(2) for part in xrays.split(batch_size)]
    return torch.cat([torch.cat((one.mean(2), one.std(2)), 1) for one in maps]).cpu().double().numpy()


def write_familiarity(network: Regressor, shown: Mapping[Split, PairTensors], folder: Path) -> None:
    """Write what the training radiographs look like to a regression; tune patients give the limit where there are any.

    Args:
        network: Trained regression.
        shown: Pairs of each split.
        folder: Folder of the phase.
    """
    features = {split: pool_fused_maps(network, shown[split].xray) for split in ("train", "tune") if split in shown}
    known = Familiarity.of(features["train"], features.get("tune", features["train"]))
    write_json(folder / PLAUSIBILITY, {FAMILIARITY: known.to_dict()})


def watch_bmd(tune: PairTensors, task: Task, scale: BmdScale) -> Measure:
    """Make the measure of a regression: mean absolute error and correlation on the tune patients.

    Args:
        tune: Their pairs, the BMD of all known.
        task: What is learnt.
        scale: Scale of the training set.
    """
    measured = tune.bmd(task)

    def measure(network: nn.Module) -> Mapping[str, float]:
        predicted = predict_bmd(network, tune.xray, scale)
        error = float(np.abs(predicted - measured).mean())
        return {LOSS: error / scale.sd, "tune_mae": error, "tune_pcc": pearson(predicted, measured)}

    return measure


def write_regression(
    task: Task,
    fold: Fold,
    predicted: Mapping[Split, tuple[Sequence[Pair], np.ndarray]],
    folder: Path,
    *,
    before: Mapping[str, PairPrediction] | None = None,
    **about: Any,
) -> dict[str, Any]:
    """Compare predictions with what was measured, and write predictions.csv and metrics.json.

    Args:
        task: What was learnt.
        fold: Fold that was held out.
        predicted: Pairs of each split, and their BMD (n,), in the task's unit; `train` is among the splits.
        folder: Folder to write to.
        before: What a decomposition run said of the same pairs, by their names; it stays beside the predictions.
        about: Further entries of metrics.json.

    Returns:
        What metrics.json holds.
    """
    name = BMD_COLUMNS[task]
    rows = {
        split: [
            replace(
                (before or {}).get(pair.pair_id) or PairPrediction.of(pair, split),
                **{"split": split, name: getattr(pair, name), predicted_column(name): float(value)},
            )
            for pair, value in zip(pairs, values, strict=True)
        ]
        for split, (pairs, values) in predicted.items()
    }
    metrics: dict[str, Any] = {
        "task": task,
        "fold": fold,
        **about,
        **{split: bmd_figures(found, task) for split, found in rows.items()},
        **describe_weaknesses(find_weaknesses(rows["train"], rows.get("test", []), task)),
    }
    every = [row for found in rows.values() for row in found]
    own = (*PAIR_COLUMNS, name, predicted_column(name))
    write_predictions(folder / PREDICTIONS, every, own if before is None else PREDICTION_COLUMNS)
    write_json(folder / METRICS, metrics)
    return metrics
