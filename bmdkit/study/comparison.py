"""A study from finished runs: metrics, the paper's tables, figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bmdkit.dataset.data_kind import find_data_kind
from bmdkit.dataset.manifest import read_manifest
from bmdkit.errors import PreflightError
from bmdkit.evaluation.agreement import FEWEST_PATIENTS, Agreement
from bmdkit.evaluation.figure_style import drawing
from bmdkit.inference.t_score import Reference
from bmdkit.io.results import make_plain, write_csv, write_json
from bmdkit.jobs.machine import MachineNeeds, check_machine
from bmdkit.study.claim_checklist import write_checklist
from bmdkit.study.cohort_table import make_cohort_table, read_carried
from bmdkit.study.error_sources import write_error_sources
from bmdkit.study.finished_runs import Method, Result, group_methods, read_results
from bmdkit.study.method_comparison import compare_all, write_tests
from bmdkit.study.method_metrics import CEILING, MEAN, MethodMetrics, measure_method, measure_reference
from bmdkit.study.paper_figures import choose_cast, draw_paper_figures
from bmdkit.study.paper_tables import PaperTable, References, choose_ablation, make_ablation_table, make_bmd_table
from bmdkit.study.subgroups import write_subgroups
from bmdkit.study.task_values import SPLITS, Kind, Split, describe_rows
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.run_layout import BMD_COLUMNS, PREDICTION_COLUMNS, PairPrediction, predicted_column

_BMD_COLUMNS = (*BMD_COLUMNS.values(), *(predicted_column(name) for name in BMD_COLUMNS.values()))
POOLED_COLUMNS = ("method", "seed", *(name for name in PREDICTION_COLUMNS if name not in _BMD_COLUMNS), *_BMD_COLUMNS)
"""Columns of a study's predictions.csv."""


@dataclass(frozen=True)
class Study:
    """Finished runs that were trained on one dataset, or on several of the same patients.

    Attributes:
        datasets: Folders of the datasets.
        methods: Methods in the order of the paper's table.
        results: Results in that order, by fold and seed.
        split: Patients whose predictions are compared.
        kind: Whether the data are simulated or clinical.
    """

    datasets: tuple[Path, ...]
    methods: tuple[Method, ...]
    results: tuple[Result, ...]
    split: Split
    kind: Kind

    def of(self, methods: Sequence[Method]) -> Study:
        """The same of some of its methods."""
        results = tuple(result for method in methods for result in method.results)
        return replace(self, methods=tuple(methods), results=results)

    def caption(self) -> str:
        """What a table of the study shows, and whether its rows can be compared."""
        rows = [row for method in self.methods for row in method.rows(method.first_seed, self.split)]
        shown = describe_rows(rows, self.results, self.split, self.kind)
        return f"{shown}.{self.unlike_images()}{self.too_few_patients()}{self.weak_runs()}"

    def can_be_ranked(self) -> bool:
        """Whether a best value means something: of the same images, and of patients enough."""
        return not self.unlike_images() and not self.too_few_patients()

    def write(self, table: PaperTable, path: Path, title: str) -> None:
        """Write a table of these methods, with a caption, and without a best value where none means something."""
        shown = table if self.can_be_ranked() else table.without_best()
        shown.write(path, f"{title}. {self.caption()}")

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
        weak = [text for method in self.methods if (text := _describe_weakness(method))]
        return f" Constant, or no better than the mean of the training patients: {'; '.join(weak)}." if weak else ""

    def unlike_images(self) -> str:
        """What to say where the rows of a table are not of the same images; nothing where they are."""
        seen = {m.name: {row.pair_id for seed in m.seeds for row in m.rows(seed, self.split)} for m in self.methods}
        each = [{row.pair_id for row in m.rows(seed, self.split)} for m in self.methods for seed in m.seeds]
        if all(pairs == each[0] for pairs in each):
            return ""
        counts = "; ".join(f"{name}: {len(pairs)}" for name, pairs in seen.items())
        return f" The rows are not of the same images ({counts}) and cannot be ranked."


def _describe_weakness(method: Method) -> str:
    """A method whose runs have learnt nothing of BMD, how many of them, and by which codes; empty where none has."""
    weak = [result for result in method.results if result.weaknesses]
    if not weak:
        return ""
    codes = ", ".join(sorted({code for result in weak for code in result.weaknesses}))
    return f"{method.name} ({len(weak)} of {len(method.results)}: {codes})"


def evaluate_runs(
    runs: Sequence[Path],
    data: Path | Sequence[Path],
    out: Path,
    *,
    split: Split = "test",
    kind: Kind | None = None,
    reference: Reference | None = None,
    poses: Sequence[str] = (),
    on_step: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Compare finished runs, and write what there is to say.

    Args:
        runs: Folders of decomposition, regression and baseline runs; folds of one method are pooled, seeds averaged.
        data: The dataset that all were trained on; or several of the same patients, such as with calibrated and with
            uncalibrated targets.
        out: Folder for metrics.json, predictions.csv, significance.csv, significance_pairs.csv, subgroups.csv,
            error_sources.csv, claim_checklist.md, table_1, table_2 and table_3 (CSV, Markdown, LaTeX), figures/ and
            index.html.
        split: Patients that are taken.
        kind: Kind of the data; None: as dataset.json says.
        reference: Young adults from whom T-scores count; None: nothing is said of osteoporosis.
        poses: Poses whose radiographs are taken; all if empty.
        on_step: Called before each step with the steps done, all steps, and the step's name.

    Returns:
        What metrics.json holds.

    Raises:
        PreflightError: A run cannot be used (BMD-EVA-001, -002, -003), none has such patients or poses (BMD-EVA-004),
            nothing says of which kind the data are (BMD-EVA-005), the datasets are not of the same patients
            (BMD-EVA-007), or the output cannot be written to (BMD-RUN-030).
    """
    study = open_study(runs, data, out, split=split, kind=kind, poses=poses)
    datasets, kind = study.datasets, study.kind
    steps = [*(method.name for method in study.methods), "comparison of methods", "tables", "figures"]

    def tell(name: str) -> None:
        if on_step is not None:
            on_step(steps.index(name), len(steps), name)

    devices = {row["pair_id"]: read_carried(row, "device") for row in read_manifest(datasets[0])}
    measured = []
    for method in study.methods:
        tell(method.name)
        measured.append(measure_method(method, split, reference, devices))
    tell("comparison of methods")
    references = _measure_references(study)
    tests = compare_all(study.methods, split)
    metrics = {
        "split": split,
        "data": kind,
        "methods": {one.method.name: one.entry() for one in measured}
        | {
            name + ", uncalibrated CT" * uncalibrated: {
                "tasks": {task: make_plain(asdict(one)) for task, one in tasks.items()}
            }
            for (name, uncalibrated), tasks in references.items()
        },
        "significance": [make_plain(asdict(test)) for test in tests],
    }
    tell("tables")
    _write_tables(study, measured, references, reference, out)
    write_tests(tests, out)
    write_subgroups(study.methods, datasets[0], split, out / "subgroups.csv")
    cast = choose_cast(study.methods)
    looked_at = [m for m in (cast.conventional, cast.decomposition, cast.regression) if m is not None]
    write_error_sources(looked_at, datasets[0], split, out / "error_sources.csv")
    write_checklist(study.methods, datasets, out, split=split, kind=kind)
    _write_predictions(study, out / "predictions.csv")
    write_json(out / "metrics.json", metrics)
    tell("figures")
    _draw_figures(study, out)
    return metrics


def open_study(
    runs: Sequence[Path],
    data: Path | Sequence[Path],
    out: Path,
    *,
    split: Split = "test",
    kind: Kind | None = None,
    poses: Sequence[str] = (),
) -> Study:
    """Check and read all that `evaluate_runs` compares; nothing is written. Arguments and errors are those there."""
    datasets = (data,) if isinstance(data, Path) else tuple(data)
    known = kind or read_kind(*datasets)
    check_machine(MachineNeeds(out=out))
    return read_study(runs, datasets, split, known, poses)


def read_study(
    runs: Sequence[Path], datasets: Sequence[Path], split: Split, kind: Kind, poses: Sequence[str] = ()
) -> Study:
    """Read finished runs and group them by method.

    Args:
        runs: Folders of the runs.
        datasets: Datasets that they were trained on, of the same patients.
        split: Patients that are taken.
        kind: Kind of the data.
        poses: Poses whose radiographs are taken; all if empty.

    Raises:
        PreflightError: A run cannot be used (BMD-EVA-001, -002, -003), or has no patients of the split or none of the
            poses (BMD-EVA-004); the datasets are not of the same patients (BMD-EVA-007).
    """
    results = [result for run in runs for result in read_results(run, *datasets)]
    check_same_patients(results)
    if poses:
        results = [result.keep_poses(poses) for result in results]
    without = sorted({result.folder.name for result in results if not result.of(split)})
    if without:
        raise PreflightError("BMD-EVA-004", f"{', '.join(without)}: no {SPLITS[split]}.")
    results.sort(key=lambda result: (result.order, str(result.fold), result.seed))
    return Study(tuple(datasets), tuple(group_methods(results)), tuple(results), split, kind)


def check_same_patients(results: Sequence[Result]) -> None:
    """Make sure that datasets can be joined by patient: images of one name have the same BMD in all of them.

    Raises:
        PreflightError: They have no image in common, or one of them has another BMD (BMD-EVA-007).
    """
    known: dict[Path, dict[str, PairPrediction]] = {}
    for result in results:
        known.setdefault(result.data, {}).update({row.pair_id: row for row in result.rows})
    first, *others = known.items()
    for data, rows in others:
        common = sorted(rows.keys() & first[1].keys())
        if not common:
            raise PreflightError("BMD-EVA-007", f"{first[0].name} and {data.name} have no image in common.")
        for name in common:
            for task in TASKS:
                here, there = first[1][name].measured(task), rows[name].measured(task)
                if here is not None and there is not None and not math.isclose(here, there, rel_tol=1e-6):
                    message = f"{task.upper()}-BMD is {here:g} in {first[0].name} and {there:g} in {data.name}."
                    raise PreflightError("BMD-EVA-007", message, case=name)


def read_kind(*datasets: Path) -> Kind:
    """Read whether data are simulated or clinical from their dataset.json.

    Raises:
        PreflightError: It cannot be read (BMD-TRN-001), does not say it, or two of them differ (BMD-EVA-005).
    """
    found = []
    for data in datasets:
        kind = find_data_kind(data)
        if kind is None:
            raise PreflightError("BMD-EVA-005", f"dataset.json of {data.name} does not say it.")
        found.append(kind)
    if any(kind != found[0] for kind in found):
        raise PreflightError("BMD-EVA-005", "the datasets are of different kinds.")
    return found[0]


def _measure_references(study: Study) -> dict[tuple[str, bool], dict[Task, Agreement]]:
    """Agreement of what needs no network, of calibrated and of uncalibrated CTs."""
    found = {}
    for uncalibrated in (False, True):
        results = [result for result in study.results if result.is_uncalibrated == uncalibrated]
        for name in (MEAN, CEILING):
            tasks = measure_reference(name, results, study.split)
            if tasks and not (name == MEAN and (MEAN, False) in found):
                found[name, uncalibrated] = tasks
    return found


def _write_tables(
    study: Study,
    measured: Sequence[MethodMetrics],
    references: References,
    reference: Reference | None,
    out: Path,
) -> None:
    rows = read_manifest(study.datasets[0])
    cohort = make_cohort_table(rows, reference)
    cohort.write(out / "table_1", f"Patients of {study.datasets[0].name}, {study.kind} data")
    ablation = choose_ablation(study.methods)
    poses = sorted({row["pose"] for row in rows if row.get("dataset") == "B" and row.get("status") == "ok"})
    table = make_bmd_table(measured, references, poses)
    names = {method.name for method in ablation}
    chosen = [method for method in study.methods if method.name not in names] or list(study.methods)
    study.of(chosen).write(table, out / "table_2", "BMD estimation")
    projections = make_ablation_table([measure_method(method, study.split) for method in ablation])
    if projections is not None:
        study.of(ablation).write(projections, out / "table_3", "Hierarchical learning (HL)")


def _write_predictions(study: Study, path: Path) -> None:
    """Write the predictions of every method and seed to one table."""
    rows = [
        {"method": method.name, "seed": seed} | asdict(row)
        for method in study.methods
        for seed in method.seeds
        for row in method.rows(seed, study.split)
    ]
    write_csv(path, rows, POOLED_COLUMNS)


def _draw_figures(study: Study, out: Path) -> None:
    with drawing():
        draw_paper_figures(study.methods, study.results, out, study.split, study.kind, data=study.datasets[0])
