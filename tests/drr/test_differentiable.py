"""Derivatives: the adjoint is exact, and pose gradients are what central differences find."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drr_phantoms import grid, oblique
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import GeometryError, ProjectionGeometry
from bmdkit.core.grid import Grid
from bmdkit.drr import cpu_gradient
from bmdkit.drr.channels import Channels
from bmdkit.drr.differentiable import project, rigid_motion
from bmdkit.drr.rays import find_footprints, set_up_rays
from bmdkit.drr.render import derive, render

CAMERA = ProjectionGeometry(700, 2.1, 1.9, 31, 29, (14.3, 15.8))
ADJOINT = 1e-4  # relative: float32 sums of many small terms
POSE = 1e-2  # relative, on a smooth body: the derivative of linear interpolation jumps from voxel to voxel
EVERY_PIXEL = 0.1  # the same of single pixels, where fewer jumps average out


def poses(*turns) -> torch.Tensor:
    matrices = np.tile(np.eye(4), (len(turns), 1, 1))
    matrices[:, :3, :3] = turns
    matrices[:, :3, 3] = [5, -4, 600]
    return torch.from_numpy(matrices)


def smooth_body(where: Grid) -> torch.Tensor:
    """Two lumps per channel, wide against the voxels."""
    points = where.points(np.stack(np.indices(where.shape), axis=-1))
    lumps = [[(4, 3, -2), (-6, 5, 4)], [(2, -7, 5), (-3, -4, -6)]]
    values = [sum(np.exp(-(((points - c) / 7) ** 2).sum(-1)) for c in pair) for pair in lumps]
    return torch.tensor(np.array(values), dtype=torch.float32)


@pytest.mark.parametrize("beam", ["perspective", "parallel"])
def test_the_image_is_that_of_render(beam):
    where = grid(20, 2.0, oblique(), aspect=(1, 0.8, 1.3))
    values = torch.rand(2, *where.shape, generator=torch.Generator().manual_seed(0))
    views = poses(np.eye(3), oblique(60))
    image = project(values, views, where, CAMERA, beam=beam)
    again = render(Channels(values.numpy(), where, ("a", "b")), views.numpy(), CAMERA, beam=beam)
    np.testing.assert_array_equal(image.numpy(), again)


@pytest.mark.parametrize("beam", ["perspective", "parallel"])
@pytest.mark.parametrize("roi", [None, (3, 8, 15, 11)])
def test_volume_gradient_is_the_adjoint(beam, roi):
    """<A x, y> = <x, A' y> for random x and y."""
    where = grid(18, 2.0, oblique(), aspect=(1, 0.8, 1.3))
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, *where.shape, generator=generator).requires_grad_()
    views = poses(np.eye(3), *Rotation.random(3, random_state=0).as_matrix())
    image = project(x, views, where, CAMERA, beam=beam, roi=roi)
    y = torch.randn(image.shape, generator=generator)
    image.backward(y)
    forward = (image.double() * y).sum().item()
    assert (x.detach().double() * x.grad).sum().item() == pytest.approx(forward, rel=ADJOINT)


def test_volume_gradient_of_an_empty_volume():
    """Zero voxels have a derivative as well."""
    where = grid(10, 2.0)
    x = torch.zeros(1, *where.shape, requires_grad=True)
    project(x, poses(oblique()), where, CAMERA).sum().backward()
    assert (x.grad > 0).all()


@pytest.mark.parametrize("beam", ["perspective", "parallel"])
def test_pose_gradient_matches_central_differences(beam):
    where = grid(48, 1.0, oblique(30))
    body = smooth_body(where)
    views = poses(oblique(15), oblique(140) @ np.diag([1.0, -1, -1]))
    v, u = torch.meshgrid(*(torch.linspace(-1, 1, n).double() for n in CAMERA.shape), indexing="ij")
    weights = torch.stack([1 + u - 2 * v + u * v, torch.cos(2 * u + v)])  # smooth, as a target would be
    steps = torch.tensor([2e-3] * 3 + [0.3] * 3, dtype=torch.float64)

    def loss(twist):
        # about the body, so that turning it does not also move it across the image
        there, back = torch.eye(4).double(), torch.eye(4).double()
        there[:3, 3], back[:3, 3] = views[0, :3, 3], -views[0, :3, 3]
        moved = there @ rigid_motion(twist) @ back @ views
        return (project(body, moved, where, CAMERA, beam=beam).double() * weights).sum()

    twist = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    loss(twist).backward()
    numeric = torch.zeros(2, 6, dtype=torch.float64)
    for view in range(2):
        for n, step in enumerate(steps):
            away = torch.zeros(2, 6, dtype=torch.float64)
            away[view, n] = step
            numeric[view, n] = (loss(away) - loss(-away)) / (2 * step)
    scale = numeric.abs().amax(dim=0)
    scale[5] = max(scale[5], scale[3] * 1e-3)  # a parallel beam does not see depth
    assert ((twist.grad - numeric).abs() <= POSE * scale).all(), (twist.grad, numeric)


@pytest.fixture
def motions() -> tuple[Channels, np.ndarray, np.ndarray, list[ProjectionGeometry]]:
    """Random channels, a pose, and the ends of three motions: two of the body, one of the camera."""
    where = grid(20, 2.0, oblique(), aspect=(1, 0.8, 1.3))
    values = np.random.default_rng(0).random((2, *where.shape)).astype(np.float32)
    pose = poses(oblique(20))[0].numpy()
    twist = np.array([[0.001, 0, 0, 0, 0, 0], [0, 0.0005, 0, 0.2, 0, 1], [0, 0, 0, 0, 0, 0]])
    ends = rigid_motion(torch.from_numpy(np.concatenate([twist, -twist]))).numpy() @ pose
    moved = [replace(CAMERA, principal_point_uv=CAMERA.principal_point_uv + s * np.array([0.3, 0.1])) for s in (1, -1)]
    cameras = [CAMERA, CAMERA, moved[0], CAMERA, CAMERA, moved[1]]
    return Channels(values, where, ("a", "b")), pose, ends, cameras


def test_derivatives_along_motions_are_those_by_the_views(motions):
    """The weighted sum of a derivative is the derivative of the weighted sum."""
    channels, pose, ends, cameras = motions
    found = derive(channels, pose, CAMERA, ends, cameras, factor=2.0)
    assert found.shape == (3, 2, *CAMERA.shape)
    weights = np.random.default_rng(1).standard_normal((1, 2, *CAMERA.shape)).astype(np.float32)
    rays = set_up_rays(channels.grid, pose[None], [CAMERA])
    box = find_footprints(channels.grid, channels.box, pose[None], [CAMERA], (0, 0, *CAMERA.shape))[0]
    by_views = np.zeros((1, 27))
    cpu_gradient.views_gradient(channels.arrays, channels.occupied, channels.box, rays, box, 0, 0, weights, by_views)
    ahead, back = (set_up_rays(channels.grid, ends[part], cameras[part]) for part in (slice(3), slice(3, 6)))
    expected = 2 * (ahead - back) @ by_views[0]
    np.testing.assert_allclose((found * weights[0]).sum((1, 2, 3)), expected, rtol=ADJOINT)


def test_derivatives_along_motions_are_differences(motions):
    channels, pose, ends, cameras = motions
    smooth = Channels(smooth_body(channels.grid).numpy(), channels.grid, channels.names)
    found = derive(smooth, pose, CAMERA, ends, cameras)
    images = render(smooth, ends, cameras)
    for slope, change in zip(found, images[:3] - images[3:], strict=True):
        assert np.linalg.norm(slope - change) < EVERY_PIXEL * np.linalg.norm(change)


def test_derivatives_do_not_depend_on_the_threads(motions):
    channels, pose, ends, cameras = motions
    one, two = (derive(channels, pose, CAMERA, ends, cameras, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_nothing_changes_behind_the_source(motions):
    channels, pose, ends, cameras = motions
    pose, ends = pose.copy(), ends.copy()
    pose[2, 3] -= 1200
    ends[:, 2, 3] -= 1200
    assert not derive(channels, pose, CAMERA, ends, cameras, behind="blank").any()
    with pytest.raises(GeometryError, match="poses"):
        derive(channels, pose, CAMERA, ends, cameras)


def test_rigid_motion():
    twist = torch.tensor([0.1, -0.2, 0.3, 4, 5, 6], dtype=torch.float64)
    motion = rigid_motion(twist).numpy()
    np.testing.assert_allclose(motion[:3, :3], Rotation.from_rotvec([0.1, -0.2, 0.3]).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rigid_motion(torch.tensor([0.0, 0, 0, 1, 2, 3])).numpy()[:3, 3], [1, 2, 3])


def test_a_descent_finds_the_pose():
    where = grid(32, 1.5)
    body = smooth_body(where)
    true = poses(oblique(10))
    target = project(body, true, where, CAMERA)
    shift = torch.tensor([[3.0, -2.0]], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([shift], lr=0.5)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.93)
    for _ in range(50):
        optimiser.zero_grad()
        moved = rigid_motion(torch.nn.functional.pad(shift, (3, 1))) @ true
        ((project(body, moved, where, CAMERA) - target) ** 2).mean().backward()
        optimiser.step()
        decay.step()
    assert shift.detach().abs().max() < 0.25


def test_errors():
    where = grid(8, 1.0)
    with pytest.raises(ValueError, match="volume"):
        project(torch.zeros(1, 8, 8, 8, dtype=torch.float64), poses(np.eye(3)), where, CAMERA)
    with pytest.raises(ValueError, match="two voxels"):
        project(torch.zeros(1, 1, 8, 8), poses(np.eye(3)), Grid((1, 8, 8), (1, 1, 1), (0, 0, 0), np.eye(3)), CAMERA)
    behind = poses(np.eye(3))
    behind[:, 2, 3] = 0
    with pytest.raises(GeometryError, match="front of the source"):
        project(torch.ones(1, 8, 8, 8), behind, where, CAMERA)
