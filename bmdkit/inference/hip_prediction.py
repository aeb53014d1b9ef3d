"""What a run sees in one hip of one radiograph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bmdkit.core.anatomy import Side
from bmdkit.core.radiograph import Radiograph
from bmdkit.dataset.pairs import PairWindow, pair_window
from bmdkit.inference.predictor import Predictor
from bmdkit.training.montage import DENSITY_MAP
from bmdkit.training.run import estimate_bmd, predict_pf_drr

LEAST_IMAGE = 0.5
"""Share of a hip's half that has to be image; below it a prediction is rejected."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a run sees in one hip of one radiograph.

    Attributes:
        pf_drr_g_cm2: (rows, columns) of the run's image size; 0 where the radiograph is no image.
        bmd: BMD by task.
        quality: accept, review or reject.
        reasons: Reasons for a quality other than accept.
        overlay: (rows, columns, 3), uint8, of a pair's size: the radiograph with the projection in colour.
        window: Part of the radiograph that was looked at.
    """

    pf_drr_g_cm2: np.ndarray
    bmd: dict[str, float]
    quality: str
    reasons: tuple[str, ...]
    overlay: np.ndarray
    window: PairWindow


def predict_hip(predictor: Predictor, radiograph: Radiograph, side: Side) -> Prediction:
    """Predict one hip of an AP radiograph, cut as the pairs were that the run has learnt from.

    Args:
        predictor: The run with its training data.
        radiograph: The whole pelvis, as it was read; the patient's left on the image's right.
        side: The patient's own.
    """
    run, config = predictor.run, predictor.run.pairs
    window = pair_window(*radiograph.shape, side, config)
    image, coverage = window.carry_inside(radiograph.pixels, radiograph.mask)
    seen = coverage >= config.mask_coverage
    drr = predict_pf_drr(run, np.clip(image, 0, 1), seen)
    quality, reasons = predictor.plausibility.check(drr, side)
    if coverage.mean() < LEAST_IMAGE:
        quality, reasons = "reject", (f"{coverage.mean():.0%} of the hip's half is image", *reasons)
    overlay = draw_overlay(image, _resize_bilinear(drr, image.shape), run.scale_g_cm2)
    return Prediction(drr, estimate_bmd(run, drr), quality, reasons, overlay, window)


def draw_overlay(xray: np.ndarray, drr_g_cm2: np.ndarray, scale_g_cm2: float) -> np.ndarray:
    """A radiograph (rows, columns), [0, 1], with a projection of the same size in colour, uint8 RGB."""
    from matplotlib import colormaps

    share = np.clip(drr_g_cm2 / scale_g_cm2, 0, 1)
    colour = colormaps[DENSITY_MAP](share)[..., :3]
    opaque = np.clip(share / 0.15, 0, 1)[..., None] * 0.7
    grey = np.clip(xray, 0, 1)[..., None]
    return np.rint(255 * (grey * (1 - opaque) + colour * opaque)).astype(np.uint8)


def _resize_bilinear(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return torch.nn.functional.interpolate(tensor, size=tuple(size), mode="bilinear")[0, 0].numpy()
