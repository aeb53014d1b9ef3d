"""What a study would do: what it would simulate, and which trainings are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bmdkit.dataset.layout import MANIFEST_CSV
from bmdkit.dataset.samples import Fold
from bmdkit.dataset.simulated_pairs import plan_pairs
from bmdkit.study.comparison import read_kind
from bmdkit.study.members import Member, list_members, prepare_study, read_member
from bmdkit.study.plan_settings import StudyConfig
from bmdkit.study.task_values import Kind

TrainingState = Literal["done", "to do", "to go on with"]


@dataclass(frozen=True)
class PlannedTraining:
    """One training of a study.

    Attributes:
        name, fold, seed: Name, fold and seed of the run.
        folder: Folder of the run.
        state: Whether it is done, or begun.
    """

    name: str
    fold: Fold
    seed: int
    folder: Path
    state: TrainingState


@dataclass(frozen=True)
class StudyPlan:
    """What a study would do.

    Attributes:
        device: Device that it would compute on.
        simulated: Folder of each dataset that is simulated, the patients that are there, and all.
        trainings: Every training, by cohort.
    """

    device: str
    simulated: Mapping[Path, tuple[int, int]]
    trainings: Mapping[str, Sequence[PlannedTraining]]


def plan_study(
    config: StudyConfig,
    out: Path,
    *,
    recipes: Path,
    data: Path | None = None,
    data_ct: Path | None = None,
    kind: Kind | None = None,
    device: str = "auto",
) -> StudyPlan:
    """Check everything that `run_study` checks before it begins, and say what it would do; nothing is written.

    Of datasets that are there the tables are read, and no image; of those that are simulated first nothing is known.

    The arguments and errors are those of `run_study`.
    """
    study = prepare_study(config, out, recipes=recipes, data=data, data_ct=data_ct, device=device)
    simulated, unfinished = {}, set()
    for place in study.simulated:
        kept = list(plan_pairs(place.folder, place.settings, seed=config.data_seed).values())
        simulated[place.folder] = sum(kept), len(kept)
        if not all(kept) or not (place.folder / MANIFEST_CSV).is_file():
            unfinished.add(place.folder)
    trainings: dict[str, list[PlannedTraining]] = {}
    for name, own in study.places.items():
        has_data = unfinished.isdisjoint(own.values())
        if has_data and kind is None:
            read_kind(*own.values())
        trainings[name] = _plan_members(list_members(config, study, out, name), has_data=has_data)
    return StudyPlan(study.device, simulated, trainings)


def _plan_members(members: Sequence[Member], *, has_data: bool) -> list[PlannedTraining]:
    """What is left to do of the trainings of one cohort; one whose start is trained anew is trained anew."""
    found: list[PlannedTraining] = []
    kept: set[Path] = set()
    own = {member.folder for member in members}
    for member in members:
        state: TrainingState = "to do"
        if has_data and (member.start is None or member.start in kept or member.start not in own):
            if read_member(member.folder) == member.describe():
                state = "done"
                kept.add(member.folder)
            elif member.examine() == "same":
                state = "to go on with"
        found.append(PlannedTraining(member.name, member.fold, member.seed, member.folder, state))
    return found
