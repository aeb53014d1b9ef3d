"""The calibration line of one scan, and what it was fitted to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bmdkit.core.volume import Volume
from bmdkit.errors import CaseError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Source = Literal["phantom", "file", "phantomless", "none"]
Verdict = Literal["accept", "review", "reject"]


@dataclass(frozen=True)
class Rod:
    """One rod (or one tissue) of known density, as the scan shows it.

    Attributes:
        density_mg_cm3: Known.
        hu: Robust mean over its eroded core and the slices that show it.
        center_lps_mm: On the middle one of those slices.
        sd_hu: Between those slices.
        slices: Number of slices.
    """

    density_mg_cm3: float
    hu: float
    center_lps_mm: tuple[float, float, float] | None = None
    sd_hu: float | None = None
    slices: int | None = None


@dataclass(frozen=True)
class Calibration:
    """density = slope * HU + intercept, not clamped.

    Attributes:
        slope_mg_cm3_per_hu, intercept_mg_cm3: The line.
        residual_mg_cm3: Root mean square distance of the rods from it.
        phantom: The phantom's name, or None.
        rods: What it was fitted to.
        source: phantom, file (a line given), phantomless, or none (HU in place of density).
        correlation: Pearson's r of the rods, or None.
        verdict: accept, review or reject.
        notes: What speaks against it, in words.
    """

    slope_mg_cm3_per_hu: float
    intercept_mg_cm3: float
    residual_mg_cm3: float | None
    phantom: str | None
    rods: tuple[Rod, ...]
    source: Source
    correlation: float | None = None
    verdict: Verdict = "accept"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that slope and intercept are finite and the slope positive."""
        if not (np.isfinite(self.slope_mg_cm3_per_hu) and self.slope_mg_cm3_per_hu > 0):
            raise ValueError(f"slope_mg_cm3_per_hu: expected a positive number, got {self.slope_mg_cm3_per_hu}")
        if not np.isfinite(self.intercept_mg_cm3):
            raise ValueError(f"intercept_mg_cm3: expected a finite number, got {self.intercept_mg_cm3}")

    def apply(self, ct: Volume) -> Volume:
        """The density of every voxel of a CT in HU, mg/cm3, float32."""
        hu = ct.require("hu").array
        density = np.multiply(hu, np.float32(self.slope_mg_cm3_per_hu), dtype=np.float32)
        density += np.float32(self.intercept_mg_cm3)
        return Volume(density, ct.grid, "density_mg_cm3")

    def density_at(self, hu: float) -> float:
        """mg/cm3 of one HU."""
        return self.slope_mg_cm3_per_hu * hu + self.intercept_mg_cm3

    def to_dict(self) -> dict:
        """As in calibration.json."""
        return {
            "slope_mg_cm3_per_hu": self.slope_mg_cm3_per_hu,
            "intercept_mg_cm3": self.intercept_mg_cm3,
            "residual_mg_cm3": self.residual_mg_cm3,
            "phantom": self.phantom,
            "rods": [
                {
                    "density_mg_cm3": rod.density_mg_cm3,
                    "hu": rod.hu,
                    "center_lps_mm": None if rod.center_lps_mm is None else list(rod.center_lps_mm),
                    "sd_hu": rod.sd_hu,
                    "slices": rod.slices,
                    "residual_mg_cm3": self.density_at(rod.hu) - rod.density_mg_cm3,
                }
                for rod in self.rods
            ],
            "source": self.source,
            "correlation": self.correlation,
            "verdict": self.verdict,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: Source | None = None) -> Calibration:
        """From `to_dict`; only slope and intercept are needed, further keys are ignored.

        Args:
            data: The mapping in a calibration.json.
            source: Marked as this instead, such as "file" for another scan's line.

        Raises:
            CaseError: BMD-CAL-004, a value is missing or no number.
        """
        try:
            rods = tuple(
                Rod(
                    float(rod["density_mg_cm3"]),
                    float(rod["hu"]),
                    _read_point(rod.get("center_lps_mm")),
                    rod.get("sd_hu"),
                    rod.get("slices"),
                )
                for rod in data.get("rods") or ()
            )
            residual = data.get("residual_mg_cm3")
            return cls(
                float(data["slope_mg_cm3_per_hu"]),
                float(data["intercept_mg_cm3"]),
                None if residual is None else float(residual),
                data.get("phantom"),
                rods,
                source or data.get("source", "file"),
                data.get("correlation"),
                data.get("verdict", "accept"),
                tuple(data.get("notes", ())),
            )
        except KeyError as error:
            raise CaseError("BMD-CAL-004", f"no {error.args[0]} in the calibration.") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise CaseError("BMD-CAL-004", f"{error}.") from error


def _read_point(values: Sequence[float] | None) -> tuple[float, float, float] | None:
    """Three numbers, or None where nothing is given."""
    if values is None:
        return None
    x, y, z = map(float, values)
    return x, y, z


def fit_line(hu: ArrayLike, density_mg_cm3: ArrayLike) -> tuple[float, float, float, float]:
    """Ordinary least squares of density on HU.

    Args:
        hu: (n,), n >= 2.
        density_mg_cm3: (n,).

    Returns:
        Slope, intercept, root mean square residual (mg/cm3), Pearson's r.
    """
    x, y = np.asarray(hu, float), np.asarray(density_mg_cm3, float)
    dx, dy = x - x.mean(), y - y.mean()
    variance = dx @ dx
    if variance == 0:
        raise ValueError(f"hu: expected different values, got {x.tolist()}")
    slope = float(dx @ dy / variance)
    intercept = float(y.mean() - slope * x.mean())
    residual = float(np.sqrt(np.mean((slope * x + intercept - y) ** 2)))
    return slope, intercept, residual, float(dx @ dy / np.sqrt(variance * (dy @ dy)))


def read_calibration(path: Path) -> Calibration:
    """The line of a calibration.json of another scan, marked as from a file.

    Raises:
        CaseError: BMD-CAL-004, it cannot be read, or a value is missing or no number.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CaseError("BMD-CAL-004", f"not readable as JSON ({error}).", file=path.name) from error
    if not isinstance(data, Mapping):
        raise CaseError("BMD-CAL-004", "no JSON object of keys and values.", file=path.name)
    return Calibration.from_dict(data, source="file")
