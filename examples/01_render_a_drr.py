"""Render a bone from many poses in one batch, and follow the gradient of the image back to the true pose.

    python examples/01_render_a_drr.py [FOLDER]

Needs no data; writes drr.png (a sheet of poses) and drr.tif (their areal densities, g/cm2) to FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.pose import standard_view
from bmdkit.core.units import MG_CM3_MM_TO_G_CM2
from bmdkit.core.volume import Volume
from bmdkit.drr.channels import prepare_channels
from bmdkit.drr.differentiable import project, rigid_motion
from bmdkit.drr.display import choose_window, make_contact_sheet, scale_to_grey
from bmdkit.drr.render import render
from bmdkit.io.images import write_png, write_tiff

CAMERA = ProjectionGeometry(sdd_mm=1000, column_spacing_mm=2, row_spacing_mm=2, columns=96, rows=128)


def femur() -> Volume:
    """A ball, a neck and a hollow shaft of bone, mg/cm3, on voxels of 2 mm."""
    grid = Grid(shape=(90, 40, 70), spacing_mm=(2, 2, 2), origin_mm=(0, 0, 0), direction=np.eye(3))
    points = grid.points(np.stack(np.indices(grid.shape), axis=-1))
    head, bend = np.array([45.0, 40.0, 150.0]), np.array([95.0, 40.0, 115.0])
    ball = np.linalg.norm(points - head, axis=-1) < 23
    axis = (bend - head) / np.linalg.norm(bend - head)
    along = (points - head) @ axis
    neck = (np.linalg.norm(points - head - along[..., None] * axis, axis=-1) < 14) & (along > 0) & (along < 70)
    radius = np.hypot(points[..., 0] - bend[0], points[..., 1] - bend[1])
    shaft = (radius < 15) & (points[..., 2] < bend[2] + 15)
    density = np.where(ball | neck, 350.0, 0.0) + np.where(shaft & ~(ball | neck), 250.0, 0.0)
    density[shaft & (radius > 9)] = 1100
    return Volume(density.astype(np.float32), grid, "density_mg_cm3")


def find_pose(bone: Volume, target: np.ndarray, start: RigidTransform, steps: int = 100) -> RigidTransform:
    """Least squares between the target and the DRR, by gradient descent on a twist about the bone's middle."""
    volume = torch.from_numpy(np.array(bone.array))[None] * 1e-3
    wanted = torch.from_numpy(target) * 1e-3
    centre = torch.from_numpy(start.apply(bone.grid.centre()))
    there, back = torch.eye(4).double(), torch.eye(4).double()
    there[:3, 3], back[:3, 3] = centre, -centre
    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    unit = torch.tensor([0.02, 0.02, 0.02, 1.0, 1.0, 10.0])  # that move the image about as far: rad, mm, and depth
    optimiser = torch.optim.Adam([twist], lr=0.4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        pose = there @ rigid_motion(twist * unit) @ back @ torch.from_numpy(np.array(start.matrix))
        loss = ((project(volume, pose[None], bone.grid, CAMERA)[0, 0] - wanted) ** 2).mean()
        loss.backward()
        optimiser.step()
        schedule.step()
    pose = there @ rigid_motion(twist.detach() * unit) @ back @ torch.from_numpy(np.array(start.matrix))
    return RigidTransform(pose.numpy())


def main(folder: Path) -> None:
    """Render, write, and find the pose again."""
    folder.mkdir(parents=True, exist_ok=True)
    bone = femur()
    view = standard_view("ap", bone.grid.centre(), CAMERA)
    turns = Rotation.from_euler("zxy", [(0, 0, 0), (0, 0, 45), (0, 30, 0), (20, 0, 0)], degrees=True).as_matrix()
    middle = view.apply(bone.grid.centre())
    poses = [RigidTransform.about(middle, turn) @ view for turn in turns]

    images = render(prepare_channels(bone), poses, CAMERA) * np.float32(MG_CM3_MM_TO_G_CM2)
    write_tiff(folder / "drr.tif", images[:, 0])
    write_png(
        folder / "drr.png", make_contact_sheet(scale_to_grey(images.transpose(1, 0, 2, 3), *choose_window(images)))
    )
    print(f"{len(poses)} poses, {images.max():.2f} g/cm2 at most; see {folder / 'drr.png'}")

    true = RigidTransform.about(middle, Rotation.from_rotvec([0.06, -0.05, 0.08]).as_matrix(), (4, -3, 8)) @ view
    found = find_pose(bone, render(prepare_channels(bone), [true], CAMERA)[0, 0], view)
    points = bone.grid.corners()
    before, after = (np.linalg.norm(true.apply(points) - pose.apply(points), axis=1).mean() for pose in (view, found))
    print(f"pose: {before:.1f} mm away at the start, {after:.2f} mm after following the gradient")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("drr_example"))
