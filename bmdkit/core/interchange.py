"""Volumes as images of ITK, SimpleITK, nibabel and MONAI, and back; the libraries are imported when they are used.

ITK and SimpleITK place voxels in LPS as bmdkit does; nibabel and MONAI use RAS and order axes i, j, k. Values are
never resampled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bmdkit.core.grid import Grid, frozen

if TYPE_CHECKING:
    import nibabel
    import SimpleITK
    from monai.data.meta_tensor import MetaTensor

LPS_FROM_RAS = frozen(np.diag([-1.0, -1.0, 1.0, 1.0]))
"""(4, 4), from RAS coordinates to LPS; its own inverse."""


def make_grid(shape: tuple[int, ...], lps_from_ijk: np.ndarray) -> Grid:
    """Make the grid of an affine matrix.

    Args:
        shape: Slices, rows, columns.
        lps_from_ijk: (4, 4), from (column, row, slice) indices to LPS, mm.

    Raises:
        ValueError: The axes are not orthogonal, or the shape is not three-dimensional.
    """
    if len(shape) != 3:
        raise ValueError(f"shape: expected three axes, got {shape}")
    matrix = np.asarray(lps_from_ijk, np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"lps_from_ijk: expected three axes of positive length, got {matrix.tolist()}")
    return Grid((shape[0], shape[1], shape[2]), spacing, matrix[:3, 3], matrix[:3, :3] / spacing)


def to_itk(array: np.ndarray, grid: Grid) -> Any:
    """Make an `itk.Image`, its own copy of the values; bool becomes uint8.

    Args:
        array: [slice, row, column].
        grid: Grid of the voxels.

    Raises:
        ImportError: ITK is not installed (`pip install bmdkit[itk]`).
    """
    import itk

    image = itk.image_from_array(np.ascontiguousarray(_numbers(array)))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_mm.tolist())
    image.SetDirection(itk.matrix_from_array(np.array(grid.direction)))
    return image


def from_itk(image: Any) -> tuple[np.ndarray, Grid]:
    """Take values [slice, row, column] and their grid from an `itk.Image` of three axes."""
    import itk

    array = itk.array_from_image(image)
    spacing, origin = np.array(image.GetSpacing(), float), np.array(image.GetOrigin(), float)
    direction = np.array(itk.array_from_matrix(image.GetDirection()), float)
    return array, _grid_of_parts(array.shape, spacing, origin, direction)


def to_simpleitk(array: np.ndarray, grid: Grid) -> SimpleITK.Image:
    """Make a `SimpleITK.Image`, its own copy of the values; bool becomes uint8.

    Args:
        array: [slice, row, column].
        grid: Grid of the voxels.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(_numbers(array))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def from_simpleitk(image: SimpleITK.Image) -> tuple[np.ndarray, Grid]:
    """Take values [slice, row, column] and their grid from a `SimpleITK.Image` of three axes."""
    import SimpleITK

    array = np.asarray(SimpleITK.GetArrayFromImage(image))
    direction = np.array(image.GetDirection(), float)
    spacing, origin = np.array(image.GetSpacing(), float), np.array(image.GetOrigin(), float)
    size = round(len(direction) ** 0.5)
    return array, _grid_of_parts(array.shape, spacing, origin, direction.reshape(size, size))


def to_nibabel(array: np.ndarray, grid: Grid) -> nibabel.Nifti1Image:
    """Make a `nibabel.Nifti1Image`: values [i, j, k], RAS, qform and sform set; bool becomes uint8.

    Args:
        array: [slice, row, column].
        grid: Grid of the voxels.
    """
    import nibabel

    image = nibabel.Nifti1Image(_numbers(array).transpose(2, 1, 0), LPS_FROM_RAS @ grid.lps_from_ijk)
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    return image


def from_nibabel(image: nibabel.Nifti1Image) -> tuple[np.ndarray, Grid]:
    """Take values [slice, row, column] and their grid from a nibabel image of three axes; its scaling is applied."""
    array = np.ascontiguousarray(np.asanyarray(image.dataobj).transpose())
    return array, make_grid(array.shape, LPS_FROM_RAS @ np.asarray(image.affine, float))


def to_monai(array: np.ndarray, grid: Grid) -> MetaTensor:
    """Make a `monai.data.MetaTensor`: a torch tensor (1, i, j, k) whose affine is in RAS, as MONAI loads NIfTI.

    Args:
        array: [slice, row, column].
        grid: Grid of the voxels.
    """
    import torch
    from monai.data.meta_tensor import MetaTensor

    values = torch.from_numpy(np.ascontiguousarray(_numbers(array).transpose(2, 1, 0))[None].copy())
    return MetaTensor(values, affine=torch.from_numpy(LPS_FROM_RAS @ grid.lps_from_ijk))


def from_monai(tensor: MetaTensor) -> tuple[np.ndarray, Grid]:
    """Take values [slice, row, column] and their grid from a MetaTensor (1, i, j, k)."""
    if tensor.ndim != 4 or tensor.shape[0] != 1:
        raise ValueError(f"tensor: expected the shape (1, i, j, k), got {tuple(tensor.shape)}")
    array = np.ascontiguousarray(tensor.detach().cpu().numpy()[0].transpose(2, 1, 0))
    return array, make_grid(array.shape, LPS_FROM_RAS @ tensor.affine.detach().cpu().numpy())


def _numbers(array: np.ndarray) -> np.ndarray:
    return array.astype(np.uint8) if array.dtype == bool else array


def _grid_of_parts(shape: tuple[int, ...], spacing: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> Grid:
    if len(shape) != 3:
        raise ValueError(f"image: expected three axes and one value a voxel, got the shape {shape}")
    return Grid((shape[0], shape[1], shape[2]), spacing, origin, direction)
