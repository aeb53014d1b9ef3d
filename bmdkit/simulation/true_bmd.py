"""The BMD of a digital patient's hip, measured on voxels so fine that it does not depend on those of the anatomy."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmdkit.core.anatomy import LABEL_VALUES, Side
from bmdkit.core.volume import LabelMap
from bmdkit.regions.areal import weigh_areal
from bmdkit.regions.volumetric import proximal_femur
from bmdkit.simulation.finer_voxels import find_box, refine_depth
from bmdkit.simulation.procedural_anatomy import Anatomy

_FINE_MM = 0.75
_BELOW_MM = 15.0
"""How far below shaft_2cm the femur is kept: its shaft leans."""


class FineFemur:
    """A proximal femur cut out of fine voxels, its surface where the interpolated depth is 0.

    A voxel of the anatomy at the surface holds the mineral of the part of it that is bone. Here all of it lies in the
    fine voxels of that part, so that none is lost where a region ends at the surface.

    Args:
        anatomy: Shapes of the patient.
        side: The hip.

    Attributes:
        box: The part of the anatomy's grid whose mineral is asked for.
        areal_weights: What the mineral of each of its voxels counts in the areal BMD, (g/cm2) / (mg/cm3).
        volumetric_weights: What it counts in the mean density of the proximal femur.

    Raises:
        CaseError: BMD-PF-001, a landmark is missing; BMD-PF-002, there is no proximal femur.
    """

    def __init__(self, anatomy: Anatomy, side: Side) -> None:
        """Refine the depth, cut the regions of both measures, and add their voxels up to those of the anatomy."""
        name, landmarks = f"femur_{side}", anatomy.landmarks[side]
        depth, grid = anatomy.depths[name], anatomy.grid
        step = float(grid.spacing_mm[0])
        box = find_box(depth, grid)
        lowest = landmarks["shaft_2cm"][2] - _BELOW_MM if "shaft_2cm" in landmarks.points_mm else -np.inf
        first = int(np.clip((lowest - grid.origin_mm[2]) / step, box[0].start, box[0].stop - 1))
        self.box = (slice(first, box[0].stop), *box[1:])
        parts = int(np.ceil(step / _FINE_MM - 1e-6))
        fine, fine_grid = refine_depth(depth[self.box], grid.crop(self.box), parts)
        inside = fine > 0
        shape = tuple(part.stop - part.start for part in self.box)
        parents = np.ravel_multi_index(tuple((np.argwhere(inside) // parts).T), shape)
        held = np.bincount(parents, minlength=int(np.prod(shape))) / parts**3  # the share of each voxel that is bone
        region = proximal_femur(LabelMap(inside * np.uint8(LABEL_VALUES[name]), fine_grid, LABEL_VALUES), landmarks)
        nearest = ndimage.distance_transform_edt(
            (held == 0).reshape(shape), return_distances=False, return_indices=True
        )
        weights = []
        for fine_weights in (weigh_areal(inside, fine_grid, landmarks), region[inside] / region.sum()):
            summed = np.bincount(parents, fine_weights, minlength=held.size)
            own = np.divide(summed, held, out=np.zeros_like(summed), where=held > 0).reshape(shape)
            weights.append(own[tuple(nearest)])  # a little mineral lies in voxels of which no fine one is bone
        self.areal_weights, self.volumetric_weights = weights

    def measure_areal(self, mineral: np.ndarray) -> float:
        """Areal BMD as `areal_bmd` has it, g/cm2.

        Args:
            mineral: Mineral of this femur in the voxels of `box`, mg/cm3.
        """
        return float((np.asarray(mineral, np.float64) * self.areal_weights).sum())

    def measure_volumetric(self, mineral: np.ndarray) -> float:
        """Mean density of the proximal femur, mg/cm3; the arguments are those of `measure_areal`."""
        return float((np.asarray(mineral, np.float64) * self.volumetric_weights).sum())
