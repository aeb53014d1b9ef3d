"""Rendering speed, memory and error: bmdkit beside its peers, the same volume, geometry and samples in one run.

    python benchmarks/drr.py [--device cpu|cuda] [--peers rtk diffdrr ...] [--views 16] [--json FILE]

Times are CPU time of the process per view, on one thread: what a view costs, however busy the machine. Peers that are
not installed are left out and named (rtk: itk-rtk, diffdrr, nanodrr, flashdrr, diffct; plastimatch: the Debian
package). diffct takes minutes a view on a processor and has to be named. gVXR projects triangle meshes, not volumes,
and takes no part.

Cases: `full`, 512 x 512 x 300 voxels of 0.7 x 0.7 x 1 mm, no voxel zero but the outermost, so that nothing can be
skipped; `body`, the same within an elliptic cylinder in air; `crop`, a thin-walled bone of 128 x 128 x 170 voxels of
1.5 mm in 50 poses.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import drr_peers
import numpy as np
from drr_cases import CROP, CROP_CAMERA, FULL, FULL_CAMERA, around, bone, closed_form, gaussians, lumps, nearby
from figure_files import write_figures

from bmdkit.drr.channels import Channels
from bmdkit.drr.render import render

TARGETS = {
    "core_time_over_rtk": 0.6,
    "core_time_over_diffdrr": 1 / 20,
    "crop_core_ms_per_pose": 3.5,
    "mean_relative_error": 1e-3,
    "peak_error_against_rtk": 1e-3,
    "memory_over_volume_and_images": 1.25,
}

_MEMORY = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from drr_cases import FULL, FULL_CAMERA, around, gaussians, lumps
from bmdkit.core.grid import Grid
from bmdkit.drr.channels import Channels
from bmdkit.drr.render import render

small = Grid((16, 16, 16), (9, 9, 9), (-68, -68, -68), np.eye(3))
render(Channels(np.ones((1, 16, 16, 16), np.float32), small, ("",)), around(small, FULL_CAMERA, 2), FULL_CAMERA)
status = lambda key: 1024 * int(open("/proc/self/status").read().split(key + ":")[1].split()[0])
base = status("VmRSS")
volume = gaussians(FULL, *lumps(FULL))
images = render(Channels(volume[None], FULL, ("",)), around(FULL, FULL_CAMERA, 2), FULL_CAMERA)
print((status("VmHWM") - base) / (volume.nbytes + images.nbytes))
"""


def core_ms(work: Callable[[], np.ndarray], repeats: int, per: int) -> tuple[float, np.ndarray]:
    """Least CPU time of some runs, per view, ms, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        images = work()
        times.append(time.process_time() - start)
    return 1e3 * min(times) / per, images


def peak_memory() -> float:
    """Peak memory above the start, over volume and images, of two views of the full case in a process of its own."""
    words = [sys.executable, "-c", _MEMORY, str(Path(__file__).parent)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def full_case(peers: list[str], views: int) -> dict[str, float]:
    """A volume that leaves nothing to skip; errors against the closed form."""
    found: dict[str, float] = {}
    places = lumps(FULL)
    volume = gaussians(FULL, *places)
    channels, poses = Channels(volume[None], FULL, ("full",)), around(FULL, FULL_CAMERA, views)
    render(channels, poses[:1], FULL_CAMERA)
    found["full_core_ms"], images = core_ms(lambda: render(channels, poses, FULL_CAMERA), 2, views)
    found["full_core_ms_one_view"], _ = core_ms(lambda: render(channels, poses[:1], FULL_CAMERA), 3, 1)
    truth = [closed_form(FULL_CAMERA, pose, places) for pose in poses[:4]]
    errors = [np.abs(image[0] - exact).sum() / exact.sum() for image, exact in zip(images, truth, strict=False)]
    found["mean_relative_error"] = float(np.mean(errors))
    for name in peers:
        limit = views if name == "rtk" else 1
        peer = drr_peers.PEERS[name](volume, FULL, poses[:limit], FULL_CAMERA)
        found[f"{name}_full_core_ms"] = 1e3 * peer.core_seconds / limit
        ours = found["full_core_ms" if limit > 1 else "full_core_ms_one_view"]
        found[f"core_time_over_{name}"] = ours / found[f"{name}_full_core_ms"]
        if peer.images is not None:
            found[f"{name}_mean_relative_error"] = float(np.abs(peer.images[0] - truth[0]).sum() / truth[0].sum())
    if "rtk" in peers:
        peer = drr_peers.rtk(volume, FULL, poses[:1], FULL_CAMERA)
        found["peak_error_against_rtk"] = float(np.abs(peer.images[0] - images[0, 0]).max() / images[0].max())
        found["rtk_full_core_ms_one_view"] = 1e3 * peer.core_seconds
        found["core_time_over_rtk_one_view"] = found["full_core_ms_one_view"] / found["rtk_full_core_ms_one_view"]
    return found


def body_case(views: int) -> dict[str, float]:
    """The same values within an elliptic cylinder in air."""
    _z, y, x = np.ogrid[: FULL.shape[0], : FULL.shape[1], : FULL.shape[2]]
    volume = gaussians(FULL, *lumps(FULL))
    volume *= ((x - 255.5) / 230.0) ** 2 + ((y - 255.5) / 150.0) ** 2 < 1
    channels, poses = Channels(volume[None], FULL, ("body",)), around(FULL, FULL_CAMERA, views)
    render(channels, poses[:1], FULL_CAMERA)
    return {"body_core_ms": core_ms(lambda: render(channels, poses, FULL_CAMERA), 1, views)[0]}


def crop_case(peers: list[str]) -> dict[str, float]:
    """A population of poses of one bone."""
    channels, poses = Channels(bone(CROP)[None], CROP, ("bone",)), nearby(CROP, CROP_CAMERA, 50)
    render(channels, poses, CROP_CAMERA)
    found = {"crop_core_ms_per_pose": core_ms(lambda: render(channels, poses, CROP_CAMERA), 5, len(poses))[0]}
    found["crop_voxels_not_zero"] = float((channels.arrays != 0).mean())
    found["crop_occupied_bricks"] = float(channels.occupied.mean())
    if "rtk" in peers:
        peer = drr_peers.rtk(channels.arrays[0], CROP, poses, CROP_CAMERA)
        found["rtk_crop_core_ms_per_pose"] = 1e3 * peer.core_seconds / len(poses)
    return found


def on_cpu(peers: list[str], views: int) -> dict[str, float]:
    """Every case on one thread of the CPU."""
    found = full_case(peers, views) | body_case(views) | crop_case(peers)
    if "rtk" in peers:
        found["core_time_over_rtk_body"] = found["body_core_ms"] / found["rtk_full_core_ms"]
    return found | {"memory_over_volume_and_images": peak_memory()}


def on_gpu() -> dict[str, float]:
    """Every case on the card; volumes and images stay there."""
    import drr_gpu

    found: dict[str, float] = {}
    drr_gpu.measure(found.__setitem__, drr_gpu.WHOLE)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--views", type=int, default=16)
    usual = [name for name in drr_peers.PEERS if name not in drr_peers.SLOW]
    parser.add_argument("--peers", nargs="*", default=usual, choices=list(drr_peers.PEERS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    peers = [name for name in options.peers if drr_peers.missing(name) is None]
    for name in options.peers:
        if name not in peers:
            print(f"{name}: left out, {drr_peers.missing(name)}")
    found = on_cpu(peers, options.views) if options.device == "cpu" else on_gpu()
    for name, value in found.items():
        aim = f"   aim {TARGETS[name]:.4g}: {'met' if value <= TARGETS[name] else 'missed'}" if name in TARGETS else ""
        print(f"{name:36s} {value:12.5g}{aim}")
    if options.json:
        write_figures(options.json, found, options.device)


if __name__ == "__main__":
    main()
