"""Folds by patient, and who of the others tunes: a patient's images never lie on both sides of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

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


def choose_tune_patients(patients: Iterable[str], share: float) -> frozenset[str]:
    """Choose the patients on whom choices are made, and nothing is learnt; the same whatever the order of the patients.

    Args:
        patients: Unique identifiers of all patients outside the fold that is held out.
        share: Part of them, rounded to a whole number and at least one patient; 0 for nobody.

    Example:
        >>> len(choose_tune_patients([f"p{n}" for n in range(20)], 0.15))
        3
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"share: expected 0 <= share < 1, got {share}")
    shuffled = sorted(set(patients), key=lambda patient: hashlib.sha256(f"tune\0{patient}".encode()).digest())
    return frozenset(shuffled[: max(round(share * len(shuffled)), 1)] if share else ())


def draw_patients(patients: Iterable[str], count: int, *, seed: int) -> frozenset[str]:
    """Draw some patients; of one seed, fewer are a part of more.

    Args:
        patients: Unique identifiers.
        count: Number of them; all where there are no more.
        seed: Seed of the draw.

    Example:
        >>> draw_patients(["a", "b", "c"], 1, seed=0) < draw_patients(["a", "b", "c"], 2, seed=0)
        True
    """
    shuffled = sorted(set(patients), key=lambda one: hashlib.sha256(f"draw {seed}\0{one}".encode()).digest())
    return frozenset(shuffled[:count])


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
