"""Coarse digital patients, made once for all tests of this folder."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.simulation.procedural_anatomy import Anatomy, draw_anatomy
from bmdkit.simulation.tissue import Tissue, fill_tissue


@pytest.fixture(scope="session")
def anatomy() -> Anatomy:
    return draw_anatomy(np.random.default_rng([5, 0]), grid_mm=2.5)


@pytest.fixture(scope="session")
def tissue(anatomy: Anatomy) -> Tissue:
    return fill_tissue(anatomy, np.random.default_rng([5, 1]), mineral_factor=1.0)
