"""A finished run that can predict BMD, with how far its predictions were off."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmdkit.errors import PreflightError
from bmdkit.evaluation.conformal import LEVEL, conformal_half_width
from bmdkit.evaluation.familiarity import Familiarity
from bmdkit.evaluation.plausibility import FLOORS, Plausibility, Quality
from bmdkit.io.results import sha256_of
from bmdkit.training.bone_density import Task
from bmdkit.training.run import DecompositionRun, describe_radiograph, load_run
from bmdkit.training.run_layout import (
    CONFIG,
    FAMILIARITY,
    GENERATOR,
    PLAUSIBILITY,
    PREDICTIONS,
    RUN,
    PairPrediction,
    read_predictions,
)
from bmdkit.training.shipped import DECOMPOSITION, SIMULATED_USE, WORD

USE = "For research. Not for diagnosis."
"""What every output says of a network that has learnt from patients."""

SOURCES = {"train": "training patients", "test": "held-out patients"}
"""Whose errors an interval is of; those of training patients are too small for new ones."""

USED_FILES = (CONFIG, RUN, GENERATOR, PLAUSIBILITY, PREDICTIONS)
"""The files of a run that its predictions come from."""


@dataclass(frozen=True)
class Spread:
    """How far predictions were off where the truth is known.

    Attributes:
        half_width: Half width of the prediction interval, in the task's unit: split-conformal, with the same weight for
            every patient; the one of `bmdkit evaluate`.
        level: Probability with which an image of a new patient lies within.
        n: Number of predictions that it was taken from.
        patients: Number of patients.
        split: "test" (held-out patients) or "train", which is too small a spread for new patients.
    """

    half_width: float
    level: float
    n: int
    patients: int
    split: str

    def interval(self, value: float) -> tuple[float, float]:
        """Prediction interval about a value."""
        return value - self.half_width, value + self.half_width


_ORDER = ("accept", "review", "reject")


@dataclass(frozen=True)
class Judgement:
    """How a radiograph and its projection compare with those of the training patients.

    Attributes:
        quality: accept, review or reject: the worse of both.
        reasons: What was measured against what is allowed, in words.
        strangeness: How unusual they are, for ranking.
    """

    quality: Quality
    reasons: tuple[str, ...]
    strangeness: float


@dataclass(frozen=True, eq=False)
class Predictor:
    """A run with what is known of its errors and its training data.

    Attributes:
        run: Decomposition of dataset B, its lines fitted.
        spreads: Spread of the errors by task.
        plausibility: Silhouettes of the training data.
        familiarity: Features of the training radiographs; None of a run of an earlier version.
        sha256: Hash of each file of the run that predictions come from, by name.
        name: Name of the run's folder.
    """

    run: DecompositionRun
    spreads: dict[Task, Spread]
    plausibility: Plausibility
    sha256: dict[str, str]
    familiarity: Familiarity | None = None
    name: str = ""

    def judge(self, xray: np.ndarray, mask: np.ndarray, drr_g_cm2: np.ndarray, side: str) -> Judgement:
        """Compare a radiograph and its projection with those of the training patients.

        Args:
            xray: (rows, columns), [0, 1], cut as a pair's.
            mask: Pixels that are image.
            drr_g_cm2: What the run sees in it, (rows, columns).
            side: The patient's own.
        """
        quality, reasons = self.plausibility.check(drr_g_cm2, side)
        strangeness = self.plausibility.strangeness(drr_g_cm2, side)
        if self.familiarity is not None:
            features = describe_radiograph(self.run, xray, mask)
            other, more = self.familiarity.check(features)
            quality, reasons = max(quality, other, key=_ORDER.index), (*reasons, *more)
            strangeness = max(strangeness / len(FLOORS), self.familiarity.strangeness(features))
        return Judgement(quality, reasons, strangeness)

    @property
    def intended_use(self) -> str:
        """What every output has to say."""
        return SIMULATED_USE if self.run.data == "simulated" else USE

    @property
    def interval_from(self) -> str | None:
        """Whose errors the intervals are of, the least trustworthy one of all tasks; None without intervals."""
        splits = {spread.split for spread in self.spreads.values()}
        return next((words for split, words in SOURCES.items() if split in splits), None)


def load_predictor(folder: Path | None = None, *, device: str = "cpu") -> Predictor:
    """Read a finished decomposition run of dataset B.

    Args:
        folder: Folder of the run; None: the network that comes with the package.
        device: Device to compute on: auto, cpu or cuda[:N].

    Raises:
        PreflightError: No finished run (BMD-TRN-009), or one that cannot predict BMD (BMD-PRE-001).
    """
    folder = DECOMPOSITION if folder is None else folder
    run = load_run(folder, device=device)
    if run.config.dataset != "B" or not run.lines:
        message = f"dataset {run.config.dataset}, {len(run.lines)} lines to BMD."
        raise PreflightError("BMD-PRE-001", message, file=folder)
    try:
        described = json.loads((folder / PLAUSIBILITY).read_text(encoding="utf-8"))
        known = Plausibility.from_dict(described)
        familiar = Familiarity.from_dict(described[FAMILIARITY]) if FAMILIARITY in described else None
        rows = read_predictions(folder / PREDICTIONS)
        spreads = {task: spread for task in run.lines if (spread := make_spread(rows, task)) is not None}
        hashes = {name: sha256_of(folder / name) for name in USED_FILES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError("BMD-PRE-001", f"{error!r}.", file=folder) from error
    return Predictor(run, spreads, known, hashes, familiar, WORD if folder == DECOMPOSITION else folder.name)


def make_spread(rows: Sequence[PairPrediction], task: Task) -> Spread | None:
    """Errors of held-out patients; of training patients where those are too few for an interval; None where all are."""
    for split in ("test", "train"):
        own = [row for row in rows if row.split == split]
        values = [(row.predicted(task), row.measured(task), row.patient_id) for row in own]
        known = [(one, other, patient) for one, other, patient in values if one is not None and other is not None]
        if known:
            errors, patients = [one - other for one, other, _ in known], [patient for *_, patient in known]
            half_width = conformal_half_width(errors, patients, level=LEVEL)
            if math.isfinite(half_width):
                return Spread(half_width, LEVEL, len(known), len(set(patients)), split)
    return None
