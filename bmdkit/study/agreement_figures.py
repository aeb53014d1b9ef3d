"""Figures of a study: agreement of each method and task, and the threshold of the mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bmdkit.core.naming import make_safe_name
from bmdkit.dataset.samples import Pair
from bmdkit.evaluation.agreement import FEWEST_PATIENTS
from bmdkit.evaluation.figure_style import save
from bmdkit.evaluation.figures import bland_altman_plot, scatter, threshold_curve
from bmdkit.study.finished_runs import Method, Result
from bmdkit.study.task_values import UNITS, Kind, Split, TaskValues, describe_rows
from bmdkit.training.bone_density import TASKS, Task


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


def draw_thresholds(results: Sequence[Result], folder: Path, kind: Kind) -> None:
    """Draw how the first run of dataset B chose its thresholds: its own sweep, of its own training images."""
    first = next((r for r in results if any(r.sweeps.values())), None)
    if first is None:
        return
    rows = first.of("train")
    shown = describe_rows(rows, [first], "train", kind, first.seed)
    if shown.patients >= FEWEST_PATIENTS:
        curves = {task.upper(): sweep for task, sweep in first.sweeps.items() if sweep}
        save(threshold_curve(curves, unit="g/cm²", shown=shown), folder / "threshold")


def measured_values(pairs: Sequence[Pair], task: Task) -> np.ndarray:
    """(n,), measured BMD of pairs in the task's unit; NaN where not known."""
    found = [pair.dxa_bmd_g_cm2 if task == "dxa" else pair.qct_bmd_mg_cm3 for pair in pairs]
    return np.array([np.nan if value is None else value for value in found])


def file_stem(name: str) -> str:
    """A method's name as part of a file's."""
    return make_safe_name(name.lower(), also="", otherwise="")
