"""High-resolution networks: parallel branches at 1/4, 1/8, 1/16 and 1/32 that exchange their maps again and again.

One skeleton, two kinds of block: windowed attention (HRFormer) and residual convolutions (HRNetV2).
Sources: Yuan et al. 2021 (HRFormer), arXiv 2110.09408; Wang et al. 2021 (HRNet), doi 10.1109/TPAMI.2020.2983686.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from bmdkit.models.blocks import BasicBlock, Bottleneck, Fuse, convolution
from bmdkit.models.encoder import Encoder
from bmdkit.models.norms import Norm, make_norm, run_twice
from bmdkit.models.window_attention import WindowBlock

HighResolutionName = Literal["hrformer_t", "hrformer_s", "hrformer_b", "hrnet_w18", "hrnet_w48"]
STRIDE = 32
"""Both sides of a radiograph are multiples of it."""


@dataclass(frozen=True)
class Plan:
    """Size of one network.

    Attributes:
        channels: Channels of the four branches, finest first.
        modules: Exchange modules of stages two, three and four.
        blocks: Blocks of every branch of a module.
        bottlenecks: Blocks of stage one.
        heads: Attention heads of the branches; None for convolution blocks.
        drop_path: Largest drop-path rate; the rates of the blocks rise to it linearly.
    """

    channels: tuple[int, int, int, int]
    modules: tuple[int, int, int]
    blocks: int
    bottlenecks: int
    heads: tuple[int, int, int, int] | None = None
    drop_path: float = 0.0


def plan_of(name: HighResolutionName) -> Plan:
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


class MultiResolutionEncoder(Encoder):
    """Radiograph to the fused map (256 channels) at 1/4 resolution.

    Args:
        inputs: Channels of the image.
        plan: Size of the network.
        recompute: Whether to trade time for memory: the blocks' activations are forgotten and computed again in the
            backward pass.
        norm: Norm after each convolution.
        standardised: See `Encoder`.
    """

    def __init__(
        self,
        inputs: int,
        plan: Plan,
        *,
        recompute: bool = False,
        norm: Norm = "group",
        standardised: bool = False,
    ) -> None:
        """Make the layers."""
        super().__init__(256, STRIDE, standardised=standardised)
        self.trunk = Trunk(inputs, plan, recompute, norm)
        self.fuse = Fuse(sum(plan.channels), self.channels, norm=norm)

    def features(self, xray: Tensor) -> tuple[Tensor, ...]:
        """The fused map alone."""
        return (self.fuse(self.trunk(xray)),)


class Trunk(nn.Module):
    """Stem, stage one and the three stages of parallel branches; gives the maps of all four resolutions."""

    def __init__(self, inputs: int, plan: Plan, recompute: bool, norm: Norm) -> None:
        """Make the layers."""
        super().__init__()
        self.stem = nn.Sequential(
            convolution(inputs, 64, stride=2),
            make_norm(64, norm),
            nn.ReLU(),
            convolution(64, 64, stride=2),
            make_norm(64, norm),
            nn.ReLU(),
        )
        self.stage_one = nn.Sequential(*(Bottleneck(64 if n == 0 else 256, 64, norm) for n in range(plan.bottlenecks)))
        total = sum(plan.modules) * plan.blocks
        rates = iter([plan.drop_path * n / (total - 1) for n in range(total)])
        before: tuple[int, ...] = (256,)
        self.transitions, self.stages = nn.ModuleList(), nn.ModuleList()
        for branches, modules in enumerate(plan.modules, start=2):
            channels = plan.channels[:branches]
            self.transitions.append(Transition(before, channels, norm))
            stage = []
            for _ in range(modules):
                module_rates = [next(rates) for _ in range(plan.blocks)]
                branch_blocks = [_blocks(plan, n, module_rates, norm) for n in range(branches)]
                separable = plan.heads is not None
                stage.append(Exchange(channels, branch_blocks, separable=separable, recompute=recompute, norm=norm))
            self.stages.append(nn.Sequential(*stage))
            before = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) to the maps at 1/4, 1/8, 1/16 and 1/32."""
        maps = [self.stage_one(self.stem(x))]
        for transition, stage in zip(self.transitions, self.stages, strict=True):
            maps = stage(transition(maps))
        return maps


def _blocks(plan: Plan, branch: int, rates: list[float], norm: Norm) -> nn.Sequential:
    channels = plan.channels[branch]
    if plan.heads is None:
        return nn.Sequential(*(BasicBlock(channels, rate, norm) for rate in rates))
    heads = plan.heads[branch]
    return nn.Sequential(*(WindowBlock(channels, heads, drop_path=rate, norm=norm) for rate in rates))


class Transition(nn.Module):
    """From the branches of one stage to those of the next, which has one more, at half the resolution of the last."""

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...], norm: Norm) -> None:
        """Make a step for each branch of the next stage."""
        super().__init__()
        self.steps = nn.ModuleList()
        for n, channels in enumerate(after):
            if n < len(before) and before[n] == channels:
                self.steps.append(nn.Identity())
            else:
                source, stride = (before[n], 1) if n < len(before) else (before[-1], 2)
                changed = convolution(source, channels, stride=stride)
                self.steps.append(nn.Sequential(changed, make_norm(channels, norm), nn.ReLU()))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of one stage to those of the next."""
        return [step(maps[min(n, len(maps) - 1)]) for n, step in enumerate(self.steps)]


class Exchange(nn.Module):
    """Blocks on every branch, then every branch becomes the sum of all, each brought to its resolution.

    Args:
        channels: Channels of the branches, finest first.
        blocks: Blocks of the branches.
        separable: Whether strided convolutions are depthwise and then 1x1 (HRFormer) or full (HRNet).
        recompute: See `MultiResolutionEncoder`.
        norm: Norm after each convolution.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        blocks: list[nn.Sequential],
        *,
        separable: bool,
        recompute: bool,
        norm: Norm,
    ) -> None:
        """Make the paths from every branch to every other."""
        super().__init__()
        self.recompute = recompute
        self.branches = nn.ModuleList(blocks)
        every = range(len(channels))
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(channels, source, to, separable, norm) for source in every) for to in every
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of all branches to as many of the same sizes."""
        if self.recompute and self.training:
            maps = [run_twice(branch, m) for branch, m in zip(self.branches, maps, strict=True)]
        else:
            maps = [branch(m) for branch, m in zip(self.branches, maps, strict=True)]
        fused = []
        for to, paths in enumerate(self.paths):
            size = maps[to].shape[-2:]
            total = maps[to]
            for source, path in enumerate(cast(nn.ModuleList, paths)):
                if source == to:
                    continue
                part = path(maps[source])
                if source > to:
                    part = nn.functional.interpolate(part, size, mode="bilinear", align_corners=False)
                total = total + part
            fused.append(torch.relu(total))
        return fused


def _path(channels: tuple[int, ...], source: int, to: int, separable: bool, norm: Norm) -> nn.Module:
    """From one branch to another: 1x1 upwards (interpolated after), strided convolutions downwards."""
    if source == to:
        return nn.Identity()
    if source > to:
        return nn.Sequential(convolution(channels[source], channels[to], 1), make_norm(channels[to], norm))
    steps: list[nn.Module] = []
    width = channels[source]
    for n in range(to - source):
        last = n == to - source - 1
        outputs = channels[to] if last else width
        if separable:
            steps += [convolution(width, width, stride=2, groups=width), make_norm(width, norm)]
            steps += [convolution(width, outputs, 1), make_norm(outputs, norm)]
        else:
            steps += [convolution(width, outputs, stride=2), make_norm(outputs, norm)]
        if not last:
            steps.append(nn.ReLU())
    return nn.Sequential(*steps)
