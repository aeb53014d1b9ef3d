"""Rendering on a GPU: wall clock and kernel time apart, tiles and half precision, peers in the same run."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import drr_peers
import numpy as np
import torch
from drr_cases import CROP, CROP_CAMERA, FULL, FULL_CAMERA, around, bone, gaussians, lumps, nearby

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.drr import cuda
from bmdkit.drr.channels import Channels
from bmdkit.drr.rays import find_footprints, set_up_rays

SQUARE = ProjectionGeometry(1200, 2, 2, 200, 200)
TILES = ((8, 16), (4, 32), (16, 16), (8, 8), (16, 8), (4, 16))
"""Rows and columns of the pixels of one program that are tried."""

Put = Callable[[str, float], None]


@dataclass(frozen=True)
class Scale:
    """How large the cases are.

    Attributes:
        full: Grid of the large volume.
        square: Camera of the peers' own case, 200 x 200.
        tall: Camera of a pair.
        crop: Grid of one bone.
        crop_camera: Camera of a registration.
        views: Views of the large volume.
        population: Poses of one bone at once.
        samples: Samples of a ray, for peers that sample at equal steps.
        repeats: Renderings that are timed.
        tiles: Tiles that are tried.
    """

    full: Grid
    square: ProjectionGeometry
    tall: ProjectionGeometry
    crop: Grid
    crop_camera: ProjectionGeometry
    views: int
    population: int
    samples: int
    repeats: int
    tiles: tuple[tuple[int, int], ...]


WHOLE = Scale(FULL, SQUARE, FULL_CAMERA, CROP, CROP_CAMERA, 16, 100, 500, 30, TILES)
TINY = Scale(
    full=Grid((6, 8, 8), (40, 40, 50), (-140, -140, -125), np.eye(3)),
    square=ProjectionGeometry(1200, 40, 40, 8, 8),
    tall=ProjectionGeometry(1200, 40, 40, 6, 8),
    crop=Grid((8, 8, 8), (28, 28, 30), (-98, -98, -105), np.eye(3)),
    crop_camera=ProjectionGeometry(1000, 40, 40, 6, 8),
    views=1,
    population=2,
    samples=16,
    repeats=1,
    tiles=TILES[1:2],
)
"""A size at which an interpreter of the kernels ends in seconds."""


@dataclass(frozen=True)
class Timing:
    """What one rendering takes.

    Attributes:
        wall_ms: By the clock of the host, from order to end, in the mean.
        kernel_ms: Between two events of the device; None without one.
        images: What was rendered last.
    """

    wall_ms: float
    kernel_ms: float | None
    images: torch.Tensor


def time_rendering(work: Callable[[], torch.Tensor], repeats: int) -> Timing:
    """Time a rendering after a few that warm it up."""
    on_card = torch.cuda.is_available()
    for _ in range(5 if on_card else 0):
        work()
    if not on_card:
        start = time.perf_counter()
        images = work()
        return Timing(1e3 * (time.perf_counter() - start), None, images)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start = time.perf_counter()
    first.record()
    for _ in range(repeats):
        images = work()
    last.record()
    torch.cuda.synchronize()
    wall = 1e3 * (time.perf_counter() - start) / repeats
    return Timing(wall, first.elapsed_time(last) / repeats, images)


def measure_power(work: Callable[[], torch.Tensor], seconds: float = 2.0) -> float | None:
    """Mean power of the card, W, while it renders; None where the driver does not tell."""
    if shutil.which("nvidia-smi") is None or not torch.cuda.is_available():
        return None
    words = [
        "nvidia-smi",
        "--query-gpu=power.draw",
        "--format=csv,noheader,nounits",
        f"--id={torch.cuda.current_device()}",
    ]
    readings, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(20):
            work()
        try:
            readings.append(float(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
        except (subprocess.CalledProcessError, ValueError):
            return None
        torch.cuda.synchronize()
    return float(np.mean(readings))


def describe_card(put: Put) -> None:
    """Write what the card can do at most, as far as PyTorch knows it."""
    if not torch.cuda.is_available():
        return
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    put("card_multiprocessors", card.multi_processor_count)
    put("card_memory_gib", card.total_memory / 2**30)
    clock, width = getattr(card, "memory_clock_rate", None), getattr(card, "memory_bus_width", None)
    if clock and width:
        put("card_bytes_per_s", 2 * 1e3 * clock * width / 8)


def make_renderer(
    channels: Channels,
    poses: list[RigidTransform],
    camera: ProjectionGeometry,
    *,
    half: bool = False,
    tile: tuple[int, int] = cuda.TILE,
) -> Callable[[], torch.Tensor]:
    """Make a function that renders all poses; volume and images stay on the device."""
    held = cuda.upload(channels, half=half)
    matrices = np.stack([pose.matrix for pose in poses])
    cameras, within = [camera] * len(poses), (0, 0, *camera.shape)

    def work() -> torch.Tensor:
        views = set_up_rays(channels.grid, matrices, cameras)
        windows, _ = find_footprints(channels.grid, channels.box, matrices, cameras, within)
        return cuda.march(held, views, windows, within, tile)

    return work


def measure_ours(name: str, work: Callable[[], torch.Tensor], count: int, repeats: int, put: Put) -> Timing:
    """Time one of our renderings and write it per view."""
    timing = time_rendering(work, repeats)
    put(f"{name}_ms_per_view", timing.wall_ms / count)
    put(f"{name}_images_per_s", 1e3 * count / timing.wall_ms)
    if timing.kernel_ms is not None:
        put(f"{name}_kernel_ms_per_view", timing.kernel_ms / count)
    return timing


def measure_tiles(channels: Channels, poses, camera: ProjectionGeometry, name: str, scale: Scale, put: Put) -> None:
    """Time every tile in single and half precision; the best is written last."""
    best: tuple[float, str] | None = None
    for half in (False, True):
        for tile in scale.tiles:
            kind = f"{tile[0]}x{tile[1]}_{'float16' if half else 'float32'}"
            timing = time_rendering(make_renderer(channels, poses, camera, half=half, tile=tile), scale.repeats)
            put(f"{name}_{kind}_ms", timing.wall_ms)
            best = min(best, (timing.wall_ms, kind)) if best else (timing.wall_ms, kind)
    put(f"{name}_best_ms", best[0])
    put(
        f"{name}_best_over_default",
        best[0] / time_rendering(make_renderer(channels, poses, camera), scale.repeats).wall_ms,
    )


def measure_peers(
    array: np.ndarray, grid: Grid, poses, camera, name: str, ours: Timing, scale: Scale, put: Put
) -> None:
    """Time the peers that are installed on the same volume and views; a ratio above 1 says that bmdkit is slower."""
    for peer, make in drr_peers.ON_GPU.items():
        if drr_peers.missing(peer.partition("_")[0]):
            continue
        work = make(array, grid, poses, camera, scale.samples)
        with torch.no_grad():
            timing = time_rendering(work, scale.repeats)
        put(f"{peer}_{name}_ms_per_view", timing.wall_ms / len(poses))
        if timing.kernel_ms is not None:
            put(f"{peer}_{name}_kernel_ms_per_view", timing.kernel_ms / len(poses))
        put(f"over_{peer}_{name}", ours.wall_ms / timing.wall_ms)
        difference = (timing.images.float().reshape(ours.images.shape) - ours.images).abs().max() / ours.images.max()
        put(f"{peer}_{name}_peak_difference", float(difference))


def measure(put: Put, scale: Scale) -> None:
    """Render every case; each number is handed to `put` as soon as it is known."""
    describe_card(put)
    population = nearby(scale.crop, scale.crop_camera, scale.population)
    channels = Channels(bone(scale.crop)[None], scale.crop, ("bone",))
    work = make_renderer(channels, population, scale.crop_camera)
    put("population_ms", time_rendering(work, scale.repeats).wall_ms)
    volume = gaussians(scale.full, *lumps(scale.full))
    full = Channels(volume[None], scale.full, ("full",))
    for name, camera in (("square", scale.square), ("tall", scale.tall)):
        poses = around(scale.full, camera, scale.views)
        work = make_renderer(full, poses, camera)
        ours = measure_ours(name, work, len(poses), scale.repeats, put)
        samples = camera.rows * camera.columns * max(scale.full.shape) * len(poses) / ours.wall_ms * 1e3
        put(f"{name}_samples_per_s", samples)
        put(f"{name}_bytes_per_s", 16 * samples)
        if (watts := measure_power(work)) is not None:
            put(f"{name}_millijoule_per_view", watts * ours.wall_ms / len(poses))
        measure_peers(volume, scale.full, poses, camera, name, ours, scale, put)
    measure_tiles(channels, population, scale.crop_camera, "population", scale, put)
    measure_tiles(full, poses, scale.tall, "tall", scale, put)
