"""The CUDA kernels, through an interpreter where there is no device, and on the device where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.volume import Grid
from bmdkit.drr.channels import Channels
from bmdkit.drr.differentiable import project
from bmdkit.drr.render import render
from bmdkit.errors import PreflightError

CAMERA = ProjectionGeometry(500, 2, 2, 40, 30)


def ball() -> tuple[Channels, np.ndarray]:
    axis = np.arange(24) - 11.5
    inside = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 100
    grid = Grid((24, 24, 24), (1, 1, 1), (-11.5, -11.5, -11.5), np.eye(3))
    pose = np.eye(4)
    pose[2, 3] = 400
    return Channels(inside[None].astype(np.float32), grid, ("ball",)), pose[None]


def test_the_interpreted_kernels_agree_with_the_cpu():
    pytest.importorskip("triton", reason="the kernels need triton; its interpreter needs no device")
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "NUMBA_NUM_THREADS": "1"}
    script = Path(__file__).with_name("interpret.py")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_no_device_is_said_plainly():
    channels, poses = ball()
    with pytest.raises(PreflightError, match="BMD-DRR-001"):
        render(channels, poses, CAMERA, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_agrees_with_the_cpu():
    channels, poses = ball()
    expected = render(channels, poses, CAMERA)
    np.testing.assert_allclose(render(channels, poses, CAMERA, device="cuda"), expected, atol=2e-6 * expected.max())
    volume = torch.tensor(channels.arrays).requires_grad_()
    there = torch.tensor(channels.arrays).cuda().requires_grad_()
    for values in (volume, there):
        project(values, torch.from_numpy(poses), channels.grid, CAMERA).square().sum().backward()
    torch.testing.assert_close(there.grad.cpu(), volume.grad, rtol=1e-4, atol=1e-4)
