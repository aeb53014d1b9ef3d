"""How well the uncertainty of a network tells its failures, and the largest one that is allowed because of it.

A limit belongs to what it was measured with: the number of draws, the size of the pixels, the weights. With other
pixels, other weights or fewer draws it is refused, not guessed at. More draws keep it: the variance is unbiased, and
more draws make it only more certain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmdkit.errors import PreflightError

SHIPPED = Path(__file__).parent / "weights"
"""A network trained on simulated CTs alone, which comes with the package; CARD.md in it says on which and how good."""

ROC = "roc.json"
"""In the folder of a network; benchmarks/segmentation.py writes it."""

VARIANCE = "unbiased"
"""How the variance over the draws is estimated: the sum of squares is divided by one less than their number."""


@dataclass(frozen=True)
class PredictionSettings:
    """What the uncertainty of a network depends on, beside the CT.

    Attributes:
        passes: Draws of the dropout (T).
        pixel_mm: Size of the pixels that slices are brought to; None: their own.
        weights_sha256: SHA-256 of the file of the weights.
    """

    passes: int
    pixel_mm: float | None
    weights_sha256: str


@dataclass(frozen=True)
class FailureCurve:
    """What was measured on CTs with known labels, whole and spoilt.

    Attributes:
        threshold: Mean variance of a structure above which it counts as failed.
        sensitivity: Share of the failures above the threshold.
        specificity: Share of the others that are not above it.
        auroc: Area under the curve.
        structures: Structures that were measured.
        failed: Structures of these with a Dice below `failed_below_dice`.
        failed_below_dice: Dice below which a structure has failed.
        sensitivities, specificities: The same shares at thresholds from the least to the largest.
        settings: What it was measured with; None if the file does not say, or its variance was estimated otherwise.
    """

    threshold: float
    sensitivity: float
    specificity: float
    auroc: float
    structures: int
    failed: int
    failed_below_dice: float
    sensitivities: tuple[float, ...]
    specificities: tuple[float, ...]
    settings: PredictionSettings | None = None


@dataclass(frozen=True)
class UncertaintyLimit:
    """The largest mean variance that a structure may have.

    Attributes:
        most: The limit; None: there is none.
        refusal: Why the limit that there is cannot be used; empty if it can, or if there is none.
    """

    most: float | None
    refusal: str = ""


def read_roc(folder: Path) -> FailureCurve | None:
    """Read what was measured for a network; None where nothing was.

    Args:
        folder: Folder of the network.

    Raises:
        PreflightError: It cannot be read (BMD-TRN-009).
    """
    path = Path(folder) / ROC
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        curve = found["curve"]
        return FailureCurve(
            threshold=float(found["threshold"]),
            sensitivity=float(found["sensitivity"]),
            specificity=float(found["specificity"]),
            auroc=float(found["auroc"]),
            structures=int(found["structures"]),
            failed=int(found["failed"]),
            failed_below_dice=float(found["failed_below_dice"]),
            sensitivities=tuple(float(value) for value in curve["sensitivity"]),
            specificities=tuple(float(value) for value in curve["specificity"]),
            settings=_read_settings(found.get("measured_with")),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError("BMD-TRN-009", f"no readable {ROC} ({error!r}).", file=folder) from error


def _read_settings(given: dict[str, Any] | None) -> PredictionSettings | None:
    if given is None or given["variance"] != VARIANCE:
        return None
    pixel_mm = None if given["pixel_mm"] is None else float(given["pixel_mm"])
    return PredictionSettings(int(given["passes"]), pixel_mm, str(given["weights_sha256"]))


def limit_uncertainty(
    measured: FailureCurve | None, used: PredictionSettings, *, chosen: float | None = None
) -> UncertaintyLimit:
    """Find the largest mean variance that a structure may have with the settings that are used.

    Args:
        measured: What was measured for the network; None: nothing.
        used: Settings of the prediction.
        chosen: Limit that the user has set instead, or None.

    Returns:
        No limit where nothing was measured or chosen; a refusal where there is one that does not fit.
    """
    if used.passes < 2 and not (chosen is None and measured is None):
        return UncertaintyLimit(None, "one draw of the dropout has no variance, at least 2 are needed")
    if chosen is not None or measured is None:
        return UncertaintyLimit(chosen)
    known = measured.settings
    if known is None:
        return UncertaintyLimit(None, f"{ROC} does not say with which settings its limit was measured")
    differing = []
    if used.passes < known.passes:
        differing.append(f"passes: measured with {known.passes}, used with {used.passes}")
    if used.pixel_mm != known.pixel_mm:
        differing.append(f"pixel_mm: measured with {known.pixel_mm}, used with {used.pixel_mm}")
    if used.weights_sha256 != known.weights_sha256:
        differing.append(f"weights: measured with {known.weights_sha256[:12]}, used with {used.weights_sha256[:12]}")
    if differing:
        return UncertaintyLimit(None, f"the limit in {ROC} does not hold here ({'; '.join(differing)})")
    return UncertaintyLimit(measured.threshold)
