"""What every training has in common: where it computes, which folder it writes to, and whom it reports to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from bmdkit.dataset.manifest import read_manifest
from bmdkit.dataset.samples import DatasetName, Fold, Pair, read_pairs, split_pairs
from bmdkit.dataset.splits import choose_tune_patients, draw_patients
from bmdkit.errors import PreflightError
from bmdkit.jobs.machine import MachineNeeds, Package, check_machine
from bmdkit.training.data_place import write_data_place
from bmdkit.training.distributed import join_processes
from bmdkit.training.engine import Engine
from bmdkit.training.learner import Learner, Samples
from bmdkit.training.loop import Loop
from bmdkit.training.loop_settings import LoopConfig
from bmdkit.training.progress_picture import draw_progress
from bmdkit.training.provenance import trace_provenance
from bmdkit.training.run_folder import FolderState, LabelledData, examine_folder, make_identity, open_folder
from bmdkit.training.run_layout import GENERATOR, PROGRESS, Provenance, Split
from bmdkit.training.watch import Measure

EpochCallback = Callable[[int, int, dict[str, float]], None]
"""Called after each epoch with the epochs done, all epochs, and the log's row."""

_TENSORBOARD = Package("tensorboard", "BMD-TRN-011", "No module named 'tensorboard'.")


@dataclass(frozen=True)
class RunIdentity:
    """What tells one run from another; from `identify_run`.

    Attributes:
        values: Entries of its config.json.
        settings: Dataclass of its settings.
    """

    values: dict[str, Any]
    settings: type


def identify_run(
    kind: str,
    config: Any,
    data: Provenance | LabelledData,
    *,
    seed: int,
    init_from: Path | None,
    weights: str = GENERATOR,
) -> RunIdentity:
    """Find what tells a run from others; the arguments are those of `make_identity`."""
    values = make_identity(kind, config, seed=seed, data=data, init_from=init_from, weights=weights)
    return RunIdentity(values, type(config))


def examine_run(out: Path, identity: RunIdentity, *, overwrite: bool = False) -> FolderState:
    """Say what a run would find in its folder; nothing is made or changed.

    Args:
        out: Folder of the run.
        identity: What tells the run from others.
        overwrite: Whether to drop what the folder holds.

    Raises:
        PreflightError: The folder holds something else (BMD-TRN-008).
        LockedError: Another training writes to it.
    """
    return examine_folder(out, identity.values, overwrite=overwrite, settings=identity.settings)


@dataclass(frozen=True, eq=False)
class TrainingSession:
    """One training of one process, from its first look at the machine to its last file.

    Attributes:
        out: Folder of the run.
        engine: Device, precision and processes.
        seed: Seed of all random draws.
        init_from: The run that the first weights come from; None: they are drawn.
        overwrite: Whether to drop what `out` holds.
        on_epoch: Called after each epoch, or None.
    """

    out: Path
    engine: Engine
    seed: int
    init_from: Path | None
    overwrite: bool
    on_epoch: EpochCallback | None

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.engine.device

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.engine.processes.writes

    def draw(self) -> torch.Generator:
        """A new source of the first weights."""
        return torch.Generator().manual_seed(self.seed)

    @contextlib.contextmanager
    def open_run(self, identity: RunIdentity, *, place: Path | None = None) -> Iterator[None]:
        """Hold the run's folder; the first process opens it, the others wait until it is open.

        Args:
            identity: What tells the run from others.
            place: Folder of its dataset, which is noted in the run's folder.

        Raises:
            PreflightError: The folder holds something else (BMD-TRN-008).
            LockedError: Another training writes to it.
        """
        opened = open_folder(self.out, identity.values, overwrite=self.overwrite, settings=identity.settings)
        with opened if self.writes else contextlib.nullcontext():
            if self.writes and place is not None:
                write_data_place(self.out, place)
            self.engine.processes.wait()
            yield

    def make_loop(
        self,
        learner: Learner,
        samples: Samples,
        config: LoopConfig,
        *,
        folder: Path | None = None,
        measure: Measure | None = None,
    ) -> Loop:
        """Make the loop of a learner, before its first step; nothing is written.

        Args:
            learner: What is trained.
            samples: The training set.
            config: Length and manner of the training.
            folder: Folder of the log, its picture and the checkpoints; the run's own if None.
            measure: Gives the figures of a network on the tune patients; None: there are no such patients.
        """
        return Loop(
            learner,
            samples,
            config,
            self.engine,
            folder=folder or self.out,
            seed=self.seed,
            on_epoch=self.on_epoch,
            measure=measure,
        )

    def run_loop(self, loop: Loop) -> Loop:
        """Train, or go on training, and give the loop when it is done.

        Args:
            loop: From `make_loop`.

        Raises:
            TrainingError: A loss became infinite or NaN (BMD-TRN-007).
        """
        loop.folder.mkdir(exist_ok=True)
        loop.run()
        if self.writes:
            draw_progress(loop.folder / PROGRESS, loop.history, kept_epoch=loop.kept_epoch)
        return loop


def start_session(
    out: Path,
    config: LoopConfig,
    *,
    seed: int,
    device: str,
    init_from: Path | None,
    overwrite: bool,
    on_epoch: EpochCallback | None,
) -> TrainingSession:
    """Check the machine, choose the device and join the other processes.

    Args:
        out: Folder of the run.
        config: Length and manner of the training; its precision is the engine's.
        seed: Seed of all random draws.
        device: Device to compute on: auto, cpu or cuda[:N].
        init_from: The run that the first weights come from; None: they are drawn.
        overwrite: Whether to drop what `out` holds.
        on_epoch: Called after each epoch, or None.

    Raises:
        PreflightError: The device, its memory or the package for TensorBoard is not there, or `out` cannot be written
            to; see `jobs.machine.check_machine`.
    """
    packages = (_TENSORBOARD,) if config.tensorboard else ()
    there = check_machine(MachineNeeds(device=device, packages=packages, out=out))
    processes, chosen = join_processes(torch.device(there))
    return TrainingSession(out, Engine(chosen, config.precision, processes), seed, init_from, overwrite, on_epoch)


class PairSelection(Protocol):
    """Settings that say which pairs of a dataset are trained on."""

    @property
    def fold(self) -> Fold:
        """Fold that is held out."""

    @property
    def train_poses(self) -> tuple[str, ...]:
        """Poses that are trained on; empty for all."""

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Registration verdicts of the pairs to use."""


@dataclass(frozen=True)
class PairSplit:
    """The pairs of one training.

    Attributes:
        train: Pairs to learn from.
        tune: Pairs of the patients on whom choices are made; empty if there are none.
        test: Pairs of the fold that is held out; empty if none is.
        provenance: What the training learns from.
    """

    train: tuple[Pair, ...]
    tune: tuple[Pair, ...]
    test: tuple[Pair, ...]
    provenance: Provenance

    def by_name(self) -> dict[Split, tuple[Pair, ...]]:
        """The pairs of each split that has any."""
        named: dict[Split, tuple[Pair, ...]] = {"train": self.train, "tune": self.tune, "test": self.test}
        return {name: pairs for name, pairs in named.items() if pairs}


def select_pairs(
    data: Path,
    dataset: DatasetName,
    selection: PairSelection,
    init_from: Path | None,
    *,
    tune_share: float = 0.0,
    train_patients: int = 0,
    seed: int = 0,
) -> PairSplit:
    """Read which pairs a training learns from, which it is tuned with and which it holds out.

    Who tunes depends on the dataset's patients, the fold and the share alone: it is the same for both of its datasets.

    Args:
        data: A built dataset.
        dataset: A or B.
        selection: The training's settings.
        init_from: The run that it starts from, or None.
        tune_share: Part of the patients outside the fold that are tuned with.
        train_patients: Number of patients to draw of those left to train on; 0 for all.
        seed: Seed of that draw.

    Raises:
        PreflightError: The dataset, the fold or `init_from` cannot be used, or nobody is left to train on or to tune
            with (BMD-TRN-004).
    """
    pairs: Sequence[Pair] = read_pairs(data, dataset, verdicts=selection.verdicts)
    learnt, test = split_pairs(pairs, selection.fold, train_poses=selection.train_poses)
    known = {row["patient_id"] for row in read_manifest(data) if row.get("fold") not in ("", str(selection.fold))}
    chosen = choose_tune_patients(known, tune_share)
    train = tuple(pair for pair in learnt if pair.patient_id not in chosen)
    if train_patients:
        drawn = draw_patients({pair.patient_id for pair in train}, train_patients, seed=seed)
        train = tuple(pair for pair in train if pair.patient_id in drawn)
    tune = tuple(pair for pair in learnt if pair.patient_id in chosen)
    if not train or bool(tune) != bool(tune_share):
        message = f"tune_share {tune_share:g} leaves {len(train)} pairs to train on and {len(tune)} to tune with."
        raise PreflightError("BMD-TRN-004", message)
    held_out = (*tune, *test)
    return PairSplit(train, tune, test, trace_provenance(data, init_from, fold=selection.fold, held_out=held_out))
