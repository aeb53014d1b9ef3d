"""Water and bone mineral of a CT, for a simulated exposure."""

from __future__ import annotations

import numpy as np

from bmdkit.core.volume import Volume
from bmdkit.simulation.exposure import attenuation

_CT_KEV = 70.0
_HYDROXYAPATITE_G_CM3 = 3.16
_BONE_MG_CM3 = 80.0


def split_water_and_mineral(ct: Volume, density: Volume | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Split every voxel into water-like tissue and hydroxyapatite.

    Mineral is what lies above 80 mg/cm3, so that soft tissue holds none; tissue is what then remains of the voxel's
    attenuation at 70 keV, an effective energy of CT.

    Args:
        ct: HU.
        density: Calibrated, on the same grid; without it, HU of a mixture of water and hydroxyapatite is assumed.

    Returns:
        Two arrays like the CT's, mg/cm3, float32: water-like tissue, and mineral.
    """
    ratio = float(attenuation("hydroxyapatite", _CT_KEV) / attenuation("water", _CT_KEV))
    total = np.clip(ct.require("hu").array.astype(np.float32) + 1000, 0, None)
    if density is None:
        mineral = (total - 1000) / np.float32(ratio - 1 / _HYDROXYAPATITE_G_CM3)
    else:
        mineral = density.require("density_mg_cm3").array.astype(np.float32)
    mineral = np.where(mineral > _BONE_MG_CM3, mineral, 0)
    return np.maximum(total - np.float32(ratio) * mineral, 0), mineral
