"""The loop that every network is trained by: epochs, learning rates, precision, averages, checkpoints, resuming."""

from __future__ import annotations

import contextlib
import copy
import csv
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bmdkit.errors import BmdkitError, PreflightError
from bmdkit.training.checkpoint import load_last_checkpoint, restore_rng, rng_state, save_checkpoint
from bmdkit.training.engine import Engine
from bmdkit.training.learner import Learner, Samples
from bmdkit.training.loop_settings import LoopConfig
from bmdkit.training.run_layout import CHECKPOINTS, LOG, TENSORBOARD
from bmdkit.training.watch import Measure, TuneWatch

logger = logging.getLogger(__name__)

CHECK_EVERY_STEPS = 20
"""How often the losses are looked at while an epoch runs; a look makes a GPU wait."""

CONSTANT_SPREAD = 0.02
"""A prediction whose standard deviation is a smaller part of the target's is called constant."""


class TrainingError(BmdkitError):
    """Training cannot go on."""


class Loop:
    """Trains a learner; can be stopped at any moment and taken up again from its last checkpoint.

    Args:
        learner: What is trained.
        samples: The training set.
        config: Length and manner of the training.
        engine: Device and precision.
        folder: The run's folder, for log.csv and checkpoints/.
        seed: Seed of the order of the samples and of all random draws in the steps.
        on_epoch: Called after each with the epochs done, all epochs, and the log's row with `images_per_s`, the speed
            of its steps.
        measure: Gives the figures of a network on the tune patients; they are added to the log's row.

    Attributes:
        steps, steps_before: Done in all, and by earlier calls.
    """

    def __init__(
        self,
        learner: Learner,
        samples: Samples,
        config: LoopConfig,
        engine: Engine,
        *,
        folder: Path,
        seed: int,
        on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
        measure: Measure | None = None,
    ) -> None:
        """Begin before the first step; `run` goes on from the newest checkpoint."""
        self.learner, self.samples, self.config, self.engine = learner, samples, config, engine
        self.folder, self.seed, self.on_epoch = folder, seed, on_epoch
        self.rng = torch.Generator().manual_seed(seed)
        self.epoch = self.batch = self.steps = self.steps_before = 0
        self.totals: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.seconds_before = 0.0
        self.largest_spread: Tensor | None = None
        self.images_per_s = 0.0
        self.watch = None if measure is None else TuneWatch(measure)
        self.average = copy.deepcopy(learner.networks[learner.averaged]) if config.ema else None

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        wanted = self.config.epoch_samples or len(self.samples)
        whole, rest = divmod(wanted, self.config.batch_size)
        return whole + (rest > 0 and not (whole and self.learner.whole_batches))

    @property
    def is_over(self) -> bool:
        """Whether no step is left to do: all epochs are done, or the training has ended early."""
        return self.epoch >= self.config.epochs or (self.batch == 0 and self._ends_early(self.seconds_before))

    @property
    def latest(self) -> nn.Module:
        """The network as it is now: the running average if one is kept."""
        return self.learner.networks[self.learner.averaged] if self.average is None else self.average

    @property
    def kept_epoch(self) -> int:
        """The epoch whose network is used in the end."""
        return self.watch.best_epoch if self.watch is not None and self.config.keep == "best" else self.epoch

    @property
    def trained(self) -> nn.Module:
        """The network to use: the latest, or that of the best epoch."""
        if self.watch is None or self.config.keep == "last" or self.watch.best_weights is None:
            return self.latest
        best = copy.deepcopy(self.latest)
        best.load_state_dict(self.watch.best_weights)
        return best

    def run(self) -> None:
        """Train to the last epoch, from the newest checkpoint if there is one.

        Raises:
            TrainingError: A loss is not finite (BMD-TRN-007).
            PreflightError: There are checkpoints, and none can be read.
        """
        devices = [self.engine.device] if self.engine.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self._tensorboard() as events:
            torch.manual_seed(self.seed)
            self.resume()
            if self.steps_before:
                logger.info("resuming after epoch %d, step %d", self.epoch, self.steps)
            if not self.engine.processes.writes:  # its dropped paths are its own
                torch.manual_seed(self.seed + 1_000_003 * self.engine.processes.rank + self.steps)
            self._write_log()
            self._warn_of_cycle(self.config.epochs)
            started = time.monotonic()
            for network in self.learner.networks.values():
                network.train()
            last = self.is_over
            while not last:
                self._run_epoch(started)
                row = self._end_epoch(started, events)
                last = self._ends_early(row["seconds"]) or self.epoch == self.config.epochs
                if last or self.epoch % self.config.checkpoint_epochs == 0:
                    self._save(started)
            if self.epoch < self.config.epochs:
                self._warn_of_cycle(self.epoch)

    def _warn_of_cycle(self, epochs: int) -> None:
        """Say so if the learning rate is still high when the training ends after so many epochs."""
        end = next(iter(self.learner.schedules.values())).cycle_end(epochs)
        if end > epochs and self.engine.processes.writes:
            logger.warning(
                "the training ends after %d epochs, inside a cycle of the learning rate that ends after %d: train for "
                "as many, or set optimiser.first_cycle_epochs or optimiser.schedule=one_cycle",
                epochs,
                end,
            )

    def _ends_early(self, seconds: float) -> bool:
        """Whether the budget is used up, or no epoch has been better for long."""
        tired = self.watch is not None and self.watch.is_tired(self.epoch, self.config.stop_early)
        stops = self.engine.processes.total(float(tired), self.engine.device) > 0 if self.config.stop_early else False
        return self._spent(seconds) or stops

    def _spent(self, seconds: float) -> bool:
        """Whether the budget is used up, by the mean of the processes' clocks."""
        if self.config.budget_minutes is None:
            return False
        mean = self.engine.processes.total(seconds, self.engine.device) / self.engine.processes.size
        return mean / 60 > self.config.budget_minutes

    def _order(self) -> Tensor:
        rng = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        count, wanted = len(self.samples), self.config.epoch_samples or len(self.samples)
        return torch.cat([torch.randperm(count, generator=rng) for _ in range(math.ceil(wanted / count))])[:wanted]

    def _batches(self) -> tuple[Tensor, ...]:
        """The samples of the epoch, batch by batch."""
        return self._order().split(self.config.batch_size)[: self.epoch_steps]

    def _run_epoch(self, started: float) -> None:
        batches = self._batches()
        begun, images = time.monotonic(), sum(map(len, batches[self.batch :]))
        self.largest_spread = None
        pending: dict[str, Tensor] = {}
        while self.batch < len(batches):
            for schedule in self.learner.schedules.values():
                schedule.set_rate(self.steps, self.config.epochs * len(batches))
            for name, value in self._step(batches[self.batch]).items():
                pending[name] = pending[name] + value if name in pending else value
            self._average()
            self._note_spread()
            self.batch += 1
            self.steps += 1
            save = self.config.checkpoint_steps and self.steps % self.config.checkpoint_steps == 0
            if save or self.batch == len(batches) or self.steps % CHECK_EVERY_STEPS == 0:
                self._collect(pending)
                pending = {}
            if save and self.batch < len(batches):
                self._save(started)
        self.images_per_s = images / max(time.monotonic() - begun, 1e-9)

    def _step(self, indices: Tensor) -> dict[str, Tensor]:
        places, self.engine.share = self.engine.processes.share(indices)
        batch = self.samples.take(indices[places], self.engine.device)
        batch |= {"places": places, "of": torch.tensor(len(indices))}
        losses = self.learner.step(batch, self.engine, self.rng)
        return {name: value * self.engine.share for name, value in losses.items()}

    def _average(self) -> None:
        if self.average is None:
            return
        decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps))
        current, kept = self.learner.networks[self.learner.averaged].state_dict(), self.average.state_dict()
        floating = [name for name, value in kept.items() if value.is_floating_point()]
        mix = get_ema_multi_avg_fn(decay)
        mix([kept[name] for name in floating], [current[name] for name in floating], self.steps)
        for name in kept.keys() - set(floating):
            kept[name].copy_(current[name])

    def _note_spread(self) -> None:
        spread = self.learner.spread
        if spread is not None:
            known = self.largest_spread
            self.largest_spread = spread if known is None else torch.maximum(known, spread)

    def _warn_of_constant(self) -> None:
        """Say so if every prediction of the epoch was the same everywhere."""
        if self.largest_spread is not None and float(self.largest_spread) < CONSTANT_SPREAD:
            logger.warning(
                "epoch %d: what is predicted is constant (its standard deviation is at most %.2g of the target's); "
                "lower optimiser.lr, or set optimiser.warmup_steps",
                self.epoch,
                float(self.largest_spread),
            )

    def _collect(self, pending: dict[str, Tensor]) -> None:
        for name, value in pending.items():
            self.totals[name] = self.totals.get(name, 0.0) + self.engine.processes.total(
                float(value), self.engine.device
            )
        wrong = [name for name, value in self.totals.items() if not math.isfinite(value)]
        if wrong:
            message = f"{', '.join(wrong)} not finite in epoch {self.epoch + 1}, by step {self.steps}."
            raise TrainingError("BMD-TRN-007", message, file=self.folder)

    def _end_epoch(self, started: float, events: Any) -> dict[str, float]:
        lr = next(iter(self.learner.optimisers.values())).param_groups[0]["lr"]
        for schedule in self.learner.schedules.values():
            schedule.end_epoch()
        means = {name: value / self.batch for name, value in self.totals.items()}
        self.epoch += 1
        self.batch, self.totals = 0, {}
        self._warn_of_constant()
        found = {} if self.watch is None else self.watch.look(self.latest, self.epoch)
        row = {"epoch": self.epoch, "step": self.steps, "lr": lr, **means, **found}
        row["seconds"] = self._seconds(started)
        self.history.append(row)
        self._write_log(last_only=True)
        if events is not None:
            for name, value in (means | found).items():
                events.add_scalar(name, value, self.epoch)
        if self.on_epoch is not None and self.engine.processes.writes:
            self.on_epoch(self.epoch, self.config.epochs, row | {"images_per_s": self.images_per_s})
        return row

    def _seconds(self, started: float) -> float:
        return round(self.seconds_before + time.monotonic() - started, 3)

    def _write_log(self, *, last_only: bool = False) -> None:
        """One line an epoch; after a resumption the lines that are done again go."""
        rows = self.history[-1:] if last_only else self.history
        if not rows or not self.engine.processes.writes:
            return
        path = self.folder / LOG
        fresh = not last_only or not path.exists()
        with path.open("w" if fresh else "a", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
            if fresh:
                writer.writeheader()
            writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)

    def _save(self, started: float) -> None:
        if not self.engine.processes.writes:
            return
        learner = self.learner
        state = {
            "epoch": self.epoch,
            "batch": self.batch,
            "steps": self.steps,
            "totals": self.totals,
            "history": self.history,
            "seconds": self._seconds(started),
            "networks": {name: network.state_dict() for name, network in learner.networks.items()},
            "average": None if self.average is None else self.average.state_dict(),
            "watch": None if self.watch is None else self.watch.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in learner.optimisers.items()},
            "schedules": {name: schedule.state_dict() for name, schedule in learner.schedules.items()},
            "scaler": self.engine.scaler.state_dict(),
            "rng": rng_state(self.rng, self.engine.device),
        }
        save_checkpoint(self.folder / CHECKPOINTS, state, self.steps)

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one; torch's generators are then as they were there.

        Raises:
            PreflightError: There are checkpoints, and none can be read (BMD-TRN-009), or other processes go on from
                elsewhere (BMD-TRN-015).
        """
        state = load_last_checkpoint(self.folder / CHECKPOINTS)
        steps = 0 if state is None else state["steps"]
        if self.engine.processes.total(steps, self.engine.device) != steps * self.engine.processes.size:
            message = f"process {self.engine.processes.rank} goes on from step {steps}, another from elsewhere."
            raise PreflightError("BMD-TRN-015", message, file=self.folder)
        if state is None:
            return
        for part in ("networks", "optimisers", "schedules"):
            for name, owner in getattr(self.learner, part).items():
                owner.load_state_dict(state[part][name])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.watch is not None and state.get("watch") is not None:
            self.watch.load_state_dict(state["watch"])
        self.engine.scaler.load_state_dict(state["scaler"])
        for name in ("epoch", "batch", "steps", "totals", "history"):
            setattr(self, name, state[name])
        self.steps_before = self.steps
        self.seconds_before = state["seconds"]
        restore_rng(state["rng"], self.rng, self.engine.device)

    @contextlib.contextmanager
    def _tensorboard(self):
        if not self.config.tensorboard or not self.engine.processes.writes:
            yield None
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise PreflightError("BMD-TRN-011", f"{error}.") from error

        with SummaryWriter(str(self.folder / TENSORBOARD)) as events:
            yield events
