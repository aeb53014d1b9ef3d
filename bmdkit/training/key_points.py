"""Learning where the landmarks of the proximal femur project, on what an encoder has learnt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bmdkit.core.anatomy import LANDMARKS
from bmdkit.dataset.layout import pair_meta_file
from bmdkit.dataset.samples import Fold, Pair
from bmdkit.errors import PreflightError
from bmdkit.io.results import write_csv, write_json
from bmdkit.models.generators import GeneratorConfig
from bmdkit.models.key_point_head import CELL, centres_of_mass, heat_map_loss, make_key_point_network, softmax_maps
from bmdkit.training.augment import AugmentConfig, augment
from bmdkit.training.checkpoint import save_weights
from bmdkit.training.engine import Engine
from bmdkit.training.loop_settings import LoopConfig
from bmdkit.training.optimiser import OptimiserConfig
from bmdkit.training.pair_batches import PairTensors, load_pairs
from bmdkit.training.phases import Phase, PhaseName, list_phases, load_encoder, plan_phases, train_phases
from bmdkit.training.run_layout import (
    KEY_POINTS,
    METRICS,
    PAIR_COLUMNS,
    PREDICTIONS,
    RUN,
    KeyPointDescription,
    PairColumns,
    predicted_column,
)
from bmdkit.training.run_plan import TrainingPlan, count_pairs, plan_training
from bmdkit.training.session import (
    EpochCallback,
    PairSplit,
    RunIdentity,
    TrainingSession,
    identify_run,
    select_pairs,
    start_session,
)
from bmdkit.training.settings import check_image_size, check_tuning
from bmdkit.training.single_network import Batch, BatchLoss, SingleNetworkLearner

KIND = "key points"
PEAK = 0.6
"""Peak of a moved heat map: lower, and the point lies more than a standard deviation outside the image."""

POINT_COLUMNS = (
    *("point", "column", "row", predicted_column("column"), predicted_column("row")),
    *("error_mm", "error_of_mean_mm"),
)


@dataclass(frozen=True)
class KeyPointConfig:
    """Training of a key point network.

    Attributes:
        fold, train_poses, image_size, verdicts, half_in_memory: As in a decomposition training.
        generator: Architecture of the encoder.
        sigma_cells: Standard deviation of the heat maps wanted, in cells of 4 x 4 pixels.
        augment, optimiser, loop: See there. `loop.epochs` is the length of the first phase: with the encoder frozen, or
            all there is without a run to start from.
        tuned_epochs, tuned_lr: Length and learning rate of the second phase, in which the encoder is trained too; 0
            epochs leave it out.
    """

    fold: Fold = 0
    train_poses: tuple[str, ...] = ()
    image_size: tuple[int, int] = (512, 256)
    verdicts: tuple[str, ...] = ("accept", "review")
    half_in_memory: bool = False
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    sigma_cells: float = 1.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=100))
    tuned_epochs: int = 100
    tuned_lr: float = 1e-4

    def __post_init__(self) -> None:
        """Check the values."""
        check_image_size(self.image_size, self.generator)
        check_tuning(0.0, self.loop)
        if not self.sigma_cells > 0 or self.tuned_epochs < 0 or not self.tuned_lr > 0:
            raise ValueError("sigma_cells, tuned_epochs, tuned_lr: expected positive numbers, and 0 or more epochs")


@dataclass(frozen=True, eq=False)
class PointSamples:
    """Pairs with their key points; see `Samples`.

    Attributes:
        images: The pairs.
        points: (N, landmarks, 2), column and row in pixels of the images, their centres integer; NaN where not known.
        pixel_mm: (N,), at the detector.
        sigma: Standard deviation of the heat maps, pixels.
    """

    images: PairTensors
    points: Tensor
    pixel_mm: np.ndarray
    sigma: float

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.images)

    def take(self, indices: Tensor, device: torch.device) -> dict[str, Tensor]:
        """A batch: `xray` and `mask` as in pairs, `drr` the heat maps (B, landmarks, H, W), 0 to 1 scaled to [-1, 1].

        They take the projections' place because they move with the radiograph as those do.
        """
        batch = self.images.take(indices, device)
        rows, columns = batch["xray"].shape[-2:]
        maps = draw_gaussians(self.points[indices].to(device), (rows, columns), self.sigma)
        return batch | {"drr": 2.0 * maps - 1.0}


def draw_gaussians(points: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Heat maps (B, K, rows, columns), 1 at the points (B, K, 2: column, row); nothing for a point that is NaN."""
    rows, columns = (torch.arange(n, dtype=torch.float32, device=points.device) for n in size)
    down = torch.exp(-0.5 * ((rows - points[..., 1:]) / sigma) ** 2)
    across = torch.exp(-0.5 * ((columns - points[..., :1]) / sigma) ** 2)
    return torch.nan_to_num(down[..., :, None] * across[..., None, :])


def make_learner(network: nn.Module, config: KeyPointConfig, lr: float) -> SingleNetworkLearner:
    """The learner of one phase, at its learning rate."""

    def compute_loss(forward: nn.Module, batch: Batch, engine: Engine, rng: torch.Generator) -> BatchLoss:
        batch = augment(batch, config.augment, rng)
        target, seen = target_maps(batch["drr"])
        with engine.autocast():
            scores = forward(batch["xray"])
        loss = heat_map_loss(scores, target, seen)
        return BatchLoss(loss, {"loss": loss})

    optimiser = replace(config.optimiser, lr=lr)
    return SingleNetworkLearner(
        "key_points",
        network,
        optimiser,
        compute_loss,
        compiled=config.loop.compile,
        whole_batches=config.generator.norm == "batch",
    )


def target_maps(maps: Tensor) -> tuple[Tensor, Tensor]:
    """From moved heat maps in [-1, 1] to those of the cells, each summing to 1, and which points are in the image.

    A point is in the image if its heat map has its peak there, whatever the size to which it was scaled.
    """
    cells = nn.functional.avg_pool2d(0.5 * (maps + 1.0), CELL)
    total = cells.sum((-2, -1))
    seen = maps.amax((-2, -1)) > 2.0 * PEAK - 1.0
    return cells / total.clamp(min=1e-6)[..., None, None], seen


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A key point training of which everything that it needs has been found to be there."""

    config: KeyPointConfig
    pairs: PairSplit
    splits: dict[str, PointSamples]
    session: TrainingSession
    network: nn.Module
    phases: tuple[Phase, ...]
    identity: RunIdentity

    def make_learner(self, lr: float) -> SingleNetworkLearner:
        """The learner of a phase, at its learning rate."""
        return make_learner(self.network, self.config, lr)


def _prepare(
    data: Path,
    out: Path,
    config: KeyPointConfig,
    *,
    seed: int,
    device: str,
    init_from: Path | None,
    overwrite: bool,
    on_epoch: EpochCallback | None = None,
) -> _Prepared:
    """Check and read what a training needs; nothing is written. Arguments and errors are those of the training."""
    pairs = select_pairs(data, "B", config, init_from)
    train = load_points(pairs.train, config)
    splits = {"train": train} | ({"test": load_points(pairs.test, config)} if pairs.test else {})
    if not bool(torch.isfinite(train.points).any()):
        raise PreflightError("BMD-TRN-013", f"none of {len(train)} training pairs.")
    session = start_session(
        out, config.loop, seed=seed, device=device, init_from=init_from, overwrite=overwrite, on_epoch=on_epoch
    )
    network = make_key_point_network(config.generator, len(LANDMARKS), rng=session.draw())
    if init_from is not None:
        load_encoder(network, init_from, config.generator)
    network = network.to(session.device)
    epochs, lr = config.loop.epochs, config.optimiser.lr
    phases = list_phases(
        epochs, lr, tuned_epochs=config.tuned_epochs, tuned_lr=config.tuned_lr, fresh=init_from is None
    )
    return _Prepared(
        config,
        pairs,
        splits,
        session,
        network,
        phases,
        identify_run(KIND, config, pairs.provenance, seed=seed, init_from=init_from),
    )


def plan_key_points(
    data: Path,
    out: Path,
    config: KeyPointConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
) -> TrainingPlan:
    """Check everything that `train_key_points` checks, and say what it would do; nothing is written.

    The arguments and errors are those of `train_key_points`.
    """
    given: dict[str, Any] = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    found = _prepare(data, out, config, **given)
    samples = found.splits["train"]
    loops = plan_phases(found.network, found.phases, found.make_learner, samples, config.loop, found.session)
    return plan_training(found.session, found.identity, loops, count_pairs(found.pairs.by_name()), fold=config.fold)


def train_key_points(
    data: Path,
    out: Path,
    config: KeyPointConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    init_from: Path | None = None,
    overwrite: bool = False,
    on_epoch: EpochCallback | None = None,
) -> dict[PhaseName, dict[str, Any]]:
    """Train, or go on training, the phases of a key point network; each gets a folder with weights and predictions.

    Args:
        data: Folder of a built dataset; its dataset B is used.
        out: Folder of the run.
        config: All settings.
        seed: Seed of all random draws.
        device: Device to compute on: auto, cpu or cuda[:N].
        init_from: A decomposition run whose encoder is taken over; without one all is trained in one phase.
        overwrite: Whether to drop what `out` holds.
        on_epoch: Called after each epoch, see `Loop`.

    Returns:
        The figures of every phase, as its metrics.json has them; none in all but the first of several processes.

    Raises:
        PreflightError: Dataset, fold, images, `init_from` or `out` cannot be used, or no landmarks are known
            (BMD-TRN-013); nothing was started.
        TrainingError: A loss became infinite or NaN.
    """
    given: dict[str, Any] = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    found = _prepare(data, out, config, **given, on_epoch=on_epoch)
    session, network, splits = found.session, found.network, found.splits
    train = splits["train"]
    samples = replace(train, images=train.images.moved_if_it_fits(session.device))
    figures: dict[PhaseName, dict[str, Any]] = {}
    with session.open_run(found.identity, place=data):
        for phase, done, _ in train_phases(network, found.phases, found.make_learner, samples, config.loop, session):
            if session.writes:
                figures[phase] = _write_results(network, config, splits, out / phase, done)
        if session.writes:
            described = KeyPointDescription(KIND, config.image_size, LANDMARKS, tuple(figures))
            write_json(out / RUN, asdict(described))
    return figures


def load_points(pairs: Sequence[Pair], config: KeyPointConfig) -> PointSamples:
    """Read pairs and where their landmarks project.

    Raises:
        PreflightError: An image, or what stands beside it, cannot be used (BMD-TRN-002, -005).
    """
    images = load_pairs(pairs, config.image_size, half=config.half_in_memory)
    points, pixel_mm = np.full((len(pairs), len(LANDMARKS), 2), np.nan, np.float32), np.empty(len(pairs))
    for n, pair in enumerate(pairs):
        file = pair_meta_file(pair.drr.parent)
        try:
            meta = json.loads(file.read_text(encoding="utf-8"))
            camera, known = meta["camera"], meta.get("landmarks_uv", {})
            scale = np.array(config.image_size[::-1]) / (camera["columns"], camera["rows"])
            for k, name in enumerate(LANDMARKS):
                if name in known:
                    points[n, k] = (np.array(known[name], float) + 0.5) * scale - 0.5
            pixel_mm[n] = camera["column_spacing_mm"] / scale[0]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PreflightError(
                "BMD-TRN-005", f"unreadable ({error!r}).", case=pair.pair_id, file=file.name
            ) from error
    return PointSamples(images, torch.from_numpy(points), pixel_mm, CELL * config.sigma_cells)


@torch.inference_mode()
def predict_points(network: nn.Module, xrays: Tensor, *, batch_size: int = 16) -> np.ndarray:
    """Key points of radiographs (N, 1, H, W) in [-1, 1]: (N, landmarks, 2), column and row in their pixels."""
    network.eval()
    device = next(network.parameters()).device
    return np.concatenate([locate_points(network(part.to(device, torch.float32))) for part in xrays.split(batch_size)])


def locate_points(scores: Tensor) -> np.ndarray:
    """Key points of a network's scores (N, points, h, w): (N, points, 2), column and row in pixels of its images."""
    return (centres_of_mass(softmax_maps(scores)).cpu().double().numpy() + 0.5) * CELL - 0.5


def _write_results(
    network: nn.Module, config: KeyPointConfig, splits: dict[str, PointSamples], folder: Path, epochs: int
) -> dict[str, Any]:
    """Predict every pair and measure; write weights, predictions.csv and metrics.json.

    Beside every error stands that of always naming the place where the point is on average in the training.
    """
    average = np.ma.masked_invalid(splits["train"].points.double().numpy()).mean(axis=0).filled(np.nan)
    rows: list[dict[str, Any]] = []
    for split, samples in splits.items():
        predicted, true = predict_points(network, samples.images.xray), samples.points.double().numpy()
        inside = np.all((true >= -0.5) & (true <= np.array(config.image_size[::-1]) - 0.5), axis=-1)
        for n, pair in enumerate(samples.images.pairs):
            about = asdict(PairColumns.of(pair, split))
            for k in np.flatnonzero(inside[n]):
                errors = [np.linalg.norm(found[k] - true[n, k]) for found in (predicted[n], average)]
                values = LANDMARKS[k], *true[n, k], *predicted[n, k], *(samples.pixel_mm[n] * np.array(errors))
                rows.append(about | dict(zip(POINT_COLUMNS, values, strict=True)))
    metrics: dict[str, Any] = {"fold": config.fold, "epochs": epochs}
    for split in splits:
        metrics[split] = _figures([row for row in rows if row["split"] == split])
    save_weights(folder / KEY_POINTS, network)
    write_csv(folder / PREDICTIONS, rows, (*PAIR_COLUMNS, *POINT_COLUMNS))
    write_json(folder / METRICS, metrics)
    return metrics


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and 95th percentile of the error at the detector, mm, of each point and of all."""
    figures: dict[str, Any] = {"images": len({row["pair_id"] for row in rows})}
    figures["patients"] = len({row["patient_id"] for row in rows})
    for name in ("all", *LANDMARKS):
        own = [row for row in rows if name in ("all", row["point"])]
        if own:
            errors, of_mean = (np.array([row[key] for row in own]) for key in ("error_mm", "error_of_mean_mm"))
            figures[name] = {
                "n": len(own),
                "median_mm": float(np.median(errors)),
                "p95_mm": float(np.percentile(errors, 95)),
                "median_of_mean_mm": float(np.median(of_mean)),
            }
    return figures
