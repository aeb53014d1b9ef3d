"""From a CT to labels that the later stages can use, by whatever makes them, with how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bmdkit.core.arguments import require_type
from bmdkit.core.device import resolve_device
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.segmentation.failures import SHIPPED, UncertaintyLimit
from bmdkit.segmentation.labels import LabelConfig, prepare_labels, rejoin_pieces
from bmdkit.segmentation.refine import refine_labels
from bmdkit.segmentation.settings import PredictConfig
from bmdkit.segmentation.totalsegmentator import TotalSegmentatorConfig, run_totalsegmentator

if TYPE_CHECKING:
    from bmdkit.segmentation.model import SegmentationModel

Source = Literal["auto", "labels", "model", "totalsegmentator"]


@dataclass(frozen=True)
class SegmentationConfig:
    """Where labels come from, and how they are made.

    Attributes:
        source: `labels`: those that the cohort gives. `model`: a trained network. `totalsegmentator`: that program.
            `auto`: those that are given, else the model.
        model: Folder of a run of `bmdkit train segmentation`; None: the network that comes with the package.
        predict: Settings by which the network is used.
        totalsegmentator: Settings by which that program is run.
        refine_mm: Labels that were made here are interpolated by shape to a grid no coarser than this.
        most_uncertainty: A hip whose pelvis or femur has a larger mean variance is left out. None: the value that was
            measured for the model (roc.json in its folder), or none at all where there is no such file. The measured
            value holds for the draws, pixels and weights that it was measured with; with fewer or others it is refused.
    """

    source: Source = "auto"
    model: Path | None = None
    predict: PredictConfig = field(default_factory=PredictConfig)
    totalsegmentator: TotalSegmentatorConfig = field(default_factory=TotalSegmentatorConfig)
    refine_mm: float = 1.5
    most_uncertainty: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.refine_mm > 0:
            raise ValueError(f"refine_mm: expected a positive number, got {self.refine_mm}")


@dataclass(frozen=True, eq=False)
class Segmented:
    """Labels of one CT.

    Attributes:
        labels: Label map with the values of `anatomy.LABEL_VALUES`, on their own grid.
        uncertainty: Mean variance within each structure; empty where no network made the labels, or in one draw.
        variance: On the CT's grid, or None.
        entropy: On the CT's grid, or None.
        limit: The largest uncertainty that a structure may have.
    """

    labels: LabelMap
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    variance: Volume | None = None
    entropy: Volume | None = None
    limit: UncertaintyLimit = field(default_factory=lambda: UncertaintyLimit(None))


def segment(
    ct: Volume,
    config: SegmentationConfig | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    on_slice: Callable[[int, int], None] | None = None,
) -> Segmented:
    """Label pelvis, femurs and spine of one CT, by the network that comes with the package unless another is named.

    Args:
        ct: CT, HU.
        config: Settings; their `model` names a run of `bmdkit train segmentation`.
        seed: Seed of the dropout draws.
        device: Device of the network: auto, cpu or cuda[:N].
        on_slice: Function that is called with the slices done and all slices.

    Returns:
        Labels on a grid of their own, and how sure the network is of each structure.

    Raises:
        CaseError: What was found is no hip (BMD-LBL-001 to -004), or TotalSegmentator failed (BMD-SEG-003).
        PreflightError: The model cannot be read (BMD-TRN-009), TotalSegmentator is not installed (BMD-SEG-002), or the
            device is not there (BMD-TRN-010).

    Example:
        >>> found = segment(ct)  # doctest: +SKIP
        >>> found.labels, found.uncertainty  # doctest: +SKIP
    """
    from bmdkit.segmentation.model import load_model

    require_type("ct", ct, Volume)
    ct.require("hu")
    config = config or SegmentationConfig()
    device = resolve_device(device)
    if config.source == "totalsegmentator":
        return segment_with_totalsegmentator(ct, config, device=device)
    model = load_model(config.model or SHIPPED, device)
    return segment_with_model(ct, model, config, seed=seed, on_slice=on_slice)


def segment_with_model(
    ct: Volume,
    model: SegmentationModel,
    config: SegmentationConfig,
    labels: LabelConfig | None = None,
    *,
    seed: int = 0,
    on_slice: Callable[[int, int], None] | None = None,
) -> Segmented:
    """Labels by the network: predicted, stray pieces rejoined, cleaned, sided, checked against the CT, and refined.

    Raises:
        CaseError: What was found is no hip (BMD-LBL-001 to -004).
    """
    from bmdkit.segmentation.dropout_prediction import predict  # needs torch, which takes seconds to load

    predicted = predict(ct, model, config.predict, seed=seed, on_slice=on_slice)
    bones = prepare_labels(rejoin_pieces(predicted.labels), ct, labels)
    uncertainty = {} if predicted.variance is None else structure_uncertainty(bones, predicted.variance)
    fine = refine_labels(bones, config.refine_mm)
    limit = model.limit_uncertainty(config.predict, config.most_uncertainty)
    return Segmented(fine, uncertainty, predicted.variance, predicted.entropy, limit)


def segment_with_totalsegmentator(
    ct: Volume,
    config: SegmentationConfig,
    labels: LabelConfig | None = None,
    *,
    device: str = "cpu",
    case: str | None = None,
) -> Segmented:
    """Labels by TotalSegmentator, cleaned, checked against the CT, and refined.

    Raises:
        PreflightError: It is not installed (BMD-SEG-002).
        CaseError: It failed (BMD-SEG-003), or what it found is no hip (BMD-LBL-001 to -004).
    """
    found = run_totalsegmentator(ct, config.totalsegmentator, device=device, case=case)
    return Segmented(refine_labels(prepare_labels(found, ct, labels), config.refine_mm))


def structure_uncertainty(labels: LabelMap, variance: Volume) -> dict[str, float]:
    """Mean variance within each structure of a map on the same grid.

    Source: Hiasa et al. 2020, doi 10.1109/TMI.2019.2940555.
    """
    return {name: float(variance.array[labels.mask(name)].mean(dtype=float)) for name in labels.present()}
