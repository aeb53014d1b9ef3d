"""The loop beside what is learnt: short batches, warm-up across an interruption, and what it warns of."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bmdkit.training import loop as loop_module
from bmdkit.training.engine import Engine
from bmdkit.training.loop import Loop
from bmdkit.training.loop_settings import LoopConfig
from bmdkit.training.optimiser import OptimiserConfig
from bmdkit.training.single_network import Batch, BatchLoss, SingleNetworkLearner, relative_spread

RATES = OptimiserConfig(lr=0.1, first_cycle_epochs=2)


class Numbers:
    """x and twice x."""

    def __init__(self, count: int) -> None:
        self.x = torch.linspace(-1, 1, count)[:, None]

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: Tensor, device: torch.device) -> Batch:
        return {"x": self.x[indices], "y": 2.0 * self.x[indices]}


class Line(nn.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([slope]))

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x


def learner(slope: float = 1.0, optimiser: OptimiserConfig = RATES, seen: list | None = None, **more):
    def compute_loss(network, batch, engine, rng):
        if seen is not None:
            seen.append(len(batch["x"]))
        predicted = network(batch["x"])
        loss = (predicted - batch["y"]).square().mean()
        return BatchLoss(loss, {"loss": loss}, relative_spread(predicted, batch["y"]))

    return SingleNetworkLearner("line", Line(slope), optimiser, compute_loss, **more)


def run(learner, folder, config=LoopConfig(epochs=2, batch_size=4), count=10) -> Loop:  # noqa: B008  # frozen
    folder.mkdir(exist_ok=True)
    loop = Loop(learner, Numbers(count), config, Engine(torch.device("cpu")), folder=folder, seed=0)
    loop.run()
    return loop


@pytest.mark.parametrize(("whole", "sizes"), [(False, [4, 4, 2, 4, 4, 2]), (True, [4, 4, 4, 4])])
def test_a_learner_that_wants_whole_batches_gets_no_short_one(tmp_path, whole, sizes):
    seen: list[int] = []
    run(learner(seen=seen, whole_batches=whole), tmp_path)
    assert seen == sizes


def test_an_epoch_tells_how_many_images_a_second_its_steps_took(tmp_path, monkeypatch):
    """Every step takes two seconds of this clock: ten images in three steps, 1.67 a second."""
    seen: list[int] = []
    monkeypatch.setattr(loop_module.time, "monotonic", lambda: 2.0 * len(seen))
    told: list[dict[str, float]] = []
    config, engine = LoopConfig(epochs=2, batch_size=4), Engine(torch.device("cpu"))
    loop = Loop(learner(seen=seen), Numbers(10), config, engine, folder=tmp_path, seed=0,
                on_epoch=lambda done, total, row: told.append(dict(row)))  # fmt: skip
    loop.run()
    assert [row["images_per_s"] for row in told] == pytest.approx([10 / 6, 10 / 6])
    assert "images_per_s" not in loop.history[0]


def test_a_lone_short_batch_is_all_there_is(tmp_path):
    seen: list[int] = []
    run(learner(seen=seen, whole_batches=True), tmp_path, count=3)
    assert seen == [3, 3]


@pytest.mark.parametrize("schedule", ["restarts", "one_cycle"])
def test_a_warm_up_goes_on_after_an_interruption(tmp_path, schedule):
    """Killed in the middle of the warm-up, and resumed: the same weights as of one go."""
    rates = replace(RATES, warmup_steps=5, schedule=schedule)
    config = LoopConfig(epochs=4, batch_size=4, checkpoint_steps=2)
    whole = run(learner(optimiser=rates), tmp_path / "whole", config)

    cut = learner(optimiser=rates)
    step, made = cut.step, []

    def dying(*arguments):
        made.append(1)
        if len(made) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    cut.step = dying
    with pytest.raises(KeyboardInterrupt):
        run(cut, tmp_path / "cut", config)
    again = run(learner(optimiser=rates), tmp_path / "cut", config)
    assert again.steps_before == 2
    assert again.trained.slope.item() == whole.trained.slope.item()
    assert [row["lr"] for row in again.history] == [row["lr"] for row in whole.history]


def test_a_warm_up_makes_small_first_steps(tmp_path):
    config = LoopConfig(epochs=1, batch_size=10)
    loops = [run(learner(optimiser=replace(RATES, warmup_steps=n)), tmp_path / str(n), config) for n in (0, 10)]
    plain, warm = (abs(loop.trained.slope.item() - 1.0) for loop in loops)
    assert warm == pytest.approx(0.1 * plain, rel=0.01)


@pytest.mark.parametrize(("slope", "warned"), [(0.0, True), (1.0, False)])
def test_a_constant_prediction_is_warned_of(tmp_path, caplog, slope, warned):
    with caplog.at_level(logging.WARNING):
        run(learner(slope, replace(RATES, lr=1e-6)), tmp_path)
    assert ("what is predicted is constant" in caplog.text) == warned


@pytest.mark.parametrize(
    ("epochs", "rates", "warned"),
    [
        (2, RATES, False),
        (3, RATES, True),
        (6, RATES, False),
        (3, replace(RATES, schedule="one_cycle"), False),
    ],
)
def test_a_training_that_ends_inside_a_cycle_is_warned_of(tmp_path, caplog, epochs, rates, warned):
    """Cycles of 2 and 4 epochs end after 2 and 6."""
    with caplog.at_level(logging.WARNING):
        run(learner(optimiser=rates), tmp_path, LoopConfig(epochs=epochs, batch_size=10))
    assert ("inside a cycle of the learning rate that ends after 6" in caplog.text) == warned


def test_a_budget_that_ends_inside_a_cycle_is_warned_of(tmp_path, caplog, monkeypatch):
    """Every step takes two seconds of this clock, and the first is over a budget of one."""
    seen: list[int] = []
    monkeypatch.setattr(loop_module.time, "monotonic", lambda: 2.0 * len(seen))
    config = LoopConfig(epochs=2, batch_size=10, budget_minutes=1 / 60)
    with caplog.at_level(logging.WARNING):
        loop = run(learner(seen=seen), tmp_path, config)
    assert loop.epoch == 1
    assert "the training ends after 1 epochs, inside a cycle" in caplog.text
