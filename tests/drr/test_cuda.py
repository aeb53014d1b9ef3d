"""The CUDA kernels against those of the CPU: on a device, or through Triton's interpreter (TRITON_INTERPRET=1)."""

import numpy as np
import pytest
import torch
from drr_phantoms import oblique
from scipy.spatial.transform import Rotation

from bmdkit.core.device import is_interpreted
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.grid import Grid
from bmdkit.drr import cpu_gradient, cuda
from bmdkit.drr.channels import Channels
from bmdkit.drr.differentiable import project
from bmdkit.drr.rays import find_footprints, set_up_rays
from bmdkit.drr.render import derive, render
from bmdkit.errors import PreflightError

FLOAT32 = 2e-6  # of the peak: the same samples, multiply-adds fused or not
HALF = 5e-4  # of the peak: values rounded to 11 bits
SUMS = 1e-3  # of each value: float32 sums in another order
CAMERA = ProjectionGeometry(500, 3.1, 2.9, 15, 13, (6.3, 5.8))
ROI = (1, 2, 6, 8)


@pytest.fixture(scope="module")
def channels() -> Channels:
    """Two sparse volumes on an oblique grid."""
    rng = np.random.default_rng(0)
    values = rng.random((2, 10, 17, 12)).astype(np.float32)
    values[:, 3:] *= rng.random((2, 7, 17, 12)) > 0.98
    direction = oblique(40)
    return Channels(values, Grid((10, 17, 12), (1.5, 1.2, 1.0), -direction @ [8.25, 9.6, 4.5], direction), ("a", "b"))


@pytest.fixture(scope="module")
def matrices() -> np.ndarray:
    """Two views from anywhere."""
    found = np.tile(np.eye(4), (2, 1, 1))
    found[:, :3, :3] = Rotation.random(2, random_state=1).as_matrix()
    found[:, 2, 3] = 400
    return found


@pytest.fixture(scope="module")
def rays(channels, matrices) -> tuple[np.ndarray, np.ndarray]:
    """Views and windows as the kernels take them."""
    views = set_up_rays(channels.grid, matrices, [CAMERA] * 2)
    return views, find_footprints(channels.grid, channels.box, matrices, [CAMERA] * 2, ROI)[0]


@pytest.mark.skipif(torch.cuda.is_available() or is_interpreted(), reason="there is a device")
def test_no_device_is_said_plainly(channels, matrices):
    with pytest.raises(PreflightError, match="BMD-DRR-001"):
        render(channels, matrices, CAMERA, device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("beam", ["perspective", "parallel"])
def test_images_are_those_of_the_cpu(channels, matrices, kernel_device, beam):
    truth = render(channels, matrices, CAMERA, roi=ROI, beam=beam)
    found = render(channels, matrices, CAMERA, roi=ROI, beam=beam, device=kernel_device)
    np.testing.assert_allclose(found, truth, rtol=0, atol=FLOAT32 * truth.max())


@pytest.mark.gpu
def test_half_precision_rounds_and_no_more(channels, matrices, rays, kernel_device):
    truth = render(channels, matrices, CAMERA, roi=ROI)
    held = cuda.upload(channels, kernel_device, half=True)
    np.testing.assert_allclose(cuda.march(held, *rays, ROI).cpu().numpy(), truth, rtol=0, atol=HALF * truth.max())


@pytest.mark.gpu
def test_no_pixel_depends_on_the_tile(channels, rays, kernel_device):
    held = cuda.upload(channels, kernel_device)
    assert torch.equal(cuda.march(held, *rays, ROI), cuda.march(held, *rays, ROI, tile=(4, 4)))


@pytest.mark.gpu
def test_a_volume_is_uploaded_once_and_its_bricks_are_found_there(channels, kernel_device):
    held = cuda.upload(channels, kernel_device)
    assert cuda.upload(channels, kernel_device) is held
    found = cuda.make_resident(held.volume)
    assert torch.equal(found.occupied, held.occupied)
    assert (found.box == held.box).all()


@pytest.mark.gpu
def test_the_derivative_by_the_views_is_that_of_the_cpu(channels, rays, kernel_device):
    weights = np.random.default_rng(1).random((2, 2, *ROI[2:])).astype(np.float32)
    expected = np.zeros((2, 27))
    arrays = (channels.arrays, channels.occupied, channels.box)
    cpu_gradient.views_gradient(*arrays, *rays, *ROI[:2], weights, expected)
    held = cuda.upload(channels, kernel_device)
    found = cuda.views_gradient(held, *rays, ROI, torch.from_numpy(weights).to(held.volume.device)).cpu().numpy()
    np.testing.assert_allclose(found, expected, rtol=SUMS, atol=1e-6 * np.abs(expected).max())


@pytest.mark.gpu
def test_derivatives_along_motions_are_those_of_the_cpu(channels, matrices, kernel_device):
    ends = np.tile(matrices[0], (4, 1, 1))
    ends[:2, :3, 3] += [[0.1, 0, 0], [0, 0.2, -0.1]]
    ends[1, :3, :3] = Rotation.from_rotvec([0.001, 0, 0.002]).as_matrix() @ ends[1, :3, :3]
    expected = derive(channels, matrices[0], CAMERA, ends, CAMERA)
    found = derive(channels, matrices[0], CAMERA, ends, CAMERA, device=kernel_device)
    np.testing.assert_allclose(found, expected, rtol=SUMS, atol=1e-5 * np.abs(expected).max())


@pytest.mark.gpu
def test_the_adjoint_is_that_of_the_cpu(channels, rays, kernel_device):
    weights = np.random.default_rng(1).random((2, 2, *ROI[2:])).astype(np.float32)
    expected = np.zeros(channels.arrays.shape, np.float32)
    cpu_gradient.backproject(*rays, *ROI[:2], weights, expected)
    on = cuda.upload(channels, kernel_device).volume.device
    found = torch.zeros(channels.arrays.shape, device=on)
    cuda.backproject(found, *rays, ROI, torch.from_numpy(weights).to(on))
    np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=SUMS, atol=FLOAT32 * expected.max())


@pytest.mark.gpu
def test_gradients_of_a_loss_are_those_of_the_cpu(channels, matrices, network_device):
    here, there = torch.tensor(channels.arrays), torch.tensor(channels.arrays).to(network_device)
    for volume in (here, there):
        volume.requires_grad_()
        project(volume, torch.from_numpy(matrices), channels.grid, CAMERA).square().sum().backward()
    torch.testing.assert_close(there.grad.cpu(), here.grad, rtol=SUMS, atol=1e-4)
