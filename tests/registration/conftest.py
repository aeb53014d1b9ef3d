"""The small skeleton, prepared once for all tests of the registration."""

from __future__ import annotations

import numpy as np
import pytest
from hip_skeleton import CONFIG, Shown, expose, skeleton

from bmdkit.registration.bodies import Body, prepare_bodies
from bmdkit.registration.settings import RegistrationConfig


@pytest.fixture(scope="session")
def config() -> RegistrationConfig:
    """Settings for images of a few thousand pixels."""
    return CONFIG


@pytest.fixture(scope="session")
def bodies(config: RegistrationConfig) -> tuple[Body, ...]:
    return prepare_bodies(*skeleton(), None, config)


@pytest.fixture(scope="session")
def shown(bodies: tuple[Body, ...]) -> Shown:
    return expose(bodies, np.random.default_rng(3))
