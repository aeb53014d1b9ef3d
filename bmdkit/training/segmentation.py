"""Learning to segment: a Bayesian U-Net from CTs with labels."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bmdkit.config import to_dict
from bmdkit.dataset.commit import hash_input
from bmdkit.dataset.samples import Fold
from bmdkit.io.results import sha256_of
from bmdkit.models.bayesian_unet import BayesianUNet, UNetConfig
from bmdkit.models.losses import soft_dice_loss
from bmdkit.segmentation.model import CLASSES, KIND, WEIGHTS, SegmentationModel
from bmdkit.segmentation.predict import PredictConfig
from bmdkit.training.augment import AugmentConfig, affine_matrices, exposed
from bmdkit.training.checkpoint import save_weights
from bmdkit.training.engine import Engine, OptimiserConfig, choose_device
from bmdkit.training.loop import Loop, LoopConfig
from bmdkit.training.parallel import join_team
from bmdkit.training.run import open_folder
from bmdkit.training.segmentation_outcome import conclude
from bmdkit.training.slices import SliceStore, find_labelled, split_labelled

SLICES = "slices"


@dataclass(frozen=True)
class SegmentationTrainingConfig:
    """Training of a segmentation network.

    Attributes:
        fold: Held out for the figures at the end; "all" trains on every patient and holds nobody out.
        size: Pixels that the longer side of a slice is brought to.
        window_hu: HU that become 0 and 1.
        network: Width and dropout.
        loss: Softmax cross-entropy, soft Dice, or the sum of both.
        augment: Of slices and labels; brightness and contrast of the slices alone.
        noise: Standard deviation of noise added to the slices, in units of the window.
        optimiser, loop: See there.
        predict: How the held-out CTs are segmented.
    """

    fold: Fold = 0
    size: int = 512
    window_hu: tuple[float, float] = (-150.0, 350.0)
    network: UNetConfig = field(default_factory=UNetConfig)
    loss: Literal["cross_entropy", "dice", "both"] = "cross_entropy"
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(
            rotation_deg=15.0, shear_deg=5.0, shift=0.1, scale=0.25, flip_vertical=0.0, brightness=0.1, contrast=0.2
        )
    )
    noise: float = 0.02
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(lr=1e-4, weight_decay=1e-5, betas=(0.9, 0.999))
    )
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=70, batch_size=4))
    predict: PredictConfig = field(default_factory=PredictConfig)

    def __post_init__(self) -> None:
        if self.size < 32:
            raise ValueError(f"size: expected at least 32, got {self.size}")
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError(f"window_hu: expected two values that rise, got {self.window_hu}")
        if self.noise < 0:
            raise ValueError(f"noise: expected no negative number, got {self.noise}")


class SegmentationLearner:
    """One network, one optimiser; see `Learner`."""

    averaged = "segmentation"

    def __init__(self, config: SegmentationTrainingConfig, device: torch.device, rng: torch.Generator) -> None:
        self.config = config
        network = make_network(config.network, rng).to(device)
        self.network = torch.compile(network) if config.loop.compile else network
        optimiser, schedule = config.optimiser.make(network)
        self.networks: dict[str, nn.Module] = {"segmentation": network}
        self.optimisers, self.schedules = {"segmentation": optimiser}, {"segmentation": schedule}

    def step(self, batch: dict[str, Tensor], engine: Engine, rng: torch.Generator) -> dict[str, Tensor]:
        batch = augment_slices(batch, self.config.augment, self.config.noise, rng)
        with engine.autocast():
            scores = self.network(batch["image"])
        scores, classes = scores.float(), batch["classes"][:, 0]
        losses: dict[str, Tensor] = {}
        if self.config.loss != "dice":
            losses["cross_entropy"] = nn.functional.cross_entropy(scores, classes)
        if self.config.loss != "cross_entropy":
            losses["dice_loss"] = soft_dice_loss(scores, classes)
        total = sum(losses.values())
        engine.descend(total, self.optimisers["segmentation"])
        return {name: value.detach() for name, value in (losses | {"loss": total}).items()}


def make_network(config: UNetConfig, rng: torch.Generator) -> BayesianUNet:
    """A network whose first weights (He's rule) come from one generator alone."""
    network = BayesianUNet(len(CLASSES), config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            nn.init.zeros_(module.bias)
    return network


@torch.no_grad()
def augment_slices(
    batch: dict[str, Tensor], config: AugmentConfig, noise: float, rng: torch.Generator
) -> dict[str, Tensor]:
    """A changed copy of a batch; what is moved in from outside is air and background.

    Args:
        batch: `image` (B, 1, H, W) in [0, 1] and `classes` (B, 1, H, W); `places` and `of` as in `augment`.
        config: Ranges.
        noise: Standard deviation.
        rng: A generator on the CPU.
    """
    image, classes = batch["image"], batch["classes"]
    count = int(batch["of"]) if "of" in batch else len(image)
    places = batch["places"] if "places" in batch else torch.arange(count)
    factors = [1.0 + (2.0 * torch.rand(count, generator=rng) - 1.0) * s for s in (config.brightness, config.contrast)]
    brightness, contrast = (factor[places].to(image.device) for factor in factors)
    matrices = affine_matrices(count, tuple(image.shape[-2:]), config, rng)[places].to(image.device)
    seeds = torch.randint(2**31, (count,), generator=rng)[places]
    changed = 0.5 * (exposed(2.0 * image - 1.0, brightness, contrast) + 1.0)
    grid = nn.functional.affine_grid(matrices, list(image.shape), align_corners=False)
    moved = nn.functional.grid_sample(changed, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if noise:
        drawn = [torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        moved = (moved + noise * torch.stack(drawn).to(image.device)).clamp(0.0, 1.0)
    nearest = nn.functional.grid_sample(
        classes.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return batch | {"image": moved, "classes": nearest.round().long()}


def train_segmentation(
    data: Path,
    out: Path,
    config: SegmentationTrainingConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
) -> dict[str, Any] | None:
    """Train, or go on training, and write the run with its figures on the held-out fold.

    Args:
        data: A cohort with labels, or a folder with images/ and labels/.
        out: The run's folder. One that holds the same run is resumed.
        config: All settings.
        seed: Of all randomness, and of the folds.
        device: auto, cpu or cuda[:N].
        init_from: A finished segmentation run of the same architecture to take the first weights from (fine-tuning).
        overwrite: Drop what `out` holds.
        on_epoch: See `Loop`.

    Returns:
        The figures, as metrics.json has them; None in all but the first of several processes.

    Raises:
        PreflightError: Data, fold, `init_from` or `out` cannot be used; nothing was started.
        TrainingError: A loss became infinite or NaN; the last checkpoints are kept.
    """
    found = find_labelled(data, seed=seed)
    train, test = split_labelled(found, config.fold)
    team, chosen = join_team(choose_device(device))
    learner = SegmentationLearner(config, chosen, torch.Generator().manual_seed(seed))
    if init_from is not None:
        _start_from(learner, init_from)
    identity = {
        "kind": KIND,
        "settings": to_dict(config),
        "seed": seed,
        "data": [[ct.name, ct.fold, hash_input(ct.ct), hash_input(ct.labels)] for ct in found],
        "init_from_sha256": None if init_from is None else sha256_of(init_from / WEIGHTS),
    }
    with open_folder(out, identity, overwrite=overwrite) if team.writes else contextlib.nullcontext():
        if team.writes:
            samples = SliceStore(train, out / SLICES, size=config.size, window_hu=config.window_hu)
        team.wait()
        if not team.writes:
            samples = SliceStore(train, out / SLICES, size=config.size, window_hu=config.window_hu)
        engine = Engine(chosen, config.loop.precision, team)
        loop = Loop(learner, samples, config.loop, engine, folder=out, seed=seed, on_epoch=on_epoch)
        loop.run()
        if not team.writes:
            return None
        model = SegmentationModel(loop.trained.eval(), config.size, config.window_hu, chosen)
        save_weights(out / WEIGHTS, model.network)
        patients = len({ct.patient_id for ct in train})
        model.save(out, epochs=loop.epoch, trained_on={"patients": patients, "cts": len(train), "slices": len(samples)})
        figures = conclude(model, test or train, out, config, seed=seed, held_out=bool(test), epochs=loop.epoch)
        del samples, loop
        shutil.rmtree(out / SLICES, ignore_errors=True)
        return figures


def _start_from(learner: SegmentationLearner, folder: Path) -> None:
    from bmdkit.models.weights import load_weights, read_weights
    from bmdkit.segmentation.model import load_model

    load_model(folder)  # says what is wrong with it
    load_weights(learner.networks["segmentation"], read_weights(folder / WEIGHTS), source=folder)
