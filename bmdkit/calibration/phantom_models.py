"""Calibration phantoms: what their rods hold, how large they are and how they may lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

INVISIBLE_MG_CM3 = 30.0
"""A rod this close to the density of water may go unseen in its slab."""

PhantomName = Literal["b-mas200", "qrm-bdc-3", "qrm-bdc-6", "mindways-3"]


@dataclass(frozen=True)
class PhantomModel:
    """Rods in a row on a straight or gently curved slab.

    Attributes:
        name: Name in calibration.json.
        densities_mg_cm3: Of the rods, hydroxyapatite (K2HPO4 for Mindways), in any order.
        water_hu: What each rod's matrix adds to its HU before any mineral; 0 where the matrix is water-equivalent.
        orders_mg_cm3: Orders in which the rods are known to lie, read from either end; they decide which rods are seen
            when some are out of view. When all are seen any order is accepted.
        diameter_mm: Range of the rods' diameter.
        spacing_mm: Range of the distance between neighbouring rods.
        slope_hu: Range of HU per mg/cm3 at any tube voltage.
        zero_hu: Range of the HU of a rod without mineral.
        slab_mg_cm3: What the slab between the rods would be, if its material is known: it tells apart rows of rods that
            a missing one shifts along the line.
        slope_shift, intercept_shift_hu: Steps from the fitted K2HPO4 line to the line of bone (Mindways only).
    """

    name: str
    densities_mg_cm3: tuple[float, ...]
    water_hu: tuple[float, ...] = ()
    orders_mg_cm3: tuple[tuple[float, ...], ...] = ()
    diameter_mm: tuple[float, float] = (13.0, 26.0)
    spacing_mm: tuple[float, float] = (24.0, 65.0)
    slope_hu: tuple[float, float] = (0.7, 2.5)
    zero_hu: tuple[float, float] = (-60.0, 60.0)
    slab_mg_cm3: float | None = None
    slope_shift: float = 0.0
    intercept_shift_hu: float = 0.0

    def __post_init__(self) -> None:
        """Check the densities, and fill in the water of rods that is not given."""
        if len(set(self.densities_mg_cm3)) < 2:
            raise ValueError(f"densities_mg_cm3: expected at least two different values, got {self.densities_mg_cm3}")
        water = self.water_hu or (0.0,) * len(self.densities_mg_cm3)
        if len(water) != len(self.densities_mg_cm3):
            raise ValueError(f"water_hu: expected one value per rod, got {len(water)} for {len(self.densities_mg_cm3)}")
        object.__setattr__(self, "water_hu", tuple(map(float, water)))
        for order in self.orders_mg_cm3:
            if sorted(order) != sorted(self.densities_mg_cm3):
                raise ValueError(f"orders_mg_cm3: expected the densities in another order, got {order}")
        for name in ("diameter_mm", "spacing_mm", "slope_hu", "zero_hu"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name}: expected a range from low to high, got {(low, high)}")

    @property
    def span_mg_cm3(self) -> float:
        """From the least dense to the densest rod."""
        return max(self.densities_mg_cm3) - min(self.densities_mg_cm3)

    def expected_hu(self, slope_hu: float, zero_hu: float) -> tuple[float, ...]:
        """HU of the rods under a line."""
        return tuple(zero_hu + slope_hu * d + w for d, w in zip(self.densities_mg_cm3, self.water_hu, strict=True))


B_MAS200 = PhantomModel(
    "b-mas200",
    (0.0, 50.0, 100.0, 150.0, 200.0),
    orders_mg_cm3=((200.0, 100.0, 0.0, 50.0, 150.0), (0.0, 50.0, 100.0, 150.0, 200.0)),
    slab_mg_cm3=0.0,
)
"""B-MAS200, Kyoto Kagaku. Source: Uemura et al. 2021, doi 10.1007/s11548-021-02345-w."""

QRM_BDC_3 = PhantomModel("qrm-bdc-3", (100.0, 400.0, 800.0), orders_mg_cm3=((100.0, 400.0, 800.0),))
"""QRM-BDC/3, three rods of hydroxyapatite."""

QRM_BDC_6 = PhantomModel(
    "qrm-bdc-6", (0.0, 100.0, 200.0, 400.0, 600.0, 800.0), orders_mg_cm3=((0.0, 100.0, 200.0, 400.0, 600.0, 800.0),)
)
"""QRM-BDC/6, six rods of hydroxyapatite."""

MINDWAYS_3 = PhantomModel(
    "mindways-3",
    (-51.83, -53.40, 58.88, 157.05, 375.83),
    water_hu=(1012.25 - 1000, 1056.95 - 1000, 1103.57 - 1000, 1119.52 - 1000, 923.20 - 1000),
    orders_mg_cm3=((-51.83, -53.40, 58.88, 157.05, 375.83),),
    slope_shift=-0.2174,
    intercept_shift_hu=-0.4,
)
"""Mindways Model 3, K2HPO4. HU - rho_w = s_ref rho_K + b_ref; bone's line is s_ref - 0.2174 and b_ref + 999.6.

The water densities are stored less 1000 mg/cm3, so that b_ref + 999.6 is the fitted zero less 0.4 HU.
"""

MODELS: dict[PhantomName, PhantomModel] = {
    "b-mas200": B_MAS200,
    "qrm-bdc-3": QRM_BDC_3,
    "qrm-bdc-6": QRM_BDC_6,
    "mindways-3": MINDWAYS_3,
}
