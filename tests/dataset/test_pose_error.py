"""The error that a pose puts on a mean projection: what is propagated is what drawn poses show."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.pose_json import PoseSpread, RecordedBody, encode_pose, parse_poses
from bmdkit.dataset.pose_error import estimate_region_error
from bmdkit.drr.targets import cut_region, measure_projected_mean, project_region
from bmdkit.registration.pose_parameters import PoseParameters

CAMERA = ProjectionGeometry(1000.0, 0.5, 0.5, 240, 240)
DRAWS = 80
AGREES = 0.35  # of the 95th percentile of so few draws


@pytest.fixture(scope="module")
def block():
    """A block of 16 x 16 x 44 mm, seen obliquely: turning it makes its shadow longer and thinner."""
    from bmdkit.core.volume import Volume

    grid = Grid((26, 26, 52), np.ones(3), np.zeros(3), np.eye(3))
    mask = np.zeros(grid.shape, bool)
    mask[5:21, 5:21, 4:48] = True
    region = cut_region(Volume(np.full(grid.shape, 500.0, np.float32), grid, "density_mg_cm3"), mask, grid, "block")
    turn = Rotation.from_euler("xyz", (20, 50, 10), degrees=True).as_matrix()
    centre = np.array([25.5, 12.5, 12.5])
    return region, RigidTransform.from_parts(turn, np.array([3.0, -4.0, 850.0]) - turn @ centre), centre


def test_it_is_what_drawn_poses_show(block):
    region, pose, centre = block
    sizes = np.array([*np.radians([1.0, 1.5, 1.0]), 0.5, 0.5, 5.0])
    covariance = np.diag(sizes**2)
    estimated = estimate_region_error(region, RecordedBody(pose, spread=PoseSpread(centre, covariance)), CAMERA)
    parameters = PoseParameters(pose, centre, np.ones(6))
    values = np.random.default_rng(0).standard_normal((DRAWS, 6)) * sizes
    means = [measure_projected_mean(project_region(region, parameters.pose(v), CAMERA)) for v in values]
    true = measure_projected_mean(project_region(region, pose, CAMERA))
    drawn = np.percentile(100 * np.abs(np.array(means) / true - 1), 95)
    assert estimated == pytest.approx(drawn, rel=AGREES)
    assert estimated > 1.0


def test_nothing_is_said_where_the_registration_says_nothing(block):
    region, pose, _ = block
    assert estimate_region_error(region, RecordedBody(pose), CAMERA) is None


def test_a_spread_is_read_as_it_was_written():
    spread = PoseSpread(np.array([1.0, 2.0, 3.0]), np.diag(np.arange(6) + 0.5))
    read = parse_poses({"bodies": {"a": encode_pose(RigidTransform.identity()) | spread.to_dict()}}).bodies["a"].spread
    assert np.array_equal(read.covariance, spread.covariance)
    assert np.array_equal(read.centre_mm, spread.centre_mm)
    with pytest.raises(ValueError, match="covariance"):
        PoseSpread(np.zeros(3), np.zeros((5, 5)))
