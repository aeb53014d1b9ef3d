"""High-resolution networks: parallel branches at 1/4, 1/8, 1/16 and 1/32 that exchange their maps again and again.

One skeleton, two kinds of block: windowed attention (HRFormer) and residual convolutions (HRNetV2).
Sources: Yuan et al. 2021 (HRFormer), arXiv 2110.09408; Wang et al. 2021 (HRNet), doi 10.1109/TPAMI.2020.2983686.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bmdkit.models.blocks import BasicBlock, Bottleneck, Fuse, convolution, group_norm
from bmdkit.models.window_attention import WindowBlock


@dataclass(frozen=True)
class Plan:
    """Size of one network.

    Attributes:
        channels: Of the four branches, finest first.
        modules: Exchange modules of stages two, three and four.
        blocks: Blocks of every branch of a module.
        bottlenecks: Of stage one.
        heads: Attention heads of the branches; None for convolution blocks.
        drop_path: Largest drop-path rate; the rates of the blocks rise to it linearly.
    """

    channels: tuple[int, int, int, int]
    modules: tuple[int, int, int]
    blocks: int
    bottlenecks: int
    heads: tuple[int, int, int, int] | None = None
    drop_path: float = 0.0


def plan_of(name: Literal["hrformer_t", "hrformer_s", "hrformer_b", "hrnet_w18", "hrnet_w48"]) -> Plan:
    """The published sizes."""
    match name:
        case "hrformer_t":
            return Plan((18, 36, 72, 144), (1, 3, 2), 2, 2, (1, 2, 4, 8), 0.1)
        case "hrformer_s":
            return Plan((32, 64, 128, 256), (1, 4, 2), 2, 2, (1, 2, 4, 8), 0.1)
        case "hrformer_b":
            return Plan((78, 156, 312, 624), (1, 4, 2), 2, 2, (2, 4, 8, 16), 0.2)
        case "hrnet_w18":
            return Plan((18, 36, 72, 144), (1, 4, 3), 4, 4)
        case "hrnet_w48":
            return Plan((48, 96, 192, 384), (1, 4, 3), 4, 4)
    raise ValueError(f"name: no high-resolution network is called {name!r}")


class MultiResolutionEncoder(nn.Module):
    """Radiograph to the fused map (256 channels) at 1/4 resolution.

    Args:
        inputs: Channels of the image.
        plan: Size of the network.
        recompute: Trade time for memory: forget the blocks' activations and compute them again in the backward pass.
    """

    stride = 32

    def __init__(self, inputs: int, plan: Plan, *, recompute: bool = False) -> None:
        super().__init__()
        self.channels = 256
        self.trunk = Trunk(inputs, plan, recompute)
        self.fuse = Fuse(sum(plan.channels), self.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(self.trunk(x))


class Trunk(nn.Module):
    """Stem, stage one and the three stages of parallel branches; gives the maps of all four resolutions."""

    def __init__(self, inputs: int, plan: Plan, recompute: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            convolution(inputs, 64, stride=2),
            group_norm(64),
            nn.ReLU(),
            convolution(64, 64, stride=2),
            group_norm(64),
            nn.ReLU(),
        )
        self.stage_one = nn.Sequential(*(Bottleneck(64 if n == 0 else 256, 64) for n in range(plan.bottlenecks)))
        total = sum(plan.modules) * plan.blocks
        rates = iter([plan.drop_path * n / (total - 1) for n in range(total)])
        before: tuple[int, ...] = (256,)
        self.transitions, self.stages = nn.ModuleList(), nn.ModuleList()
        for branches, modules in enumerate(plan.modules, start=2):
            channels = plan.channels[:branches]
            self.transitions.append(Transition(before, channels))
            stage = []
            for _ in range(modules):
                module_rates = [next(rates) for _ in range(plan.blocks)]
                branch_blocks = [_blocks(plan, n, module_rates) for n in range(branches)]
                stage.append(Exchange(channels, branch_blocks, separable=plan.heads is not None, recompute=recompute))
            self.stages.append(nn.Sequential(*stage))
            before = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stage_one(self.stem(x))]
        for transition, stage in zip(self.transitions, self.stages, strict=True):
            maps = stage(transition(maps))
        return maps


def _blocks(plan: Plan, branch: int, rates: list[float]) -> nn.Sequential:
    channels = plan.channels[branch]
    if plan.heads is None:
        return nn.Sequential(*(BasicBlock(channels, rate) for rate in rates))
    return nn.Sequential(*(WindowBlock(channels, plan.heads[branch], drop_path=rate) for rate in rates))


class Transition(nn.Module):
    """From the branches of one stage to those of the next, which has one more, at half the resolution of the last."""

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        for n, channels in enumerate(after):
            if n < len(before) and before[n] == channels:
                self.steps.append(nn.Identity())
            else:
                source, stride = (before[n], 1) if n < len(before) else (before[-1], 2)
                step = nn.Sequential(convolution(source, channels, stride=stride), group_norm(channels), nn.ReLU())
                self.steps.append(step)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [step(maps[min(n, len(maps) - 1)]) for n, step in enumerate(self.steps)]


class Exchange(nn.Module):
    """Blocks on every branch, then every branch becomes the sum of all, each brought to its resolution.

    Args:
        channels: Of the branches, finest first.
        blocks: Of the branches.
        separable: Whether strided convolutions are depthwise and then 1x1 (HRFormer) or full (HRNet).
        recompute: See `MultiResolutionEncoder`.
    """

    def __init__(
        self, channels: tuple[int, ...], blocks: list[nn.Sequential], *, separable: bool, recompute: bool
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.branches = nn.ModuleList(blocks)
        every = range(len(channels))
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(channels, source, to, separable) for source in every) for to in every
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        if self.recompute and self.training:
            maps = [checkpoint(b, m, use_reentrant=False) for b, m in zip(self.branches, maps, strict=True)]
        else:
            maps = [branch(m) for branch, m in zip(self.branches, maps, strict=True)]
        fused = []
        for to, paths in enumerate(self.paths):
            size = maps[to].shape[-2:]
            total = maps[to]
            for source, path in enumerate(paths):
                if source == to:
                    continue
                part = path(maps[source])
                if source > to:
                    part = nn.functional.interpolate(part, size, mode="bilinear", align_corners=False)
                total = total + part
            fused.append(torch.relu(total))
        return fused


def _path(channels: tuple[int, ...], source: int, to: int, separable: bool) -> nn.Module:
    """From one branch to another: 1x1 upwards (interpolated after), strided convolutions downwards."""
    if source == to:
        return nn.Identity()
    if source > to:
        return nn.Sequential(convolution(channels[source], channels[to], 1), group_norm(channels[to]))
    steps: list[nn.Module] = []
    width = channels[source]
    for n in range(to - source):
        last = n == to - source - 1
        outputs = channels[to] if last else width
        if separable:
            steps += [convolution(width, width, stride=2, groups=width), group_norm(width)]
            steps += [convolution(width, outputs, 1), group_norm(outputs)]
        else:
            steps += [convolution(width, outputs, stride=2), group_norm(outputs)]
        if not last:
            steps.append(nn.ReLU())
    return nn.Sequential(*steps)
