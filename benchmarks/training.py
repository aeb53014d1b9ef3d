"""Training speed of a decomposition network: mixed precision beside plain float32, memory, and waiting for data.

    bmdkit simulate PAIRS --pairs 64
    python benchmarks/training.py PAIRS [--recipe pipelines/train/paper.yaml] [--set KEY=VALUE ...] [--device cuda]
        [--variants float32 channels_first bf16 compiled recomputed] [--steps 20] [--json FILE]

Every variant trains the same network, discriminators and batch size on the same pairs, some steps in turn over several
rounds; rates are the median over the rounds. `float32` is the model as torch runs it by default, `channels_first` the
same with its maps channel by channel in memory, `bf16` mixed precision, `compiled` that and torch.compile,
`recomputed` bf16 with activations computed twice. Memory is what a step needs at its peak above weights and optimiser,
per image (a GPU only). Waiting for data is how much longer steps last with batches taken as in training than with one
batch kept: with the pairs on the device, and with pairs that stay in the host's memory. On a
processor times are CPU time of the process.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from figure_files import write_figures
from torch import Tensor

from bmdkit.config import load
from bmdkit.dataset.samples import read_pairs, split_pairs
from bmdkit.training.decomposition import DecompositionLearner
from bmdkit.training.engine import Engine, choose_device
from bmdkit.training.pair_batches import PairTensors, load_pairs
from bmdkit.training.settings import DecompositionConfig

PLAIN = ("float32", "channels_first")
"""Variants in single precision."""

TARGETS = {"bf16_over_float32": 2.5, "compiled_over_float32": 2.5, "waiting_on_device": 0.05, "waiting_on_host": 0.05}


def variant_of(config: DecompositionConfig, name: str) -> DecompositionConfig:
    """The settings of one way to train the same network."""
    loop = replace(config.loop, precision="float32" if name in PLAIN else "bf16", compile=name == "compiled")
    generator = replace(config.generator, recompute=name == "recomputed")
    return replace(config, loop=loop, generator=generator)


class Training:
    """One variant, ready to make steps.

    Args:
        config: Its settings.
        pairs: The training set, where its batches are to come from.
        device: Device of the networks.
        layout: How the generator's maps lie in memory; None: as it was made.
    """

    def __init__(
        self,
        config: DecompositionConfig,
        pairs: PairTensors,
        device: torch.device,
        layout: torch.memory_format | None = None,
    ) -> None:
        """Make a learner and the first batch."""
        self.pairs, self.device, self.size = pairs, device, config.loop.batch_size
        self.learner = DecompositionLearner(config, device, torch.Generator().manual_seed(0))
        if layout is not None:
            self.learner.generator.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks it
        self.engine = Engine(device, config.loop.precision)
        self.order, self.rng = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
        self.kept = self.batch()

    def batch(self) -> dict[str, Tensor]:
        """The next one."""
        indices = torch.randint(len(self.pairs), (self.size,), generator=self.order)
        return self.pairs.take(indices, self.device) | {
            "places": torch.arange(self.size),
            "of": torch.tensor(self.size),
        }

    def seconds(self, steps: int, batches: Callable[[], dict[str, Tensor]]) -> float:
        """Of one step, in the mean over some."""
        start = now(self.device)
        for _ in range(steps):
            self.learner.step(batches(), self.engine, self.rng)
        return (now(self.device) - start) / steps

    def step_bytes(self) -> int:
        """Memory that a step takes beyond what lies there between steps."""
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.learner.step(self.kept, self.engine, self.rng)
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before


def now(device: torch.device) -> float:
    """Seconds: of the processor in this process, or on the clock when the GPU has done its work."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(
    config: DecompositionConfig,
    pairs: PairTensors,
    device: torch.device,
    *,
    variants: list[str],
    steps: int,
    rounds: int,
) -> dict[str, float]:
    """Rates, memory, waiting; flat: name -> number."""
    trainings = {}
    for name in variants:
        layout = torch.contiguous_format if name == "channels_first" else None
        trainings[name] = Training(variant_of(config, name), pairs.moved_if_it_fits(device), device, layout)
        trainings[name].seconds(3, trainings[name].batch)  # kernels are chosen, what is compiled is compiled
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, training in trainings.items():
            taken[name].append(training.seconds(steps, training.batch))
    found = {f"{name}_images_per_s": config.loop.batch_size / statistics.median(taken[name]) for name in variants}
    if "float32" in variants:
        plain = found["float32_images_per_s"]
        found |= {f"{v}_over_float32": found[f"{v}_images_per_s"] / plain for v in variants if v != "float32"}
    if device.type == "cuda":
        mib = {name: training.step_bytes() / 2**20 / config.loop.batch_size for name, training in trainings.items()}
        found |= {f"{name}_mib_per_image": value for name, value in mib.items()}
    fastest = trainings[max(variants, key=lambda name: found[f"{name}_images_per_s"])]
    found["waiting_on_device"] = waiting(fastest, steps, rounds)
    if device.type == "cuda":
        fastest.pairs = pairs
        found["waiting_on_host"] = waiting(fastest, steps, rounds)
    del trainings, fastest
    gc.collect()
    return found


def waiting(training: Training, steps: int, rounds: int) -> float:
    """Share of the time of a step that it would not take if its batch were there already."""
    shares = []
    for _ in range(rounds):
        fed, kept = training.seconds(steps, training.batch), training.seconds(steps, lambda: training.kept)
        shares.append(1.0 - kept / fed)
    return statistics.median(shares)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a built or simulated dataset")
    parser.add_argument("--recipe", type=Path, default=Path("pipelines/train/paper.yaml"))
    parser.add_argument("--set", dest="overrides", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["float32", "bf16"],
        choices=["float32", "channels_first", "bf16", "compiled", "recomputed"],
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = choose_device(args.device)
    config = load(DecompositionConfig, recipe=args.recipe, overrides=tuple(args.overrides))
    train, _ = split_pairs(read_pairs(args.data, config.dataset, verdicts=config.verdicts), config.fold)
    pairs = load_pairs(train, config.image_size, half=config.half_in_memory)
    found = measure(config, pairs, device, variants=args.variants, steps=args.steps, rounds=args.rounds)
    for name, value in found.items():
        aim = ""
        if device.type == "cuda" and name in TARGETS:
            met = value <= TARGETS[name] if name.startswith("waiting") else value >= TARGETS[name]
            aim = f"   aim {TARGETS[name]:g}: {'met' if met else 'missed'}"
        print(f"{name:24}{value:12.4g}{aim}")
    if args.json:
        settings = {
            "backbone": config.generator.backbone,
            "image_size": config.image_size,
            "batch_size": config.loop.batch_size,
            "discriminators": config.losses.uses_discriminator,
        }
        write_figures(args.json, found, device.type, **settings)


if __name__ == "__main__":
    main()
