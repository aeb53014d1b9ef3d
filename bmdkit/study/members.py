"""What a study consists of once its recipe is read: its datasets, and its trainings one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bmdkit.config import to_dict
from bmdkit.dataset.case_meta import hash_data
from bmdkit.dataset.layout import MANIFEST_CSV
from bmdkit.dataset.samples import Fold
from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig
from bmdkit.io.results import sha256_of
from bmdkit.jobs.machine import MachineNeeds, check_machine
from bmdkit.study.plan_settings import PRETRAINED, SOURCES, Cohort, PlannedRun, Source, StudyConfig
from bmdkit.training.decomposition import examine_decomposition
from bmdkit.training.regression import examine_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run import load_run
from bmdkit.training.run_folder import FolderState
from bmdkit.training.run_layout import GENERATOR
from bmdkit.training.settings import DecompositionConfig

MEMBER = "study.json"
"""In the folder of a finished run of a study: what it was made from."""

Planned = Sequence[tuple[PlannedRun, DecompositionConfig | RegressionConfig]]


@dataclass(frozen=True)
class SimulatedPlace:
    """A dataset of a study's own.

    Attributes:
        folder: Folder of the dataset.
        settings: Settings of its pairs.
    """

    folder: Path
    settings: SimulatePairsConfig


@dataclass(frozen=True)
class Member:
    """One training, as it is planned."""

    name: str
    settings: DecompositionConfig | RegressionConfig
    data: Path
    folder: Path
    fold: Fold
    seed: int
    start: Path | None

    def describe(self) -> dict[str, Any]:
        """What it is made from."""
        begun = None if self.start is None else sha256_of(self.start / GENERATOR)
        made_from = {"settings": hash_data(to_dict(self.settings)), "seed": self.seed}
        return made_from | {"data": sha256_of(self.data / MANIFEST_CSV), "start": begun}

    def examine(self) -> FolderState:
        """What it would find in its folder."""
        given: dict[str, Any] = {"seed": self.seed, "init_from": self.start}
        if isinstance(self.settings, DecompositionConfig):
            return examine_decomposition(self.data, self.folder, self.settings, **given)
        return examine_regression(self.data, self.folder, self.settings, **given)


@dataclass(frozen=True)
class PreparedStudy:
    """A study of which everything that it needs has been found to be there, but for its data.

    Attributes:
        device: Device to compute on.
        planned: Runs with their settings, by cohort and fold.
        places: Datasets of each cohort.
        simulated: Datasets that are made.
    """

    device: str
    planned: Mapping[tuple[str, Fold], Planned]
    places: Mapping[str, Mapping[Source, Path]]
    simulated: Sequence[SimulatedPlace]


def prepare_study(
    config: StudyConfig, out: Path, *, recipes: Path, data: Path | None, data_ct: Path | None, device: str
) -> PreparedStudy:
    """Check what a study needs; nothing is written. Arguments and errors are those of `run_study`."""
    given = {source: path for source, path in (("qct", data), ("ct", data_ct)) if path is not None}
    if given and config.cohorts:
        raise ValueError("data: expected none beside the study's own cohorts")
    if given and set(given) != set(config.sources):
        raise ValueError(f"data, data_ct: expected {' and '.join(config.sources)}, got {' and '.join(given)}")
    cohorts = config.cohorts or (Cohort(""),)
    planned = {
        (cohort.name, fold): [
            (run, run.settings(recipes / run.recipe, fold, cohort.decompositions)) for run in config.runs
        ]
        for cohort in cohorts
        for fold in config.held_out
    }
    pairs = {cohort.name: cohort.settings(config.simulate) for cohort in cohorts}
    there = check_machine(MachineNeeds(device=device, out=out))
    if config.pretrained is not None:
        load_run(config.pretrained)  # says what is wrong with it
    places: dict[str, dict[Source, Path]] = {}
    simulated = []
    for name, settings in pairs.items():
        places[name] = {source: given.get(source, out / name / SOURCES[source]) for source in config.sources}
        for source in config.sources if not given else ():
            own = replace(settings, uncalibrated=True) if source == "ct" else settings
            simulated.append(SimulatedPlace(places[name][source], own))
    return PreparedStudy(there, planned, places, simulated)


def list_members(config: StudyConfig, study: PreparedStudy, out: Path, cohort: str) -> list[Member]:
    """Every training of one cohort, fold by fold and seed by seed, in its order."""
    members = []
    for fold in config.held_out:
        for seed in config.seeds:
            for run, settings in study.planned[cohort, fold]:
                start = None
                if run.init_from is not None:
                    pretrained = config.pretrained if run.init_from == PRETRAINED else None
                    start = pretrained or config.folder_of(out / cohort, run.init_from, fold, seed)
                folder = config.folder_of(out / cohort, run.name, fold, seed)
                members.append(Member(run.name, settings, study.places[cohort][run.data], folder, fold, seed, start))
    return members


def split_chains(members: Sequence[Member]) -> list[list[Member]]:
    """Trainings in groups that do not need each other, each training with all that starts from it, in their order."""
    first: dict[Path | None, Path] = {}
    chains: dict[Path, list[Member]] = {}
    for member in members:
        first[member.folder] = first.get(member.start, member.folder)
        chains.setdefault(first[member.folder], []).append(member)
    return list(chains.values())


def read_member(folder: Path) -> dict[str, Any] | None:
    """What the finished run in a folder was made from; None where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / MEMBER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
