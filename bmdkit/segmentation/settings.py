"""How a CT is segmented; apart from the code that does it, which needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class PredictConfig:
    """How a CT is segmented; the defaults are the published way, the others are faster.

    Attributes:
        passes: Draws of the dropout (T).
        pixel_mm: Size of the pixels that a slice is brought to; the model's own if None. Twice of it takes a quarter of
            the time and sees bones half as large as in training.
        slice_stride: Every n-th slice is computed, those between are interpolated from the mean probabilities.
        crop_to_body: Leave out the air around the patient; changes nothing but the time.
        batch_slices: Computed together on a GPU; decides about memory (about 0.3 GB each at 512 x 512 and 32 filters).
            A processor computes one slice at a time, which is faster there.
        entropy: Compute the predictive entropy too.
        precision: Numbers that the network computes with. `bf16` (bfloat16) takes three fifths of the time, on
            processors that have arithmetic of it, whose last bits differ; elsewhere it is refused.
    """

    passes: int = 10
    pixel_mm: float | None = None
    slice_stride: int = 1
    crop_to_body: bool = True
    batch_slices: int = 2
    entropy: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("passes", "slice_stride", "batch_slices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision: expected one of {', '.join(get_args(Precision))}, got {self.precision!r}")
        if self.pixel_mm is not None and not self.pixel_mm > 0:
            raise ValueError(f"pixel_mm: expected a positive number, got {self.pixel_mm}")
