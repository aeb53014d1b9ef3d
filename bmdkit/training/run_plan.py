"""What a training would do: whom it would learn from, how long, and what becomes of its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from bmdkit.dataset.samples import Fold, Pair
from bmdkit.training.loop import Loop
from bmdkit.training.run_folder import FolderState
from bmdkit.training.run_layout import Split
from bmdkit.training.session import RunIdentity, TrainingSession, examine_run


@dataclass(frozen=True)
class Headcount:
    """Those of one split.

    Attributes:
        patients: Number of patients.
        samples: Number of pairs, or of CTs.
    """

    patients: int
    samples: int

    @classmethod
    def of(cls, patients: Sequence[str]) -> Headcount:
        """Count samples by the patients that they are of."""
        return cls(len(set(patients)), len(patients))


@dataclass(frozen=True)
class PhasePlan:
    """What is to do in one phase.

    Attributes:
        name: Name of the phase; empty where the run has one alone.
        epochs: Epochs in all.
        epochs_done: Epochs that an earlier call has done.
        epoch_steps: Steps of an epoch; None where they are known only when the training has begun.
        is_over: Whether nothing is left to do.
    """

    name: str
    epochs: int
    epochs_done: int
    epoch_steps: int | None
    is_over: bool


@dataclass(frozen=True)
class TrainingPlan:
    """What a training would do.

    Attributes:
        out: Folder of the run.
        device: Device that it would compute on.
        samples: What it learns from: pairs or CTs.
        fold: Fold that is held out.
        counts: Numbers of each split that has any.
        phases: Phases in their order; none where nothing is trained by steps.
        folder: What it would find in its folder.
        init_from: Run that the first weights come from; None: they are drawn.
    """

    out: Path
    device: str
    samples: str
    fold: Fold
    counts: Mapping[Split, Headcount]
    phases: tuple[PhasePlan, ...]
    folder: FolderState
    init_from: Path | None

    @property
    def is_over(self) -> bool:
        """Whether all phases are finished."""
        return bool(self.phases) and all(phase.is_over for phase in self.phases)


class UnknownSamples:
    """Stands for samples that are made only when a training has begun; see `Samples`."""

    def __len__(self) -> int:
        """None are known."""
        return 0

    def take(self, indices: Tensor, device: torch.device) -> NoReturn:
        """There are none.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("samples: none are made before the training has begun")


def count_pairs(splits: Mapping[Split, Sequence[Pair]]) -> dict[Split, Headcount]:
    """Count the patients and pairs of each split."""
    return {name: Headcount.of([pair.patient_id for pair in pairs]) for name, pairs in splits.items()}


def plan_training(
    session: TrainingSession,
    identity: RunIdentity,
    loops: Iterable[tuple[str, Callable[[], Loop]]],
    counts: Mapping[Split, Headcount],
    *,
    fold: Fold,
    samples: str = "pairs",
) -> TrainingPlan:
    """Find out what a prepared training would do; nothing is written.

    Args:
        session: Session that would train.
        identity: What tells the run from others.
        loops: Name of each phase and what makes its loop, in the order of training.
        counts: Numbers of each split.
        fold: Fold that is held out.
        samples: What it learns from, for people.

    Raises:
        PreflightError: The folder holds something else (BMD-TRN-008), or its checkpoints cannot be read (BMD-TRN-009).
        LockedError: Another training writes to it.
    """
    folder = examine_run(session.out, identity, overwrite=session.overwrite)
    phases: list[PhasePlan] = []
    with torch.random.fork_rng([]):
        for name, make_loop in loops:
            loop = make_loop()
            if folder == "same" and all(phase.is_over for phase in phases):  # else it is trained anew
                loop.resume()
            phases.append(PhasePlan(name, loop.config.epochs, loop.epoch, loop.epoch_steps or None, loop.is_over))
    return TrainingPlan(
        session.out, str(session.device), samples, fold, counts, tuple(phases), folder, session.init_from
    )
