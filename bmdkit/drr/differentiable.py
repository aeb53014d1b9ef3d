"""Rendering as an operation of torch, with derivatives by the poses and by the volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from bmdkit.core.geometry import GeometryError, ProjectionGeometry
from bmdkit.core.grid import Grid
from bmdkit.drr import cpu, cpu_gradient, cuda
from bmdkit.drr.channels import Channels
from bmdkit.drr.rays import Beam, Roi, find_footprints, repeat_geometry, set_up_rays, stack_poses, window


def project(
    volume: torch.Tensor,
    camera_from_ct: torch.Tensor,
    grid: Grid,
    geometry: ProjectionGeometry | Sequence[ProjectionGeometry],
    *,
    roi: Roi | None = None,
    beam: Beam = "perspective",
) -> torch.Tensor:
    """Line integrals as in `render`, differentiable by the volume and by the poses, on the volume's device.

    The derivative by the volume is the exact adjoint of the projection. That by the poses is the analytic derivative
    of the interpolated samples; it follows `camera_from_ct` along rigid motions (its inverse is taken by transposing
    the rotation), so parametrise the poses by `rigid_motion` or your own rotation.

    Args:
        volume: (C, Z, Y, X), float32, on `grid`.
        camera_from_ct: (P, 4, 4), best in float64.
        grid: Grid of the voxels; at least two along each axis.
        geometry: Camera, one for all views or one per view.
        roi: Window of the detector.
        beam: Beam as in `render`.

    Returns:
        (P, C, rows, columns), float32, value times mm.

    Raises:
        GeometryError: A pose is not a rigid motion, or puts a voxel that is not zero behind the source.
    """
    if volume.ndim != 4 or tuple(volume.shape[1:]) != grid.shape or volume.dtype != torch.float32:
        raise ValueError(f"volume: expected float32 of shape (C, {grid.shape}), got {volume.dtype} {volume.shape}")
    if min(grid.shape) < 2:
        raise ValueError(f"grid: expected at least two voxels along each axis, got {grid.shape}")
    matrices = stack_poses(camera_from_ct.detach().cpu().numpy())
    geometries = repeat_geometry(geometry, len(matrices))
    views = _Views.apply(camera_from_ct, grid, geometries, beam)
    within = window(roi, geometries[0])
    images: torch.Tensor = _March.apply(volume, views, grid, matrices, geometries, within, beam)
    return images


def rigid_motion(twist: torch.Tensor) -> torch.Tensor:
    """(..., 4, 4), the rigid motion of twists (..., 6): a rotation vector, rad, then a translation, mm.

    Multiply it on the left of camera_from_ct to move a body in camera axes.
    """
    rows = torch.zeros((*twist.shape[:-1], 4, 4), dtype=twist.dtype, device=twist.device)
    for (i, j), (axis, sign) in {
        (0, 1): (2, -1),
        (0, 2): (1, 1),
        (1, 0): (2, 1),
        (1, 2): (0, -1),
        (2, 0): (1, -1),
        (2, 1): (0, 1),
    }.items():
        rows[..., i, j] = sign * twist[..., axis]
    rows[..., :3, 3] = twist[..., 3:]
    return torch.linalg.matrix_exp(rows)


class _Views(torch.autograd.Function):
    """`set_up_rays` of poses; linear in the transposed rotation and in the source's position."""

    @staticmethod
    def forward(
        ctx: Any, camera_from_ct: torch.Tensor, grid: Grid, geometries: Sequence[ProjectionGeometry], beam: Beam
    ) -> torch.Tensor:
        """Set the rays up."""
        matrices = camera_from_ct.detach().double().cpu().numpy()
        views = set_up_rays(grid, matrices, geometries, beam)
        ctx.matrices, ctx.grid, ctx.like = matrices, grid, camera_from_ct
        ctx.camera = [set_up_rays(_UNIT, np.eye(4)[None], [g], beam)[0, :18].reshape(6, 3) for g in geometries]
        return torch.from_numpy(views)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_views: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Find the derivative by the poses."""
        # index rays are M R^T q, and the origin M (R^T (q - t)) + constant, with M = ijk_from_lps
        by_rays = by_views.cpu().numpy()[:, :18].reshape(-1, 6, 3)
        by_lps = by_rays @ ctx.grid.ijk_from_lps[:3, :3]  # (P, 6, 3), derivative by R^T q
        turns, moves = ctx.matrices[:, :3, :3], ctx.matrices[:, :3, 3]
        rays = np.array(ctx.camera)
        rays[:, 0] -= moves
        gradient = np.zeros_like(ctx.matrices)
        gradient[:, :3, :3] = np.einsum("pni,pnj->pij", rays, by_lps)
        gradient[:, :3, 3] = -np.einsum("pij,pj->pi", turns, by_lps[:, 0])
        return torch.from_numpy(gradient).to(ctx.like), None, None, None


_UNIT = Grid((1, 1, 1), np.ones(3), np.zeros(3), np.eye(3))


class _March(torch.autograd.Function):
    """The march of one volume along the rays of its views."""

    @staticmethod
    def forward(
        ctx: Any,
        volume: torch.Tensor,
        views: torch.Tensor,
        grid: Grid,
        matrices: np.ndarray,
        geometries: Sequence[ProjectionGeometry],
        within: Roi,
        beam: Beam,
    ) -> torch.Tensor:
        """Render."""
        whole = np.stack([np.zeros(3, np.int64), np.array(grid.shape[::-1]) - 1])
        held: cuda.Uploaded | Channels
        if volume.is_cuda:
            held = cuda.make_resident(volume.detach())
            box = held.box
        else:
            held = Channels(volume.detach().numpy(), grid, tuple(map(str, range(len(volume)))))
            box = held.box if held.occupied.any() else whole
        windows, behind = find_footprints(grid, box, matrices, geometries, within, beam)
        if behind.any():
            at = np.flatnonzero(behind).tolist()
            raise GeometryError(f"poses: expected every occupied voxel in front of the source, not so at {at}")
        # a zero voxel has a derivative too: the adjoint needs the whole grid's footprint
        reach = find_footprints(grid, whole, matrices, geometries, within, beam)[0]
        ctx.saved = held, box, views.numpy(), windows, reach, within
        if isinstance(held, cuda.Uploaded):
            return cuda.march(held, views.numpy(), windows, within)
        images = np.zeros((len(matrices), len(volume), *within[2:]), np.float32)
        march = cpu.march if cpu.threads() == 1 else cpu.march_threaded
        row0, column0, _, _ = within
        march(held.arrays, held.occupied, box, views.numpy(), windows, row0, column0, images)
        return torch.from_numpy(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_images: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Find the derivatives by the volume and by the views."""
        held, box, views, windows, reach, within = ctx.saved
        by_volume: torch.Tensor | None = None
        by_views: torch.Tensor | None = None
        row0, column0, _, _ = within
        if isinstance(held, cuda.Uploaded):
            if ctx.needs_input_grad[0]:
                by_volume = torch.zeros_like(held.volume)
                cuda.backproject(by_volume, views, reach, within, by_images)
            if ctx.needs_input_grad[1]:
                by_views = cuda.views_gradient(held, views, windows, within, by_images).cpu()
            return by_volume, by_views, None, None, None, None, None
        weights = np.ascontiguousarray(by_images.numpy(), np.float32)
        if ctx.needs_input_grad[0]:
            volume = np.zeros(held.arrays.shape, np.float32)
            cpu_gradient.backproject(views, reach, row0, column0, weights, volume)
            by_volume = torch.from_numpy(volume)
        if ctx.needs_input_grad[1]:
            gradient = np.zeros(views.shape)
            cpu_gradient.views_gradient(
                held.arrays, held.occupied, box, views, windows, row0, column0, weights, gradient
            )
            by_views = torch.from_numpy(gradient)
        return by_volume, by_views, None, None, None, None, None
