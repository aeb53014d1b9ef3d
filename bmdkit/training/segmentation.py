"""Learning to segment: a Bayesian U-Net from CTs with labels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from bmdkit.dataset.commit import hash_input
from bmdkit.models.bayesian_unet import BayesianUNet, UNetConfig
from bmdkit.models.losses import soft_dice_loss
from bmdkit.segmentation.model import CLASSES, KIND, WEIGHTS, SegmentationModel, load_model, require_precision
from bmdkit.training.augment import AugmentConfig, affine_matrices, exposed, find_places
from bmdkit.training.checkpoint import load_weights, read_weights, save_weights
from bmdkit.training.engine import Engine
from bmdkit.training.labelled_slices import LabelledCt, SliceStore, find_labelled, split_labelled
from bmdkit.training.learner import Samples
from bmdkit.training.loop import Loop
from bmdkit.training.run_folder import LabelledData
from bmdkit.training.run_layout import SLICES, Split
from bmdkit.training.run_plan import Headcount, TrainingPlan, UnknownSamples, plan_training
from bmdkit.training.segmentation_results import write_results
from bmdkit.training.segmentation_settings import SegmentationTrainingConfig
from bmdkit.training.session import EpochCallback, RunIdentity, TrainingSession, identify_run, start_session
from bmdkit.training.single_network import Batch, BatchLoss, SingleNetworkLearner

NAME = "segmentation"
"""Name of the network in checkpoints."""

_WARP_POINTS = 6


def make_learner(
    config: SegmentationTrainingConfig, device: torch.device, rng: torch.Generator
) -> SingleNetworkLearner:
    """The learner of a segmentation training.

    Args:
        config: All settings.
        device: Device of the network.
        rng: Source of the first weights.
    """

    def compute_loss(network: nn.Module, batch: Batch, engine: Engine, rng: torch.Generator) -> BatchLoss:
        batch = augment_slices(batch, config.augment, config.noise, rng, warp=config.warp)
        with engine.autocast():
            scores = network(batch["image"])
        scores, bones = scores.float(), batch["shares"]
        shares = torch.cat([(1.0 - bones.sum(1, keepdim=True)).clamp(min=0.0), bones], dim=1)
        losses: dict[str, Tensor] = {}
        if config.loss != "dice":
            losses["cross_entropy"] = nn.functional.cross_entropy(scores, shares)
        if config.loss != "cross_entropy":
            losses["dice_loss"] = soft_dice_loss(scores, shares)
        total = torch.stack(tuple(losses.values())).sum()
        return BatchLoss(total, losses | {"loss": total})

    network = cast(nn.Module, make_network(config.network, rng)).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return SingleNetworkLearner(NAME, network, config.optimiser, compute_loss, compiled=config.loop.compile)


def make_network(config: UNetConfig, rng: torch.Generator) -> BayesianUNet:
    """A network whose first weights (He's rule) come from one generator alone."""
    network = BayesianUNet(len(CLASSES), config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


@torch.no_grad()
def augment_slices(
    batch: dict[str, Tensor], config: AugmentConfig, noise: float, rng: torch.Generator, *, warp: float = 0.0
) -> dict[str, Tensor]:
    """A changed copy of a batch; what is moved in from outside is air and background.

    Args:
        batch: `image` (B, 1, H, W) and `shares` (B, bones, H, W), both in [0, 1]; `places` and `of` as in `augment`.
        config: Ranges.
        noise: Largest standard deviation; every image has its own, evenly from 0 to it.
        rng: A generator on the CPU.
        warp: Standard deviation of a smooth displacement, as a share of the sides; see `smooth_displacement`.
    """
    image, shares = batch["image"], batch["shares"]
    count, places = find_places(batch, len(image))
    factors = [1.0 + (2.0 * torch.rand(count, generator=rng) - 1.0) * s for s in (config.brightness, config.contrast)]
    brightness, contrast = (factor[places].to(image.device) for factor in factors)
    matrices = affine_matrices(count, (image.shape[-2], image.shape[-1]), config, rng)[places].to(image.device)
    seeds = torch.randint(2**31, (count,), generator=rng)[places]
    strength = noise * torch.rand(count, generator=rng)[places].to(image.device)
    changed = 0.5 * (exposed(2.0 * image - 1.0, torch.ones_like(image), brightness, contrast) + 1.0)
    grid = nn.functional.affine_grid(matrices, list(image.shape), align_corners=False)
    if warp:
        grid = grid + smooth_displacement(count, (image.shape[-2], image.shape[-1]), warp, rng)[places].to(image.device)
    both = torch.cat([changed, shares], dim=1)
    both = nn.functional.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    moved = both[:, :1]
    if noise:
        drawn = [torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        moved = (moved + strength[:, None, None, None] * torch.stack(drawn).to(image.device)).clamp(0.0, 1.0)
    return batch | {"image": moved, "shares": both[:, 1:]}


def smooth_displacement(count: int, shape: tuple[int, int], warp: float, rng: torch.Generator) -> Tensor:
    """Random displacements that turn one anatomy into another: cubic between 6 x 6 drawn points.

    Args:
        count: Number of displacements.
        shape: Rows, columns.
        warp: Standard deviation at the drawn points, as a share of the sides.
        rng: A generator on the CPU.

    Returns:
        (count, rows, columns, 2), x and y, in the units of `grid_sample`: half a side is 1.
    """
    drawn = 2.0 * warp * torch.randn(count, 2, _WARP_POINTS, _WARP_POINTS, generator=rng)
    smooth = nn.functional.interpolate(drawn, size=shape, mode="bicubic", align_corners=True)
    return smooth.permute(0, 2, 3, 1)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A segmentation training of which everything that it needs has been found to be there."""

    config: SegmentationTrainingConfig
    train: tuple[LabelledCt, ...]
    test: tuple[LabelledCt, ...]
    session: TrainingSession
    learner: SingleNetworkLearner
    identity: RunIdentity

    def make_loop(self, samples: Samples) -> Loop:
        """The loop of the training, before its first step."""
        return self.session.make_loop(self.learner, samples, self.config.loop)


def _prepare(
    data: Path,
    out: Path,
    config: SegmentationTrainingConfig,
    *,
    seed: int,
    device: str,
    init_from: Path | None,
    overwrite: bool,
    on_epoch: EpochCallback | None = None,
) -> _Prepared:
    """Check what a training needs, but for the inside of its CTs; arguments and errors are those of the training."""
    found = find_labelled(data, seed=seed)
    train, test = split_labelled(found, config.fold)
    session = start_session(
        out, config.loop, seed=seed, device=device, init_from=init_from, overwrite=overwrite, on_epoch=on_epoch
    )
    require_precision(config.predict.precision, session.device)
    learner = make_learner(config, session.device, session.draw())
    if init_from is not None:
        _load_start_weights(learner, init_from)
    learnt = LabelledData(tuple((ct.name, ct.fold, hash_input(ct.ct), hash_input(ct.labels)) for ct in found))
    identity = identify_run(KIND, config, learnt, seed=seed, init_from=init_from, weights=WEIGHTS)
    return _Prepared(config, train, test, session, learner, identity)


def plan_segmentation(
    data: Path,
    out: Path,
    config: SegmentationTrainingConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
) -> TrainingPlan:
    """Check everything that `train_segmentation` checks before it begins, and say what it would do; writes nothing.

    The CTs are not opened: how many slices they have, and so how many steps an epoch has, is not known yet. The
    arguments and errors are those of `train_segmentation`.
    """
    given: dict[str, Any] = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    found = _prepare(data, out, config, **given)
    by_name: dict[Split, tuple[LabelledCt, ...]] = {"train": found.train, "test": found.test}
    counts = {name: Headcount.of([ct.patient_id for ct in cts]) for name, cts in by_name.items() if cts}
    loops = [("", lambda: found.make_loop(UnknownSamples()))]
    return plan_training(found.session, found.identity, loops, counts, fold=config.fold, samples="CTs")


def train_segmentation(
    data: Path,
    out: Path,
    config: SegmentationTrainingConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
    on_epoch: EpochCallback | None = None,
) -> dict[str, Any] | None:
    """Train, or go on training, and write the run with its figures on the held-out fold.

    Args:
        data: A cohort with labels, or a folder with images/ and labels/.
        out: Folder of the run. One that holds the same run is resumed.
        config: All settings.
        seed: Seed of all random draws, and of the folds.
        device: Device to compute on: auto, cpu or cuda[:N].
        init_from: A finished segmentation run of the same architecture to take the first weights from (fine-tuning).
        overwrite: Whether to drop what `out` holds.
        on_epoch: Called after each epoch, see `Loop`.

    Returns:
        The figures, as metrics.json has them; None in all but the first of several processes.

    Raises:
        PreflightError: Data, fold, `init_from` or `out` cannot be used; nothing was started.
        TrainingError: A loss became infinite or NaN; the last checkpoints are kept.
    """
    given: dict[str, Any] = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    found = _prepare(data, out, config, **given, on_epoch=on_epoch)
    session, train, test = found.session, found.train, found.test
    with session.open_run(found.identity):
        samples = _store_slices(train, config, session)
        loop = session.run_loop(found.make_loop(samples))
        if not session.writes:
            return None
        network = cast(BayesianUNet, loop.trained.eval())
        model = SegmentationModel(network, config.pixel_mm, config.window_hu, session.device)
        save_weights(out / WEIGHTS, model.network)
        patients = len({ct.patient_id for ct in train})
        model.save(out, epochs=loop.epoch, trained_on={"patients": patients, "cts": len(train), "slices": len(samples)})
        figures = write_results(model, test or train, out, config, seed=seed, held_out=bool(test), epochs=loop.epoch)
        del samples, loop
        shutil.rmtree(out / SLICES, ignore_errors=True)
        return figures


def _store_slices(
    cts: Sequence[LabelledCt], config: SegmentationTrainingConfig, session: TrainingSession
) -> SliceStore:
    """The slices on disk: the first process writes them, the others read them when they are there."""
    if not session.writes:
        session.engine.processes.wait()
    store = SliceStore(cts, session.out / SLICES, pixel_mm=config.pixel_mm, window_hu=config.window_hu)
    if session.writes:
        session.engine.processes.wait()
    return store


def _load_start_weights(learner: SingleNetworkLearner, folder: Path) -> None:
    load_model(folder)  # says what is wrong with it
    load_weights(learner.networks[NAME], read_weights(folder / WEIGHTS), source=folder)
