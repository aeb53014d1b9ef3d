"""Finished runs that can predict BMD, with how far their predictions were off."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.dataset.pairs import PairConfig
from bmdkit.errors import PreflightError
from bmdkit.evaluation.conformal import LEVEL, conformal_half_width
from bmdkit.evaluation.disagreement import Disagreement
from bmdkit.evaluation.familiarity import Familiarity
from bmdkit.evaluation.plausibility import FLOORS, Plausibility, Quality
from bmdkit.evaluation.recalibration import Recalibration
from bmdkit.inference.overlay import resize_bilinear
from bmdkit.io.results import sha256_of
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.training.bone_density import Task
from bmdkit.training.joint_predictions import average_predictions, join_predictions
from bmdkit.training.regression_run import RegressionRun, load_regression
from bmdkit.training.run import DecompositionRun, describe_radiograph, estimate_bmd, load_run, predict_pf_drr
from bmdkit.training.run_layout import (
    CONFIG,
    FAMILIARITY,
    GENERATOR,
    PLAUSIBILITY,
    PREDICTIONS,
    REGRESSOR,
    RUN,
    PairPrediction,
    read_json,
    read_predictions,
)
from bmdkit.training.shipped import DECOMPOSITIONS, SIMULATED_USE, WORD

USE = "For research. Not for diagnosis."
"""What every output says of a network that has learnt from patients."""

PLACE = "place"
"""Split of the patients of a new place whose BMD is known, see `Recalibration`."""

SOURCES = {"train": "training patients", "test": "held-out patients", PLACE: "known hips of the place"}
"""Whose errors an interval is of; those of training patients are too small for new ones."""

_OTHERWISE = "it has learnt from radiographs that were read or cut otherwise than those of the first run."

USED_FILES = (CONFIG, RUN, GENERATOR, PLAUSIBILITY, PREDICTIONS)
"""The files of a run that its predictions come from."""


@dataclass(frozen=True)
class Spread:
    """How far predictions were off where the truth is known.

    Attributes:
        half_width: Half width of the prediction interval, in the task's unit: split-conformal, with the same weight for
            every patient; the one of `bmdkit evaluate`.
        level: Probability with which an image of a new patient lies within.
        n: Number of predictions that it was taken from.
        patients: Number of patients.
        split: "test" (held-out patients), "place" (patients of a new place), or "train", which is too small a spread
            for new patients.
    """

    half_width: float
    level: float
    n: int
    patients: int
    split: str

    def interval(self, value: float) -> tuple[float, float]:
        """Prediction interval about a value."""
        return value - self.half_width, value + self.half_width


_ORDER: tuple[Quality, ...] = ("accept", "review", "reject")


@dataclass(frozen=True, eq=False)
class Seen:
    """What runs see in one radiograph.

    Attributes:
        bmd: BMD by task: of the regression where there is one, else of the decomposition.
        quality: accept, review or reject: the worst of what is compared with the training patients.
        reasons: What was measured against what is allowed, in words.
        strangeness: How unusual it is, for ranking.
        pf_drr_g_cm2: (rows, columns) of the decomposition's image size; None without one.
    """

    bmd: dict[Task, float]
    quality: Quality
    reasons: tuple[str, ...]
    strangeness: float
    pf_drr_g_cm2: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Predictor:
    """Runs with what is known of their errors and their training data: decompositions, regressions, or both.

    Attributes:
        run: Decomposition of dataset B, its lines fitted; None where only regressions are used.
        others: Further decompositions that have learnt the same: projections and BMD are the means of all; their images
            may be of other sizes.
        usual: How far these are usually apart, by task; none of one decomposition, or where that is not known.
        learnt: Identifiers of the patients that runs other than the package's have learnt from or were tuned with.
        recalibration: Line that hips of known DXA-BMD have given, by which DXA-BMD is told; None: as the runs tell it.
        spreads: Spread of the errors by task.
        plausibility: Silhouettes of the decomposition's training data.
        sha256: Hash of each file of the runs that predictions come from, by name.
        familiarity: Features of the decomposition's training radiographs; None of a run of an earlier version.
        name: Names of the runs' folders.
        regressions: Regressions by task, whose BMD is told in place of that of the decomposition.
    """

    run: DecompositionRun | None
    spreads: dict[Task, Spread]
    plausibility: Plausibility | None
    sha256: dict[str, str]
    familiarity: Familiarity | None = None
    name: str = ""
    regressions: Mapping[Task, RegressionRun] = field(default_factory=dict)
    others: tuple[DecompositionRun, ...] = ()
    usual: Mapping[Task, Disagreement] = field(default_factory=dict)
    learnt: frozenset[str] = frozenset()
    recalibration: Recalibration | None = None

    @property
    def first(self) -> DecompositionRun | RegressionRun:
        """The run whose settings of radiographs all share."""
        return self._runs()[0]

    @property
    def xray(self) -> XrayConfig:
        """How the radiographs were read that the runs have learnt from."""
        return self.first.xray

    @property
    def pairs(self) -> PairConfig:
        """How they were cut; in as many pixels as those of the run that has the most."""
        return max((run.pairs for run in self._runs()), key=lambda pairs: pairs.rows)

    def _runs(self) -> list[DecompositionRun | RegressionRun]:
        """All runs, the decompositions first."""
        own = [] if self.run is None else [self.run, *self.others]
        return [*own, *self.regressions.values()]

    @property
    def unit(self) -> str | None:
        """Unit of the projections; None without any."""
        return None if self.run is None else self.run.unit

    def look(self, xray: np.ndarray, mask: np.ndarray, side: Side) -> Seen:
        """Predict one radiograph, and compare it with those of the training patients.

        Args:
            xray: (rows, columns), [0, 1], cut as a pair's.
            mask: Pixels that are image.
            side: The patient's own.
        """
        drr, bmd = None, {}
        found: list[tuple[Quality, tuple[str, ...], float]] = []
        if self.run is not None:
            members = (self.run, *self.others)
            drrs = [predict_pf_drr(member, xray, mask) for member in members]
            told = [estimate_bmd(member, one, xray, mask) for member, one in zip(members, drrs, strict=True)]
            drr = np.mean([resize_bilinear(one, drrs[0].shape) for one in drrs], axis=0)
            bmd = {task: float(np.mean([one[task] for one in told])) for task in told[0]}
            for task, usual in self.usual.items():
                values = np.array([one[task] for one in told])
                found.append((*usual.check(values), usual.strangeness(values)))
            if self.plausibility is not None:
                strangeness = self.plausibility.strangeness(drr, side)
                alone = self.familiarity is None
                found.append((*self.plausibility.check(drr, side), strangeness if alone else strangeness / len(FLOORS)))
            if self.familiarity is not None:
                found.append(_compare(self.familiarity, describe_radiograph(self.run, xray, mask)))
        for task, regression in self.regressions.items():
            bmd[task] = regression.predict(xray, mask)
            if self.run is None and regression.familiarity is not None:
                found.append(_compare(regression.familiarity, regression.describe(xray, mask)))
        if self.recalibration is not None:
            bmd["dxa"] = float(self.recalibration.apply(bmd["dxa"]))
            if not self.recalibration.is_of_use:
                reason = "what is told says no more of the known hips than their mean does (BMD-PRE-006)"
                found.append(("review", (reason,), 0.0))
        quality: Quality = max((one for one, _, _ in found), key=_ORDER.index, default="review")
        reasons = dict.fromkeys(reason for _, some, _ in found for reason in some)
        if not found:
            reasons = {"the run does not say what its training radiographs look like": None}
        return Seen(bmd, quality, tuple(reasons), max((s for *_, s in found), default=0.0), drr)

    @property
    def intended_use(self) -> str:
        """What every output has to say: that of the least trustworthy run."""
        return SIMULATED_USE if any(run.data == "simulated" for run in self._runs()) else USE

    @property
    def tells_dxa(self) -> bool:
        """Whether it tells DXA-BMD."""
        return "dxa" in self.regressions or (self.run is not None and "dxa" in self.run.lines)

    @property
    def interval_from(self) -> str | None:
        """Whose errors the intervals are of, the least trustworthy one of all tasks; None without intervals.

        Where one of them is of known hips of the place and another is not, each is told.
        """
        splits = {spread.split for spread in self.spreads.values()}
        if PLACE in splits and len(splits) > 1:
            return "; ".join(f"{task.upper()}: {SOURCES[one.split]}" for task, one in sorted(self.spreads.items()))
        return next((words for split, words in SOURCES.items() if split in splits), None)


def _compare(known: Familiarity, features: np.ndarray) -> tuple[Quality, tuple[str, ...], float]:
    return *known.check(features), known.strangeness(features)


def load_predictor(runs: Path | Sequence[Path] | None = None, *, device: str = "cpu") -> Predictor:
    """Read finished runs that predict BMD together.

    Args:
        runs: Folder of a decomposition of dataset B, of a regression, or of some of the first and at most one of the
            second for each task; None: the networks that come with the package. Of several decompositions the means
            are told, which are more often right than each of them, above all on what none has seen; their images may
            differ in size, and the projection has that of the first.
        device: Device to compute on: auto, cpu or cuda[:N].

    Raises:
        PreflightError: No finished run (BMD-TRN-009), one that cannot predict BMD (BMD-PRE-001), or runs that do not go
            together (BMD-PRE-004).
    """
    folders = list(DECOMPOSITIONS) if runs is None else [runs] if isinstance(runs, Path) else list(runs)
    found: list[Path] = []
    regressions: dict[Task, RegressionRun] = {}
    for folder in folders:
        if read_json(folder / RUN).get("kind") in ("representation", "baseline"):
            regression = load_regression(folder, device=device)
            if regression.task in regressions:
                raise PreflightError("BMD-PRE-004", f"two regressions of {regression.task}.", file=folder)
            regressions[regression.task] = regression
        else:
            found.append(folder)
    decomposition = _load_decompositions(found, device) if found else None
    return decomposition if decomposition is not None and not regressions else _join(decomposition, regressions)


def _load_decompositions(folders: Sequence[Path], device: str) -> Predictor:
    """One decomposition, or the mean of several that have learnt from the same radiographs."""
    if len(set(folders)) < len(folders):
        raise PreflightError("BMD-PRE-004", "one decomposition twice.", file=folders[0])
    read = [_load_decomposition(folder, device) for folder in folders]
    first, rows = read[0]
    runs = [member.run for member, _ in read if member.run is not None]
    if len(read) == 1:
        return replace(first, spreads=_spread_by_task(rows, runs[0].lines))
    for folder, run in zip(folders, runs, strict=True):
        if run.unit != runs[0].unit or not _read_alike(run, runs[0]):
            raise PreflightError("BMD-PRE-004", _OTHERWISE, file=folder)
    hashes = {
        f"{number}/{name}": digest
        for number, (member, _) in enumerate(read, start=1)
        for name, digest in member.sha256.items()
    }
    joined = join_predictions([rows for _, rows in read])
    usual: dict[Task, Disagreement] = {}
    for task in runs[0].lines:
        known = [row for row in joined if row[0].split == "test" and None not in [one.predicted(task) for one in row]]
        if known:
            usual[task] = Disagreement.of(np.array([[one.predicted(task) for one in row] for row in known], float))
    spreads = _spread_by_task(average_predictions(joined), runs[0].lines)
    name = WORD if list(folders) == list(DECOMPOSITIONS) else " + ".join(folder.name for folder in folders)
    learnt = frozenset().union(*(member.learnt for member, _ in read))
    return replace(first, spreads=spreads, sha256=hashes, name=name, others=tuple(runs[1:]), usual=usual, learnt=learnt)


def _load_decomposition(folder: Path, device: str) -> tuple[Predictor, tuple[PairPrediction, ...]]:
    """One decomposition without the spread of its errors, and its predictions where the truth is known."""
    run = load_run(folder, device=device)
    if run.config.dataset != "B" or not run.lines:
        message = f"dataset {run.config.dataset}, {len(run.lines)} lines to BMD."
        raise PreflightError("BMD-PRE-001", message, file=folder)
    try:
        described = json.loads((folder / PLAUSIBILITY).read_text(encoding="utf-8"))
        known = Plausibility.from_dict(described)
        familiar = Familiarity.from_dict(described[FAMILIARITY]) if FAMILIARITY in described else None
        rows = read_predictions(folder / PREDICTIONS)
        hashes = {name: sha256_of(folder / name) for name in USED_FILES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError("BMD-PRE-001", f"{error!r}.", file=folder) from error
    is_shipped = folder in DECOMPOSITIONS
    name, learnt = (WORD, frozenset[str]()) if is_shipped else (folder.name, _list_learnt(rows))
    return Predictor(run, {}, known, hashes, familiar, name, learnt=learnt), rows


def _list_learnt(rows: Iterable[PairPrediction]) -> frozenset[str]:
    return frozenset(row.patient_id for row in rows if row.split != "test")


def _read_alike(one: DecompositionRun | RegressionRun, other: Predictor | DecompositionRun | RegressionRun) -> bool:
    """Whether both have learnt from radiographs that were read and cut alike, in whatever number of pixels."""
    return (_describe_cut(one.pairs), one.xray) == (_describe_cut(other.pairs), other.xray)


def _describe_cut(pairs: PairConfig) -> tuple[PairConfig, Fraction]:
    """What of a cut decides the window: everything but the number of pixels, of which only the shape counts."""
    return replace(pairs, rows=1, columns=1), Fraction(pairs.rows, pairs.columns)


def _spread_by_task(rows: Sequence[PairPrediction], tasks: Iterable[Task]) -> dict[Task, Spread]:
    return {task: spread for task in tasks if (spread := make_spread(rows, task)) is not None}


def _join(found: Predictor | None, regressions: Mapping[Task, RegressionRun]) -> Predictor:
    """A predictor with regressions; each brings the errors of its own task."""
    spreads = {} if found is None else dict(found.spreads)
    hashes = {} if found is None else dict(found.sha256)
    names = [] if found is None else [found.name]
    learnt = frozenset[str]() if found is None else found.learnt
    first = next(iter(regressions.values())) if found is None else found
    for task, regression in regressions.items():
        if not _read_alike(regression, first):
            raise PreflightError("BMD-PRE-004", _OTHERWISE, file=regression.folder)
        spreads.pop(task, None)
        try:
            rows = read_predictions(regression.folder / PREDICTIONS)
            spread = make_spread(rows, task)
            learnt |= _list_learnt(rows)
            paths = [regression.folder.parent / name for name in (CONFIG, RUN)]
            paths += [regression.folder / name for name in (REGRESSOR, PREDICTIONS)]
            hashes |= {f"{task}/{path.name}": sha256_of(path) for path in paths}
        except (OSError, ValueError, KeyError) as error:
            raise PreflightError("BMD-PRE-001", f"{error!r}.", file=regression.folder) from error
        if spread is not None:
            spreads[task] = spread
        names.append(regression.folder.parent.name)
    name = " + ".join(names)
    if found is None:
        return Predictor(None, spreads, None, hashes, None, name, regressions, learnt=learnt)
    return replace(found, spreads=spreads, sha256=hashes, name=name, regressions=regressions, learnt=learnt)


def make_spread(rows: Sequence[PairPrediction], task: Task) -> Spread | None:
    """Errors of held-out patients; of training patients where those are too few for an interval; None where all are."""
    for split in ("test", "train"):
        own = [row for row in rows if row.split == split]
        values = [(row.predicted(task), row.measured(task), row.patient_id) for row in own]
        known = [(one, other, patient) for one, other, patient in values if one is not None and other is not None]
        if known:
            errors, patients = [one - other for one, other, _ in known], [patient for *_, patient in known]
            half_width = conformal_half_width(errors, patients, level=LEVEL)
            if math.isfinite(half_width):
                return Spread(half_width, LEVEL, len(known), len(set(patients)), split)
    return None
