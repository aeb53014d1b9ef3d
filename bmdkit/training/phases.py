"""Phases of a training that starts from what a decomposition has learnt: the head alone, then the encoder too."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from torch import nn

from bmdkit.models.generators import GeneratorConfig
from bmdkit.models.regression_head import Regressor
from bmdkit.training.learner import Learner, Samples
from bmdkit.training.loop import Loop
from bmdkit.training.loop_settings import LoopConfig
from bmdkit.training.run import read_weights_of
from bmdkit.training.session import TrainingSession
from bmdkit.training.watch import Measure

PhaseName = Literal["frozen", "tuned", "baseline", "scratch", "ridge"]


@dataclass(frozen=True)
class Phase:
    """What is trained in one go.

    Attributes:
        name: Name of the phase and of its folder.
        epochs: Passes over the training set.
        lr: Learning rate.
    """

    name: PhaseName
    epochs: int
    lr: float


def list_phases(epochs: int, lr: float, *, tuned_epochs: int, tuned_lr: float, fresh: bool) -> tuple[Phase, ...]:
    """The phases one after the other: the head, then the encoder too.

    Args:
        epochs: Length of the first phase.
        lr: Learning rate of the first phase.
        tuned_epochs: Length of the second phase; 0 epochs leave it out.
        tuned_lr: Learning rate of the second phase.
        fresh: Whether the encoder knows nothing: all is trained at once, at the first's rate.
    """
    if fresh:
        return (Phase("scratch", epochs, lr),)
    tuned = (Phase("tuned", tuned_epochs, tuned_lr),) if tuned_epochs else ()
    return (Phase("frozen", epochs, lr), *tuned)


def load_encoder(network: Regressor, folder: Path, architecture: GeneratorConfig) -> None:
    """Take over the encoder of a finished decomposition run.

    Raises:
        PreflightError: No finished run (BMD-TRN-009) or another architecture (BMD-TRN-006).
    """
    weights, _ = read_weights_of(folder, architecture)
    part = "encoder."
    network.encoder.load_state_dict({k[len(part) :]: v for k, v in weights.items() if k.startswith(part)})


def make_phase_loop(
    network: nn.Module,
    phase: Phase,
    make_learner: Callable[[float], Learner],
    samples: Samples,
    config: LoopConfig,
    session: TrainingSession,
    measure: Measure | None = None,
) -> Loop:
    """Make the loop of one phase, before its first step; the arguments are those of `train_phases`."""
    if isinstance(network, Regressor):
        network.freeze_encoder(phase.name == "frozen")
    own = replace(config, epochs=phase.epochs)
    return session.make_loop(make_learner(phase.lr), samples, own, folder=session.out / phase.name, measure=measure)


def plan_phases(
    network: nn.Module,
    phases: Sequence[Phase],
    make_learner: Callable[[float], Learner],
    samples: Samples,
    config: LoopConfig,
    session: TrainingSession,
    measure: Measure | None = None,
) -> Iterator[tuple[str, Callable[[], Loop]]]:
    """Give the name of each phase, and what makes its loop, for `plan_training`; arguments as of `train_phases`."""
    for phase in phases:
        make = partial(make_phase_loop, network, phase, make_learner, samples, config, session, measure)
        yield phase.name, make


def train_phases(
    network: nn.Module,
    phases: Sequence[Phase],
    make_learner: Callable[[float], Learner],
    samples: Samples,
    config: LoopConfig,
    session: TrainingSession,
    measure: Measure | None = None,
) -> Iterator[tuple[PhaseName, int, int]]:
    """Train the phases one after the other, each in a folder of its own.

    Yields each when it is done, its epochs, and the epoch whose network is kept.

    A phase that is made longer takes the later ones with it: they are trained anew.

    Args:
        network: What is trained; it has the phase's weights when that is yielded.
        phases: Phases in the order of training, from `list_phases`.
        make_learner: Makes the learner of `network` for a learning rate.
        samples: The training set.
        config: How, and how long apart from the phases' own epochs.
        session: Session that trains them.
        measure: Gives the figures of a network on the tune patients; None: there are no such patients.
    """
    for place, phase in enumerate(phases):
        loop = session.run_loop(make_phase_loop(network, phase, make_learner, samples, config, session, measure))
        if loop.steps > loop.steps_before and session.writes:
            for later in phases[place + 1 :]:  # it was trained on what is no more
                shutil.rmtree(session.out / later.name, ignore_errors=True)
        session.engine.processes.wait()
        network.load_state_dict(loop.trained.state_dict())
        yield phase.name, loop.epoch, loop.kept_epoch
