"""Learning to decompose: from a radiograph to the projections of its bones (BMD-GAN, stages one and two)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bmdkit.dataset.data_kind import find_data_kind
from bmdkit.dataset.samples import CHANNELS, read_image_settings, read_projection_unit
from bmdkit.errors import PreflightError
from bmdkit.models.discriminator import make_discriminator
from bmdkit.models.generators import Generator, make_generator
from bmdkit.models.losses import (
    adversarial_loss,
    feature_matching_loss,
    gradient_correlation_loss,
    masked_l1,
)
from bmdkit.training.augment import augment
from bmdkit.training.case_snapshots import CaseWriter
from bmdkit.training.checkpoint import load_weights
from bmdkit.training.engine import Engine
from bmdkit.training.loop import Loop
from bmdkit.training.metrics import FinishedTraining, write_results
from bmdkit.training.optimiser import RateSchedule
from bmdkit.training.pair_batches import PairTensors, load_pairs, scale_density, unscale_density
from bmdkit.training.reexposure import SoftTissue, expose_again
from bmdkit.training.run import DecompositionRun, load_run, read_weights_of
from bmdkit.training.run_folder import FolderState
from bmdkit.training.run_layout import Split
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
from bmdkit.training.settings import DecompositionConfig
from bmdkit.training.single_network import Batch, relative_spread
from bmdkit.training.tune_figures import watch_projections
from bmdkit.training.watch import Measure

Projector = Callable[[Tensor], Tensor]
"""Radiographs (B, 1, H, W) to projections (B, C, H, W), both scaled."""

LAST_LAYER = "decoder.last"

BONE = -0.95
"""Threshold of scaled projections: above it there is bone."""


class DecompositionLearner:
    """Generator against discriminators, one optimiser each; see `Learner`.

    Args:
        config: All settings.
        device: Device of the networks.
        rng: Source of the first weights.
        reference: What an unpaired training is held to: radiographs (B, 1, H, W) to projections (B, C, H, W), both
            scaled as in the batches.
        soft_tissue: Soft tissue of the training pairs; None: radiographs are not exposed again.
    """

    averaged = "generator"

    def __init__(
        self,
        config: DecompositionConfig,
        device: torch.device,
        rng: torch.Generator,
        reference: Projector | None = None,
        soft_tissue: SoftTissue | None = None,
    ) -> None:
        """Draw the networks and make their optimisers."""
        self.soft_tissue = soft_tissue
        channels = len(CHANNELS[config.dataset])
        self.config = config
        self.paired = config.pairing == "paired"
        self.reference = reference
        self.whole_batches = config.generator.norm == "batch"
        self.spread: Tensor | None = None
        self.generator = make_generator(config.generator, outputs=channels, rng=rng).to(device)
        networks: dict[str, nn.Module] = {"generator": self.generator}
        self.discriminator = None
        if config.losses.uses_discriminator:
            self.discriminator = make_discriminator(config.discriminator, inputs=self.paired + channels, rng=rng)
            networks["discriminator"] = self.discriminator.to(device)
        self.generate: Projector = torch.compile(self.generator) if config.loop.compile else self.generator
        made = {name: config.optimiser.make(network) for name, network in networks.items()}
        self.networks: Mapping[str, nn.Module] = networks
        self.optimisers: Mapping[str, Optimizer] = {name: optimiser for name, (optimiser, _) in made.items()}
        self.schedules: Mapping[str, RateSchedule] = {name: schedule for name, (_, schedule) in made.items()}

    def step(self, batch: Batch, engine: Engine, rng: torch.Generator) -> dict[str, Tensor]:
        """Change the weights by one batch: the discriminators first, then the generator."""
        if self.soft_tissue is not None:
            batch = expose_again(batch, self.soft_tissue, self.config.reexposure, rng)
        batch = augment(batch, self.config.augment, rng)
        xray, mask = batch["xray"], batch["mask"]
        with engine.autocast():
            predicted = self.generate(xray)
        target, inside, real = self._targets(batch, predicted)
        shown = (xray,) if self.paired else ()
        fake = blacken_outside(predicted, mask)
        losses: dict[str, Tensor] = {}
        if self.discriminator is not None:
            losses["discriminator"] = self._train_discriminator(self.discriminator, shown, fake.detach(), real, engine)
        total = torch.zeros((), device=xray.device)
        weights = self.config.losses
        if weights.l1:
            losses["l1"] = masked_l1(predicted.float(), target, inside)
            total = total + weights.l1 * losses["l1"]
        if weights.gradient_correlation:
            losses["gradient_correlation"] = gradient_correlation_loss(predicted, target, inside)
            total = total + weights.gradient_correlation * losses["gradient_correlation"]
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            with engine.autocast():
                judged_fake = self.discriminator(*shown, fake)
            losses["adversarial"] = adversarial_loss(judged_fake, real=True, form=weights.form)
            total = total + weights.adversarial * losses["adversarial"]
            if weights.feature_matching:
                with torch.no_grad(), engine.autocast():
                    judged_real = self.discriminator(*shown, real)
                losses["feature_matching"] = feature_matching_loss(judged_fake, judged_real)
                total = total + weights.feature_matching * losses["feature_matching"]
            self.discriminator.requires_grad_(True)
        self.spread = relative_spread(predicted, target)
        engine.descend(total, self.optimisers["generator"], clip=self.config.optimiser.clip)
        losses["generator"] = total
        return {name: value.detach() for name, value in losses.items()}

    def _targets(self, batch: Batch, predicted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the generator is compared with, where, and the projections that the discriminators call real."""
        mask, real = batch["mask"], blacken_outside(batch["drr"], batch["mask"])
        if self.reference is None:
            return batch["drr"], mask, real
        bone = mask * (predicted.detach().amax(1, keepdim=True) > BONE)
        return self.reference(batch["xray"]), bone, real.roll(1, dims=0)

    def _train_discriminator(
        self, discriminator: nn.Module, shown: tuple[Tensor, ...], fake: Tensor, real: Tensor, engine: Engine
    ) -> Tensor:
        """Change the discriminators by one batch; gives their loss."""
        form = self.config.losses.form
        discriminator.requires_grad_(True)
        with engine.autocast():
            judged_fake, judged_real = discriminator(*shown, fake), discriminator(*shown, real)
        loss = 0.5 * (
            adversarial_loss(judged_fake, real=False, form=form) + adversarial_loss(judged_real, real=True, form=form)
        )
        engine.descend(loss, self.optimisers["discriminator"], clip=self.config.optimiser.clip)
        return loss


def blacken_outside(drr: Tensor, mask: Tensor) -> Tensor:
    """Scaled projections with nothing (-1) where the radiograph is no image."""
    return torch.where(mask > 0, drr, -1.0)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A decomposition training of which everything that it needs has been found to be there."""

    config: DecompositionConfig
    split: PairSplit
    train: PairTensors
    held_out: dict[Split, PairTensors]
    session: TrainingSession
    learner: DecompositionLearner
    measure: Measure | None
    identity: RunIdentity

    def make_loop(self, train: PairTensors) -> Loop:
        """The loop of the training, before its first step."""
        return self.session.make_loop(self.learner, train, self.config.loop, measure=self.measure)


def _select(data: Path, config: DecompositionConfig, *, seed: int, init_from: Path | None) -> PairSplit:
    """The pairs of a decomposition."""
    chosen: dict[str, Any] = {"tune_share": config.tune_share, "train_patients": config.train_patients, "seed": seed}
    return select_pairs(data, config.dataset, config, init_from, **chosen)


def _identify(config: DecompositionConfig, split: PairSplit, *, seed: int, init_from: Path | None) -> RunIdentity:
    return identify_run("decomposition", config, split.provenance, seed=seed, init_from=init_from)


def examine_decomposition(
    data: Path, out: Path, config: DecompositionConfig, *, seed: int, init_from: Path | None
) -> FolderState:
    """Say what `train_decomposition` would find in its folder, from the dataset's tables alone: no image is read.

    Raises:
        PreflightError: Dataset, fold, `init_from` or `out` cannot be used.
        LockedError: Another training writes to `out`.
    """
    split = _select(data, config, seed=seed, init_from=init_from)
    return examine_run(out, _identify(config, split, seed=seed, init_from=init_from))


def _prepare(
    data: Path,
    out: Path,
    config: DecompositionConfig,
    *,
    seed: int,
    device: str,
    init_from: Path | None,
    overwrite: bool,
    on_epoch: EpochCallback | None = None,
) -> _Prepared:
    """Check and read what a training needs; nothing is written. Arguments and errors are those of the training."""
    split = _select(data, config, seed=seed, init_from=init_from)
    layers = config.reexposure.share > 0
    train = load_pairs(split.train, config.image_size, half=config.half_in_memory, layers=layers)
    held_out: dict[Split, PairTensors] = {
        name: load_pairs(pairs, config.image_size, scale_g_cm2=train.scale_g_cm2, half=config.half_in_memory)
        for name, pairs in split.by_name().items()
        if name != "train"
    }
    writer = None
    if config.case_epochs and "test" in held_out:
        writer = CaseWriter(out, held_out["test"], config.case_epochs, config.train_poses)

    def note_epoch(epoch: int, epochs: int, row: dict[str, float]) -> None:
        if writer is not None:
            writer.look(learner.generator, epoch)
        if on_epoch is not None:
            on_epoch(epoch, epochs, row)

    session = start_session(
        out, config.loop, seed=seed, device=device, init_from=init_from, overwrite=overwrite, on_epoch=note_epoch
    )
    learner = DecompositionLearner(config, session.device, session.draw(), soft_tissue=train.soft_tissue())
    if init_from is not None:
        load_start_weights(learner.generator, init_from, config)
    if config.pairing == "unpaired":
        learner.reference = _make_reference(learner.generator, init_from, train.scale_g_cm2)
    measure = watch_projections(held_out["tune"], config, session.device) if "tune" in held_out else None
    identity = _identify(config, split, seed=seed, init_from=init_from)
    return _Prepared(config, split, train, held_out, session, learner, measure, identity)


def plan_decomposition(
    data: Path,
    out: Path,
    config: DecompositionConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
) -> TrainingPlan:
    """Check everything that `train_decomposition` checks, and say what it would do; nothing is written.

    The arguments and errors are those of `train_decomposition`.
    """
    given: dict[str, Any] = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    found = _prepare(data, out, config, **given)
    counts = count_pairs(found.split.by_name())
    loops = [("", lambda: found.make_loop(found.train))]
    return plan_training(found.session, found.identity, loops, counts, fold=config.fold)


def train_decomposition(
    data: Path,
    out: Path,
    config: DecompositionConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
    on_epoch: EpochCallback | None = None,
) -> FinishedTraining | None:
    """Train, or go on training, and write the run with its figures on the held-out fold.

    Args:
        data: Folder of a built dataset.
        out: Folder of the run. One that holds the same run is resumed.
        config: All settings.
        seed: Seed of all random draws.
        device: Device to compute on: auto, cpu or cuda[:N].
        init_from: A finished decomposition run of the same architecture to take the first weights from.
        overwrite: Whether to drop what `out` holds.
        on_epoch: Called after each epoch, see `Loop`.

    Returns:
        The finished run; None in all but the first of several processes.

    Raises:
        PreflightError: Dataset, fold, images, `init_from` or `out` cannot be used; nothing was started.
        TrainingError: A loss became infinite or NaN; the last checkpoints are kept.
    """
    given: dict[str, Any] = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    found = _prepare(data, out, config, **given, on_epoch=on_epoch)
    session, train = found.session, found.train.moved_if_it_fits(found.session.device)
    with session.open_run(found.identity, place=data):
        loop = session.run_loop(found.make_loop(train))
        if not session.writes:
            return None
        generator = cast(Generator, loop.trained)
        pair_settings, xray_settings = read_image_settings(data)
        run = DecompositionRun(
            generator,
            config,
            train.scale_g_cm2,
            {},
            session.device,
            pair_settings,
            xray_settings,
            find_data_kind(data),
            unit=read_projection_unit(data),
        )
        shown: dict[Split, PairTensors] = {"train": train}
        shown |= found.held_out
        return write_results(run, shown, out, epochs=loop.epoch, kept_epoch=loop.kept_epoch)


def _make_reference(generator: Generator, init_from: Path | None, scale_g_cm2: float) -> Projector:
    """What the generator sees as it starts, in the scale of this training."""
    if init_from is None:
        raise PreflightError("BMD-TRN-012", "unpaired, and no run to start from.")
    frozen = copy.deepcopy(generator).eval().requires_grad_(False)
    theirs = load_run(init_from).scale_g_cm2

    @torch.no_grad()
    def project(xray: Tensor) -> Tensor:
        return scale_density(unscale_density(frozen(xray), theirs), scale_g_cm2)

    return project


def load_start_weights(generator: Generator, folder: Path, config: DecompositionConfig) -> None:
    """Take over the weights of a finished run; its last layer as `last_layer` says if the channels differ.

    Raises:
        PreflightError: No finished run (BMD-TRN-009) or another architecture (BMD-TRN-006).
    """
    weights, source = read_weights_of(folder, config.generator)
    names, sources = CHANNELS[config.dataset], CHANNELS[source]
    if names != sources:
        own = generator.state_dict()
        for part in (f"{LAST_LAYER}.weight", f"{LAST_LAYER}.bias"):
            if config.last_layer == "fresh":
                weights[part] = own[part]
            else:
                taken = [next((n for n, s in enumerate(sources) if s in name or name in s), 0) for name in names]
                weights[part] = weights[part][taken].clone()
    load_weights(generator, weights, source=folder)
