"""A trained Bayesian U-Net and what it takes to use it: its classes, its window, the size of its pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bmdkit.config import ConfigError, build
from bmdkit.errors import PreflightError
from bmdkit.io.results import sha256_of, write_json
from bmdkit.models.bayesian_unet import BayesianUNet, UNetConfig
from bmdkit.models.weights import load_weights, read_weights
from bmdkit.segmentation.failures import (
    FailureCurve,
    PredictionSettings,
    UncertaintyLimit,
    limit_uncertainty,
    read_roc,
)
from bmdkit.segmentation.settings import Precision, PredictConfig

CLASSES = ("background", "pelvis", "axial", "femur")
"""What the channels of the network stand for; left and right femur are told apart afterwards, by position."""

VALUES = {"pelvis": 1, "axial": 2, "femur_L": 3, "femur_R": 3}
"""The same as names of a label map: both femurs share one value."""

RUN, WEIGHTS = "run.json", "segmentation.safetensors"
KIND = "segmentation"


@dataclass(frozen=True, eq=False)
class SegmentationModel:
    """A network in evaluation mode, and how its input is made.

    Attributes:
        network: Gives a score for each of `CLASSES`.
        pixel_mm: Size of the pixels that a CT slice is brought to (`predict.working_factor`); None: its own.
        window_hu: HU that become 0 and 1; values beyond are clipped.
        device: Device of the network.
        weights_sha256: SHA-256 of the file of the weights; empty for a network that was not read from one.
        failures: Measurement of how well its uncertainty tells its failures; None where nobody measured it.
    """

    network: BayesianUNet
    pixel_mm: float | None
    window_hu: tuple[float, float]
    device: torch.device
    weights_sha256: str = ""
    failures: FailureCurve | None = None

    def scale(self, hu: Tensor) -> Tensor:
        """HU as the network's input, in [0, 1]."""
        return scale_hu(hu, self.window_hu)

    def limit_uncertainty(self, config: PredictConfig, chosen: float | None = None) -> UncertaintyLimit:
        """Find the largest mean variance that a structure may have.

        Args:
            config: Settings by which the network is used.
            chosen: Limit that the user has set instead of the measured one, or None.
        """
        used = PredictionSettings(config.passes, config.pixel_mm or self.pixel_mm, self.weights_sha256)
        return limit_uncertainty(self.failures, used, chosen=chosen)

    def save(self, folder: Path, *, epochs: int, trained_on: dict) -> None:
        """Write run.json, beside the weights."""
        config = self.network.config
        description = {
            "kind": KIND,
            "classes": list(CLASSES),
            "pixel_mm": self.pixel_mm,
            "window_hu": list(self.window_hu),
            "network": {"filters": config.filters, "dropout": config.dropout},
            "epochs": epochs,
            "trained_on": trained_on,
        }
        write_json(folder / RUN, description)


def require_precision(precision: Precision, device: torch.device | str) -> None:
    """Make sure that a device computes with a precision, rather than imitating it slowly.

    Args:
        precision: Numbers to compute with.
        device: Device of the network.

    Raises:
        PreflightError: It does not (BMD-SEG-006).
    """
    if precision == "float32" or (torch.device(device).type == "cpu" and computes_bfloat16()):
        return
    raise PreflightError("BMD-SEG-006", f"segmentation.predict.precision is {precision}, the device {device}.")


def computes_bfloat16() -> bool:
    """Whether this processor has arithmetic of bfloat16: AVX512_BF16 or AMX. False where PyTorch does not say."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)


def scale_hu(hu: Tensor, window_hu: tuple[float, float]) -> Tensor:
    """HU clipped to a window and brought to [0, 1]."""
    low, high = window_hu
    return ((hu - low) / (high - low)).clamp(0.0, 1.0)


def load_model(folder: Path, device: torch.device | str = "cpu") -> SegmentationModel:
    """Read a finished run of `bmdkit train segmentation`.

    Raises:
        PreflightError: It is none or is damaged (BMD-TRN-009), or its weights are of another architecture (006).
    """
    folder, device = Path(folder), torch.device(device)
    try:
        description = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if description["kind"] != KIND or tuple(description["classes"]) != CLASSES:
            raise ValueError(f"a run of kind {description['kind']!r}")
        config = build(UNetConfig, description["network"])
        pixel_mm = None if description["pixel_mm"] is None else float(description["pixel_mm"])
        low, high = map(float, description["window_hu"])
    except (OSError, KeyError, TypeError, ValueError, ConfigError) as error:
        message = f"no finished segmentation run ({error!r})."
        raise PreflightError("BMD-TRN-009", message, file=folder) from error
    network = BayesianUNet(len(CLASSES), config)
    load_weights(network, read_weights(folder / WEIGHTS), source=folder)
    network = network.to(device).eval()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub of torch lacks it
    return SegmentationModel(network, pixel_mm, (low, high), device, sha256_of(folder / WEIGHTS), read_roc(folder))
