"""Other renderers behind one signature: (array, grid, poses, camera) -> core seconds and images."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
from figure_files import RENDERERS

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid

SAMPLES = 512
"""Per ray, for those that sample at equal steps: one per plane of voxels."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """CPU time of the rendering alone, and images (views, rows, columns), value times mm, or None."""

    core_seconds: float
    images: np.ndarray | None


def _time(work: Callable[[], torch.Tensor]) -> Rendered:
    """Render once without gradients."""
    start = time.process_time()
    with torch.no_grad():
        images = work()
    return Rendered(time.process_time() - start, images.numpy())


def rtk(array: np.ndarray, grid: Grid, poses: list[RigidTransform], camera: ProjectionGeometry) -> Rendered:
    """itk-rtk's JosephForwardProjectionImageFilter, on one thread."""
    import itk
    from itk import RTK

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    point, vector, image = itk.Point[itk.D, 3], itk.Vector[itk.D, 3], itk.Image[itk.F, 3]
    geometry = RTK.ThreeDCircularProjectionGeometry.New()
    for pose in poses:
        back = pose.inverse()
        source, detector = back.apply(np.zeros(3)), back.apply(np.array([0, 0, camera.sdd_mm]))
        across, down = pose.rotation[0], pose.rotation[1]
        triples = [list(map(float, values)) for values in (source, detector, across, down)]
        geometry.AddProjection(point(triples[0]), point(triples[1]), vector(triples[2]), vector(triples[3]))
    volume = itk.GetImageFromArray(array)
    volume.SetSpacing(list(map(float, grid.spacing_mm)))
    volume.SetOrigin(list(map(float, grid.origin_mm)))
    empty = itk.GetImageFromArray(np.zeros((len(poses), *camera.shape), np.float32))
    empty.SetSpacing([camera.column_spacing_mm, camera.row_spacing_mm, 1])
    cu, cv = map(float, camera.principal_point_uv)
    empty.SetOrigin([-cu * camera.column_spacing_mm, -cv * camera.row_spacing_mm, 0])
    filter_ = RTK.JosephForwardProjectionImageFilter[image, image].New()
    filter_.SetInput(0, empty)
    filter_.SetInput(1, volume)
    filter_.SetGeometry(geometry)
    filter_.SetNumberOfWorkUnits(1)
    start = time.process_time()
    filter_.Update()
    return Rendered(time.process_time() - start, itk.GetArrayFromImage(filter_.GetOutput()))


def _rays(
    grid: Grid, pose: RigidTransform, camera: ProjectionGeometry
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Source (1, 1, 3) and pixels (1, n, 3) in (column, row, slice) indices, and lengths (1, n), mm."""
    v, u = np.indices(camera.shape)
    ends = camera.unproject(np.stack([u, v], axis=-1).reshape(-1, 2), camera.sdd_mm)
    back = pose.inverse()
    source, target = (grid.indices(back.apply(p))[..., ::-1].copy() for p in (np.zeros((1, 3)), ends))
    lengths = np.linalg.norm(ends, axis=-1)
    return tuple(torch.from_numpy(values).float()[None] for values in (source, target, lengths))


def diffdrr(array: np.ndarray, grid: Grid, poses: list[RigidTransform], camera: ProjectionGeometry) -> Rendered:
    """DiffDRR's trilinear renderer."""
    from diffdrr.renderers import Trilinear

    volume, renderer = torch.from_numpy(array).permute(2, 1, 0), Trilinear()
    rays = [_rays(grid, pose, camera) for pose in poses]
    start, images = time.process_time(), []
    with torch.no_grad():
        for source, target, lengths in rays:
            image = renderer(volume, source, target, None, n_points=SAMPLES)[0, 0] * lengths[0]
            images.append(image.reshape(camera.shape).numpy())
    return Rendered(time.process_time() - start, np.stack(images))


def grid_sample(array: np.ndarray, grid: Grid, poses: list[RigidTransform], camera: ProjectionGeometry) -> Rendered:
    """Torch's grid_sample on equal steps across the volume's sphere, one image row of rays at a time."""
    volume = torch.from_numpy(array)[None, None]
    size = torch.tensor(grid.shape[::-1], dtype=torch.float32)
    radius = float(np.linalg.norm(grid.spacing_mm * grid.shape[::-1])) / 2
    start, images = time.process_time(), []
    with torch.no_grad():
        for pose in poses:
            source, target, lengths = (part[0] for part in _rays(grid, pose, camera))
            depth = float(np.linalg.norm(pose.apply(grid.centre())))
            steps = torch.linspace(depth - radius, depth + radius, SAMPLES)
            image = torch.empty(len(target))
            for first in range(0, len(target), 4096):
                ray = slice(first, first + 4096)
                at = source + (target[ray, None] - source) * (steps / lengths[ray, None])[..., None]
                values = torch.nn.functional.grid_sample(
                    volume, (2 * (at + 0.5) / size - 1)[None, None], align_corners=False
                )
                image[ray] = values[0, 0, 0].sum(dim=-1) * (steps[1] - steps[0])
            images.append(image.reshape(camera.shape).numpy())
    return Rendered(time.process_time() - start, np.stack(images))


def _nanodrr(
    array: np.ndarray,
    grid: Grid,
    poses: list[RigidTransform],
    camera: ProjectionGeometry,
    samples: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Callable[[], torch.Tensor]:
    """A function that renders all poses with nanodrr."""
    from nanodrr.data import Subject
    from nanodrr.drr import render

    nz, ny, nx = grid.shape
    to_grid = np.diag([2 / nx, 2 / ny, 2 / nz, 1.0])
    to_grid[:3, 3] = 1 / np.array([nx, ny, nz]) - 1
    tensors = (grid.lps_from_ijk, grid.ijk_from_lps, to_grid, grid.centre())
    places = (torch.tensor(np.array(values), dtype=torch.float32) for values in tensors)
    volume = torch.from_numpy(array)[None, None]
    subject = Subject(volume, torch.zeros(1, 1, 1, 1, 1), *places, max_label=0, convert_to_mu=False).to(device, dtype)
    inverse = np.linalg.inv(camera.resized(*camera.shape).intrinsics)
    inverse = inverse @ np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])  # its pixel centres lie at halves
    count = len(poses)
    k_inv = torch.tensor(inverse, dtype=dtype, device=device).expand(count, 3, 3)
    back = torch.tensor(np.stack([p.inverse().matrix for p in poses]), dtype=dtype, device=device)
    sdd = torch.full((count,), camera.sdd_mm, device=device, dtype=dtype)
    return lambda: render(subject, k_inv, back, sdd, *camera.shape, n_samples=samples)[:, 0]


def nanodrr(array: np.ndarray, grid: Grid, poses: list[RigidTransform], camera: ProjectionGeometry) -> Rendered:
    """Nanodrr's reference implementation, which is what it runs on a CPU."""
    return _time(_nanodrr(array, grid, poses, camera, SAMPLES))


def _flashdrr(
    array: np.ndarray,
    grid: Grid,
    poses: list[RigidTransform],
    camera: ProjectionGeometry,
    samples: int,
    device: str = "cpu",
) -> Callable[[], torch.Tensor]:
    """A function that renders all poses with FlashDRR in turn; on a card square images with its fused kernel.

    Its pixels are square, and the central ray is in the middle of the image.
    """
    from flashdrr.rendering import VolumeRaycaster

    half_height = camera.row_spacing_mm * (camera.rows - 1) / 2
    fov = float(np.degrees(2 * np.arctan2(half_height, camera.sdd_mm)))
    resolution = (camera.columns, camera.rows)
    renderer = VolumeRaycaster(ray_samples=samples, resolution=resolution, fov=fov, return_tau=True)
    renderer = renderer.eval().to(device)
    volume = torch.from_numpy(array).permute(2, 1, 0)[None, None].to(device)
    upwards = np.diag([1.0, -1.0, 1.0, 1.0])  # its camera's y points up in the image
    back = [torch.tensor(pose.inverse().matrix @ upwards, dtype=torch.float32)[None].to(device) for pose in poses]
    to_ijk = torch.tensor(grid.ijk_from_lps, dtype=torch.float32, device=device)
    fused = device != "cpu" and camera.rows == camera.columns  # version 0.6.0 mixes up the rows of other images
    return lambda: 10 * torch.cat([renderer(volume, pose, to_ijk, triton=fused)[:, 0] for pose in back])  # from cm


def flashdrr(array: np.ndarray, grid: Grid, poses: list[RigidTransform], camera: ProjectionGeometry) -> Rendered:
    """FlashDRR's renderer in PyTorch, which is what it runs on a CPU."""
    return _time(_flashdrr(array, grid, poses, camera, SAMPLES))


def diffct(array: np.ndarray, grid: Grid, poses: list[RigidTransform], camera: ProjectionGeometry) -> Rendered:
    """Diffct's projector in PyTorch, which is what it runs on a CPU: exact lengths through voxels of one value."""
    from diffct import Projector

    centre = grid.centre()
    places = []
    for pose in poses:
        back = pose.inverse()
        source, middle = (back.apply(np.array([0, 0, depth])) - centre for depth in (0.0, camera.sdd_mm))
        places.append((source, middle, pose.rotation[0], pose.rotation[1]))
    trajectory = tuple(torch.tensor(np.array(part), dtype=torch.float32) for part in zip(*places, strict=True))
    spacing = tuple(float(value) for value in grid.spacing_mm[::-1])
    pixels = (camera.column_spacing_mm, camera.row_spacing_mm)
    project = Projector(
        trajectory, grid.shape, (camera.columns, camera.rows), detector_spacing=pixels, voxel_spacing=spacing
    )
    volume = torch.from_numpy(array)
    start = time.process_time()
    with torch.no_grad():
        images = project(volume).transpose(1, 2).numpy()
    return Rendered(time.process_time() - start, images)


def _diffdrr_on_gpu(
    array: np.ndarray, grid: Grid, poses: list[RigidTransform], camera: ProjectionGeometry, samples: int
) -> Callable[[], torch.Tensor]:
    """A function that renders all poses with DiffDRR's trilinear renderer, one after another."""
    from diffdrr.renderers import Trilinear

    volume, renderer = torch.from_numpy(array).permute(2, 1, 0).contiguous().cuda(), Trilinear()
    rays = [tuple(part.cuda() for part in _rays(grid, pose, camera)) for pose in poses]

    def work() -> torch.Tensor:
        images = [renderer(volume, s, t, None, n_points=samples)[0, 0] * lengths[0] for s, t, lengths in rays]
        return torch.stack(images).reshape(len(poses), *camera.shape)

    return work


def plastimatch(array: np.ndarray, grid: Grid, poses: list[RigidTransform], camera: ProjectionGeometry) -> Rendered:
    """Plastimatch's exact tracing from the front; the cost of reading the volume is taken off by a second run."""
    import SimpleITK

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "volume.mha"
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(list(map(float, grid.spacing_mm)))
        image.SetOrigin(list(map(float, grid.origin_mm)))
        SimpleITK.WriteImage(image, str(file))
        size = f"{camera.rows} {camera.columns}"
        extent = f"{camera.rows * camera.row_spacing_mm} {camera.columns * camera.column_spacing_mm}"

        def seconds(count: int) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            order = f"-t pfm -i exact -P none -a {count} -N 20 --sad {camera.sdd_mm - 150} --sid {camera.sdd_mm}"
            words = ["plastimatch", "drr", *order.split(), "-r", size, "-z", extent, "-O", f"{folder}/d", str(file)]
            subprocess.run(words, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        return Rendered((seconds(4) - seconds(1)) / 3 * len(poses), None)


PEERS: dict[str, Callable[..., Rendered]] = {
    "rtk": rtk,
    "diffdrr": diffdrr,
    "nanodrr": nanodrr,
    "flashdrr": flashdrr,
    "diffct": diffct,
    "grid_sample": grid_sample,
    "plastimatch": plastimatch,
}

SLOW = ("diffct",)
"""Peers that take part only where they are named."""

ON_GPU: dict[str, Callable[..., Callable[[], torch.Tensor]]] = {
    "nanodrr": partial(_nanodrr, device="cuda"),
    "nanodrr_bf16": partial(_nanodrr, device="cuda", dtype=torch.bfloat16),
    "diffdrr": _diffdrr_on_gpu,
    "flashdrr": partial(_flashdrr, device="cuda"),
}
"""Peers on a card: (array, grid, poses, camera, samples) -> a function that renders all poses there."""


def is_installed(package: str) -> bool:
    """Whether a distribution is installed, by its name in the index."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def missing(name: str) -> str | None:
    """Why a peer cannot take part, or None."""
    package = RENDERERS.get(name)
    if package and not is_installed(package):
        return f"the package {package} is not installed"
    if name == "plastimatch" and shutil.which("plastimatch") is None:
        return "the program is not installed"
    return None
