"""What a study is made of: cohorts, the trainings, and how often each is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bmdkit.config import build, load, merge, parse_overrides, to_dict
from bmdkit.dataset.samples import DatasetName, Fold
from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig
from bmdkit.training.bone_density import TASKS
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.settings import DecompositionConfig

RUNS = "runs"
PRETRAINED = "pretrained"
"""What runs name that start from the study's own pretrained run."""

Source = Literal["qct", "ct"]
SOURCES: dict[Source, str] = {"qct": "data", "ct": "data_ct"}
"""Folder of the simulated dataset of calibrated, and of that of uncalibrated CTs."""


@dataclass(frozen=True)
class Cohort:
    """Simulated patients that every run of a study is trained on.

    Attributes:
        name: Name of its folder.
        set: Settings in which its patients differ from those of `simulate`, `key.path=value`.
        decompositions: Settings in which the decompositions that learn from it differ, `key.path=value`: what helps
            at sites that differ, as bent tones do, takes away what there is to learn at one.
    """

    name: str
    set: tuple[str, ...] = ()
    decompositions: tuple[str, ...] = ()

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
        data: Whether it learns from calibrated CTs (qct), or from uncalibrated ones of the same patients (ct).
    """

    name: str
    train: Literal["decomposition", "regression", "baseline"]
    recipe: str
    dataset: DatasetName = "B"
    task: str = "dxa"
    init_from: str | None = None
    set: tuple[str, ...] = ()
    compare: bool = True
    data: Source = "qct"

    def __post_init__(self) -> None:
        """Check the values."""
        check_name(self.name)
        if self.train == "baseline" and self.init_from is not None:
            raise ValueError(f"init_from: a baseline takes over no weights, got {self.init_from!r}")
        if self.task not in TASKS:
            raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {self.task!r}")

    def settings(
        self, recipe: Path, fold: Fold, decompositions: Sequence[str] = ()
    ) -> DecompositionConfig | RegressionConfig:
        """Settings of the training, with this study's fold.

        Args:
            recipe: The recipe.
            fold: Fold that is held out.
            decompositions: Further settings of a decomposition; see `Cohort`.

        Raises:
            ConfigError: A setting is unknown or mistyped.
        """
        if self.train == "decomposition":
            flags: dict[str, Any] = {"dataset": self.dataset, "fold": fold}
            return load(DecompositionConfig, recipe=recipe, overrides=(*self.set, *decompositions), flags=flags)
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
        folds: Folds that are held out one after the other, and pooled; `fold` alone if empty.
        simulate: Settings of the data, where none are given.
        cohorts: Cohorts of simulated patients; every run is trained and measured on each, apart from the others. None
            named: one cohort, that of `simulate`.
        pretrained: Folder of a finished decomposition run, of other data, that runs can start from.
        data_seed: Seed of them.
        robustness: Whether to predict JPEGs and spoilt radiographs, too; see `measure_robustness`.
        pictures: Whether to draw the figures that need images and networks, too; see `draw_pictures`.
    """

    runs: tuple[PlannedRun, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    fold: Fold = 0
    folds: tuple[int, ...] = ()
    simulate: SimulatePairsConfig = field(default_factory=SimulatePairsConfig)
    cohorts: tuple[Cohort, ...] = ()
    pretrained: Path | None = None
    data_seed: int = 0
    robustness: bool = False
    pictures: bool = False

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
        if len(set(self.folds)) < len(self.folds):
            raise ValueError(f"folds: expected each once, got {self.folds}")

    @property
    def held_out(self) -> tuple[Fold, ...]:
        """The folds that are held out one after the other."""
        return self.folds or (self.fold,)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The datasets that the runs learn from, that of calibrated CTs first."""
        used = {run.data for run in self.runs}
        return tuple(source for source in SOURCES if source in used)

    def folder_of(self, out: Path, name: str, fold: Fold, seed: int) -> Path:
        """Folder of one training: runs/NAME/seedN, or of several folds runs/NAME/foldN/seedN."""
        of_fold = out / RUNS / name / f"fold{fold}" if self.folds else out / RUNS / name
        return of_fold / f"seed{seed}"

    def folders(self, out: Path, *, compared: bool = False) -> list[Path]:
        """Folders of all trainings, or of those that are rows of the tables."""
        return [
            self.folder_of(out, run.name, fold, seed)
            for run in self.runs
            if run.compare or not compared
            for fold in self.held_out
            for seed in self.seeds
        ]
