"""Whether methods, trainings and poses differ: tests on the same images, with the patient as the block."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from bmdkit.evaluation.agreement import FEWEST_PATIENTS
from bmdkit.evaluation.significance import Comparison, compare_conditions, tabulate_conditions
from bmdkit.io.results import finite, write_csv
from bmdkit.study.finished_runs import Method
from bmdkit.study.task_values import Split, TaskValues
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.run_layout import PairPrediction

Family = Literal["methods", "trainings", "poses"]
Quantity = Literal["error", "absolute error"]

QUANTITIES: tuple[Quantity, ...] = ("error", "absolute error")
"""What is compared: predicted less measured, which tells a bias, and its absolute value, which tells accuracy."""


@dataclass(frozen=True)
class ConditionTest:
    """One comparison of conditions.

    Attributes:
        family: `methods` trained on the same poses and targets; `trainings` of one method that differ in their poses,
            calibration or settings, pose by pose; `poses` within one method.
        task, quantity: What is compared.
        within: The method whose poses, or the pose whose trainings are compared; empty between methods.
        conditions: What is compared with each other.
        images, patients: Number of images and of patients that all conditions have.
        comparison: The tests; None below ten patients.
    """

    family: Family
    task: Task
    quantity: Quantity
    within: str
    conditions: tuple[str, ...]
    images: int
    patients: int
    comparison: Comparison | None


@dataclass(frozen=True)
class _ImageValue:
    """The value of one image under one condition."""

    row: PairPrediction
    value: float


@dataclass(frozen=True)
class SignificanceRow:
    """One row of significance.csv; numbers are None below ten patients, and `note` says so.

    Attributes:
        family, task, quantity, within, conditions, images, patients: As in `ConditionTest`.
        f, df_conditions, df_error, epsilon: The analysis of variance, before its degrees of freedom are corrected.
        p: Probability with corrected degrees of freedom.
        sphericity_p: Mauchly's.
        procedure: How pairs were compared.
        detectable_difference: Difference that is found with a power of 80 %, in the task's unit.
        note: Why there is no test.
    """

    family: str
    task: str
    quantity: str
    within: str
    conditions: str
    images: int
    patients: int
    f: float | None = None
    df_conditions: int | None = None
    df_error: int | None = None
    epsilon: float | None = None
    p: float | None = None
    sphericity_p: float | None = None
    procedure: str | None = None
    detectable_difference: float | None = None
    note: str = ""

    @classmethod
    def of(cls, test: ConditionTest) -> SignificanceRow:
        """The row of one test."""
        names = " | ".join(test.conditions)
        about = (test.family, test.task, test.quantity, test.within, names, test.images, test.patients)
        found = test.comparison
        if found is None:
            return cls(*about, note=f"fewer than {FEWEST_PATIENTS} patients")
        anova = found.anova
        numbers = (finite(anova.f), anova.df_conditions, anova.df_error, anova.epsilon_used)
        tests = (finite(anova.p_corrected), finite(found.sphericity_p), found.procedure)
        return cls(*about, *numbers, *tests, finite(found.detectable_difference))


@dataclass(frozen=True)
class PairRow:
    """One row of significance_pairs.csv: two conditions of a test.

    Attributes:
        family, task, quantity, within: Same as in `ConditionTest`.
        first, second: The conditions.
        difference, lower, upper: Mean of the first less the second with its simultaneous 95 % interval.
        p: Probability over all pairs of the test.
    """

    family: str
    task: str
    quantity: str
    within: str
    first: str
    second: str
    difference: float
    lower: float | None
    upper: float | None
    p: float | None


def compare_all(methods: Sequence[Method], split: Split) -> list[ConditionTest]:
    """Compare methods with each other, the trainings of each, and the poses within each.

    Seeds are averaged image by image: of the errors, not of the predictions.

    Args:
        methods: Methods of one study.
        split: Patients whose predictions are compared.
    """
    tests: list[ConditionTest] = []
    for task in TASKS:
        for quantity in QUANTITIES:
            values = {m.name: found for m in methods if (found := _values_by_image(m, split, task, quantity))}
            known = [method for method in methods if method.name in values]
            tests += _compare_methods(known, values, task, quantity)
            tests += _compare_trainings(known, values, task, quantity)
            tests += _compare_poses(values, task, quantity)
    return tests


def write_tests(tests: Sequence[ConditionTest], out: Path) -> None:
    """Write significance.csv, a row for each test, and significance_pairs.csv, a row for every two conditions."""
    rows = [SignificanceRow.of(test) for test in tests]
    pairs = [pair for test in tests for pair in _pair_rows(test)]
    write_csv(out / "significance.csv", map(asdict, rows), [field.name for field in fields(SignificanceRow)])
    write_csv(out / "significance_pairs.csv", map(asdict, pairs), [field.name for field in fields(PairRow)])


def _pair_rows(test: ConditionTest) -> Iterator[PairRow]:
    for d in () if test.comparison is None else test.comparison.differences:
        about = (test.family, test.task, test.quantity, test.within, d.first, d.second)
        yield PairRow(*about, d.difference, finite(d.lower), finite(d.upper), finite(d.p))


def _values_by_image(method: Method, split: Split, task: Task, quantity: Quantity) -> dict[str, _ImageValue]:
    """The quantity by pair, averaged over the seeds that all predict it."""
    of_seeds: list[dict[str, _ImageValue]] = []
    for seed in method.seeds:
        values = TaskValues.of(method.rows(seed, split, task), task)
        errors = values.errors if quantity == "error" else np.abs(values.errors)
        of_seeds.append({row.pair_id: _ImageValue(row, float(e)) for row, e in zip(values.rows, errors, strict=True)})
    common = _common_pairs(of_seeds)
    return {
        name: _ImageValue(of_seeds[0][name].row, float(np.mean([one[name].value for one in of_seeds])))
        for name in common
    }


def _compare_methods(
    methods: Sequence[Method], values: Mapping[str, Mapping[str, _ImageValue]], task: Task, quantity: Quantity
) -> Iterator[ConditionTest]:
    by_poses: dict[tuple[tuple[str, ...], bool], list[str]] = defaultdict(list)
    for method in methods:
        by_poses[method.first.poses, method.first.is_uncalibrated].append(method.name)
    for names in by_poses.values():
        if len(names) > 1:
            yield _compare({name: values[name] for name in names}, "methods", task, quantity, "")


def _compare_trainings(
    methods: Sequence[Method], values: Mapping[str, Mapping[str, _ImageValue]], task: Task, quantity: Quantity
) -> Iterator[ConditionTest]:
    by_procedure: dict[str, list[str]] = defaultdict(list)
    for method in methods:
        by_procedure[method.first.procedure].append(method.name)
    for names in by_procedure.values():
        if len(names) < 2:
            continue
        poses = sorted({one.row.pose for name in names for one in values[name].values()})
        for pose in poses:
            of_pose = {name: {k: v for k, v in values[name].items() if v.row.pose == pose} for name in names}
            yield _compare(of_pose, "trainings", task, quantity, pose)


def _compare_poses(
    values: Mapping[str, Mapping[str, _ImageValue]], task: Task, quantity: Quantity
) -> Iterator[ConditionTest]:
    for name, of_method in values.items():
        found = list(of_method.values())
        if len({one.row.pose for one in found}) > 1:
            yield _test(found, [one.row.pose for one in found], "poses", task, quantity, name)


def _compare(
    of_conditions: Mapping[str, Mapping[str, _ImageValue]],
    family: Family,
    task: Task,
    quantity: Quantity,
    within: str,
) -> ConditionTest:
    """Compare conditions on the images that all of them have."""
    common = _common_pairs(of_conditions.values())
    found = [(name, values[pair]) for name, values in of_conditions.items() for pair in common]
    return _test([one for _, one in found], [name for name, _ in found], family, task, quantity, within)


def _test(
    values: Sequence[_ImageValue],
    conditions: Sequence[str],
    family: Family,
    task: Task,
    quantity: Quantity,
    within: str,
) -> ConditionTest:
    patients = [one.row.patient_id for one in values]
    table, blocks, names = tabulate_conditions([one.value for one in values], patients, conditions)
    images = len({one.row.pair_id for one in values if one.row.patient_id in set(blocks)})
    enough = len(blocks) >= FEWEST_PATIENTS and len(names) > 1
    comparison = compare_conditions(table, names) if enough else None
    return ConditionTest(family, task, quantity, within, names, images, len(blocks), comparison)


def _common_pairs(of_conditions: Iterable[Mapping[str, _ImageValue]]) -> list[str]:
    sets = [set(values) for values in of_conditions]
    return sorted(set.intersection(*sets)) if sets else []
