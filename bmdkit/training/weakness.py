"""Whether a network has learnt anything of a patient's bone mineral density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bmdkit.evaluation.agreement import FEWEST_PATIENTS
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.run_layout import PairPrediction

CONSTANT_SHARE = 0.05
"""Predictions whose standard deviation is a smaller part of that of the measured values are called constant."""

ROUNDING = 1e-9
"""Errors that differ by a smaller part are equal."""


@dataclass(frozen=True)
class Weakness:
    """What speaks against a network, as metrics.json has it.

    Attributes:
        code: BMD-TRN-022 (constant) or BMD-TRN-023 (no better than the mean).
        message: What was found and what was expected.
        patients: Number of held-out patients that it was measured with.
    """

    code: str
    message: str
    patients: int


def find_weaknesses(train: Sequence[PairPrediction], test: Sequence[PairPrediction], task: Task) -> list[Weakness]:
    """Compare predictions of patients that were held out with a constant, and with the mean of the training set.

    Args:
        train: Predictions of the patients that were trained on.
        test: Predictions of those held out; fewer than three with a known value say nothing.
        task: What was predicted.
    """
    pairs = [(row.predicted(task), row.measured(task), row.patient_id) for row in test]
    known = np.array([(one, other) for one, other, _ in pairs if one is not None and other is not None], float)
    patients = len({who for one, other, who in pairs if one is not None and other is not None})
    learnt = [value for row in train if (value := row.measured(task)) is not None]
    if len(known) < 3 or not learnt:
        return []
    predicted, measured = known.T
    unit, found = TASKS[task], []
    if predicted.std() < CONSTANT_SHARE * measured.std():
        message = f"{task}: predictions vary by {predicted.std():.2g} {unit}, measured values by {measured.std():.2g}."
        found.append(Weakness("BMD-TRN-022", message, patients))
    error, of_mean = np.abs(predicted - measured).mean(), np.abs(np.mean(learnt) - measured).mean()
    if error >= of_mean * (1.0 - ROUNDING):
        message = f"{task}: the mean error is {error:.3g} {unit}, that of the training mean {of_mean:.3g}."
        found.append(Weakness("BMD-TRN-023", message, patients))
    return found


def describe_weaknesses(found: Sequence[Weakness]) -> dict[str, list[dict[str, Any]]]:
    """The entry `weaknesses` of metrics.json; nothing where there are none."""
    return {"weaknesses": [asdict(weakness) for weakness in found]} if found else {}


def is_failure(metrics: Mapping[str, Any]) -> bool:
    """Whether a training has failed: it has a weakness, and patients enough were held out to know that.

    Args:
        metrics: What metrics.json holds.
    """
    return any(weakness["patients"] >= FEWEST_PATIENTS for weakness in metrics.get("weaknesses", []))
