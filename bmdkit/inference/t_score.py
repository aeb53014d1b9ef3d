"""T-scores against young adults whom the user names; bmdkit brings no such table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """Young adults' DXA-BMD of a reference population, from which a T-score counts.

    Attributes:
        name: Name of the population and the device, as it is to be cited.
        mean_g_cm2, sd_g_cm2: Mean and standard deviation of the total proximal femur.
    """

    name: str
    mean_g_cm2: float
    sd_g_cm2: float

    def __post_init__(self) -> None:
        """Check the values."""
        if not (self.mean_g_cm2 > 0 and self.sd_g_cm2 > 0):
            raise ValueError(f"mean_g_cm2, sd_g_cm2: expected positive, got {self.mean_g_cm2}, {self.sd_g_cm2}")
        if self.sd_g_cm2 >= self.mean_g_cm2:
            raise ValueError(f"sd_g_cm2: expected less than the mean {self.mean_g_cm2}, got {self.sd_g_cm2}")

    def t_score(self, dxa_g_cm2: float) -> float:
        """Standard deviations above (positive) or below the young adults' mean."""
        return (dxa_g_cm2 - self.mean_g_cm2) / self.sd_g_cm2
