"""Figures of a study: agreement of each method and task, and the threshold of the mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bmdkit.core.naming import make_safe_name
from bmdkit.dataset.samples import read_pairs, split_pairs
from bmdkit.evaluation.agreement import pearson
from bmdkit.evaluation.figure_style import save
from bmdkit.evaluation.figures import Shown, bland_altman_plot, scatter, threshold_curve
from bmdkit.io.images import read_tiff
from bmdkit.study.finished_runs import Method, Result
from bmdkit.training.bone_density import means_above
from bmdkit.training.run_layout import BMD_COLUMNS, predicted_column

Split = Literal["test", "train"]
Kind = Literal["simulated", "clinical"]
UNITS = {"dxa": "g/cm²", "qct": "mg/cm³"}
SPLITS = {"test": "held-out patients", "train": "training patients"}
_SWEEP = np.linspace(0.02, 0.30, 57)


def upper(task: str) -> str:
    """As it is printed."""
    return task.upper()


def known_rows(rows: Sequence[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    """Rows with both a measured and a predicted value."""
    name = BMD_COLUMNS[task]
    return [row for row in rows if row[name] is not None and row[predicted_column(name)] is not None]


def shown_rows(
    rows: Sequence[dict[str, Any]], results: Sequence[Result], split: Split, kind: Kind, seed: int | None = None
) -> Shown:
    """What a figure or table shows; one seed of several if it is named."""
    folds = sorted({str(result.fold) for result in results})
    words = f"{SPLITS[split]} of fold{'s' * (len(folds) > 1)} {', '.join(folds)}"
    if seed is not None:
        words += f", seed {seed}"
    return Shown(len({row["pair_id"] for row in rows}), len({row["patient_id"] for row in rows}), words, kind)


def draw_agreement(method: Method, folder: Path, split: Split, kind: Kind) -> None:
    """Scatter and Bland-Altman of each task, of the first seed."""
    seed = next(iter(method.seeds))
    for task, column in BMD_COLUMNS.items():
        rows = known_rows(method.rows(seed, split, task), task)
        if len(rows) < 2:
            continue
        shown = shown_rows(rows, [r for r in method.seeds[seed] if task in r.tasks], split, kind, seed)
        predicted, measured = ([row[name] for row in rows] for name in (predicted_column(column), column))
        words = {"quantity": f"{upper(task)}-BMD", "unit": UNITS[task], "shown": shown}
        words["poses"] = [row["pose"] for row in rows]
        name = f"{file_stem(method.name)}_{task}"
        save(scatter(predicted, measured, **words), folder / f"scatter_{name}")
        patients = [row["patient_id"] for row in rows]
        save(bland_altman_plot(predicted, measured, patients=patients, **words), folder / f"bland_altman_{name}")


def draw_thresholds(data: Path, results: Sequence[Result], folder: Path, kind: Kind) -> None:
    """PCC of the true projections' mean against the threshold, over the patients that the first run learnt from."""
    first = next((r for r in results if r.phase == "decomposition" and r.dataset == "B"), None)
    if first is None:
        return
    pairs = split_pairs(read_pairs(data, "B"), first.fold)[0]
    images = np.concatenate([read_tiff(pair.drr) for pair in pairs])
    thresholds = _SWEEP * float(images.max())
    means = means_above(images, thresholds)
    curves = {}
    for task, column in BMD_COLUMNS.items():
        values = np.array([np.nan if (v := getattr(pair, column)) is None else v for pair in pairs])
        known = np.isfinite(values)
        if known.sum() > 2 and np.ptp(values[known]) > 0:
            curves[upper(task)] = [pearson(column[known], values[known]) for column in means.T]
    if curves:
        shown = Shown(len(pairs), len({pair.patient_id for pair in pairs}), "training patients", kind)
        save(threshold_curve(thresholds, curves, unit="g/cm²", shown=shown), folder / "threshold")


def file_stem(name: str) -> str:
    """A method's name as part of a file's."""
    return make_safe_name(name.lower(), also="", otherwise="")
