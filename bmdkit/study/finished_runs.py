"""What finished runs predicted, read from their folders without opening their weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bmdkit.core.naming import make_unique_name
from bmdkit.core.units import PROJECTION_UNITS
from bmdkit.dataset.layout import MANIFEST_CSV
from bmdkit.dataset.ratings import Rating, read_ratings
from bmdkit.dataset.samples import Fold, read_projection_unit
from bmdkit.errors import PreflightError
from bmdkit.io.results import sha256_of
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.provenance import PROVENANCE_KEY, settings_digest
from bmdkit.training.run_layout import CONFIG, METRICS, PREDICTIONS, RUN, PairPrediction, read_predictions

logger = logging.getLogger(__name__)

_NAMES = {
    "baseline": "direct regression",
    "scratch": "regression from scratch",
    "decomposition": "decomposition",
    "frozen": "decomposition + regression, frozen",
    "tuned": "decomposition + regression, tuned",
    "ridge": "decomposition + ridge regression",
}
"""In the order of the paper's Table 2."""


@dataclass(frozen=True, eq=False)
class Result:
    """The predictions of one training: a run, or one phase of a regression.

    Attributes:
        phase: decomposition, baseline, scratch, frozen, tuned or ridge.
        dataset: A or B.
        backbone: Backbone of the generator; None for the baseline.
        hierarchical: Whether it, or a run that it started from, has learnt from dataset A first.
        pretrained: Whether it, or a run that it started from, has learnt from another dataset first.
        unpaired: Whether its radiographs and projections did not belong together.
        poses: Poses that it was trained on; empty for all.
        weighting: Weighting of a regression's samples, or None.
        tasks: Tasks that it predicts.
        settings: Digest of all settings but task and fold, its own and those of the runs before it.
        fold, seed: Fold and seed of the training.
        rows: Rows of its predictions.csv.
        folder: Folder of the run, for messages.
        data: Folder of the dataset.
        sweeps: Threshold, g/cm2, and correlation of every threshold that was tried, by task; empty of a regression.
        weaknesses: Codes of what speaks against it, as its metrics.json has them.
        unit: Unit of the projections that it learnt from; g/cm2, or 1000 HU cm of an uncalibrated dataset.
    """

    phase: str
    dataset: str
    backbone: str | None
    hierarchical: bool
    pretrained: bool
    unpaired: bool
    poses: tuple[str, ...]
    weighting: str | None
    tasks: tuple[Task, ...]
    settings: str
    fold: Fold
    seed: int
    rows: tuple[PairPrediction, ...]
    folder: Path
    data: Path
    sweeps: Mapping[Task, Sequence[tuple[float, float | None]]] = field(default_factory=dict)
    weaknesses: tuple[str, ...] = ()
    unit: str = PROJECTION_UNITS["density"]

    @property
    def name(self) -> str:
        """Name of its folder, with that of the folder around it: a study has one of each seed."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def is_uncalibrated(self) -> bool:
        """Whether its projections are of CTs as they are, in HU."""
        return self.unit == PROJECTION_UNITS["hu"]

    @property
    def order(self) -> int:
        """Place of the method in a table."""
        return list(_NAMES).index(self.phase)

    @property
    def method(self) -> str:
        """What was done, in words."""
        return self._describe(self.poses) + (" from uncalibrated CT" if self.is_uncalibrated else "")

    @property
    def procedure(self) -> str:
        """What was done, in words, whatever the poses and the calibration of the CTs that it was trained on."""
        return self._describe(())

    def _describe(self, poses: Sequence[str]) -> str:
        words = _NAMES[self.phase]
        if self.phase == "decomposition" and self.dataset == "A":
            words += " of pelvis and femur"
        elif self.phase in ("decomposition", "frozen", "tuned", "ridge") and not self.hierarchical:
            words += " without hierarchical learning"
        if self.pretrained:
            words += ", pre-trained"
        if self.unpaired:
            words += " from unpaired data"
        if poses:
            words += f", trained on {' and '.join(poses)}"
        if self.weighting in ("rare", "none"):
            words += {"rare": ", rare values weighted", "none": ", not weighted"}[self.weighting]
        return words if self.backbone is None else f"{words} ({self.backbone})"

    def keep_poses(self, poses: Sequence[str]) -> Result:
        """The same without held-out radiographs of other poses."""
        return replace(self, rows=tuple(row for row in self.rows if row.split == "train" or row.pose in poses))

    def of(self, split: str) -> list[PairPrediction]:
        """Its rows of one split."""
        return [row for row in self.rows if row.split == split]


def read_results(folder: Path, *datasets: Path) -> list[Result]:
    """Read the results of a finished run: one of a decomposition, one for each phase of a regression.

    Args:
        folder: Folder of the run.
        datasets: Datasets, on one of which it must have been trained.

    Raises:
        PreflightError: No finished run (BMD-EVA-001), or trained on another dataset (BMD-EVA-002).
    """
    try:
        identity, description = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (CONFIG, RUN))
        return _results_of(folder, identity, description, find_dataset(folder, datasets))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError("BMD-EVA-001", f"{error!r}.", file=folder) from error


def find_dataset(folder: Path, datasets: Sequence[Path]) -> Path:
    """Find the dataset that a run was trained on among those that are given.

    Raises:
        PreflightError: No finished run (BMD-EVA-001), or it was trained on another dataset (BMD-EVA-002).
    """
    try:
        trained_on = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("data_sha256")
    except (OSError, ValueError, AttributeError) as error:
        raise PreflightError("BMD-EVA-001", f"{error!r}.", file=folder) from error
    for data in datasets:
        if sha256_of(data / MANIFEST_CSV) == trained_on:
            return data
    names = " or ".join(data.name for data in datasets)
    raise PreflightError("BMD-EVA-002", f"its manifest is not that of {names}.", file=folder)


def _results_of(folder: Path, identity: Mapping[str, Any], description: Mapping[str, Any], data: Path) -> list[Result]:
    """The results that config.json and run.json describe."""
    settings, decomposes = identity["settings"], description["kind"] == "decomposition"
    baseline = description["kind"] == "baseline"
    here = identity.get("data_sha256")
    before = identity.get(PROVENANCE_KEY)
    if before is None:  # of an earlier version, which knew only that there was a start
        before = [{"dataset": "A"}] if identity["init_from_sha256"] is not None else []
    ratings = read_ratings(data)
    digests = [settings_digest(settings), *(f"{one.get('data_sha256')} {one.get('settings')}" for one in before)]
    return [
        Result(
            phase=phase,
            dataset=settings["dataset"] if decomposes else "B",
            backbone=None if baseline else settings["generator"]["backbone"],
            hierarchical=any(one["dataset"] == "A" for one in before),
            pretrained=any(one.get("data_sha256", here) != here for one in before),
            unpaired=settings.get("pairing") == "unpaired",
            poses=tuple(settings.get("train_poses", ())),
            weighting=None if decomposes else settings["weighting"],
            tasks=tuple(description["bmd"]) if decomposes else (settings["task"],),
            settings=" ".join((here or "", *digests)),
            fold=settings["fold"],
            seed=identity["seed"],
            rows=_leave_out_bad(read_predictions((folder if decomposes else folder / phase) / PREDICTIONS), ratings),
            weaknesses=_read_weaknesses((folder if decomposes else folder / phase) / METRICS),
            folder=folder,
            data=data,
            sweeps={task: line.get("sweep", ()) for task, line in description.get("bmd", {}).items()},
            unit=read_projection_unit(data),
        )
        for phase in (["decomposition"] if decomposes else description["phases"])
    ]


def _leave_out_bad(rows: Sequence[PairPrediction], ratings: Mapping[str, Rating]) -> tuple[PairPrediction, ...]:
    """The rows of pairs that no reader of the report has rated bad."""
    kept = tuple(row for row in rows if ratings.get(row.pair_id) != "bad")
    if len(kept) < len(rows):
        logger.info("%d predictions of pairs that were rated bad are left out", len(rows) - len(kept))
    return kept


def _read_weaknesses(path: Path) -> tuple[str, ...]:
    """Codes in a metrics.json; none where there is no such file, as of runs of earlier versions."""
    if not path.is_file():
        return ()
    found = json.loads(path.read_text(encoding="utf-8")).get("weaknesses", [])
    return tuple(dict.fromkeys(one["code"] for one in found))


@dataclass(frozen=True, eq=False)
class Method:
    """All results of one method: folds and tasks pooled, seeds apart.

    Attributes:
        name: Name in words, unique among the methods; the second under other settings, by the names of the runs, ends
            in #2.
        seeds: Results by seed.
    """

    name: str
    seeds: Mapping[int, Sequence[Result]]

    @property
    def first(self) -> Result:
        """Any of its results, for what they have in common."""
        return next(iter(self.seeds.values()))[0]

    @property
    def first_seed(self) -> int:
        """The seed whose predictions stand for the method in figures."""
        return next(iter(self.seeds))

    @property
    def results(self) -> list[Result]:
        """The results of all seeds."""
        return [result for members in self.seeds.values() for result in members]

    def with_its_pose_alone(self) -> Method:
        """The same without held-out radiographs of other poses, of a method that was trained on one pose."""
        if len(self.first.poses) != 1:
            return self
        return replace(self, seeds={s: [r.keep_poses(r.poses) for r in some] for s, some in self.seeds.items()})

    def rows(self, seed: int, split: str, task: Task | None = None) -> list[PairPrediction]:
        """Rows of a seed, pooled over the folds; of the results that predict a task, if one is named."""
        chosen = [r for r in self.seeds[seed] if task is None or task in r.tasks]
        return [row for result in chosen for row in result.of(split)]

    def rows_by_fold(self, seed: int, split: str) -> list[list[PairPrediction]]:
        """Rows of a seed, fold by fold; folds without any are left out."""
        return [found for result in self.seeds[seed] if (found := result.of(split))]

    def first_fold(self) -> Method:
        """The same with nothing but its first result."""
        return replace(self, seeds={self.first_seed: [self.first]})


def group_methods(results: Sequence[Result]) -> list[Method]:
    """Group results by method, in the order of the paper's table.

    Raises:
        PreflightError: Two results are of the same method, task, fold and seed (BMD-EVA-003).
    """
    seen: dict[tuple[str, str, Task, Fold, int], Result] = {}
    grouped: dict[tuple[int, str, str], list[Result]] = {}
    for result in results:
        for task in result.tasks or (*TASKS,)[:1]:
            key = (result.method, result.settings, task, result.fold, result.seed)
            if key in seen:
                message = f"{result.folder.name} and {seen[key].folder.name} are {result.method}, fold {result.fold}."
                raise PreflightError("BMD-EVA-003", message)
            seen[key] = result
        grouped.setdefault((result.order, result.method, result.settings), []).append(result)
    methods: list[Method] = []
    names: set[str] = set()
    for (_, name, _), members in sorted(grouped.items(), key=lambda item: (item[0][:2], min(r.name for r in item[1]))):
        unique = make_unique_name(name, names)  # the same method under other settings
        names.add(unique)
        seeds = {seed: [r for r in members if r.seed == seed] for seed in sorted({r.seed for r in members})}
        methods.append(Method(unique, seeds))
    return methods
