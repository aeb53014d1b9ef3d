"""Batch norms: one process or two, one forward pass or two, the same statistics."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from bmdkit.models.discriminator import DiscriminatorConfig, make_discriminator
from bmdkit.models.generators import GeneratorConfig, make_generator
from bmdkit.models.norms import SharedBatchNorm, make_norm, run_twice

ROUNDING = 1e-5  # single precision, sums in another order


def batch() -> torch.Tensor:
    return 3.0 + 2.0 * torch.randn(6, 4, 5, 3, generator=torch.Generator().manual_seed(0))


def learn(x: torch.Tensor) -> tuple[torch.Tensor, SharedBatchNorm]:
    """Output of a norm, and the norm with the gradient of a loss that is a sum over samples."""
    norm = SharedBatchNorm(4)
    y = norm(x)
    (y**3).sum().backward()
    return y.detach(), norm


def share(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    x = batch()[rank::2].requires_grad_()
    y, norm = learn(x)
    torch.save([y, x.grad, norm.running_mean, norm.running_var, norm.weight.grad], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_statistics_and_the_gradients_of_the_whole_batch(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(share, (port, str(tmp_path)), nprocs=2)
    whole = batch().requires_grad_()
    y, norm = learn(whole)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for rank, (own_y, own_grad, mean, variance, _) in enumerate(parts):
        torch.testing.assert_close(own_y, y[rank::2], atol=10 * ROUNDING, rtol=ROUNDING)
        torch.testing.assert_close(own_grad, whole.grad[rank::2], atol=1e-3, rtol=1e-3)  # differences of large sums
        torch.testing.assert_close(mean, norm.running_mean, atol=ROUNDING, rtol=ROUNDING)
        torch.testing.assert_close(variance, norm.running_var, atol=10 * ROUNDING, rtol=ROUNDING)
    torch.testing.assert_close(parts[0][4] + parts[1][4], norm.weight.grad, atol=1e-3, rtol=1e-4)


def test_activations_that_are_computed_twice_count_once():
    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), SharedBatchNorm(4), nn.ReLU())
    other = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), SharedBatchNorm(4), nn.ReLU())
    other.load_state_dict(block.state_dict())
    block(batch()).square().sum().backward()
    run_twice(other, batch().requires_grad_()).square().sum().backward()
    for name, value in block.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    torch.testing.assert_close(other[0].weight.grad, block[0].weight.grad)
    assert int(other[1].num_batches_tracked) == 1


@pytest.mark.parametrize("backbone", ["resnet", "unet", "hrnet_w18", "hrformer_t", "daformer_b0"])
def test_every_backbone_takes_batch_norms_and_no_discriminator_has_one(backbone):
    settings = {"backbone": backbone, "filters": 8, "downsamplings": 3, "blocks": 1}
    kinds = {}
    for norm in ("group", "batch"):
        generator = make_generator(GeneratorConfig(**settings, norm=norm), outputs=1, rng=torch.Generator())
        kinds[norm] = {type(module) for module in generator.modules()}
    assert SharedBatchNorm not in kinds["group"]
    assert SharedBatchNorm in kinds["batch"]
    assert nn.GroupNorm not in kinds["batch"]
    judge = make_discriminator(DiscriminatorConfig(4, 2, 2), inputs=2, rng=torch.Generator())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in judge.modules())


def test_a_norm_is_the_papers_unless_asked_for():
    assert isinstance(make_norm(8), nn.GroupNorm)
