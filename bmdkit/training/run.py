"""A finished decomposition run: what its folder holds, and what it can say about a radiograph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bmdkit.config import ConfigError, build, to_dict
from bmdkit.core.units import PROJECTION_UNITS
from bmdkit.dataset.data_kind import DataKind
from bmdkit.dataset.pairs import PairConfig
from bmdkit.dataset.samples import CHANNELS, DatasetName
from bmdkit.errors import PreflightError
from bmdkit.evaluation.image_metrics import mean_above
from bmdkit.io.results import write_json
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.models.generators import Generator, GeneratorConfig, make_generator
from bmdkit.models.regression_head import Reads
from bmdkit.training.bone_density import BmdLine, Task
from bmdkit.training.checkpoint import load_weights, read_weights, save_weights
from bmdkit.training.engine import choose_device
from bmdkit.training.pair_batches import unscale_density
from bmdkit.training.ridge import RidgeReadout, read_features
from bmdkit.training.run_layout import CONFIG, GENERATOR, RUN, read_json
from bmdkit.training.settings import DecompositionConfig


@dataclass(frozen=True, eq=False)
class DecompositionRun:
    """A trained generator and what it takes to read its images.

    Attributes:
        generator: Network in evaluation mode, on `device`.
        config: It was trained with.
        scale_g_cm2: Areal density of the image value 1, in `unit` as all projections of the run.
        lines: Lines from the mean of a projection to BMD, by task; empty for dataset A or without known BMD.
        readouts: Ridge regressions by task, which take the place of the lines.
        device: Device of the generator.
        pairs, xray: Settings by which the radiographs that it has learnt from were cut and read.
        data: Kind of the data that it has learnt from; None where the dataset did not say it.
        unit: Unit of the projections: g/cm2, or 1000 HU cm of an uncalibrated dataset.
    """

    generator: Generator
    config: DecompositionConfig
    scale_g_cm2: float
    lines: Mapping[Task, BmdLine]
    device: torch.device
    pairs: PairConfig = field(default_factory=PairConfig)
    xray: XrayConfig = field(default_factory=XrayConfig)
    data: DataKind | None = None
    readouts: Mapping[Task, RidgeReadout] = field(default_factory=dict)
    unit: str = PROJECTION_UNITS["density"]

    @property
    def channels(self) -> tuple[str, ...]:
        """What the projections show."""
        return CHANNELS[self.config.dataset]

    @torch.inference_mode()
    def predict(self, xrays: Tensor, *, batch_size: int = 16) -> Tensor:
        """Projections of radiographs.

        Args:
            xrays: (N, 1, H, W) in [-1, 1], H and W the run's image size.
            batch_size: Radiographs computed at a time.

        Returns:
            (N, C, H, W), in `unit`, float32 on the CPU.
        """
        self.generator.eval()
        parts = []
        for part in xrays.split(batch_size):
            images = self.generator(part.to(self.device, torch.float32))
            parts.append(unscale_density(images.float(), self.scale_g_cm2).cpu())
        return torch.cat(parts)

    def save(self, folder: Path, *, epochs: int) -> None:
        """Write the weights and what is needed to use them."""
        save_weights(folder / GENERATOR, self.generator)
        description = {
            "kind": "decomposition",
            "dataset": self.config.dataset,
            "channels": list(self.channels),
            "image_size": list(self.config.image_size),
            "scale_g_cm2": self.scale_g_cm2,
            "epochs": epochs,
            "bmd": {task: line.to_dict() for task, line in self.lines.items()},
            "pairs": to_dict(self.pairs),
            "xray": to_dict(self.xray),
            "data": self.data,
            "projection_unit": self.unit,
        }
        if self.readouts:
            description["ridge"] = {task: readout.to_dict() for task, readout in self.readouts.items()}
        write_json(folder / RUN, description)


def load_run(folder: Path, *, device: str = "cpu") -> DecompositionRun:
    """Read a finished run.

    Raises:
        PreflightError: It is none, or is damaged (BMD-TRN-009).
    """
    description, identity = read_json(folder / RUN), read_json(folder / CONFIG)
    try:
        if description["kind"] != "decomposition":
            raise ValueError(f"a run of kind {description['kind']!r}")
        config = build(DecompositionConfig, identity["settings"])
        lines = {task: BmdLine.from_dict(line) for task, line in description["bmd"].items()}
        readouts = {task: RidgeReadout.from_dict(one) for task, one in description.get("ridge", {}).items()}
        scale, unit = float(description["scale_g_cm2"]), description.get("projection_unit", PROJECTION_UNITS["density"])
        pairs, xray = build(PairConfig, description.get("pairs", {})), build(XrayConfig, description.get("xray", {}))
        data = description.get("data")
        if data not in (None, "simulated", "clinical"):
            raise ValueError(f"data of kind {data!r}")
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise PreflightError("BMD-TRN-009", f"{error!r}.", file=folder) from error
    chosen = choose_device(device)
    generator = make_generator(config.generator, outputs=len(CHANNELS[config.dataset]), rng=torch.Generator())
    load_weights(generator, read_weights(folder / GENERATOR), source=folder)
    return DecompositionRun(
        generator.to(chosen).eval(), config, scale, lines, chosen, pairs, xray, data, readouts, unit
    )


def predict_pf_drr(run: DecompositionRun, xray: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """The projection that a run sees in one radiograph.

    Args:
        run: Run of either dataset.
        xray: (rows, columns), [0, 1], brighter = denser, cut as a pair's; resized to the run's image size.
        mask: Pixels that are image; all if None.

    Returns:
        (rows, columns) of the run's image size, in its unit, 0 outside the mask; for dataset A (2, rows, columns).
    """
    image, inside = scale_radiograph(xray, mask, run.config.image_size)
    predicted = torch.where(inside, run.predict(image), 0.0)[0].numpy()
    return predicted[0] if len(predicted) == 1 else predicted


def scale_radiograph(xray: np.ndarray, mask: np.ndarray | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bring one radiograph to what networks take.

    Args:
        xray: (rows, columns), [0, 1], brighter = denser, cut as a pair's.
        mask: Pixels that are image; all if None.
        size: (rows, columns) of the networks' images.

    Returns:
        (1, 1, rows, columns) in [-1, 1], -1 outside the mask; and where it is image, bool.
    """
    image = torch.from_numpy(np.array(xray, np.float32))[None, None]
    seen = torch.ones_like(image) if mask is None else torch.from_numpy(np.array(mask, np.float32))[None, None]
    image, seen = (torch.nn.functional.interpolate(x, size, mode="area") for x in (image, seen))
    inside = seen > 1.0 - 1e-4
    return torch.where(inside, 2.0 * image - 1.0, -1.0), inside


def estimate_bmd(
    run: DecompositionRun, pf_drr_g_cm2: np.ndarray, xray: np.ndarray, mask: np.ndarray | None = None
) -> dict[Task, float]:
    """BMD of one radiograph: by the run's ridge regression of a task, or by its line.

    Args:
        run: Run of dataset B.
        pf_drr_g_cm2: What it sees in the radiograph, from `predict_pf_drr`.
        xray: The radiograph, as there.
        mask: Pixels that are image, as there.

    Returns:
        BMD by task: dxa in g/cm2, qct in mg/cm3.
    """
    found = {task: float(line.bmd(mean_above(pf_drr_g_cm2, line.threshold_g_cm2))) for task, line in run.lines.items()}
    kinds = {readout.reads for readout in run.readouts.values()}
    features = {reads: describe_radiograph(run, xray, mask, reads) for reads in kinds}
    return found | {
        task: float(readout.bmd(features[readout.reads][None])[0]) for task, readout in run.readouts.items()
    }


def describe_radiograph(
    run: DecompositionRun, xray: np.ndarray, mask: np.ndarray | None = None, reads: Reads = "fused"
) -> np.ndarray:
    """What the network of a run of dataset B makes of one radiograph, as features (k,); see `read_features`."""
    image, inside = scale_radiograph(xray, mask, run.config.image_size)
    features: np.ndarray = read_features(run.generator, image, inside, run.scale_g_cm2, reads=reads)[0]
    return features


def read_weights_of(folder: Path, architecture: GeneratorConfig) -> tuple[dict[str, Tensor], DatasetName]:
    """Weights of a finished run, and the dataset it was trained on.

    Raises:
        PreflightError: No finished run (BMD-TRN-009), or of another architecture (BMD-TRN-006).
    """
    run = load_run(folder)
    given = run.config.generator
    for name in ("backbone", "filters", "downsamplings", "blocks"):
        if getattr(given, name) != getattr(architecture, name):
            message = f"generator.{name} is {getattr(given, name)} there and {getattr(architecture, name)} here."
            raise PreflightError("BMD-TRN-006", message, file=folder)
    return run.generator.state_dict(), run.config.dataset
