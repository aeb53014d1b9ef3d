"""Figures of a study: agreement of each method and task, and the threshold of the mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bmdkit.core.naming import make_safe_name
from bmdkit.dataset.samples import Pair, read_pairs, split_pairs
from bmdkit.evaluation.agreement import pearson
from bmdkit.evaluation.figure_style import save
from bmdkit.evaluation.figures import Shown, bland_altman_plot, scatter, threshold_curve
from bmdkit.io.images import read_tiff
from bmdkit.study.finished_runs import Method, Result
from bmdkit.study.task_values import UNITS, Kind, Split, TaskValues, describe_rows
from bmdkit.training.bone_density import TASKS, Task, means_above

_SWEEP = np.linspace(0.02, 0.30, 57)


def draw_agreement(method: Method, folder: Path, split: Split, kind: Kind) -> None:
    """Draw scatter and Bland-Altman of each task, of the first seed."""
    seed = method.first_seed
    for task in TASKS:
        values = TaskValues.of(method.rows(seed, split, task), task)
        if len(values) < 2:
            continue
        shown = describe_rows(values.rows, [r for r in method.seeds[seed] if task in r.tasks], split, kind, seed)
        quantity, unit, poses = f"{task.upper()}-BMD", UNITS[task], values.poses
        name = f"{file_stem(method.name)}_{task}"
        figure = scatter(values.predicted, values.measured, quantity=quantity, unit=unit, shown=shown, poses=poses)
        save(figure, folder / f"scatter_{name}")
        figure = bland_altman_plot(
            values.predicted,
            values.measured,
            patients=values.patients,
            quantity=quantity,
            unit=unit,
            shown=shown,
            poses=poses,
        )
        save(figure, folder / f"bland_altman_{name}")


def draw_thresholds(data: Path, results: Sequence[Result], folder: Path, kind: Kind) -> None:
    """Draw PCC of the true projections' mean against the threshold, for the patients that the first run learnt from."""
    first = next((r for r in results if r.phase == "decomposition" and r.dataset == "B"), None)
    if first is None:
        return
    pairs = split_pairs(read_pairs(data, "B"), first.fold)[0]
    images = np.concatenate([read_tiff(pair.drr) for pair in pairs])
    thresholds = _SWEEP * float(images.max())
    means = means_above(images, thresholds)
    curves = {}
    for task in TASKS:
        values = measured_values(pairs, task)
        known = np.isfinite(values)
        if known.sum() > 2 and np.ptp(values[known]) > 0:
            curves[task.upper()] = [pearson(column[known], values[known]) for column in means.T]
    if curves:
        shown = Shown(len(pairs), len({pair.patient_id for pair in pairs}), "training patients", kind)
        save(threshold_curve(thresholds, curves, unit="g/cm²", shown=shown), folder / "threshold")


def measured_values(pairs: Sequence[Pair], task: Task) -> np.ndarray:
    """(n,), measured BMD of pairs in the task's unit; NaN where not known."""
    found = [pair.dxa_bmd_g_cm2 if task == "dxa" else pair.qct_bmd_mg_cm3 for pair in pairs]
    return np.array([np.nan if value is None else value for value in found])


def file_stem(name: str) -> str:
    """A method's name as part of a file's."""
    return make_safe_name(name.lower(), also="", otherwise="")
