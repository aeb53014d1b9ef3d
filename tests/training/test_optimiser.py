"""The learning rate of every step, as the settings say it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bmdkit.training.engine import Engine
from bmdkit.training.optimiser import OptimiserConfig


def rates(steps: int, epoch_steps: int, **settings) -> list[float]:
    optimiser, schedule = OptimiserConfig(**settings).make(nn.Linear(1, 1))
    found = []
    for step in range(steps):
        schedule.set_rate(step, steps)
        optimiser.step()
        found.append(optimiser.param_groups[0]["lr"])
        if (step + 1) % epoch_steps == 0:
            schedule.end_epoch()
    return found


def test_restarts_change_the_rate_once_an_epoch():
    found = rates(8, 2, lr=1.0, lowest_lr=0.0, first_cycle_epochs=2)
    assert found == pytest.approx([1, 1, 0.5, 0.5, 1, 1, *[0.5 * (1 + math.cos(math.pi / 4))] * 2])


def test_a_warm_up_rises_to_the_rate_of_the_schedule_and_leaves_it_there():
    plain = rates(12, 3, lr=1.0, lowest_lr=0.0, first_cycle_epochs=2)
    warm = rates(12, 3, lr=1.0, lowest_lr=0.0, first_cycle_epochs=2, warmup_steps=4)
    assert warm[:4] == pytest.approx([0.25, 0.5, 0.75, 0.5 * 1.0])  # the fourth step is in the second epoch
    assert warm[4:] == plain[4:]


def test_one_cycle_rises_falls_and_ends_low():
    found = rates(100, 10, lr=1.0, lowest_lr=0.0, schedule="one_cycle", warmup_steps=10)
    assert found[:10] == pytest.approx([0.1 * (n + 1) for n in range(10)])
    assert found[10] == 1.0
    assert found[55] == pytest.approx(0.5)
    assert found[99] < 1e-3
    assert sorted(found[10:], reverse=True) == found[10:]


@pytest.mark.parametrize(("epochs", "end"), [(10, 10), (30, 30), (20, 30), (1, 10), (71, 150)])
def test_the_end_of_a_cycle_is_known(epochs, end):
    assert OptimiserConfig().make(nn.Linear(1, 1))[1].cycle_end(epochs) == end
    assert OptimiserConfig(schedule="one_cycle").make(nn.Linear(1, 1))[1].cycle_end(epochs) == epochs


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_clipping_shortens_the_gradient_and_keeps_its_direction(clip):
    network = nn.Linear(2, 1, bias=False)
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    before = network.weight.detach().clone()
    Engine(torch.device("cpu")).descend((network.weight * torch.tensor([[3.0, 4.0]])).sum(), optimiser, clip=clip)
    step = before - network.weight.detach()
    length = 5.0 if clip == 0.0 else clip
    assert float(step.norm()) == pytest.approx(length, rel=1e-4)
    assert float(step[0, 1] / step[0, 0]) == pytest.approx(4 / 3, rel=1e-4)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"warmup_steps": -1}, {"clip": -1.0}, {"first_cycle_epochs": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OptimiserConfig(**wrong)
