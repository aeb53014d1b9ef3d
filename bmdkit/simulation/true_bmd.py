"""The BMD of a digital patient's hip, measured on voxels so fine that it does not depend on those of the anatomy."""

from __future__ import annotations

import numpy as np

from bmdkit.core.anatomy import LABEL_VALUES, Side
from bmdkit.core.volume import LabelMap, Volume, bounding_box
from bmdkit.regions.areal import areal_bmd
from bmdkit.regions.volumetric import proximal_femur, volumetric_bmd
from bmdkit.simulation.finer_voxels import refine_depth
from bmdkit.simulation.procedural_anatomy import Anatomy

_FINE_MM = 0.75
_BELOW_MM = 15.0
"""How far below shaft_2cm the femur is kept: its shaft leans."""


class FineFemur:
    """A proximal femur on fine voxels, its surface where the interpolated depth is 0.

    A voxel of the anatomy at the surface holds the mineral of the part of it that is bone. Here all of it lies in the
    fine voxels of that part, so that none is lost where a region ends at the surface.

    Args:
        anatomy: Shapes of the patient.
        side: The hip.

    Attributes:
        box: The part of the anatomy's grid whose mineral is asked for.
        region: The proximal femur, bool, on the fine voxels.

    Raises:
        CaseError: BMD-PF-001, a landmark is missing; BMD-PF-002, there is no proximal femur.
    """

    def __init__(self, anatomy: Anatomy, side: Side) -> None:
        """Refine the depth and cut the region."""
        name = f"femur_{side}"
        self._landmarks = anatomy.landmarks[side]
        depth, grid = anatomy.depths[name], anatomy.grid
        step = float(grid.spacing_mm[0])
        parts = int(np.ceil(step / _FINE_MM - 1e-6))
        box = bounding_box(depth > -step / 2, 1)
        lowest = self._landmarks["shaft_2cm"][2] - _BELOW_MM
        first = int(np.clip((lowest - grid.origin_mm[2]) / step, box[0].start, box[0].stop - 1))
        self.box = (slice(first, box[0].stop), *box[1:])
        refined, whole = refine_depth(depth[self.box], grid.crop(self.box), parts)
        fine = refined > 0
        inner = bounding_box(fine)
        self._inside, self._grid = fine[inner], whole.crop(inner)
        places = np.argwhere(self._inside) + [part.start for part in inner]
        shape = tuple(part.stop - part.start for part in self.box)
        self._parents = np.ravel_multi_index(tuple((places // parts).T), shape)
        self._share = np.bincount(self._parents, minlength=int(np.prod(shape))) / parts**3
        labels = LabelMap(self._inside * np.uint8(LABEL_VALUES[name]), self._grid, LABEL_VALUES)
        self.region = proximal_femur(labels, self._landmarks)

    def measure_areal(self, mineral: np.ndarray, pixel_mm: float = 0.25) -> float:
        """Areal BMD as `areal_bmd` has it, g/cm2.

        Args:
            mineral: Mineral of this femur in the voxels of `box`, mg/cm3.
            pixel_mm: Edge of a pixel of the projection.
        """
        return areal_bmd(self._fill(mineral), self._inside, self._landmarks, pixel_mm=pixel_mm).abmd_g_cm2

    def measure_volumetric(self, mineral: np.ndarray) -> float:
        """Mean density of the region, mg/cm3; the arguments are those of `measure_areal`."""
        return volumetric_bmd(self._fill(mineral), self.region)

    def _fill(self, mineral: np.ndarray) -> Volume:
        """Density of the fine voxels: that of the bone in the voxel around each, the whole mineral kept."""
        masses = np.asarray(mineral, np.float64).ravel()
        held = np.divide(masses, self._share, out=np.zeros_like(masses), where=self._share > 0)
        kept = float((held * self._share).sum())
        values = np.zeros(self._inside.shape, np.float32)
        values[self._inside] = held[self._parents] * (masses.sum() / max(kept, 1e-9))
        return Volume(values, self._grid, "density_mg_cm3")
