"""Run by test_cuda.py with Triton's interpreter: the device's kernels against those of the CPU."""

import numpy as np
import torch
from drr_phantoms import oblique
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.volume import Grid
from bmdkit.drr import cpu_gradient, cuda
from bmdkit.drr.channels import Channels
from bmdkit.drr.rays import find_footprints, set_up_rays
from bmdkit.drr.render import render

FLOAT32 = 2e-6  # of the peak: the same samples, multiply-adds fused or not
HALF = 5e-4  # of the peak: values rounded to 11 bits


def main() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((2, 10, 17, 12)).astype(np.float32)
    values[:, 3:] *= rng.random((2, 7, 17, 12)) > 0.98
    direction = oblique(40)
    where = Grid((10, 17, 12), (1.5, 1.2, 1.0), -direction @ [8.25, 9.6, 4.5], direction)
    channels = Channels(values, where, ("a", "b"))
    camera = ProjectionGeometry(500, 3.1, 2.9, 15, 13, (6.3, 5.8))
    matrices = np.tile(np.eye(4), (2, 1, 1))
    matrices[:, :3, :3] = Rotation.random(2, random_state=1).as_matrix()
    matrices[:, 2, 3] = 400
    roi = (1, 2, 8, 13)
    for beam in ("perspective", "parallel"):
        truth = render(channels, matrices, camera, roi=roi, beam=beam)
        assert (
            np.abs(render(channels, matrices, camera, roi=roi, beam=beam, device="cuda") - truth).max()
            <= FLOAT32 * truth.max()
        )

    truth = render(channels, matrices, camera, roi=roi)
    views = set_up_rays(where, matrices, [camera] * 2)
    windows, _ = find_footprints(where, channels.box, matrices, [camera] * 2, roi)
    half = cuda.march(cuda.upload(channels, half=True), views, windows, roi).numpy()
    assert np.abs(half - truth).max() <= HALF * truth.max()

    held = cuda.upload(channels)
    assert cuda.upload(channels) is held
    found = cuda.make_resident(held.volume)
    assert torch.equal(found.occupied, held.occupied)
    assert (found.box == held.box).all()

    weights = rng.random(truth.shape).astype(np.float32)
    expected = np.zeros((2, 27))
    cpu_gradient.views_gradient(
        channels.arrays, channels.occupied, channels.box, views, windows, *roi[:2], weights, expected
    )
    gradient = cuda.views_gradient(held, views, windows, roi, torch.from_numpy(weights)).numpy()
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6 * np.abs(expected).max())

    volume = torch.zeros(values.shape)
    cuda.backproject(volume, views, windows, roi, torch.from_numpy(weights))
    expected = np.zeros(values.shape, np.float32)
    cpu_gradient.backproject(views, windows, *roi[:2], weights, expected)
    np.testing.assert_allclose(volume.numpy(), expected, rtol=1e-3, atol=FLOAT32 * expected.max())


if __name__ == "__main__":
    main()
