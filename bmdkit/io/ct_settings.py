"""How a CT is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unsuitable = Literal["quarantine", "warn"]


@dataclass(frozen=True)
class CtConfig:
    """How a CT is read.

    Attributes:
        lossy: What becomes of a DICOM series that was compressed with loss, and whose HU are off by that.
        correct_tilt: Whether a series of a tilted gantry is sheared upright instead of being refused.
    """

    lossy: Unsuitable = "quarantine"
    correct_tilt: bool = False
