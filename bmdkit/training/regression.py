"""Learning one number from a radiograph: stage three on what an encoder has learnt, and the baseline without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bmdkit.dataset.samples import Fold, Pair
from bmdkit.errors import PreflightError
from bmdkit.io.results import write_json
from bmdkit.models.generators import GeneratorConfig
from bmdkit.models.regression_head import (
    HeadConfig,
    Weighting,
    make_baseline,
    make_regressor,
    sample_weights,
    weighted_l1,
)
from bmdkit.training.augment import AugmentConfig, augment
from bmdkit.training.bone_density import Task
from bmdkit.training.checkpoint import save_weights
from bmdkit.training.engine import Engine
from bmdkit.training.loop import LoopConfig
from bmdkit.training.metrics import bmd_figures
from bmdkit.training.optimiser import OptimiserConfig
from bmdkit.training.pair_batches import PairTensors, load_cropped_pairs, load_pairs
from bmdkit.training.phases import Phase, PhaseName, list_phases, load_encoder, train_phases
from bmdkit.training.run_layout import (
    BMD_COLUMNS,
    METRICS,
    PAIR_COLUMNS,
    PREDICTIONS,
    REGRESSOR,
    RUN,
    PairPrediction,
    RegressionDescription,
    predicted_column,
    write_predictions,
)
from bmdkit.training.session import EpochCallback, select_pairs, start_session
from bmdkit.training.settings import check_image_size
from bmdkit.training.single_network import Batch, BatchLoss, SingleNetworkLearner, relative_spread
from bmdkit.training.weakness import describe_weaknesses, find_weaknesses


@dataclass(frozen=True)
class RegressionConfig:
    """Training of a regression.

    Attributes:
        network: `representation` puts a transformer on a decomposition run's encoder; `baseline` is a convolutional
            network on the region of interest, which the true projection of the proximal femur gives.
        task: dxa or qct; each is a training of its own.
        fold, train_poses, image_size, verdicts, half_in_memory: As in a decomposition training.
        generator: Architecture of the encoder; of the baseline only its `norm` and `standardise`.
        head: Size of the transformer.
        filters: First channels of the baseline.
        roi_margin: Added around the region of interest on each side, as a fraction of its size.
        weighting: Whether common or rare BMD counts more.
        augment, optimiser, loop: See there. `loop.epochs` is the length of the first phase: with the encoder frozen,
            or all there is for the baseline and without a run to start from.
        tuned_epochs, tuned_lr: Length and learning rate of the second phase, in which the encoder is trained too; 0
            epochs leave it out.
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
        """Check the values."""
        check_image_size(self.image_size, self.generator)
        if self.filters < 4 or self.filters % 4:
            raise ValueError(f"filters: expected a positive multiple of 4, got {self.filters}")
        if self.roi_margin < 0 or self.tuned_epochs < 0 or not self.tuned_lr > 0:
            raise ValueError("roi_margin, tuned_epochs, tuned_lr: expected 0 or more, and a positive rate")


@dataclass(frozen=True)
class BmdScale:
    """Mean and standard deviation of the BMD of a training set, in the task's unit."""

    mean: float
    sd: float


@dataclass(frozen=True, eq=False)
class BmdSamples:
    """Pairs with their BMD, standardised over the training set, and their weights; see `Samples`."""

    images: PairTensors
    bmd: Tensor
    weight: Tensor

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.images)

    def take(self, indices: Tensor, device: torch.device) -> dict[str, Tensor]:
        """A batch: as of the pairs, with `bmd` and `weight` (B,)."""
        batch = self.images.take(indices, device)
        return batch | {"bmd": self.bmd[indices].to(device), "weight": self.weight[indices].to(device)}


def make_learner(network: nn.Module, config: RegressionConfig, lr: float) -> SingleNetworkLearner:
    """The learner of one phase, at its learning rate."""

    def compute_loss(forward: nn.Module, batch: Batch, engine: Engine, rng: torch.Generator) -> BatchLoss:
        batch = augment(batch, config.augment, rng)
        with engine.autocast():
            predicted = forward(batch["xray"])
        loss = weighted_l1(predicted, batch["bmd"], batch["weight"])
        return BatchLoss(loss, {"weighted_l1": loss}, relative_spread(predicted, batch["bmd"]))

    optimiser = replace(config.optimiser, lr=lr)
    return SingleNetworkLearner(
        "regressor",
        network,
        optimiser,
        compute_loss,
        compiled=config.loop.compile,
        whole_batches=config.generator.norm == "batch",
    )


def train_regression(
    data: Path,
    out: Path,
    config: RegressionConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
    on_epoch: EpochCallback | None = None,
) -> dict[PhaseName, dict[str, Any]]:
    """Train, or go on training, the phases of a regression; each gets a folder with its weights and predictions.

    Args:
        data: Folder of a built dataset; its dataset B is used.
        out: Folder of the run.
        config: All settings.
        seed: Seed of all random draws.
        device: Device to compute on: auto, cpu or cuda[:N].
        init_from: A decomposition run whose encoder is taken over; without one the encoder is trained from scratch
            with the head, in one phase.
        overwrite: Whether to drop what `out` holds.
        on_epoch: Called after each epoch, see `Loop`.

    Returns:
        The figures of every phase, as its metrics.json has them; none in all but the first of several processes.

    Raises:
        PreflightError: Dataset, fold, images, `init_from` or `out` cannot be used; nothing was started.
        TrainingError: A loss became infinite or NaN.
    """
    split = select_pairs(data, "B", config, init_from)
    train = _load(_require_bmd(split.train, config.task), config)
    test = _load(split.test, config) if split.test else None
    values = train.bmd(config.task)
    scale = BmdScale(float(values.mean()), float(values.std()))
    session = start_session(
        out, config.loop, seed=seed, device=device, init_from=init_from, overwrite=overwrite, on_epoch=on_epoch
    )
    samples = BmdSamples(
        train.moved_if_it_fits(session.device),
        torch.tensor((values - scale.mean) / scale.sd, dtype=torch.float32),
        sample_weights(torch.tensor(values, dtype=torch.float32), config.weighting),
    )
    network = _make_network(config, init_from, session.draw()).to(session.device)
    figures: dict[PhaseName, dict[str, Any]] = {}
    with session.open_run(config.network, config, split.provenance):
        phases = _list_phases(config, fresh=init_from is None)
        for phase, epochs in train_phases(
            network, phases, lambda lr: make_learner(network, config, lr), samples, config.loop, session
        ):
            if session.writes:
                figures[phase] = _write_results(network, config, train, test, scale, out / phase, epochs)
        if session.writes:
            described = RegressionDescription(
                config.network, config.task, config.image_size, scale.mean, scale.sd, tuple(figures)
            )
            write_json(out / RUN, asdict(described))
    return figures


def _require_bmd(pairs: Sequence[Pair], task: Task) -> tuple[Pair, ...]:
    known = tuple(pair for pair in pairs if getattr(pair, BMD_COLUMNS[task]) is not None)
    if len({getattr(pair, BMD_COLUMNS[task]) for pair in known}) < 2:
        raise PreflightError("BMD-TRN-004", f"{len(known)} training pairs have {BMD_COLUMNS[task]}, all the same.")
    return known


def _load(pairs: Sequence[Pair], config: RegressionConfig) -> PairTensors:
    if config.network == "baseline":
        return load_cropped_pairs(pairs, config.image_size, margin=config.roi_margin)
    return load_pairs(pairs, config.image_size, half=config.half_in_memory)


def _make_network(config: RegressionConfig, init_from: Path | None, rng: torch.Generator) -> nn.Module:
    if config.network == "baseline":
        if init_from is not None:
            raise ValueError("init_from: the baseline takes over no weights")
        architecture = config.generator
        return make_baseline(
            filters=config.filters, rng=rng, norm=architecture.norm, standardised=architecture.standardise
        )
    network = make_regressor(config.generator, config.head, image_size=config.image_size, rng=rng)
    if init_from is not None:
        load_encoder(network, init_from, config.generator)
    return network


def _list_phases(config: RegressionConfig, *, fresh: bool) -> tuple[Phase, ...]:
    epochs, lr = config.loop.epochs, config.optimiser.lr
    if config.network == "baseline":
        return (Phase("baseline", epochs, lr),)
    return list_phases(epochs, lr, tuned_epochs=config.tuned_epochs, tuned_lr=config.tuned_lr, fresh=fresh)


@torch.inference_mode()
def predict_bmd(network: nn.Module, xrays: Tensor, scale: BmdScale, *, batch_size: int = 16) -> np.ndarray:
    """BMD of radiographs.

    Args:
        network: Gives standardised values.
        xrays: (N, 1, H, W), in [-1, 1].
        scale: Scale of the training set.
        batch_size: Radiographs computed at a time.

    Returns:
        (N,), in the unit of `scale`.
    """
    network.eval()
    device = next(network.parameters()).device
    parts = [network(part.to(device, torch.float32)).float().cpu() for part in xrays.split(batch_size)]
    return scale.mean + scale.sd * torch.cat(parts).double().numpy()


def _write_results(
    network: nn.Module,
    config: RegressionConfig,
    train: PairTensors,
    test: PairTensors | None,
    scale: BmdScale,
    folder: Path,
    epochs: int,
) -> dict[str, Any]:
    """Predict every pair and measure; write weights, predictions.csv and metrics.json."""
    name = BMD_COLUMNS[config.task]
    rows: dict[str, list[PairPrediction]] = {}
    for split, images in (("train", train), ("test", test)):
        if images is not None:
            predicted = predict_bmd(network, images.xray, scale)
            rows[split] = [
                replace(
                    PairPrediction.of(pair, split),
                    **{name: getattr(pair, name), predicted_column(name): float(value)},
                )
                for pair, value in zip(images.pairs, predicted, strict=True)
            ]
    metrics = {
        "task": config.task,
        "fold": config.fold,
        "epochs": epochs,
        **{split: bmd_figures(found, config.task) for split, found in rows.items()},
        **describe_weaknesses(find_weaknesses(rows["train"], rows.get("test", []), config.task)),
    }
    save_weights(folder / REGRESSOR, network)
    every = [row for found in rows.values() for row in found]
    write_predictions(folder / PREDICTIONS, every, (*PAIR_COLUMNS, name, predicted_column(name)))
    write_json(folder / METRICS, metrics)
    return metrics
