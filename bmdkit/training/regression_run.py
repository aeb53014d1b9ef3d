"""A finished regression (stage three): what its folder holds, and what it says of a radiograph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bmdkit.config import ConfigError, build
from bmdkit.dataset.data_kind import DataKind
from bmdkit.dataset.pairs import PairConfig
from bmdkit.errors import PreflightError
from bmdkit.evaluation.familiarity import Familiarity
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.models.regression_head import Regressor, make_regressor
from bmdkit.training.bone_density import Task
from bmdkit.training.checkpoint import load_weights, read_weights
from bmdkit.training.engine import choose_device
from bmdkit.training.regression_results import BmdScale, pool_fused_maps, predict_bmd
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run import scale_radiograph
from bmdkit.training.run_layout import CONFIG, FAMILIARITY, PLAUSIBILITY, REGRESSOR, RUN, read_json


@dataclass(frozen=True, eq=False)
class RegressionRun:
    """A trained regressor and what it takes to read its images.

    Attributes:
        network: Network in evaluation mode.
        config: It was trained with.
        scale: Mean and standard deviation of the BMD that it learnt from.
        folder: Folder of the phase.
        pairs, xray: Settings by which the radiographs that it has learnt from were cut and read.
        data: Kind of the data that it has learnt from; None where the dataset did not say it.
        familiarity: Features of the training radiographs; None of a run of an earlier version.
    """

    network: Regressor
    config: RegressionConfig
    scale: BmdScale
    folder: Path
    pairs: PairConfig
    xray: XrayConfig
    data: DataKind | None
    familiarity: Familiarity | None

    @property
    def task(self) -> Task:
        """What it predicts."""
        return self.config.task

    def predict(self, xray: np.ndarray, mask: np.ndarray | None = None) -> float:
        """BMD of one radiograph, in the task's unit; arguments as of `predict_pf_drr`."""
        return float(predict_bmd(self.network, self._as_learnt(xray, mask), self.scale)[0])

    def describe(self, xray: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """What the encoder makes of one radiograph, as features (k,); see `pool_fused_maps`."""
        features: np.ndarray = pool_fused_maps(self.network, self._as_learnt(xray, mask))[0]
        return features

    def _as_learnt(self, xray: np.ndarray, mask: np.ndarray | None) -> Tensor:
        return scale_radiograph(xray, mask, self.config.image_size)[0]


def load_regression(folder: Path, *, phase: str | None = None, device: str = "cpu") -> RegressionRun:
    """Read a finished regression.

    Args:
        folder: Folder of the run.
        phase: Phase whose weights are used; None: the last.
        device: Device to compute on: auto, cpu or cuda[:N].

    Raises:
        PreflightError: No finished regression (BMD-TRN-009), or one that sees no whole radiograph: the baseline reads
            the region of interest of the true projection (BMD-PRE-001).
    """
    description, identity = read_json(folder / RUN), read_json(folder / CONFIG)
    try:
        if description["kind"] not in ("representation", "baseline"):
            raise ValueError(f"a run of kind {description['kind']!r}")
        config = build(RegressionConfig, identity["settings"])
        scale = BmdScale(float(description["bmd_mean"]), float(description["bmd_sd"]))
        chosen = str(phase or description["phases"][-1])
        pairs = build(PairConfig, description.get("pairs") or {})
        xray = build(XrayConfig, description.get("xray") or {})
        data = description.get("data")
        if data not in (None, "simulated", "clinical"):
            raise ValueError(f"data of kind {data!r}")
    except (KeyError, IndexError, TypeError, ValueError, ConfigError) as error:
        raise PreflightError("BMD-TRN-009", f"no finished regression ({error!r}).", file=folder) from error
    if config.network == "baseline" or config.uses_ridge:
        what = "a ridge regression: its folder ridge is the run" if config.uses_ridge else "a direct regression"
        raise PreflightError("BMD-PRE-001", f"{what}.", file=folder)
    network = make_regressor(config.generator, config.head, image_size=config.image_size, rng=torch.Generator())
    load_weights(network, read_weights(folder / chosen / REGRESSOR), source=folder / chosen)
    network.to(choose_device(device)).eval()
    known = _read_familiarity(folder / chosen / PLAUSIBILITY)
    return RegressionRun(network, config, scale, folder / chosen, pairs, xray, data, known)


def _read_familiarity(path: Path) -> Familiarity | None:
    try:
        return Familiarity.from_dict(json.loads(path.read_text(encoding="utf-8"))[FAMILIARITY])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError("BMD-TRN-009", f"{error!r}.", file=path) from error
