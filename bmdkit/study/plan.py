"""A whole study from one recipe: cohorts, the trainings of every seed in their order, and the comparison of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bmdkit.config import build, load, merge, parse_overrides, to_dict
from bmdkit.core.device import resolve_device
from bmdkit.dataset.case_meta import hash_data
from bmdkit.dataset.layout import MANIFEST_CSV
from bmdkit.dataset.samples import DatasetName, Fold
from bmdkit.dataset.simulated_pairs import simulate_pairs
from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig
from bmdkit.io.results import sha256_of, write_json
from bmdkit.jobs.local_pool import run_in_pool
from bmdkit.jobs.machine import MachineNeeds, check_machine
from bmdkit.study.comparison import evaluate_runs, read_kind
from bmdkit.study.robustness import measure_robustness
from bmdkit.study.task_values import Kind
from bmdkit.training.bone_density import TASKS
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run_layout import GENERATOR
from bmdkit.training.settings import DecompositionConfig

DATA, RUNS, RESULTS = "data", "runs", "results"
PRETRAINED = "pretrained"
"""What runs name that start from the study's own pretrained run."""

MEMBER = "study.json"
"""In the folder of a finished run of a study: what it was made from."""


@dataclass(frozen=True)
class Cohort:
    """Simulated patients that every run of a study is trained on.

    Attributes:
        name: Name of its folder.
        set: Settings in which its patients differ from those of `simulate`, `key.path=value`.
    """

    name: str
    set: tuple[str, ...] = ()

    def settings(self, common: SimulatePairsConfig) -> SimulatePairsConfig:
        """Settings of its pairs.

        Raises:
            ConfigError: A setting is unknown or mistyped.
        """
        return build(SimulatePairsConfig, merge(to_dict(common), parse_overrides(self.set)))


@dataclass(frozen=True)
class PlannedRun:
    """One training of a study.

    Attributes:
        name: Name of its folder, and what `init_from` of others refers to.
        train: Settings as in `bmdkit train`.
        recipe: Recipe of the training; relative to the study's recipe.
        dataset: Dataset of a decomposition.
        task: Task of a regression or baseline.
        init_from: Earlier run of this study, of the same seed; or `pretrained`, the study's own.
        set: Further settings, `key.path=value`.
        compare: Whether it is a row of the tables.
    """

    name: str
    train: Literal["decomposition", "regression", "baseline"]
    recipe: str
    dataset: DatasetName = "B"
    task: str = "dxa"
    init_from: str | None = None
    set: tuple[str, ...] = ()
    compare: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        check_name(self.name)
        if self.train == "baseline" and self.init_from is not None:
            raise ValueError(f"init_from: a baseline takes over no weights, got {self.init_from!r}")
        if self.task not in TASKS:
            raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {self.task!r}")

    def settings(self, recipe: Path, fold: Fold) -> DecompositionConfig | RegressionConfig:
        """Settings of the training, with this study's fold.

        Raises:
            ConfigError: A setting is unknown or mistyped.
        """
        if self.train == "decomposition":
            flags: dict[str, Any] = {"dataset": self.dataset, "fold": fold}
            return load(DecompositionConfig, recipe=recipe, overrides=self.set, flags=flags)
        network = "baseline" if self.train == "baseline" else "representation"
        flags = {"network": network, "task": self.task, "fold": fold}
        return load(RegressionConfig, recipe=recipe, overrides=self.set, flags=flags)


def check_name(name: str) -> None:
    """Make sure that a name can be that of a folder.

    Raises:
        ValueError: It cannot.
    """
    if not name or not name.replace("-", "").isalnum():
        raise ValueError(f"name: expected letters, digits and -, got {name!r}")


@dataclass(frozen=True)
class StudyConfig:
    """A study.

    Attributes:
        runs: Runs in the order in which they are trained.
        seeds: Seeds; every run is trained once with each.
        fold: Fold that is held out.
        simulate: Settings of the data, where none are given.
        cohorts: Cohorts of simulated patients; every run is trained and measured on each, apart from the others. None
            named: one cohort, that of `simulate`.
        pretrained: Folder of a finished decomposition run, of other data, that runs can start from.
        data_seed: Seed of them.
        robustness: Whether to predict JPEGs and spoilt radiographs, too; see `measure_robustness`.
    """

    runs: tuple[PlannedRun, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    fold: Fold = 0
    simulate: SimulatePairsConfig = field(default_factory=SimulatePairsConfig)
    cohorts: tuple[Cohort, ...] = ()
    pretrained: Path | None = None
    data_seed: int = 0
    robustness: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.fold == "all":
            raise ValueError("fold: expected one to hold out, got all")
        if not self.seeds:
            raise ValueError("seeds: expected at least one")
        names = [cohort.name for cohort in self.cohorts]
        for name in names:
            check_name(name)
        if len(set(names)) < len(names):
            raise ValueError(f"cohorts: expected names that differ, got {', '.join(names)}")
        before: set[str] = set() if self.pretrained is None else {PRETRAINED}
        for run in self.runs:
            if run.name in before:
                raise ValueError(f"runs: {run.name} stands twice")
            if run.init_from is not None and run.init_from not in before:
                raise ValueError(f"runs: {run.name} starts from {run.init_from}, which is no earlier run")
            before.add(run.name)
        if not any(run.compare for run in self.runs):
            raise ValueError("runs: expected one to compare")


def run_study(
    config: StudyConfig,
    out: Path,
    *,
    recipes: Path,
    data: Path | None = None,
    kind: Kind | None = None,
    device: str = "auto",
    n_jobs: int = 1,
    on_run: Callable[[str, int], None] | None = None,
) -> dict[str, Any]:
    """Train everything, and compare; what is finished from before is kept.

    Args:
        config: The study.
        out: Folder that gets data/ (unless they are given), runs/<name>/seed<seed>/ and results/; where cohorts are
            named, each has a folder with these.
        recipes: The folder to which the runs' recipes are relative.
        data: A built dataset in place of simulated pairs.
        kind: Kind of the data; None: as dataset.json says.
        device: Device to compute on: auto, cpu or cuda[:N].
        n_jobs: Number of processes that simulate and, on a CPU, train: each another seed or cohort, on one core.
        on_run: Called with the name and the seed of each run before it starts, or, with several processes, when all of
            its seed are done.

    Returns:
        The figures of each cohort by its name, as results/metrics.json has them; see `evaluate_runs`. The name is
        empty where none is named.

    Raises:
        ConfigError: A recipe holds an unknown setting; nothing was started.
        ValueError: Data are given beside cohorts.
        PreflightError: Data or runs cannot be used, or nothing says of which kind the data are (BMD-EVA-005).
    """
    if data is not None and config.cohorts:
        raise ValueError("data: expected none beside the study's own cohorts")
    planned = [(run, run.settings(recipes / run.recipe, config.fold)) for run in config.runs]
    known = {} if config.pretrained is None else {PRETRAINED: config.pretrained}
    cohorts = {cohort.name: cohort.settings(config.simulate) for cohort in config.cohorts} or {"": config.simulate}
    check_machine(MachineNeeds(device=device, out=out))
    places = {}
    for name, simulated in cohorts.items():
        places[name] = (out / name, data or out / name / DATA)
        if data is None:
            simulate_pairs(out / name / DATA, simulated, seed=config.data_seed, n_jobs=n_jobs)
    kinds = {name: kind or read_kind(own) for name, (_, own) in places.items()}
    chains = [(planned, known, folder, own, seed, device) for folder, own in places.values() for seed in config.seeds]
    if n_jobs == 1 or resolve_device(device) != "cpu":  # several trainings would not fit one GPU
        for chain in chains:
            _train_seed(*chain, on_run)
    else:
        for done in run_in_pool(_train_seed, chains, n_jobs):
            for run, _ in planned:
                if on_run is not None:
                    on_run(run.name, done)
    return {name: _compare(config, folder, own, kinds[name], device) for name, (folder, own) in places.items()}


def _train_seed(
    planned: Sequence[tuple[PlannedRun, DecompositionConfig | RegressionConfig]],
    known: Mapping[str, Path],
    out: Path,
    data: Path,
    seed: int,
    device: str,
    on_run: Callable[[str, int], None] | None = None,
) -> int:
    """Train every run with one seed on one dataset; gives the seed."""
    for run, settings in planned:
        if on_run is not None:
            on_run(run.name, seed)
        start = None if run.init_from is None else known.get(run.init_from) or folder_of(out, run.init_from, seed)
        _train_member(settings, data, folder_of(out, run.name, seed), seed, device, start)
    return seed


def _compare(config: StudyConfig, out: Path, data: Path, kind: Kind, device: str) -> dict[str, Any]:
    """Compare the runs of one dataset; gives the figures."""
    figures = evaluate_runs(compared_folders(config, out), data, out / RESULTS, kind=kind)
    if config.robustness:
        measure_robustness(compared_folders(config, out), data, out / RESULTS, device=device)
    return figures


def _train_member(
    settings: DecompositionConfig | RegressionConfig,
    data: Path,
    folder: Path,
    seed: int,
    device: str,
    start: Path | None,
) -> None:
    """Train one run, unless it has been finished from the same data, settings and start."""
    begun = None if start is None else sha256_of(start / GENERATOR)
    made_from = {"settings": hash_data(to_dict(settings)), "seed": seed, "data": sha256_of(data / MANIFEST_CSV)}
    made_from |= {"start": begun}
    if _read_member(folder) == made_from:
        return
    if isinstance(settings, DecompositionConfig):
        train_decomposition(data, folder, settings, seed=seed, device=device, init_from=start)
    else:
        train_regression(data, folder, settings, seed=seed, device=device, init_from=start)
    write_json(folder / MEMBER, made_from)


def _read_member(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / MEMBER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def folder_of(out: Path, name: str, seed: int) -> Path:
    """Folder of one training."""
    return out / RUNS / name / f"seed{seed}"


def compared_folders(config: StudyConfig, out: Path) -> Sequence[Path]:
    """Folders of the runs that are rows of the tables."""
    return [folder_of(out, run.name, seed) for run in config.runs if run.compare for seed in config.seeds]
