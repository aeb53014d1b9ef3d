"""Predicted and measured values of one task side by side, and the words for what they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bmdkit.core.naming import make_safe_name
from bmdkit.dataset.samples import Pair
from bmdkit.evaluation.agreement import FEWEST_PATIENTS, Agreement, agreement
from bmdkit.evaluation.figures import Shown
from bmdkit.study.finished_runs import Method, Result
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.run_layout import PairPrediction

Split = Literal["test", "train"]
Kind = Literal["simulated", "clinical"]
UNITS: dict[Task, str] = {"dxa": "g/cm²", "qct": "mg/cm³"}
SPLITS: dict[str, str] = {"test": "held-out patients", "train": "training patients"}


@dataclass(frozen=True, eq=False)
class TaskValues:
    """Images whose value of one task was both measured and predicted.

    Attributes:
        task: dxa or qct.
        rows: (n,), the images.
        predicted, measured: (n,), in the task's unit.
    """

    task: Task
    rows: tuple[PairPrediction, ...]
    predicted: np.ndarray
    measured: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[PairPrediction], task: Task) -> TaskValues:
        """The values of those rows that have both."""
        known = [
            (row, p, y)
            for row in rows
            if (p := row.predicted(task)) is not None and (y := row.measured(task)) is not None
        ]
        predicted, measured = (np.array([one[place] for one in known], float) for place in (1, 2))
        return cls(task, tuple(row for row, _, _ in known), predicted, measured)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.rows)

    @property
    def errors(self) -> np.ndarray:
        """(n,), predicted less measured."""
        return self.predicted - self.measured

    @property
    def patients(self) -> list[str]:
        """(n,), whose each image is."""
        return [row.patient_id for row in self.rows]

    @property
    def hips(self) -> list[str]:
        """(n,), which hip each image shows."""
        return [row.hip for row in self.rows]

    @property
    def poses(self) -> list[str]:
        """(n,), the pose of each image."""
        return [row.pose for row in self.rows]

    def averaged_by_hip(self) -> TaskValues:
        """One value for each hip, the mean over its images; its row is that of the first."""
        place: dict[str, list[int]] = {}
        for n, row in enumerate(self.rows):
            place.setdefault(row.hip, []).append(n)
        groups = list(place.values())
        predicted, measured = (
            np.array([values[group].mean() for group in groups]) for values in (self.predicted, self.measured)
        )
        return TaskValues(self.task, tuple(self.rows[group[0]] for group in groups), predicted, measured)

    def agreement(self) -> Agreement | None:
        """All metrics of agreement, without correlations below ten patients; None without images."""
        if not self.rows:
            return None
        rng = np.random.default_rng(0)
        found = agreement(self.predicted, self.measured, patients=self.patients, hips=self.hips, rng=rng)
        return found if self.has_enough_patients else found.without_correlations()

    @property
    def has_enough_patients(self) -> bool:
        """Whether there are so many patients that correlations and intervals mean something."""
        return len(set(self.patients)) >= FEWEST_PATIENTS


def describe_rows(
    rows: Sequence[PairPrediction], results: Sequence[Result], split: Split, kind: Kind, seed: int | None = None
) -> Shown:
    """What a figure or table shows; one seed of several if it is named."""
    folds = sorted({str(result.fold) for result in results})
    words = f"{SPLITS[split]} of fold{'s' * (len(folds) > 1)} {', '.join(folds)}"
    if seed is not None:
        words += f", seed {seed}"
    return Shown(len({row.pair_id for row in rows}), len({row.patient_id for row in rows}), words, kind)


def measured_values(pairs: Sequence[Pair], task: Task) -> np.ndarray:
    """(n,), measured BMD of pairs in the task's unit; NaN where not known."""
    found = [pair.dxa_bmd_g_cm2 if task == "dxa" else pair.qct_bmd_mg_cm3 for pair in pairs]
    return np.array([np.nan if value is None else value for value in found])


def make_file_stem(name: str) -> str:
    """Make of a method's name a part of a file's."""
    return make_safe_name(name.lower(), also="", otherwise="")


def iterate_task_values(methods: Sequence[Method], split: Split) -> Iterator[tuple[Method, TaskValues]]:
    """Yield each method with the values of its first seed, for each task.

    Args:
        methods: Methods of one study.
        split: Patients whose values are taken.
    """
    for method in methods:
        for task in TASKS:
            yield method, TaskValues.of(method.rows(method.first_seed, split, task), task)
