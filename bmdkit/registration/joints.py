"""What holds two bones together: a joint between them, declared and not guessed from their names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.core.anatomy import Side


@dataclass(frozen=True)
class TurnPrior:
    """How far a bone may have turned in its joint since the CT, about the CT's axes, before the radiograph is seen.

    Attributes:
        sd_deg: Standard deviations about x, y and z; None: those of the settings for hips (`prior.flexion_deg`, ...).
        tried_deg: Turns about x, y and z that a search begins with, all combinations.

    Example:
        >>> len(TurnPrior(sd_deg=(10.0, 5.0, 5.0), tried_deg=((-10.0, 0.0, 10.0), (0.0,), (0.0,))).turns())
        3
    """

    sd_deg: tuple[float, float, float] | None
    tried_deg: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.sd_deg is not None and not all(value > 0 for value in self.sd_deg):
            raise ValueError(f"sd_deg: expected positive numbers, got {self.sd_deg!r}")
        if not all(self.tried_deg):
            raise ValueError("tried_deg: expected at least one turn about each axis")

    @classmethod
    def of(cls, sd_deg: float | tuple[float, float, float]) -> TurnPrior:
        """From standard deviations alone; the search begins with none and one of them each way."""
        each = (sd_deg,) * 3 if isinstance(sd_deg, int | float) else sd_deg
        x, y, z = ((-value, 0.0, value) for value in each)
        return cls(each, (x, y, z))

    def turns(self) -> np.ndarray:
        """Rotation matrices (n, 3, 3) of all turns that are tried."""
        angles = np.array(np.meshgrid(*self.tried_deg, indexing="ij")).reshape(3, -1).T
        return np.asarray(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())


@dataclass(frozen=True, eq=False)
class Joint:
    """A joint about which one bone turns against another.

    Attributes:
        parent: Name of the bone that holds it; "" stands for the first of the bones.
        child: Name of the bone that turns.
        centre_mm: (3,), LPS, mm, centre of the joint in the CT.
        sd_mm: Standard deviation of its play, each axis; None: that of the settings for hips (`prior.joint_play_mm`).
        prior: Its turns.

    Example:
        >>> disc = Joint("vertebra_L4", "vertebra_L3", np.zeros(3), sd_mm=2.0, prior=TurnPrior.of(6.0))
        >>> len(disc.prior.turns())
        27
    """

    parent: str
    child: str
    centre_mm: np.ndarray
    sd_mm: float | None
    prior: TurnPrior

    def __post_init__(self) -> None:
        """Check that two bones are joined at a point."""
        if self.parent == self.child:
            raise ValueError(f"child: expected another bone than {self.parent!r}")
        centre = np.array(self.centre_mm, float)
        if centre.shape != (3,) or not np.isfinite(centre).all():
            raise ValueError(f"centre_mm: expected three finite numbers, got {self.centre_mm!r}")
        if self.sd_mm is not None and not self.sd_mm > 0:
            raise ValueError(f"sd_mm: expected a positive number, got {self.sd_mm!r}")
        centre.setflags(write=False)
        object.__setattr__(self, "centre_mm", centre)


def make_hip_joint(side: Side, head_mm: np.ndarray) -> Joint:
    """Make the joint of a hip: the femur turns about the centre of its head, as the settings allow.

    Args:
        side: The hip.
        head_mm: (3,), LPS, mm, centre of the head.
    """
    flexion, abduction, rotation = (-16, -8, 0, 8, 16), (-15, -5, 5, 15, 25), (-15, 0, 15)
    mirror = 1 if side == "L" else -1
    tried = (
        tuple(float(angle) for angle in flexion),
        tuple(float(-mirror * angle) for angle in abduction),
        tuple(float(-mirror * angle) for angle in rotation),
    )
    return Joint("pelvis", f"femur_{side}", head_mm, None, TurnPrior(None, tried))
