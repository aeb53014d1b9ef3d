"""The small skeleton, prepared once for all tests of the registration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hip_skeleton import Shown, expose, skeleton

from bmdkit.registration.bodies import Body, prepare_bodies
from bmdkit.registration.settings import RegistrationConfig, SearchConfig


@pytest.fixture(scope="session")
def config() -> RegistrationConfig:
    """Settings for images of a few thousand pixels."""
    return replace(
        RegistrationConfig(),
        coarse_pixel_mm=6.0,
        coarse_voxel_mm=6.0,
        fine_pixel_mm=3.0,
        fine_voxel_mm=3.0,
        pelvis=SearchConfig(sigma=0.8, population=12, evaluations=240),
        femur=SearchConfig(sigma=0.3, population=8, evaluations=48),
    )


@pytest.fixture(scope="session")
def bodies(config: RegistrationConfig) -> tuple[Body, ...]:
    return prepare_bodies(*skeleton(), None, config)


@pytest.fixture(scope="session")
def shown(bodies: tuple[Body, ...]) -> Shown:
    return expose(bodies, np.random.default_rng(3))
