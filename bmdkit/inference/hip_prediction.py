"""What a run sees in one hip of one radiograph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from bmdkit.core.anatomy import SIDE_NAMES, SIDES, Side
from bmdkit.core.radiograph import Radiograph
from bmdkit.dataset.pairs import PairWindow, cut_hip
from bmdkit.errors import CaseError
from bmdkit.inference.overlay import draw_overlay, finish_overlay, resize_bilinear
from bmdkit.inference.predictor import Predictor
from bmdkit.io.xray import check_laterality
from bmdkit.training.bone_density import Task

LEAST_IMAGE = 0.5
"""Share of a hip's half that has to be image; below it a prediction is rejected."""

MOST_CUT = 0.1
"""Share of the projection's outline that may lie at what is no image: more of it goes on behind a collimator."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a run sees in one hip of one radiograph.

    Attributes:
        pf_drr_g_cm2: (rows, columns) of the decomposition's image size; 0 where the radiograph is no image. None of a
            regression alone, which makes no projection.
        bmd: BMD by task: of the regression where there is one, else of the decomposition.
        quality: accept, review or reject.
        reasons: Reasons for a quality other than accept.
        overlay: (rows, columns, 3), uint8, of a pair's size: the radiograph with the projection in colour.
        overlay_peak: Value of the overlay's brightest colour, in the projection's unit; None without a projection.
        overlay_pixel_mm: Width of the overlay's pixels at the detector; None where the radiograph's is not known.
        window: Part of the radiograph that was looked at.
        intervals: Lower and upper end of the 90 % prediction interval by task, where the run knows its errors.
        intended_use: What has to be told with every number.
        strangeness: How unlike the training patients' it is, for ranking.
    """

    pf_drr_g_cm2: np.ndarray | None
    bmd: Mapping[Task, float]
    quality: str
    reasons: tuple[str, ...]
    overlay: np.ndarray
    overlay_peak: float | None
    overlay_pixel_mm: float | None
    window: PairWindow
    intervals: Mapping[Task, tuple[float, float]] = field(default_factory=dict)
    intended_use: str = ""
    strangeness: float = 0.0


def choose_hips(
    radiograph: Radiograph, side: Side | None, *, case: str | None = None, file: str | Path | None = None
) -> tuple[Side, ...]:
    """The hips of a radiograph to look at: the one that is asked for or that the file names, else both.

    Args:
        radiograph: The radiograph, as it was read.
        side: Hip that is asked for, the patient's own; None if none is.
        case: Name of the case, for the error.
        file: File of the radiograph, for the error.

    Raises:
        CaseError: File or image show the other side (BMD-XR-020), or one hip alone that nothing names (BMD-XR-025).

    Example:
        >>> choose_hips(Radiograph(np.zeros((4, 4)), np.ones((4, 4), bool)), None)
        ('L', 'R')
    """
    named = next((one for one in SIDES if one == radiograph.laterality), None)
    if side is not None and named not in (None, side):
        raise CaseError("BMD-XR-020", f"the file says {named}, asked for was {side}.", case=case, file=file)
    chosen = side or named
    if chosen is None:
        if radiograph.single_hip is not None:
            raise CaseError("BMD-XR-025", "its side is not known.", case=case, file=file)
        return SIDES
    check_laterality(radiograph, chosen, case=case, file=file)
    return (chosen,)


def predict_hip(predictor: Predictor, radiograph: Radiograph, side: Side) -> Prediction:
    """Predict one hip of an AP radiograph, cut as the pairs were that the run has learnt from.

    Args:
        predictor: The run with its training data.
        radiograph: The whole pelvis, as it was read; the patient's left on the image's right.
        side: The patient's own.
    """
    config = predictor.pairs
    window, image, coverage = cut_hip(radiograph, side, config)
    seen = coverage >= config.mask_coverage
    found = predictor.look(image, seen, side)
    quality, reasons = found.quality, found.reasons
    drr, peak = np.zeros(image.shape, np.float32), None
    if found.pf_drr_g_cm2 is not None and predictor.run is not None:
        drr, peak = resize_bilinear(found.pf_drr_g_cm2, image.shape), predictor.run.scale_g_cm2
    cut = measure_cut(drr, seen, 0.0 if predictor.plausibility is None else predictor.plausibility.threshold_g_cm2)
    if cut > MOST_CUT:
        quality, reasons = "reject", (f"{cut:.0%} of the outline lies at the edge of the image", *reasons)
    if coverage.mean() < LEAST_IMAGE:
        quality, reasons = "reject", (f"{coverage.mean():.0%} of the hip's half is image", *reasons)
    overlay = draw_overlay(image, drr, peak or 1.0)
    pixel_mm = None if radiograph.column_spacing_mm is None else radiograph.column_spacing_mm / window.scale
    spreads = predictor.spreads
    intervals = {task: spreads[task].interval(value) for task, value in found.bmd.items() if task in spreads}
    use, strangeness = predictor.intended_use, found.strangeness
    return Prediction(
        pf_drr_g_cm2=found.pf_drr_g_cm2,
        bmd=found.bmd,
        quality=quality,
        reasons=reasons,
        overlay=overlay,
        overlay_peak=peak,
        overlay_pixel_mm=pixel_mm,
        window=window,
        intervals=intervals,
        intended_use=use,
        strangeness=strangeness,
    )


def finish_picture(found: Prediction, name: str, side: Side, unit: str | None) -> np.ndarray:
    """The overlay of a prediction with title, side, colour bar and scale; (rows, columns, 3), uint8.

    Args:
        found: The prediction.
        name: What the title begins with.
        side: The patient's own.
        unit: Unit of the projection.
    """
    lines = (f"{name}, {SIDE_NAMES[side]} hip: {found.quality}", found.intended_use)
    return finish_overlay(found.overlay, lines, peak=found.overlay_peak, unit=unit, pixel_mm=found.overlay_pixel_mm)


def measure_cut(drr_g_cm2: np.ndarray, seen: np.ndarray, threshold_g_cm2: float) -> float:
    """Share of a projection's outline that lies within two pixels of what is no image, such as a collimator's blade.

    The border of the picture does not count: a hip's half may end there, and the radiograph goes on.

    Args:
        drr_g_cm2: (rows, columns).
        seen: (rows, columns), bool, where the radiograph is image.
        threshold_g_cm2: Pixels of this density or more belong to the projection.
    """
    inside = drr_g_cm2 > threshold_g_cm2
    outline = inside & ~ndimage.binary_erosion(inside, border_value=1)
    if not outline.any():
        return 0.0
    return float(ndimage.binary_dilation(~seen, np.ones((5, 5), bool))[outline].mean())
