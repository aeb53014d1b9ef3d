"""Five folds by patient: a patient's images never lie on both sides of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bmdkit.core.case import Case
from bmdkit.errors import PreflightError

FOLDS = 5


def assign_folds(patients: Sequence[str], *, seed: int, folds: int = FOLDS) -> dict[str, int]:
    """A fold, 0-based, per patient: balanced, and the same whatever the order of the patients.

    Args:
        patients: Unique identifiers.
        seed: Shuffles them.
        folds: Number of folds.
    """
    if len(set(patients)) != len(patients):
        raise ValueError("patients: expected unique identifiers")
    if folds < 1:
        raise ValueError(f"folds: expected a positive number, got {folds}")
    shuffled = sorted(patients, key=lambda patient: hashlib.sha256(f"{seed}\0{patient}".encode()).digest())
    return {patient: place % folds for place, patient in enumerate(shuffled)}


def choose_folds(cases: Sequence[Case], *, seed: int, folds: int = FOLDS) -> dict[str, int]:
    """The folds that the cohort gives in a column `fold`, or those of `assign_folds`.

    Raises:
        PreflightError: A given fold is no number, is missing, or a patient is in two of them (BMD-RUN-033).
    """
    given: dict[str, set[str]] = {c.patient_id: {row.carried.get("fold", "") for row in c.rows} for c in cases}
    if all(values == {""} for values in given.values()):
        return assign_folds([case.patient_id for case in cases], seed=seed, folds=folds)
    return {patient: _one_fold(patient, values) for patient, values in given.items()}


def _one_fold(patient: str, values: set[str]) -> int:
    if len(values) > 1:
        raise PreflightError("BMD-RUN-033", f"in folds {', '.join(sorted(values))}", case=patient)
    (value,) = values
    if not value.strip().isdecimal():
        raise PreflightError("BMD-RUN-033", f"fold {value!r} is no whole number", case=patient)
    return int(value)
