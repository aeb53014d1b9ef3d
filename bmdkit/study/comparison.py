"""A study from finished runs: metrics, the paper's tables, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bmdkit.dataset.data_kind import find_data_kind
from bmdkit.errors import PreflightError
from bmdkit.evaluation.agreement import FEWEST_PATIENTS
from bmdkit.evaluation.figure_style import drawing
from bmdkit.inference.t_score import Reference
from bmdkit.io.results import make_plain, write_csv, write_json
from bmdkit.jobs.machine import MachineNeeds, check_machine
from bmdkit.study.agreement_figures import draw_agreement, draw_thresholds
from bmdkit.study.finished_runs import Method, Result, group_methods, read_results
from bmdkit.study.method_comparison import compare_all, write_tests
from bmdkit.study.method_metrics import CEILING, MEAN, measure_method, measure_reference
from bmdkit.study.paper_tables import make_bmd_table, make_projection_table
from bmdkit.study.subgroups import write_subgroups
from bmdkit.study.task_values import SPLITS, Kind, Split, describe_rows
from bmdkit.training.run_layout import BMD_COLUMNS, PREDICTION_COLUMNS, predicted_column

_BMD_COLUMNS = (*BMD_COLUMNS.values(), *(predicted_column(name) for name in BMD_COLUMNS.values()))
POOLED_COLUMNS = ("method", "seed", *(name for name in PREDICTION_COLUMNS if name not in _BMD_COLUMNS), *_BMD_COLUMNS)
"""Columns of a study's predictions.csv."""


@dataclass(frozen=True)
class Study:
    """Finished runs that were trained on one dataset.

    Attributes:
        data: Folder of the dataset.
        methods: Methods in the order of the paper's table.
        results: Results in that order, by fold and seed.
        split: Patients whose predictions are compared.
        kind: Whether the data are simulated or clinical.
    """

    data: Path
    methods: tuple[Method, ...]
    results: tuple[Result, ...]
    split: Split
    kind: Kind

    def caption(self) -> str:
        """What a table of the study shows, and whether its rows can be compared."""
        rows = [row for method in self.methods for row in method.rows(method.first_seed, self.split)]
        shown = describe_rows(rows, self.results, self.split, self.kind)
        return f"{shown}.{self.unlike_images()}{self.too_few_patients()}{self.weak_runs()}"

    def can_be_ranked(self) -> bool:
        """Whether a best value means something: of the same images, and of patients enough."""
        return not self.unlike_images() and not self.too_few_patients()

    def too_few_patients(self) -> str:
        """What to say where there are too few patients for correlations and ranks; nothing where there are enough."""
        patients = {row.patient_id for method in self.methods for row in method.rows(method.first_seed, self.split)}
        if len(patients) >= FEWEST_PATIENTS:
            return ""
        return (
            f" Below {FEWEST_PATIENTS} patients no correlation is stated (n < {FEWEST_PATIENTS}), and nothing ranked."
        )

    def weak_runs(self) -> str:
        """What to say of runs that have learnt nothing of BMD; nothing where there are none."""
        weak = [f"{result.name} ({', '.join(result.weaknesses)})" for result in self.results if result.weaknesses]
        return f" Constant, or no better than the mean of the training patients: {'; '.join(weak)}." if weak else ""

    def unlike_images(self) -> str:
        """What to say where the rows of a table are not of the same images; nothing where they are."""
        seen = {m.name: {row.pair_id for seed in m.seeds for row in m.rows(seed, self.split)} for m in self.methods}
        each = [{row.pair_id for row in m.rows(seed, self.split)} for m in self.methods for seed in m.seeds]
        if all(pairs == each[0] for pairs in each):
            return ""
        counts = "; ".join(f"{name}: {len(pairs)}" for name, pairs in seen.items())
        return f" The rows are not of the same images ({counts}) and cannot be ranked."


def evaluate_runs(
    runs: Sequence[Path],
    data: Path,
    out: Path,
    *,
    split: Split = "test",
    kind: Kind | None = None,
    reference: Reference | None = None,
) -> dict[str, Any]:
    """Compare finished runs, and write what there is to say.

    Args:
        runs: Folders of decomposition, regression and baseline runs; folds of one method are pooled, seeds averaged.
        data: The dataset that all were trained on.
        out: Folder for metrics.json, predictions.csv, significance.csv, significance_pairs.csv, subgroups.csv, table2
            and table3 (CSV, Markdown, LaTeX) and figures/.
        split: Patients that are taken.
        kind: Kind of the data; None: as dataset.json says.
        reference: Young adults from whom T-scores count; None: nothing is said of osteoporosis.

    Returns:
        What metrics.json holds.

    Raises:
        PreflightError: A run cannot be used (BMD-EVA-001, -002, -003), none has such patients (BMD-EVA-004), nothing
            says of which kind the data are (BMD-EVA-005), or the output cannot be written to (BMD-RUN-030).
    """
    kind = kind or read_kind(data)
    check_machine(MachineNeeds(out=out))
    study = read_study(runs, data, split, kind)
    measured = [measure_method(method, split, reference) for method in study.methods]
    references = {name: found for name in (MEAN, CEILING) if (found := measure_reference(name, study.results, split))}
    tests = compare_all(study.methods, split)
    metrics = {
        "split": split,
        "data": kind,
        "methods": {one.method.name: one.entry() for one in measured}
        | {
            name: {"tasks": {task: make_plain(asdict(one)) for task, one in tasks.items()}}
            for name, tasks in references.items()
        },
        "significance": [make_plain(asdict(test)) for test in tests],
    }
    tables = {
        "table2": ("BMD", make_bmd_table(measured, references)),
        "table3": ("Projections of the proximal femur", make_projection_table(measured)),
    }
    for name, (title, table) in tables.items():
        if table is not None:
            shown = table if study.can_be_ranked() else table.without_best()
            shown.write(out / name, f"{title}. {study.caption()}")
    write_tests(tests, out)
    write_subgroups(study.methods, data, split, out / "subgroups.csv")
    _write_predictions(study, out / "predictions.csv")
    write_json(out / "metrics.json", metrics)
    _draw_figures(study, out / "figures")
    return metrics


def read_study(runs: Sequence[Path], data: Path, split: Split, kind: Kind) -> Study:
    """Read finished runs and group them by method.

    Raises:
        PreflightError: A run cannot be used (BMD-EVA-001, -002, -003), or has no patients of the split (BMD-EVA-004).
    """
    results = [result for run in runs for result in read_results(run, data)]
    without = sorted({result.folder.name for result in results if not result.of(split)})
    if without:
        raise PreflightError("BMD-EVA-004", f"{', '.join(without)}: no {SPLITS[split]}.")
    results.sort(key=lambda result: (result.order, str(result.fold), result.seed))
    return Study(data, tuple(group_methods(results)), tuple(results), split, kind)


def read_kind(data: Path) -> Kind:
    """Read whether data are simulated or clinical from their dataset.json.

    Raises:
        PreflightError: It cannot be read (BMD-TRN-001) or does not say it (BMD-EVA-005).
    """
    kind = find_data_kind(data)
    if kind is None:
        raise PreflightError("BMD-EVA-005", f"dataset.json of {data.name} does not say it.")
    return kind


def _write_predictions(study: Study, path: Path) -> None:
    """Write the predictions of every method and seed to one table."""
    rows = [
        {"method": method.name, "seed": seed} | asdict(row)
        for method in study.methods
        for seed in method.seeds
        for row in method.rows(seed, study.split)
    ]
    write_csv(path, rows, POOLED_COLUMNS)


def _draw_figures(study: Study, folder: Path) -> None:
    with drawing():
        for method in study.methods:
            draw_agreement(method, folder, study.split, study.kind)
        draw_thresholds(study.results, folder, study.kind)
