"""A finished run that can predict BMD, with how far its predictions were off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from bmdkit.errors import PreflightError
from bmdkit.evaluation.plausibility import Plausibility
from bmdkit.io.results import sha256_of
from bmdkit.training.bone_density import Task
from bmdkit.training.run import DecompositionRun, load_run
from bmdkit.training.run_layout import (
    CONFIG,
    GENERATOR,
    PLAUSIBILITY,
    PREDICTIONS,
    RUN,
    PairPrediction,
    read_predictions,
)

LEVEL = 0.95
SOURCES = {"train": "training patients", "test": "held-out patients"}
"""Whose errors an interval is of; those of training patients are too small for new ones."""

FEWEST_IMAGES = 3
"""Images with known BMD from which an interval is made."""

USED_FILES = (CONFIG, RUN, GENERATOR, PLAUSIBILITY, PREDICTIONS)
"""The files of a run that its predictions come from."""


@dataclass(frozen=True)
class Spread:
    """How far predictions were off where the truth is known.

    Attributes:
        rms: Root mean square error, in the task's unit.
        n: Number of predictions that it was taken from.
        patients: Number of patients; they count for the interval, since one patient's errors are alike.
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


@dataclass(frozen=True, eq=False)
class Predictor:
    """A run with what is known of its errors and its training data.

    Attributes:
        run: Decomposition of dataset B, its lines fitted.
        spreads: Spread of the errors by task.
        plausibility: Silhouettes of the training data.
        sha256: Hash of each file of the run that predictions come from, by name.
    """

    run: DecompositionRun
    spreads: dict[Task, Spread]
    plausibility: Plausibility
    sha256: dict[str, str]

    @property
    def interval_from(self) -> str | None:
        """Whose errors the intervals are of, the least trustworthy one of all tasks; None without intervals."""
        splits = {spread.split for spread in self.spreads.values()}
        return next((words for split, words in SOURCES.items() if split in splits), None)


def load_predictor(folder: Path, *, device: str = "cpu") -> Predictor:
    """Read a finished decomposition run of dataset B.

    Args:
        folder: Folder of the run.
        device: Device to compute on: auto, cpu or cuda[:N].

    Raises:
        PreflightError: No finished run (BMD-TRN-009), or one that cannot predict BMD (BMD-PRE-001).
    """
    run = load_run(folder, device=device)
    if run.config.dataset != "B" or not run.lines:
        message = f"dataset {run.config.dataset}, {len(run.lines)} lines to BMD."
        raise PreflightError("BMD-PRE-001", message, file=folder)
    try:
        known = Plausibility.from_dict(json.loads((folder / PLAUSIBILITY).read_text(encoding="utf-8")))
        rows = read_predictions(folder / PREDICTIONS)
        spreads = {task: spread for task in run.lines if (spread := _spread_of(rows, task)) is not None}
        hashes = {name: sha256_of(folder / name) for name in USED_FILES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError("BMD-PRE-001", f"{error!r}.", file=folder) from error
    return Predictor(run, spreads, known, hashes)


def _spread_of(rows: Sequence[PairPrediction], task: Task) -> Spread | None:
    for split in ("test", "train"):
        own = [row for row in rows if row.split == split]
        values = [(row.predicted(task), row.measured(task), row.patient_id) for row in own]
        known = [(one, other, patient) for one, other, patient in values if one is not None and other is not None]
        if len(known) >= FEWEST_IMAGES:
            errors = np.array([predicted - measured for predicted, measured, _ in known])
            patients = len({patient for *_, patient in known})
            return Spread(float(np.sqrt(np.mean(errors**2))), len(known), patients, split)
    return None
