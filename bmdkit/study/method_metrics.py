"""What metrics.json says of each method: agreement by task and seed, poses, images; and what needs no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bmdkit.evaluation.agreement import FEWEST_PATIENTS, Agreement, bland_altman, icc_2_1, pearson
from bmdkit.evaluation.conformal import measure_coverage
from bmdkit.evaluation.decision_curve import measure_decisions
from bmdkit.evaluation.repeatability import case_outliers, consistency, measure_precision
from bmdkit.evaluation.screening import T_SCORES, calibrate_predictions, screen
from bmdkit.evaluation.significance import tabulate_conditions
from bmdkit.inference.t_score import Reference
from bmdkit.io.results import make_plain
from bmdkit.study.device_precision import describe_devices
from bmdkit.study.finished_runs import Method, Result
from bmdkit.study.task_values import Split, TaskValues
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.joint_predictions import average_predictions, join_predictions
from bmdkit.training.run_layout import PairPrediction

CEILING, MEAN = "ground-truth PF-DRR", "mean of the training patients"
"""Rows of Table 2 that need no network: a line through the true projections, and a constant."""


@dataclass(frozen=True)
class ImageMetrics:
    """How alike predicted and true projections are, as means over images.

    Attributes:
        images, patients: Number of images and of patients.
        l1_g_cm2, psnr_db, dice: Means over the images.
        mean_pcc, mean_icc: Agreement of the mean densities of both projections, within folds; NaN below ten patients.
    """

    images: int
    patients: int
    l1_g_cm2: float
    psnr_db: float
    dice: float
    mean_pcc: float
    mean_icc: float


@dataclass(frozen=True)
class MethodMetrics:
    """One method, measured.

    Attributes:
        method: The method.
        agreement: Agreement by task and seed; seeds without a value are left out.
        by_hip: Agreement of the means over the images of each hip, by task and seed; none where each hip has one image.
        poses: What metrics.json says of poses and limits of agreement, by task, of the first seed.
        images: Metrics of the projections, of each seed; empty of a regression.
        mean_of_seeds: Agreement of the mean of what the networks of all seeds predict, by task; none of one seed.
    """

    method: Method
    agreement: Mapping[Task, Mapping[int, Agreement]]
    by_hip: Mapping[Task, Mapping[int, Agreement]]
    poses: Mapping[Task, Mapping[str, Any]]
    images: tuple[ImageMetrics, ...]
    mean_of_seeds: Mapping[Task, Agreement]

    def entry(self) -> dict[str, Any]:
        """The method's entry of metrics.json."""
        results = self.method.results
        entry: dict[str, Any] = {
            "seeds": list(self.method.seeds),
            "folds": sorted({str(result.fold) for result in results}),
            "runs": sorted({result.name for result in results}),
            "tasks": {
                task: {"seeds": list(found), "by_seed": [make_plain(asdict(one)) for one in found.values()]}
                | ({"by_hip": [make_plain(asdict(one)) for one in averaged.values()]} if averaged else {})
                | ({} if joint is None else {"mean_of_seeds": make_plain(asdict(joint))})
                | dict(self.poses[task])
                for task, found in self.agreement.items()
                for averaged, joint in [(self.by_hip[task], self.mean_of_seeds.get(task))]
            },
        }
        weak = {result.name: list(result.weaknesses) for result in results if result.weaknesses}
        if weak:
            entry["weaknesses"] = weak
        if self.method.first.phase == "decomposition":
            entry["images"] = [make_plain(asdict(one)) for one in self.images]
        return entry


def measure_method(
    method: Method, split: Split, reference: Reference | None = None, devices: Mapping[str, str] | None = None
) -> MethodMetrics:
    """Measure the predictions of one method for the patients of one split.

    Args:
        method: The method.
        split: Patients that are taken.
        reference: Young adults from whom T-scores count; None: nothing is said of osteoporosis.
        devices: Device that took the radiograph of each pair, by its name.
    """
    found: dict[Task, dict[int, Agreement]] = {}
    by_hip: dict[Task, dict[int, Agreement]] = {}
    poses: dict[Task, Mapping[str, Any]] = {}
    joint: dict[Task, Agreement] = {}
    for task in TASKS:
        values = {seed: TaskValues.of(method.rows(seed, split, task), task) for seed in method.seeds}
        agreements = {seed: one for seed, some in values.items() if (one := some.agreement()) is not None}
        if agreements:
            found[task] = agreements
            means = average_predictions(join_predictions([some.rows for some in values.values()]))
            together = TaskValues.of(means, task).agreement()
            if len(agreements) > 1 and split == "test" and together is not None:  # folds share training patients
                joint[task] = together
            by_hip[task] = _measure_hips(values)
            first = values[method.first_seed]
            poses[task] = _describe_poses(first) | _describe_use(first, reference)
            if of_devices := describe_devices(first, devices or {}):
                poses[task] = {**poses[task], "devices": make_plain(of_devices)}
    decomposes = method.first.phase == "decomposition"
    images = tuple(measure_images(method.rows_by_fold(seed, split)) for seed in method.seeds) if decomposes else ()
    return MethodMetrics(method, found, by_hip, poses, images, joint)


def _measure_hips(values: Mapping[int, TaskValues]) -> dict[int, Agreement]:
    """Agreement of the means over the images of each hip, by seed; nothing where no hip has two."""
    averaged = {seed: some.averaged_by_hip() for seed, some in values.items()}
    return {
        seed: one
        for seed, some in averaged.items()
        if len(some) < len(values[seed]) and (one := some.agreement()) is not None
    }


def measure_images(folds: Sequence[Sequence[PairPrediction]]) -> ImageMetrics:
    """Metrics of the projections of some images of a decomposition.

    Args:
        folds: Rows of each fold. Means of its projections are above a threshold of its own: they are compared fold by
            fold, and the agreement is averaged over the images.
    """
    rows = [row for fold in folds for row in fold]
    patients = len({row.patient_id for row in rows})
    means = [
        np.array([(number(row.predicted_mean_g_cm2), number(row.target_mean_g_cm2)) for row in fold]) for fold in folds
    ]
    sizes = [len(fold) for fold in folds] if patients >= FEWEST_PATIENTS else []
    return ImageMetrics(
        images=len(rows),
        patients=patients,
        l1_g_cm2=float(np.mean([number(row.l1_g_cm2) for row in rows])),
        psnr_db=float(np.mean([number(row.psnr_db) for row in rows])),
        dice=float(np.mean([number(row.dice) for row in rows])),
        mean_pcc=float(np.average([pearson(*pair.T) for pair in means], weights=sizes)) if sizes else math.nan,
        mean_icc=float(np.average([icc_2_1(pair) for pair in means], weights=sizes)) if sizes else math.nan,
    )


def _describe_poses(values: TaskValues) -> dict[str, Any]:
    """Consistency of the poses, precision, and who lies outside the limits of agreement, with how often by pose."""
    described: dict[str, Any] = {}
    if len(values) > 1:
        compared = bland_altman(values.predicted, values.measured)
        described["bland_altman"] = {k: getattr(compared, k) for k in ("bias", "sd", "lower", "upper")}
        described["bland_altman"]["patients_outside"] = case_outliers(compared, values.patients)
        outside = [pose for pose, out in zip(values.poses, compared.outliers, strict=True) if out]
        described["bland_altman"]["images_outside_by_pose"] = {p: outside.count(p) for p in sorted(set(values.poses))}
    precision = measure_precision(values.predicted, values.hips)
    if precision is not None:
        described["precision"] = asdict(precision)
    table, hips, poses = tabulate_conditions(values.predicted, values.hips, values.poses)
    if min(table.shape) > 1:
        described["poses"] = {"poses": poses, "hips": len(hips)}
        if len({hip.rsplit(" ", 1)[0] for hip in hips}) >= FEWEST_PATIENTS:
            described["poses"]["pcc"] = consistency(table).tolist()
    return make_plain(described)


def _describe_use(values: TaskValues, reference: Reference | None) -> dict[str, Any]:
    """Calibration, prediction interval with its coverage, and screening; nothing below ten patients."""
    if not values.has_enough_patients:
        return {}
    rng = np.random.default_rng(0)
    calibration = calibrate_predictions(values.predicted, values.measured, values.patients, rng=rng)
    halves = np.random.default_rng(0)  # those of subgroups.csv
    coverage = measure_coverage(values.errors, values.patients, rng=halves)
    described: dict[str, Any] = {}
    if calibration is not None:
        described["calibration"] = asdict(calibration)
    if coverage is not None:
        described["prediction_interval"] = asdict(coverage)
    if reference is not None and values.task == "dxa":
        predicted, measured = (
            [reference.t_score(float(one)) for one in some] for some in (values.predicted, values.measured)
        )
        screened = [screen(name, predicted, measured, values.patients, rng=rng) for name in T_SCORES]
        described["screening"] = {"reference": asdict(reference), "conditions": [asdict(one) for one in screened]}
        described["screening"]["decisions"] = {
            name: [asdict(point) for point in measure_decisions(predicted, measured, values.patients, cut, rng=rng)]
            for name, cut in T_SCORES.items()
        }
    return make_plain(described)


def measure_reference(name: str, results: Sequence[Result], split: Split) -> dict[Task, Agreement]:
    """Measure what no network is needed for; each fold's constant or line is fitted to its own training patients.

    Args:
        name: MEAN or CEILING.
        results: All results of a study.
        split: Patients whose values are predicted.

    Returns:
        Agreement by task; none where no decomposition of dataset B is there.
    """
    decompositions = [r for r in results if r.phase == "decomposition" and r.dataset == "B"]
    folds = {r.fold: r for r in sorted(decompositions, key=lambda r: (len(r.rows), r.name))}  # that with most pairs
    found: dict[Task, Agreement] = {}
    for task in TASKS:
        rows = [row for result in folds.values() for row in _predict_reference(name, result, split, task)]
        one = TaskValues.of(rows, task).agreement()
        if one is not None:
            found[task] = one
    return found


def _predict_reference(name: str, result: Result, split: Split, task: Task) -> list[PairPrediction]:
    """Rows of one fold with the constant or the line in place of what was predicted."""
    train = [row for row in result.of("train") if row.measured(task) is not None]
    chosen = [row for row in result.of(split) if row.measured(task) is not None]
    of_task = all(row.target_mean(task) is not None for row in train)

    def mean_of(row: PairPrediction) -> float:
        return number(row.target_mean(task) if of_task else row.target_mean_g_cm2)

    x, y = np.array([mean_of(row) for row in train]), np.array([number(row.measured(task)) for row in train])
    if not train or (name == CEILING and np.ptp(x) == 0):
        return []
    slope, intercept = np.polyfit(x, y, 1) if name == CEILING else (0.0, y.mean())
    values = [float(slope * mean_of(row) + intercept) for row in chosen]
    if task == "dxa":
        return [replace(row, predicted_dxa_bmd_g_cm2=value) for row, value in zip(chosen, values, strict=True)]
    return [replace(row, predicted_qct_bmd_mg_cm3=value) for row, value in zip(chosen, values, strict=True)]


def number(value: float | None) -> float:
    """A number; NaN for None."""
    return math.nan if value is None else value
