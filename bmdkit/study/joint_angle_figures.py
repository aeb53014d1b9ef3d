"""Errors of a study against the angles of the hip in each radiograph: figures, points and fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from bmdkit.dataset.samples import read_pairs
from bmdkit.evaluation.figure_style import save
from bmdkit.evaluation.joint_angle_errors import ANGLES, AngleFit, JointAngles, fit_angle, read_joint_angles
from bmdkit.evaluation.representation_figures import error_against_angle
from bmdkit.io.results import finite, write_csv
from bmdkit.study.finished_runs import Method
from bmdkit.study.paper_figures import Cast, Scene
from bmdkit.study.task_values import UNITS, Split, TaskValues, describe_rows, make_file_stem
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.run_layout import PairPrediction

_NO_ROTATION = "There is no rotation angle, as no knee is in the scan; error_sources.csv has the turn since the CT."
_SOURCES = {
    "isb": "Angles of the femur's shaft in the frame of the pelvis (ISB, Wu et al. 2002).",
    "change": "Turn of the femur against the pelvis since the CT, about the CT's axes; zero is the pose in the CT.",
}


@dataclass(frozen=True)
class AngleRow:
    """One row of joint_angles.csv: the error of a prediction and the angles of the hip in its radiograph.

    Attributes:
        method, seed, task: What predicted.
        pair_id, patient_id, side, pose: Pair of the radiograph.
        source: Source of the angles; see `JointAngles`.
        flexion_deg, abduction_deg: Angles of the hip.
        error: Predicted less measured, in the task's unit.
    """

    method: str
    seed: int
    task: str
    pair_id: str
    patient_id: str
    side: str
    pose: str
    source: str
    flexion_deg: float
    abduction_deg: float
    error: float


@dataclass(frozen=True)
class AngleFitRow:
    """One row of joint_angle_fits.csv: the fit of a method's errors against one angle; see `AngleFit`.

    Attributes:
        method, seed, task, angle, source: What was fitted.
        images, patients: Number of images and of patients.
        slope_per_deg, intercept, r, p: The fit; None where there is none.
        error_low, error_high, angle_low, angle_high: Limits of errors and angles.
        outside_pct_usual, outside_pct_unusual: Errors outside their limits, at usual and at unusual angles.
    """

    method: str
    seed: int
    task: str
    angle: str
    source: str
    images: int
    patients: int
    slope_per_deg: float | None
    intercept: float | None
    r: float | None
    p: float | None
    error_low: float
    error_high: float
    angle_low: float
    angle_high: float
    outside_pct_usual: float | None
    outside_pct_unusual: float | None


def draw_angles(methods: Sequence[Method], cast: Cast, data: Path, out: Path, scene: Scene) -> list[str]:
    """Draw errors of each method and task against the angles of the hip, of the first seed.

    Args:
        methods: Methods of one study.
        cast: Methods of the numbered figures; the best of them has figure 10.
        data: Dataset that they were trained on.
        out: Folder that joint_angles.csv, joint_angle_fits.csv and figures/ are written to.
        scene: What all figures have in common.

    Returns:
        Why there is nothing, in sentences.
    """
    if not any(method.first.dataset == "B" for method in methods):
        return ["error against hip-joint angle: no run is of dataset B."]
    known = read_joint_angles(data, read_pairs(data, "B", verdicts=("accept", "review", "reject")))
    if not known:
        return [
            "error against hip-joint angle: neither registration_<xray>.json in cases/ nor the meta.json of dataset A "
            "tells the poses of pelvis and femur."
        ]
    points: list[AngleRow] = []
    fits: list[AngleFitRow] = []
    for method in methods:
        numbered = cast.best is not None and method.name == cast.best.name
        for task in TASKS:
            values = _values_with_angles(method, scene.split, task, known)
            if len(values) > 1:
                points += _list_points(method, values, known)
                fits += [_draw_fit(method, values, known, angle, scene, numbered) for angle in ANGLES]
    if not fits:
        return ["error against hip-joint angle: no prediction is of a pair whose joint angles are known."]
    write_csv(out / "joint_angles.csv", map(asdict, points), [field.name for field in fields(AngleRow)])
    write_csv(out / "joint_angle_fits.csv", map(asdict, fits), [field.name for field in fields(AngleFitRow)])
    return []


def _values_with_angles(method: Method, split: Split, task: Task, known: Mapping[str, JointAngles]) -> TaskValues:
    rows: list[PairPrediction] = [row for row in method.rows(method.first_seed, split, task) if row.pair_id in known]
    return TaskValues.of(rows, task)


def _list_points(method: Method, values: TaskValues, known: Mapping[str, JointAngles]) -> list[AngleRow]:
    points = []
    for row, error in zip(values.rows, values.errors, strict=True):
        angles, who = known[row.pair_id], (row.pair_id, row.patient_id, row.side, row.pose)
        where = (angles.source, angles.flexion_deg, angles.abduction_deg)
        points.append(AngleRow(method.name, method.first_seed, values.task, *who, *where, float(error)))
    return points


def _draw_fit(
    method: Method,
    values: TaskValues,
    known: Mapping[str, JointAngles],
    angle: str,
    scene: Scene,
    numbered: bool,
) -> AngleFitRow:
    """Draw the errors of one method and task against one angle, and describe the fit."""
    seed, task = method.first_seed, values.task
    shown = describe_rows(
        values.rows, [r for r in method.seeds[seed] if task in r.tasks], scene.split, scene.kind, seed
    )
    found = [known[row.pair_id] for row in values.rows]
    source, angles = found[0].source, [one.angle(angle) for one in found]
    fit = fit_angle(angles, values.errors, values.patients)
    if not values.has_enough_patients:
        fit = replace(fit, r=float("nan"), p=float("nan"))
    caption = f"{capitalise(method.name)}. {_SOURCES[source]} {_NO_ROTATION} p: patients, not images, count."
    figure = error_against_angle(
        angles,
        values.errors,
        fit,
        angle=capitalise(angle) if source == "isb" else f"{capitalise(angle)} since the CT",
        quantity=f"{task.upper()}-BMD",
        unit=UNITS[task],
        poses=values.poses,
        shown=shown,
        caption=caption,
    )
    if numbered:
        title = f"Error of {task.upper()}-BMD against {angle}"
        rows = [asdict(point) for point in _list_points(method, values, known)]
        scene.book.add(10, f"{angle}_{task}", figure, rows, title=title, caption=caption, shown=shown)
    else:
        save(figure, scene.book.folder / f"{angle}_{make_file_stem(method.name)}_{task}")
    place = (method.name, seed, task, angle, source, shown.images, shown.patients)
    return AngleFitRow(*place, *_numbers_of(fit))


def _numbers_of(fit: AngleFit) -> tuple:
    line = (finite(value) for value in (fit.slope_per_deg, fit.intercept, fit.r, fit.p))
    outside = (finite(value) for value in (fit.outside_pct_usual, fit.outside_pct_unusual))
    return (*line, *fit.error_limits, *fit.angle_limits, *outside)


def capitalise(text: str) -> str:
    """A text with a capital letter, for the beginning of a sentence."""
    return text[:1].upper() + text[1:]
