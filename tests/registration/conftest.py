"""The small skeleton, and a long bone under two cameras, prepared once for all tests of the registration."""

from __future__ import annotations

import numpy as np
import pytest
from biplane_sample import expose_bone, make_bone, pose_bone
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


@pytest.fixture(scope="session")
def bone():
    return make_bone()


@pytest.fixture(scope="session")
def scene(bone):
    """Radiographs of the bone, and the true camera_from_ct of each."""
    rng = np.random.default_rng(2)
    world_from_ct = pose_bone(bone, rng)
    shown = expose_bone(bone, world_from_ct, rng)
    return shown, [each.camera.camera_from_world @ world_from_ct for each in shown]
