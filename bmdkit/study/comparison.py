"""A study from finished runs: metrics, the paper's tables, figures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.core.naming import make_unique_name
from bmdkit.dataset.layout import DESCRIPTION
from bmdkit.errors import PreflightError
from bmdkit.evaluation.agreement import Agreement, agreement, bland_altman, icc_2_1, pearson
from bmdkit.evaluation.figure_style import drawing
from bmdkit.evaluation.repeatability import by_condition, case_outliers, consistency, repeated_measures_anova, tukey_hsd
from bmdkit.evaluation.tables import Column, Value, agreement_cells, agreement_columns, to_csv, to_latex, to_markdown
from bmdkit.io.results import make_plain, write_csv, write_json, write_text
from bmdkit.jobs.machine import MachineNeeds, check_machine
from bmdkit.study.agreement_figures import (
    SPLITS,
    UNITS,
    Kind,
    Split,
    draw_agreement,
    draw_thresholds,
    known_rows,
    shown_rows,
    upper,
)
from bmdkit.study.finished_runs import NUMBERS, Method, Result, group_methods, read_results
from bmdkit.training.bone_density import TASKS
from bmdkit.training.run_layout import BMD_COLUMNS, PREDICTED_MEAN, TARGET_MEAN, TARGET_MEANS, predicted_column

CEILING, MEAN = "ground-truth PF-DRR", "mean of the training patients"
PREDICTIONS = ("method", "seed", "pair_id", "patient_id", "side", "pose", "fold", "split", *NUMBERS)
_IMAGES = (
    ("psnr_db", "PSNR, dB", 2),
    ("dice", "Dice", 3),
    ("mean_icc", "ICC", 3),
    ("mean_pcc", "PCC", 3),
)


def evaluate_runs(
    runs: Sequence[Path], data: Path, out: Path, *, split: Split = "test", kind: Kind | None = None
) -> dict[str, Any]:
    """Compare finished runs, and write what there is to say.

    Args:
        runs: Folders of decomposition, regression and baseline runs; folds of one method are pooled, seeds averaged.
        data: The dataset that all were trained on.
        out: To write metrics.json, predictions.csv, table2 and table3 (CSV, Markdown, LaTeX) and figures/ to.
        split: Which patients.
        kind: Of the data; None: as dataset.json says.

    Returns:
        What metrics.json holds.

    Raises:
        PreflightError: A run cannot be used (BMD-EVA-001, -002, -003), none has such patients (BMD-EVA-004), or
            nothing says of which kind the data are (BMD-EVA-005).
    """
    kind = kind or kind_of(data)
    check_machine(MachineNeeds(out=out))
    results = [result for run in runs for result in read_results(run, data)]
    without = [result.folder.name for result in results if not result.of(split)]
    if without:
        raise PreflightError("BMD-EVA-004", f"{', '.join(sorted(set(without)))}: no {SPLITS[split]}.")
    results.sort(key=lambda result: (result.order, str(result.fold), result.seed))
    methods = group_methods(results)
    metrics = {"split": split, "data": kind, "methods": {}}
    table: dict[str, dict[str, Value]] = {}
    for method in methods:
        entry, cells = _measure(method, split)
        metrics["methods"][method.name] = entry
        if cells:
            table[method.name] = cells
    for name in (MEAN, CEILING):
        reference = _reference(name, results, split)
        if reference:
            metrics["methods"][name] = {"tasks": {task: make_plain(asdict(found)) for task, found in reference.items()}}
            cells = {k: v for task, found in reference.items() for k, v in agreement_cells(upper(task), found).items()}
            errors = (".mae", ".see")  # a constant has no correlation and no spread to boast of
            table[name] = {k: v for k, v in cells.items() if name == CEILING or k.endswith(errors)}
    shown = shown_rows([row for m in methods for row in m.rows(next(iter(m.seeds)), split)], results, split, kind)
    unlike = _unlike(methods, split)
    caption = f"{shown}.{unlike}"
    columns = [
        c
        for task, digits in (("dxa", 3), ("qct", 1))
        for c in agreement_columns(upper(task), UNITS[task], digits=digits)
    ]
    known = {key for cells in table.values() for key in cells}
    if unlike:  # the best of what cannot be compared is nothing
        columns = [replace(column, best=None) for column in columns]
    _write_table(out / "table2", table, [c for c in columns if c.key in known], f"BMD. {caption}")
    ablation = _ablation(methods, metrics["methods"], split)
    if ablation:
        if unlike:
            ablation = ablation[0], [replace(column, best=None) for column in ablation[1]]
        _write_table(out / "table3", *ablation, f"Projections of the proximal femur. {caption}")
    pooled = [
        {name: row.get(name) for name in PREDICTIONS} | {"method": method.name, "seed": seed}
        for method in methods
        for seed in method.seeds
        for row in method.rows(seed, split)
    ]
    write_csv(out / "predictions.csv", pooled, PREDICTIONS)
    write_json(out / "metrics.json", metrics)
    with drawing():
        for method in methods:
            draw_agreement(method, out / "figures", split, kind)
        draw_thresholds(data, results, out / "figures", kind)
    return metrics


def _unlike(methods: Sequence[Method], split: Split) -> str:
    """What to say where the rows of a table are not of the same images; nothing where they are."""
    seen = {m.name: {row["pair_id"] for seed in m.seeds for row in m.rows(seed, split)} for m in methods}
    each = [{row["pair_id"] for row in m.rows(seed, split)} for m in methods for seed in m.seeds]
    if all(pairs == each[0] for pairs in each):
        return ""
    counts = "; ".join(f"{name}: {len(pairs)}" for name, pairs in seen.items())
    return f" The rows are not of the same images ({counts}) and cannot be ranked."


def kind_of(data: Path) -> Kind:
    """Simulated or clinical, as dataset.json says.

    Raises:
        PreflightError: It cannot be read (BMD-TRN-001) or does not say it (BMD-EVA-005).
    """
    try:
        kind = json.loads((data / DESCRIPTION).read_text(encoding="utf-8")).get("data")
    except (OSError, ValueError, AttributeError) as error:
        raise PreflightError("BMD-TRN-001", f"no readable dataset.json in {data.name} ({error}).") from error
    if kind not in ("simulated", "clinical"):
        raise PreflightError("BMD-EVA-005", f"dataset.json of {data.name} does not say it.")
    return kind


def _measure(method: Method, split: Split) -> tuple[dict[str, Any], dict[str, Value]]:
    """The entry of metrics.json, and the cells of Table 2: a value, or mean and spread over seeds."""
    entry: dict[str, Any] = {"seeds": list(method.seeds), "folds": sorted({str(r.fold) for r in _all(method)})}
    entry["runs"] = sorted({result.name for result in _all(method)})
    cells: dict[str, Value] = {}
    tasks = {}
    for task in TASKS:
        by_seed = {seed: _agreement(method.rows(seed, split, task), task) for seed in method.seeds}
        found = [one for one in by_seed.values() if one is not None]
        if not found:
            continue
        tasks[task] = {"seeds": [seed for seed, one in by_seed.items() if one is not None]}
        tasks[task] |= {"by_seed": [make_plain(asdict(one)) for one in found]}
        tasks[task] |= _by_pose(method.rows(next(iter(method.seeds)), split, task), task)
        parts = [agreement_cells(upper(task), one) for one in found]
        cells |= {key: over_seeds([part[key] for part in parts]) for key in parts[0]}
    entry["tasks"] = tasks
    if method.first.phase == "decomposition":
        entry["images"] = [_images(method.rows(seed, split)) for seed in method.seeds]
    return entry, cells


def _all(method: Method) -> list[Result]:
    return [result for members in method.seeds.values() for result in members]


def _agreement(rows: Sequence[dict[str, Any]], task: str) -> Agreement | None:
    known, name = known_rows(rows, task), BMD_COLUMNS[task]
    if not known:
        return None
    return agreement(
        [row[predicted_column(name)] for row in known],
        [row[name] for row in known],
        patients=[row["patient_id"] for row in known],
        hips=[_hip(row) for row in known],
        rng=np.random.default_rng(0),
    )


def _by_pose(rows: Sequence[dict[str, Any]], task: str) -> dict[str, Any]:
    """Whether the pose matters (errors of hips seen in every pose), and who lies outside the limits of agreement."""
    known, name = known_rows(rows, task), BMD_COLUMNS[task]
    said: dict[str, Any] = {}
    predicted, measured = ([row[column] for row in known] for column in (predicted_column(name), name))
    if len(known) > 1:
        compared = bland_altman(predicted, measured)
        said["bland_altman"] = {k: getattr(compared, k) for k in ("bias", "sd", "lower", "upper")}
        said["bland_altman"]["patients_outside"] = case_outliers(compared, [row["patient_id"] for row in known])
    table, hips, poses = by_condition(predicted, [_hip(row) for row in known], [row["pose"] for row in known])
    if min(table.shape) > 1:
        anova = make_plain(asdict(repeated_measures_anova(table)))
        said["poses"] = {
            "poses": poses,
            "hips": len(hips),
            "anova": anova,
            "pcc": make_plain(consistency(table).tolist()),
        }
        groups = {pose: table[:, place].tolist() for place, pose in enumerate(poses)}
        said["poses"]["tukey_hsd"] = [make_plain(asdict(difference)) for difference in tukey_hsd(groups)]
    return make_plain(said)


def _images(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    target, predicted = ([row[name] for row in rows] for name in (TARGET_MEAN, PREDICTED_MEAN))
    many = len(rows) > 2  # two values always lie on a line
    found = {name: float(np.mean([row[name] for row in rows])) for name in ("l1_g_cm2", "psnr_db", "dice")}
    found["mean_pcc"] = pearson(predicted, target) if many else math.nan
    found["mean_icc"] = icc_2_1(np.c_[predicted, target]) if many else math.nan
    return make_plain({"images": len(rows)} | found)


def _reference(name: str, results: Sequence[Result], split: Split) -> dict[str, Agreement]:
    """What no network is needed for: the mean of the training patients, or the line through the true projections.

    Each fold's constant or line is fitted to its own training patients.
    """
    seeing = [r for r in results if r.phase == "decomposition" and r.dataset == "B"]
    folds = {r.fold: r for r in sorted(seeing, key=lambda r: (len(r.rows), r.name))}  # the one that used most pairs
    found = {}
    for task, column in BMD_COLUMNS.items():
        rows = []
        for result in folds.values():
            train = [row for row in result.of("train") if row[column] is not None]
            chosen = [row for row in result.of(split) if row[column] is not None]
            mean = TARGET_MEANS[task] if all(row.get(TARGET_MEANS[task]) is not None for row in train) else TARGET_MEAN
            x, y = (np.array([row[key] for row in train]) for key in (mean, column))
            if not len(train) or (name == CEILING and np.ptp(x) == 0):
                continue
            slope, intercept = np.polyfit(x, y, 1) if name == CEILING else (0.0, y.mean())
            rows += [row | {predicted_column(column): slope * row[mean] + intercept} for row in chosen]
        one = _agreement(rows, task)
        if one is not None:
            found[task] = one
    return found


def _ablation(
    methods: Sequence[Method], entries: dict[str, Any], split: Split
) -> tuple[dict[str, dict[str, Value]], list[Column]] | None:
    """Rows and columns of Table 3: each backbone without and with hierarchical learning (HL)."""
    rows: dict[str, dict[str, Value]] = {}
    chosen = [m for m in methods if m.first.phase == "decomposition" and m.first.dataset == "B"]
    for method in sorted(chosen, key=lambda m: (str(m.first.backbone), m.first.hierarchical)):
        learnt = (" + HL" if method.first.hierarchical else "") + (", unpaired" if method.first.unpaired else "")
        name = make_unique_name(f"{method.first.backbone}{learnt}", rows)
        images = entries[method.name]["images"]
        rows[name] = {key: over_seeds([_number(one[key]) for one in images]) for key, *_ in _IMAGES}
        for task in TASKS:
            found = [_agreement(method.rows(seed, split, task), task) for seed in method.seeds]
            parts = [agreement_cells(upper(task), one) for one in found if one is not None]
            rows[name] |= {key: over_seeds([part[key] for part in parts]) for key in (parts[0] if parts else ())}
    if not rows:
        return None
    columns = [Column(key, title, digits, "highest") for key, title, digits in _IMAGES]
    columns += [c for c in agreement_columns("DXA", UNITS["dxa"]) if not c.key.endswith("rms_cv_pct")]
    columns += agreement_columns("QCT", UNITS["qct"])[:1]
    known = {key for cells in rows.values() for key in cells}
    return rows, [column for column in columns if column.key in known]


def _write_table(path: Path, rows: dict[str, dict[str, Value]], columns: Sequence[Column], caption: str) -> None:
    for suffix, text in (
        ("csv", to_csv(rows, columns)),
        ("md", to_markdown(rows, columns, caption=caption)),
        ("tex", to_latex(rows, columns, caption=caption)),
    ):
        write_text(path.with_name(f"{path.name}.{suffix}"), text)


def over_seeds(values: Sequence[float]) -> Value:
    if len(values) < 2:
        return values[0]
    return float(np.mean(values)), float(np.std(values, ddof=1))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _hip(row: dict[str, Any]) -> str:
    return f"{row['patient_id']} {row['side']}"
