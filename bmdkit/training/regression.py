"""Learning one number from a radiograph: stage three on what an encoder has learnt, and the baseline without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bmdkit.config import to_dict
from bmdkit.dataset.data_kind import find_data_kind
from bmdkit.dataset.samples import Pair, read_image_settings
from bmdkit.errors import PreflightError
from bmdkit.io.results import write_json
from bmdkit.models.regression_head import Regressor, make_baseline, make_regressor, sample_weights, weighted_l1
from bmdkit.training.augment import augment
from bmdkit.training.bone_density import Task
from bmdkit.training.checkpoint import save_weights
from bmdkit.training.engine import Engine
from bmdkit.training.pair_batches import PairTensors, load_cropped_pairs, load_pairs
from bmdkit.training.phases import Phase, PhaseName, list_phases, load_encoder, plan_phases, train_phases
from bmdkit.training.regression_results import BmdScale, predict_bmd, watch_bmd, write_familiarity, write_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.ridge_regression import fit_ridge_run, plan_ridge_run
from bmdkit.training.run_folder import FolderState
from bmdkit.training.run_layout import BMD_COLUMNS, REGRESSOR, RUN, RegressionDescription, Split
from bmdkit.training.run_plan import TrainingPlan, count_pairs, plan_training
from bmdkit.training.session import (
    EpochCallback,
    PairSplit,
    RunIdentity,
    TrainingSession,
    examine_run,
    identify_run,
    select_pairs,
    start_session,
)
from bmdkit.training.single_network import Batch, BatchLoss, SingleNetworkLearner, relative_spread
from bmdkit.training.watch import Measure


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


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A regression training of which everything that it needs has been found to be there."""

    config: RegressionConfig
    split: PairSplit
    shown: dict[Split, PairTensors]
    scale: BmdScale
    session: TrainingSession
    network: nn.Module
    phases: tuple[Phase, ...]
    measure: Measure | None
    identity: RunIdentity

    def make_samples(self, train: PairTensors) -> BmdSamples:
        """The training set, wherever its images lie."""
        values = train.bmd(self.config.task)
        return BmdSamples(
            train,
            torch.tensor((values - self.scale.mean) / self.scale.sd, dtype=torch.float32),
            sample_weights(torch.tensor(values, dtype=torch.float32), self.config.weighting),
        )

    def make_learner(self, lr: float) -> SingleNetworkLearner:
        """The learner of a phase, at its learning rate."""
        return make_learner(self.network, self.config, lr)


def _select(data: Path, config: RegressionConfig, *, seed: int, init_from: Path | None) -> PairSplit:
    """The pairs of a regression; the BMD of those to train and to tune with is known."""
    chosen: dict[str, Any] = {"tune_share": config.tune_share, "train_patients": config.train_patients, "seed": seed}
    split = select_pairs(data, "B", config, init_from, **chosen)
    return replace(split, train=require_bmd(split.train, config.task), tune=known_bmd(split.tune, config.task))


def _identify(config: RegressionConfig, split: PairSplit, *, seed: int, init_from: Path | None) -> RunIdentity:
    return identify_run(config.network, config, split.provenance, seed=seed, init_from=init_from)


def examine_regression(
    data: Path, out: Path, config: RegressionConfig, *, seed: int, init_from: Path | None
) -> FolderState:
    """Say what `train_regression` would find in its folder, from the dataset's tables alone: no image is read.

    Raises:
        PreflightError: Dataset, fold, `init_from` or `out` cannot be used.
        LockedError: Another training writes to `out`.
    """
    if config.uses_ridge:
        return plan_regression(data, out, config, seed=seed, device="cpu", init_from=init_from).folder
    split = _select(data, config, seed=seed, init_from=init_from)
    return examine_run(out, _identify(config, split, seed=seed, init_from=init_from))


def _prepare(
    split: PairSplit,
    out: Path,
    config: RegressionConfig,
    *,
    seed: int,
    device: str,
    init_from: Path | None,
    overwrite: bool,
    on_epoch: EpochCallback | None = None,
) -> _Prepared:
    """Check and read what a training by steps needs; nothing is written. Arguments are those of the training."""
    shown: dict[Split, PairTensors] = {name: _load(pairs, config) for name, pairs in split.by_name().items()}
    values = shown["train"].bmd(config.task)
    scale = BmdScale(float(values.mean()), float(values.std()))
    session = start_session(
        out, config.loop, seed=seed, device=device, init_from=init_from, overwrite=overwrite, on_epoch=on_epoch
    )
    network = _make_network(config, init_from, session.draw()).to(session.device)
    phases = _list_phases(config, fresh=init_from is None)
    measure = watch_bmd(shown["tune"], config.task, scale) if "tune" in shown else None
    identity = _identify(config, split, seed=seed, init_from=init_from)
    return _Prepared(config, split, shown, scale, session, network, phases, measure, identity)


def plan_regression(
    data: Path,
    out: Path,
    config: RegressionConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
) -> TrainingPlan:
    """Check everything that `train_regression` checks, and say what it would do; nothing is written.

    The arguments and errors are those of `train_regression`. Of a ridge regression no image is read.
    """
    given: dict[str, Any] = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    split = _select(data, config, seed=seed, init_from=init_from)
    if config.uses_ridge:
        return plan_ridge_run(split.by_name(), data, out, config, **given)
    found = _prepare(split, out, config, **given)
    samples = found.make_samples(found.shown["train"])
    loops = plan_phases(
        found.network, found.phases, found.make_learner, samples, config.loop, found.session, found.measure
    )
    return plan_training(found.session, found.identity, loops, count_pairs(split.by_name()), fold=config.fold)


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
    given: dict[str, Any] = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    split = _select(data, config, seed=seed, init_from=init_from)
    if config.uses_ridge:
        return {"ridge": fit_ridge_run(split.by_name(), data, out, config, **given)}
    found = _prepare(split, out, config, **given, on_epoch=on_epoch)
    session, network, shown, scale = found.session, found.network, found.shown, found.scale
    samples = found.make_samples(shown["train"].moved_if_it_fits(session.device))
    figures: dict[PhaseName, dict[str, Any]] = {}
    with session.open_run(found.identity, place=data):
        for phase, epochs, kept in train_phases(
            network, found.phases, found.make_learner, samples, config.loop, session, found.measure
        ):
            if session.writes:
                predicted = {
                    name: (images.pairs, predict_bmd(network, images.xray, scale)) for name, images in shown.items()
                }
                about: dict[str, Any] = {"epochs": epochs}
                about |= {"kept_epoch": kept} if found.measure is not None else {}
                save_weights(out / phase / REGRESSOR, network)
                if isinstance(network, Regressor):
                    write_familiarity(network, shown, out / phase)
                figures[phase] = write_regression(config.task, config.fold, predicted, out / phase, **about)
        if session.writes:
            cut, read = read_image_settings(data)
            described = RegressionDescription(
                config.network,
                config.task,
                config.image_size,
                scale.mean,
                scale.sd,
                tuple(figures),
                to_dict(cut),
                to_dict(read),
                find_data_kind(data),
            )
            write_json(out / RUN, asdict(described))
    return figures


def known_bmd(pairs: Sequence[Pair], task: Task) -> tuple[Pair, ...]:
    """The pairs whose BMD is known."""
    return tuple(pair for pair in pairs if getattr(pair, BMD_COLUMNS[task]) is not None)


def require_bmd(pairs: Sequence[Pair], task: Task) -> tuple[Pair, ...]:
    """The pairs whose BMD is known.

    Raises:
        PreflightError: There are not two values that differ (BMD-TRN-004).
    """
    known = known_bmd(pairs, task)
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
