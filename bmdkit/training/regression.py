"""Learning one number from a radiograph: stage three on what an encoder has learnt, and the baseline without it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bmdkit.dataset.samples import Fold, Pair, read_pairs, split_pairs
from bmdkit.errors import PreflightError
from bmdkit.io.results import write_csv, write_json
from bmdkit.models.generators import GeneratorConfig
from bmdkit.models.regression_head import (
    HeadConfig,
    Regressor,
    Weighting,
    make_baseline,
    make_regressor,
    sample_weights,
    weighted_l1,
)
from bmdkit.training.augment import AugmentConfig, augment
from bmdkit.training.bone_density import Task
from bmdkit.training.checkpoint import save_weights
from bmdkit.training.distributed import join_team
from bmdkit.training.engine import Engine, OptimiserConfig, choose_device
from bmdkit.training.loop import Learner, Loop, LoopConfig, Samples
from bmdkit.training.metrics import BMD_COLUMNS, bmd_figures
from bmdkit.training.pair_batches import PairTensors, cropped_to_target, load_pairs
from bmdkit.training.provenance import learnt_from
from bmdkit.training.run import RUN, identity_of, open_folder, read_weights_of
from bmdkit.training.settings import check_image_size

Phase = Literal["frozen", "tuned", "baseline", "scratch"]
REGRESSOR = "regressor.safetensors"
COLUMNS = ("pair_id", "patient_id", "side", "pose", "fold", "split")


@dataclass(frozen=True)
class RegressionConfig:
    """Training of a regression.

    Attributes:
        network: `representation` puts a transformer on a decomposition run's encoder; `baseline` is a convolutional
            network on the region of interest, which the true projection of the proximal femur gives.
        task: dxa or qct; each is a training of its own.
        fold, train_poses, image_size, verdicts, half_in_memory: As in a decomposition training.
        generator: Architecture of the encoder.
        head: Of the transformer.
        filters: First channels of the baseline.
        roi_margin: Added around the region of interest on each side, as a fraction of its size.
        weighting: Whether common or rare BMD counts more.
        augment, optimiser, loop: See there. `loop.epochs` is the length of the first phase: with the encoder frozen,
            or all there is for the baseline and without a run to start from.
        tuned_epochs, tuned_lr: Of the second phase, in which the encoder is trained too; 0 epochs leave it out.
    """

    network: Literal["representation", "baseline"] = "representation"
    task: Task = "dxa"
    fold: Fold = 0
    train_poses: tuple[str, ...] = ()
    image_size: tuple[int, int] = (512, 256)
    verdicts: tuple[str, ...] = ("accept", "review")
    half_in_memory: bool = False
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    filters: int = 64
    roi_margin: float = 0.1
    weighting: Weighting = "common"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=310))
    tuned_epochs: int = 70
    tuned_lr: float = 8e-6

    def __post_init__(self) -> None:
        check_image_size(self.image_size, self.generator)
        if self.filters < 4 or self.filters % 4:
            raise ValueError(f"filters: expected a positive multiple of 4, got {self.filters}")
        if self.roi_margin < 0 or self.tuned_epochs < 0 or not self.tuned_lr > 0:
            raise ValueError("roi_margin, tuned_epochs, tuned_lr: expected 0 or more, and a positive rate")


@dataclass(frozen=True, eq=False)
class BmdSamples:
    """Pairs with their BMD, standardised over the training set, and their weights; see `Samples`."""

    images: PairTensors
    bmd: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor, device: torch.device) -> dict[str, Tensor]:
        batch = self.images.take(indices, device)
        return batch | {"bmd": self.bmd[indices].to(device), "weight": self.weight[indices].to(device)}


class RegressionLearner:
    """One network, one optimiser; see `Learner`."""

    averaged = "regressor"

    def __init__(self, network: nn.Module, config: RegressionConfig, optimiser: OptimiserConfig) -> None:
        self.config = config
        self.network = torch.compile(network) if config.loop.compile else network
        made = optimiser.make(network)
        self.networks: dict[str, nn.Module] = {"regressor": network}
        self.optimisers, self.schedules = {"regressor": made[0]}, {"regressor": made[1]}

    def step(self, batch: dict[str, Tensor], engine: Engine, rng: torch.Generator) -> dict[str, Tensor]:
        batch = augment(batch, self.config.augment, rng)
        with engine.autocast():
            predicted = self.network(batch["xray"])
        loss = weighted_l1(predicted, batch["bmd"], batch["weight"])
        engine.descend(loss, self.optimisers["regressor"])
        return {"weighted_l1": loss.detach()}


def train_regression(
    data: Path,
    out: Path,
    config: RegressionConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
) -> dict[Phase, dict[str, Any]]:
    """Train, or go on training, the phases of a regression; each gets a folder with its weights and predictions.

    Args:
        data: A built dataset; its dataset B is used.
        out: The run's folder.
        config: All settings.
        seed: Of all randomness.
        device: auto, cpu or cuda[:N].
        init_from: A decomposition run whose encoder is taken over; without one the encoder is trained from scratch
            with the head, in one phase.
        overwrite: Drop what `out` holds.
        on_epoch: See `Loop`.

    Returns:
        The figures of every phase, as its metrics.json has them; none in all but the first of several processes.

    Raises:
        PreflightError: Dataset, fold, images, `init_from` or `out` cannot be used; nothing was started.
        TrainingError: A loss became infinite or NaN.
    """
    pairs = read_pairs(data, "B", verdicts=config.verdicts)
    train_pairs, test_pairs = split_pairs(pairs, config.fold, train_poses=config.train_poses)
    learnt = learnt_from(data, init_from, fold=config.fold, held_out=test_pairs)
    train_pairs = _with_bmd(train_pairs, config.task)
    train, test = (_load(pairs, config) if pairs else None for pairs in (train_pairs, test_pairs))
    values = train.bmd(config.task)
    mean, sd = float(values.mean()), float(values.std())
    team, chosen = join_team(choose_device(device))
    samples = BmdSamples(
        train.placed(chosen),
        torch.tensor((values - mean) / sd, dtype=torch.float32),
        sample_weights(torch.tensor(values, dtype=torch.float32), config.weighting),
    )
    network = _network(config, init_from, torch.Generator().manual_seed(seed)).to(chosen)
    identity = identity_of(config.network, config, seed=seed, data=learnt, init_from=init_from)
    figures: dict[Phase, dict[str, Any]] = {}
    with open_folder(out, identity, overwrite=overwrite) if team.writes else contextlib.nullcontext():
        team.wait()
        engine = Engine(chosen, config.loop.precision, team)
        for phase, epochs in train_phases(
            network,
            _phases(config, init_from),
            lambda lr: RegressionLearner(network, config, replace(config.optimiser, lr=lr)),
            samples,
            config.loop,
            engine,
            folder=out,
            seed=seed,
            on_epoch=on_epoch,
        ):
            if team.writes:
                figures[phase] = _conclude(
                    network, config, {"train": train, "test": test}, mean, sd, out / phase, epochs
                )
        description = {
            "kind": config.network,
            "task": config.task,
            "image_size": list(config.image_size),
            "bmd_mean": mean,
            "bmd_sd": sd,
            "phases": list(figures),
        }
        if team.writes:
            write_json(out / RUN, description)
    return figures


def _with_bmd(pairs: Sequence[Pair], task: Task) -> tuple[Pair, ...]:
    known = tuple(pair for pair in pairs if getattr(pair, BMD_COLUMNS[task]) is not None)
    if len({getattr(pair, BMD_COLUMNS[task]) for pair in known}) < 2:
        raise PreflightError("BMD-TRN-004", f"{len(known)} training pairs have {BMD_COLUMNS[task]}, all the same.")
    return known


def _load(pairs: Sequence[Pair], config: RegressionConfig) -> PairTensors:
    if config.network == "baseline":
        return cropped_to_target(pairs, config.image_size, margin=config.roi_margin)
    return load_pairs(pairs, config.image_size, half=config.half_in_memory)


def _network(config: RegressionConfig, init_from: Path | None, rng: torch.Generator) -> nn.Module:
    if config.network == "baseline":
        if init_from is not None:
            raise ValueError("init_from: the baseline takes over no weights")
        return make_baseline(filters=config.filters, rng=rng)
    network = make_regressor(config.generator, config.head, image_size=config.image_size, rng=rng)
    if init_from is not None:
        take_encoder(network, init_from, config.generator)
    return network


def _phases(config: RegressionConfig, init_from: Path | None) -> list[tuple[Phase, int, float]]:
    first = config.loop.epochs, config.optimiser.lr
    if config.network == "baseline":
        return [("baseline", *first)]
    return phases_of(first, (config.tuned_epochs, config.tuned_lr), fresh=init_from is None)


def phases_of(first: tuple[int, float], tuned: tuple[int, float], *, fresh: bool) -> list[tuple[Phase, int, float]]:
    """(name, epochs, learning rate) of what is trained one after the other: the head, then the encoder too.

    Args:
        first, tuned: Epochs and learning rate of the two; 0 epochs leave the second out.
        fresh: The encoder knows nothing: all is trained at once, at the first's rate.
    """
    if fresh:
        return [("scratch", *first)]
    return [("frozen", *first), *([("tuned", *tuned)] if tuned[0] else [])]


def take_encoder(network: Regressor, folder: Path, architecture: GeneratorConfig) -> None:
    """Take over the encoder of a finished decomposition run.

    Raises:
        PreflightError: No finished run (BMD-TRN-009) or another architecture (BMD-TRN-006).
    """
    weights, _ = read_weights_of(folder, architecture)
    part = "encoder."
    network.encoder.load_state_dict({k[len(part) :]: v for k, v in weights.items() if k.startswith(part)})


def train_phases(
    network: nn.Module,
    phases: Sequence[tuple[Phase, int, float]],
    make_learner: Callable[[float], Learner],
    samples: Samples,
    config: LoopConfig,
    engine: Engine,
    *,
    folder: Path,
    seed: int,
    on_epoch: Callable[[int, int, dict[str, float]], None] | None,
) -> Iterator[tuple[Phase, int]]:
    """Train the phases one after the other, each in a folder of its own; yields each, and its epochs, when it is done.

    A phase that is made longer takes the later ones with it: they are trained anew.

    Args:
        network: What is trained; it has the phase's weights when that is yielded.
        phases: From `phases_of`.
        make_learner: Of `network`, for a learning rate.
        samples, config, engine, seed, on_epoch: See `Loop`.
        folder: Of the run.
    """
    for place, (phase, epochs, lr) in enumerate(phases):
        if isinstance(network, Regressor):
            network.freeze_encoder(phase == "frozen")
        own = folder / phase
        loop = Loop(
            make_learner(lr), samples, replace(config, epochs=epochs), engine, folder=own, seed=seed, on_epoch=on_epoch
        )
        own.mkdir(exist_ok=True)
        loop.run()
        if loop.steps > loop.steps_before and engine.team.writes:
            for later in [name for name, *_ in phases][place + 1 :]:  # was trained on what is no more
                shutil.rmtree(folder / later, ignore_errors=True)
        engine.team.wait()
        network.load_state_dict(loop.trained.state_dict())
        yield phase, loop.epoch


@torch.inference_mode()
def predict_bmd(network: nn.Module, xrays: Tensor, *, mean: float, sd: float, batch_size: int = 16) -> np.ndarray:
    """BMD of radiographs (N, 1, H, W) in [-1, 1], in the unit of `mean` and `sd`, those of the training set: (N,)."""
    network.eval()
    device = next(network.parameters()).device
    parts = [network(part.to(device, torch.float32)).float().cpu() for part in xrays.split(batch_size)]
    return mean + sd * torch.cat(parts).double().numpy()


def _conclude(
    network: nn.Module,
    config: RegressionConfig,
    data: dict[str, PairTensors | None],
    mean: float,
    sd: float,
    folder: Path,
    epochs: int,
) -> dict[str, Any]:
    """Predict every pair and measure; write weights, predictions.csv and metrics.json."""
    name = BMD_COLUMNS[config.task]
    rows: list[dict[str, Any]] = []
    for split, images in data.items():
        if images is None:
            continue
        predicted = predict_bmd(network, images.xray, mean=mean, sd=sd)
        for pair, value in zip(images.pairs, predicted, strict=True):
            row = {column: getattr(pair, column) for column in COLUMNS[:-1]} | {"split": split}
            rows.append(row | {name: getattr(pair, name), f"predicted_{name}": float(value)})
    splits = [split for split, images in data.items() if images is not None]
    metrics = {
        "task": config.task,
        "fold": config.fold,
        "epochs": epochs,
        **{split: bmd_figures([row for row in rows if row["split"] == split], name) for split in splits},
    }
    save_weights(folder / REGRESSOR, network)
    write_csv(folder / "predictions.csv", rows, (*COLUMNS, name, f"predicted_{name}"))
    write_json(folder / "metrics.json", metrics)
    return metrics
