"""The camera's own variables: where the central ray meets the detector, and how far the source is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry

LENS_MM = 10.0
"""One unit of the principal point's two variables, at the detector."""

LENS_SDD = 0.02
"""One unit of the source distance's variable, as a share of it."""


def adjusted(geometry: ProjectionGeometry, lens: np.ndarray) -> ProjectionGeometry:
    """A camera whose principal point, and source distance, are moved by scaled values (2,) or (3,)."""
    spacing = np.array([geometry.column_spacing_mm, geometry.row_spacing_mm])
    sdd = geometry.sdd_mm * (1 + LENS_SDD * lens[2] if len(lens) > 2 else 1)
    return replace(geometry, sdd_mm=sdd, principal_point_uv=geometry.principal_point_uv + LENS_MM * lens[:2] / spacing)
