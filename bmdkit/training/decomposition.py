"""Learning to decompose: from a radiograph to the projections of its bones (BMD-GAN, stages one and two)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bmdkit.dataset.samples import CHANNELS, Pair, read_image_settings, read_pairs, split_pairs
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
from bmdkit.training.checkpoint import load_weights
from bmdkit.training.distributed import join_team
from bmdkit.training.engine import Engine, choose_device
from bmdkit.training.loop import Loop
from bmdkit.training.metrics import Outcome, conclude
from bmdkit.training.pair_batches import PairTensors, load_pairs, scaled, unscaled
from bmdkit.training.provenance import learnt_from
from bmdkit.training.run import DecompositionRun, identity_of, load_run, open_folder, read_weights_of
from bmdkit.training.settings import DecompositionConfig

LAST_LAYER = "decoder.last"

BONE = -0.95
"""Of scaled projections: above it there is bone."""


class DecompositionLearner:
    """Generator against discriminators, one optimiser each; see `Learner`.

    Args:
        config: All settings.
        device: Of the networks.
        rng: Of the first weights.

    `anchor` is what an unpaired training is held to: radiographs (B, 1, H, W) to projections (B, C, H, W), both
    scaled as in the batches.
    """

    averaged = "generator"

    def __init__(self, config: DecompositionConfig, device: torch.device, rng: torch.Generator) -> None:
        channels = len(CHANNELS[config.dataset])
        self.config = config
        self.paired = config.pairing == "paired"
        self.anchor: Callable[[Tensor], Tensor] | None = None
        self.generator = make_generator(config.generator, outputs=channels, rng=rng).to(device)
        self.networks: dict[str, torch.nn.Module] = {"generator": self.generator}
        self.discriminator = None
        if config.losses.judged:
            self.discriminator = make_discriminator(config.discriminator, inputs=self.paired + channels, rng=rng).to(
                device
            )
            self.networks["discriminator"] = self.discriminator
        self.generate = torch.compile(self.generator) if config.loop.compile else self.generator
        made = {name: config.optimiser.make(network) for name, network in self.networks.items()}
        self.optimisers = {name: optimiser for name, (optimiser, _) in made.items()}
        self.schedules = {name: schedule for name, (_, schedule) in made.items()}

    def step(self, batch: dict[str, Tensor], engine: Engine, rng: torch.Generator) -> dict[str, Tensor]:
        """The discriminators first, then the generator."""
        batch = augment(batch, self.config.augment, rng)
        xray, mask = batch["xray"], batch["mask"]
        with engine.autocast():
            predicted = self.generate(xray)
        losses: dict[str, Tensor] = {}
        weights = self.config.losses
        if self.paired:
            target, inside, shown = batch["drr"], mask, (xray,)
            real_seen = _seen(target, mask)
        else:
            target, inside, shown = self.anchor(xray), mask * (predicted.detach().amax(1, keepdim=True) > BONE), ()
            real_seen = _seen(batch["drr"], mask).roll(1, dims=0)
        predicted_seen = _seen(predicted, mask)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(True)
            with engine.autocast():
                fake = self.discriminator(*shown, predicted_seen.detach())
                real = self.discriminator(*shown, real_seen)
            losses["discriminator"] = 0.5 * (
                adversarial_loss(fake, real=False, form=weights.form)
                + adversarial_loss(real, real=True, form=weights.form)
            )
            engine.descend(losses["discriminator"], self.optimisers["discriminator"])
        total = torch.zeros((), device=xray.device)
        if weights.l1:
            losses["l1"] = masked_l1(predicted.float(), target, inside)
            total = total + weights.l1 * losses["l1"]
        if weights.gradient_correlation:
            losses["gradient_correlation"] = gradient_correlation_loss(predicted, target, inside)
            total = total + weights.gradient_correlation * losses["gradient_correlation"]
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            with engine.autocast():
                fake = self.discriminator(*shown, predicted_seen)
            losses["adversarial"] = adversarial_loss(fake, real=True, form=weights.form)
            total = total + weights.adversarial * losses["adversarial"]
            if weights.feature_matching:
                with torch.no_grad(), engine.autocast():
                    real = self.discriminator(*shown, real_seen)
                losses["feature_matching"] = feature_matching_loss(fake, real)
                total = total + weights.feature_matching * losses["feature_matching"]
            self.discriminator.requires_grad_(True)
        engine.descend(total, self.optimisers["generator"])
        losses["generator"] = total
        return {name: value.detach() for name, value in losses.items()}


def _seen(drr: Tensor, mask: Tensor) -> Tensor:
    """Nothing where the radiograph is no image."""
    return torch.where(mask > 0, drr, -1.0)


def train_decomposition(
    data: Path,
    out: Path,
    config: DecompositionConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
) -> Outcome | None:
    """Train, or go on training, and write the run with its figures on the held-out fold.

    Args:
        data: A built dataset.
        out: The run's folder. One that holds the same run is resumed.
        config: All settings.
        seed: Of all randomness.
        device: auto, cpu or cuda[:N].
        init_from: A finished decomposition run of the same architecture to take the first weights from.
        overwrite: Drop what `out` holds.
        on_epoch: See `Loop`.

    Returns:
        The finished run; None in all but the first of several processes.

    Raises:
        PreflightError: Dataset, fold, images, `init_from` or `out` cannot be used; nothing was started.
        TrainingError: A loss became infinite or NaN; the last checkpoints are kept.
    """
    pairs = read_pairs(data, config.dataset, verdicts=config.verdicts)
    train_pairs, test_pairs = split_pairs(pairs, config.fold, train_poses=config.train_poses)
    learnt = learnt_from(data, init_from, fold=config.fold, held_out=test_pairs)
    train = load_pairs(train_pairs, config.image_size, half=config.half_in_memory)
    test = _load_test(test_pairs, config, train.scale_g_cm2)
    team, chosen = join_team(choose_device(device))
    train = train.placed(chosen)
    learner = DecompositionLearner(config, chosen, torch.Generator().manual_seed(seed))
    if init_from is not None:
        start_from(learner.generator, init_from, config)
    if config.pairing == "unpaired":
        learner.anchor = _anchor(learner.generator, init_from, train.scale_g_cm2)
    identity = identity_of("decomposition", config, seed=seed, data=learnt, init_from=init_from)
    with open_folder(out, identity, overwrite=overwrite) if team.writes else contextlib.nullcontext():
        team.wait()
        loop = Loop(
            learner,
            train,
            config.loop,
            Engine(chosen, config.loop.precision, team),
            folder=out,
            seed=seed,
            on_epoch=on_epoch,
        )
        loop.run()
        if not team.writes:
            return None
        run = DecompositionRun(loop.trained, config, train.scale_g_cm2, {}, chosen, *read_image_settings(data))
        return conclude(run, train, test, out, epochs=loop.epoch)


def _anchor(generator: Generator, init_from: Path | None, scale_g_cm2: float) -> Callable[[Tensor], Tensor]:
    """What the generator sees as it starts, in the scale of this training."""
    if init_from is None:
        raise PreflightError("BMD-TRN-012", "unpaired, and no run to start from.")
    frozen = copy.deepcopy(generator).eval().requires_grad_(False)
    theirs = load_run(init_from).scale_g_cm2

    @torch.no_grad()
    def see(xray: Tensor) -> Tensor:
        return scaled(unscaled(frozen(xray), theirs), scale_g_cm2)

    return see


def _load_test(pairs: tuple[Pair, ...], config: DecompositionConfig, scale: float) -> PairTensors | None:
    if not pairs:
        return None
    return load_pairs(pairs, config.image_size, scale_g_cm2=scale, half=config.half_in_memory)


def start_from(generator: Generator, folder: Path, config: DecompositionConfig) -> None:
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
