"""The figures of Gu et al. 2023 that need no network: 4, 6, 7, 8, 9 and 13, from the predictions of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmdkit.dataset.samples import read_images, read_pairs
from bmdkit.evaluation.agreement import FEWEST_PATIENTS, bland_altman
from bmdkit.evaluation.agreement_panels import (
    Series,
    bland_altman_panels,
    list_points,
    pose_panels,
    scatter_and_errors,
)
from bmdkit.evaluation.case_panels import Cell, crop_to_region, size_figure, threshold_figure
from bmdkit.evaluation.figure_style import drawing
from bmdkit.evaluation.figures import Shown
from bmdkit.io.results import read_csv
from bmdkit.study.figure_book import FigureBook
from bmdkit.study.finished_runs import Method, Result
from bmdkit.study.task_values import SPLITS, UNITS, Kind, Split, TaskValues, describe_rows
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.run_layout import PairPrediction

MOST_METHODS = 6
"""Methods up to which each has pictures of its own."""

ON_REQUEST = {
    1: "Intensity of the proximal femur against BMD",
    2: "Representation and attention by stage",
    5: "t-SNE of the radiographs",
    8: "Compressed radiographs",
    10: "Error against the angle of the hip",
    11: "Cases of large error",
    12: "Hierarchical learning (HL): projections, convergence, one case",
}
"""Figures that are drawn when asked for, since they need images or networks."""

_NAMED = "Named: patients all of whose images lie outside the limits of agreement, above or below."
_TOO_FEW_IMAGES = "fewer than three images have both a measured and a predicted value."


@dataclass(frozen=True)
class Cast:
    """The methods of a study that play the parts of the paper's figures; None where there is none.

    Attributes:
        conventional: Direct regression.
        decomposition: Decomposition with all poses and calibrated CTs.
        regression: Regression on it, tuned where it is.
        limited: The same as the last of these, trained on fewer poses.
        conventional_ablation, ablation: Direct regression, and decomposition with hierarchical learning (HRFormer's
            where it says anything), of those that were trained on one pose.
    """

    conventional: Method | None
    decomposition: Method | None
    regression: Method | None
    limited: Method | None
    conventional_ablation: Method | None
    ablation: Method | None

    @property
    def best(self) -> Method | None:
        """The method whose errors are looked at: the regression, else the decomposition, else the conventional one."""
        return self.regression or self.decomposition or self.conventional


def choose_cast(methods: Sequence[Method]) -> Cast:
    """Choose the methods that play the parts of the figures: of calibrated CTs, with hierarchical learning first.

    Methods that were trained on all poses are the main ones, or those trained on several where there are none.
    """
    plain = [m for m in methods if m.first.dataset == "B" and not (m.first.is_uncalibrated or m.first.unpaired)]
    plain.sort(key=lambda method: not method.first.hierarchical)
    several = [method for method in plain if len(method.first.poses) > 1]
    single = [method.with_its_pose_alone() for method in plain if len(method.first.poses) == 1]
    main = [method for method in plain if not method.first.poses] or several or single

    def pick(among: Sequence[Method], *phases: str) -> Method | None:
        return next((method for phase in phases for method in among if method.first.phase == phase), None)

    regression = pick(main, "tuned", "frozen", "scratch")
    decomposition = pick(main, "decomposition")
    others = [method for method in several if method not in main]
    limited = pick(others, *(("tuned", "frozen", "scratch") if regression is not None else ("decomposition",)))
    learnt = [m for m in single if m.first.phase == "decomposition" and m.first.hierarchical and _predicts(m)]
    ablation = next((m for m in learnt if str(m.first.backbone).startswith("hrformer")), learnt[-1] if learnt else None)
    return Cast(pick(main, "baseline"), decomposition, regression, limited, pick(single, "baseline"), ablation)


def _predicts(method: Method) -> bool:
    """Whether a method says a BMD of any image; a decomposition that draws nothing says none."""
    rows = [row for result in method.seeds[method.first_seed] for row in result.rows]
    return any(row.predicted(task) is not None for row in rows for task in TASKS)


def choose_shown(methods: Sequence[Method]) -> list[str]:
    """Names of the methods of which single images are looked at: all of few, else decomposition and regression."""
    if len(methods) <= MOST_METHODS:
        return [method.name for method in methods]
    cast = choose_cast(methods)
    return [method.name for method in (cast.decomposition, cast.regression) if method is not None]


@dataclass(frozen=True)
class Scene:
    """What all figures of a study have in common.

    Attributes:
        book: Where they are written.
        split: Patients that are shown.
        kind: Kind of the data.
    """

    book: FigureBook
    split: Split
    kind: Kind

    def series(self, method: Method, task: Task, name: str) -> tuple[Series, list[PairPrediction]] | None:
        """What a method predicted of a task, of its first seed; None where that is less than three images."""
        values = TaskValues.of(method.rows(method.first_seed, self.split, task), task)
        if len(values) < 3:
            return None
        about = (tuple(values.poses), tuple(values.patients), tuple(values.hips))
        unit = UNITS[task]
        return Series(name, f"{task.upper()}-BMD", unit, values.predicted, values.measured, *about), list(values.rows)

    def describe(self, rows: Sequence[PairPrediction], results: Sequence[Result]) -> Shown:
        """What a figure of these images and results shows."""
        return describe_rows(rows, results, self.split, self.kind, results[0].seed)

    def shown(self, methods: Sequence[Method | None], rows: Sequence[PairPrediction]) -> Shown:
        """What a figure of these methods shows."""
        known = [method for method in methods if method is not None]
        results = [result for method in known for result in method.seeds[method.first_seed]]
        return describe_rows(rows, results, self.split, self.kind, known[0].first_seed)


def draw_paper_figures(
    methods: Sequence[Method],
    results: Sequence[Result],
    out: Path,
    split: Split,
    kind: Kind,
    *,
    data: Path | None = None,
) -> None:
    """Draw figures 4, 6, 7, 9 and 13 as far as the runs allow.

    Args:
        methods: Methods of the study.
        results: Their results.
        out: Folder of the study's results.
        split: Patients that are shown.
        kind: Kind of the data.
        data: The dataset, to whose report the index leads.
    """
    scene = Scene(FigureBook(out, fresh=True, data=data), split, kind)
    cast = choose_cast(methods)
    named = [(cast.conventional, "conventional"), (cast.decomposition, "decomposition")]
    named.append((cast.regression, "decomposition\n+ regression"))
    for number, title in ON_REQUEST.items():
        by = "--robustness" if number == 8 else "--pictures"
        scene.book.leave_out(number, title, f"it is drawn with {by}, in a study with `{by.strip('-')}: true`.")
    _draw_thresholds(scene, results)
    _draw_scatters(scene, 6, "scatter", "Predicted and measured BMD, and absolute errors", named)
    _draw_poses(scene, cast)
    _draw_limits(scene, named)
    pair = [(cast.conventional_ablation, "conventional"), (cast.ablation, "decomposition\nwith HL")]
    if cast.ablation is not None:
        _draw_scatters(scene, 13, "scatter_limited", "BMD from the dataset of one pose", pair)
    else:
        reason = "no decomposition with hierarchical learning was trained on one pose."
        scene.book.leave_out(13, "BMD from the dataset of one pose", reason)
    scene.book.write_index(kind)


def list_outside(rows: Sequence[Sequence[Series]]) -> set[str]:
    """Patients that any of these panels names as outliers."""
    return {patient for line in rows for series in line for patient in series.outside()}


def _draw_scatters(
    scene: Scene, number: int, what: str, title: str, named: Sequence[tuple[Method | None, str]]
) -> None:
    rows, points, every = [], [], []
    for task in TASKS:
        known = [(m, n) for m, n in named if m is not None]
        found = [one for method, name in known if (one := scene.series(method, task, name)) is not None]
        if found:
            rows.append([series for series, _ in found])
            points += list_points([s for s, _ in found], [[row.pair_id for row in of] for _, of in found])
            every += [row for _, of in found for row in of]
    if not rows:
        scene.book.leave_out(number, title, _TOO_FEW_IMAGES)
    else:
        shown = scene.shown([method for method, _ in named], every)
        caption = "Dashed: identity; line: least squares. Boxes: absolute errors. " + _NAMED
        figure = scatter_and_errors(rows, shown=shown, caption=caption)
        outside = list_outside(rows)
        scene.book.add(number, what, figure, points, title=title, caption=caption, shown=shown, outside=outside)


def _draw_poses(scene: Scene, cast: Cast) -> None:
    rows, points, every = [], [], []
    named = [(cast.best, "all poses trained on"), (cast.limited, "some poses trained on")]
    for method, name in named:
        if method is None:
            continue
        if method.first.poses:
            name = f"trained on {' and '.join(method.first.poses)}"
        found = [one for task in TASKS if (one := scene.series(method, task, name)) is not None]
        if found:
            rows.append((name, [series for series, _ in found]))
            points += list_points([s for s, _ in found], [[row.pair_id for row in of] for _, of in found])
            every += [row for _, of in found for row in of]
    title = "Poses, seen and unseen"
    if not rows:
        return scene.book.leave_out(7, title, _TOO_FEW_IMAGES)
    if len(poses := {row.pose for row in every}) < 2:
        return scene.book.leave_out(7, title, f"all images are of one pose, {poses.pop()}.")
    shown = scene.shown([method for method, _ in named], every)
    caption = (
        "Numbers in the legends: PCC of each pose. Squares: PCC between the predictions of every two poses of a hip."
    )
    figure = pose_panels(rows, shown=shown, caption=caption)
    scene.book.add(7, "poses", figure, points, title=title, caption=caption, shown=shown)


def _draw_limits(scene: Scene, named: Sequence[tuple[Method | None, str]]) -> None:
    rows, points, every = [], [], []
    for method, name in named:
        known = (
            [] if method is None else [one for task in TASKS if (one := scene.series(method, task, name)) is not None]
        )
        if known:
            rows.append([series for series, _ in known])
        for series, of in known:
            compared = bland_altman(series.predicted, series.measured)
            listed = list_points([series], [[row.pair_id for row in of]])
            points += [
                dict(row) | {"mean": float(m), "difference": float(d), "outside": bool(o)}
                for row, m, d, o in zip(listed, compared.mean, compared.difference, compared.outliers, strict=True)
            ]
            every += of
    title = "Limits of agreement"
    if not rows:
        return scene.book.leave_out(9, title, _TOO_FEW_IMAGES)
    shown = scene.shown([method for method, _ in named], every)
    caption = "Lines: bias and 1.96 SD. " + _NAMED
    figure = bland_altman_panels(rows, shown=shown, caption=caption)
    outside = list_outside(rows)
    scene.book.add(9, "bland_altman", figure, points, title=title, caption=caption, shown=shown, outside=outside)


def _draw_thresholds(scene: Scene, results: Sequence[Result]) -> None:
    """The sweep of the first run that has one, on its own training images, and one of them binarised."""
    first = next((r for r in results if any(r.sweeps.values())), None)
    rows = [] if first is None else first.of("train")
    title = "Threshold of the mean"
    if first is None:
        return scene.book.leave_out(4, title, "no decomposition chose a threshold.")
    if len({row.patient_id for row in rows}) < FEWEST_PATIENTS:
        return scene.book.leave_out(4, title, f"it was chosen on fewer than {FEWEST_PATIENTS} patients.")
    shown = describe_rows(rows, [first], "train", scene.kind, first.seed)
    sweeps = {f"{task.upper()}-BMD": sweep for task, sweep in first.sweeps.items() if sweep}
    best = {
        name: max(((pcc, at) for at, pcc in sweep if pcc is not None), default=(None, None))[1]
        for name, sweep in sweeps.items()
    }
    grid, names, caption = _binarise(first, rows, {name: at for name, at in best.items() if at is not None})
    unit = first.unit.replace("cm2", "cm²")
    figure = threshold_figure(sweeps, grid, names, unit=unit, shown=shown, caption=caption)
    points = [
        {"quantity": name, "threshold": at, "unit": first.unit, "pcc": pcc, "chosen": at == best[name]}
        for name, sweep in sweeps.items()
        for at, pcc in sweep
    ]
    scene.book.add(4, "threshold", figure, points, title=title, caption=caption, shown=shown)


def _binarise(
    result: Result, rows: Sequence[PairPrediction], chosen: Mapping[str, float]
) -> tuple[list[list[Cell | None]], list[str], str]:
    """The true projection of the training image of median BMD, and where it reaches some thresholds."""
    order = sorted(rows, key=lambda row: (row.measured("dxa") or row.measured("qct") or 0.0, row.pair_id))
    middle = order[len(order) // 2]
    pair = next(
        one
        for one in read_pairs(result.data, "B", verdicts=("accept", "review", "reject"))
        if one.pair_id == middle.pair_id
    )
    xray, drr, _ = (image[0].numpy() for image in read_images(pair))
    box = crop_to_region(drr)
    levels = {f"≥ {at:.3g}, {name}": at for name, at in chosen.items()}
    for factor in (0.5, 2.0, 4.0):
        for at in list(chosen.values())[:1]:
            levels[f"≥ {factor * at:.3g}"] = factor * at
    masks = [
        Cell((drr[box] >= at).astype(float), "mask", label)
        for label, at in sorted(levels.items(), key=lambda item: item[1])
    ]
    top: list[Cell | None] = [
        Cell(xray[box], "radiograph", "radiograph"),
        Cell(drr[box], "projection", "true projection"),
    ]
    half = -(-(len(masks) + len(top)) // 2)
    cells = [*top, *masks]
    caption = (
        "Chosen on the true projections of the training patients. Right: the one of median BMD, "
        f"{pair.patient_id}, and its pixels that reach some thresholds, {result.unit.replace('cm2', 'cm²')}, "
        "the best for each BMD among them."
    )
    return [cells[:half], cells[half:]], ["", ""], caption


def draw_compression(out: Path, split: Split, kind: Kind, *, data: Path | None = None) -> None:
    """Draw figure 8 from robustness.csv: correlation against the size of compressed radiographs.

    Args:
        out: Folder of the study's results, with robustness.csv.
        split: Patients that are shown.
        kind: Kind of the data.
        data: The dataset, to whose report the index leads.
    """
    rows = [row for row in read_csv(out / "robustness.csv") if row["pcc"] and row["file_kb"]]
    panels: dict[str, dict[str, list[tuple[str, float, float]]]] = {}
    original = [float(row["file_kb"]) for row in rows if row["change"] == "as it is"]
    book = FigureBook(out, data=data)
    if not original:
        book.leave_out(8, ON_REQUEST[8], f"no correlation is stated below {FEWEST_PATIENTS} patients.")
        book.write_index(kind)
        return
    for row in rows:
        label = {"jpeg": f"JPEG {row['level']}", "bits": f"{row['level']} bit"}.get(row["change"], row["change"])
        if row["change"] in ("jpeg", "bits", "as it is"):
            methods = panels.setdefault(f"{row['task'].upper()}-BMD", {})
            methods.setdefault(row["method"], []).append((label, float(row["file_kb"]), float(row["pcc"])))
    patients = max(int(row["patients"]) for row in rows)
    shown = Shown(max(int(row["images"]) for row in rows), patients, SPLITS[split], kind)
    caption = f"Dashed: the radiographs as they are, {np.mean(original):.3g} kB on average, 32 bit and not compressed."
    points = [row for row in rows if row["change"] in ("jpeg", "bits", "as it is")]
    with drawing():
        figure = size_figure(panels, original_kb=float(np.mean(original)), shown=shown, caption=caption)
        book.add(8, "compression", figure, points, title=ON_REQUEST[8], caption=caption, shown=shown)
    book.write_index(kind)
