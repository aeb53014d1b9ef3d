"""Volumes and label maps on a regular grid in patient space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from scipy import ndimage

from bmdkit.core import interchange
from bmdkit.core.grid import Grid, format_vector, frozen

if TYPE_CHECKING:
    import nibabel
    import SimpleITK
    from monai.data.meta_tensor import MetaTensor

Quantity = Literal["hu", "density_mg_cm3", "attenuation_per_mm", "probability", "uncertainty"]


def _check_on_grid(array: np.ndarray, grid: Grid) -> None:
    if array.shape != grid.shape:
        raise ValueError(f"array: expected shape {grid.shape} as its grid, got {array.shape}")


def _sample(array: np.ndarray, grid: Grid, target: Grid, order: Literal[0, 1], fill: float) -> np.ndarray:
    flip = np.eye(4)[[2, 1, 0, 3]]  # ijk to array order and back
    index_from_target = flip @ grid.ijk_from_lps @ target.lps_from_ijk @ flip
    # a label fills its voxel, a value is known between centres
    mode: Literal["constant", "grid-constant"] = "constant" if order else "grid-constant"
    sampled: np.ndarray = ndimage.affine_transform(
        array, index_from_target, output_shape=target.shape, order=order, mode=mode, cval=fill
    )
    return sampled


@dataclass(frozen=True, eq=False)
class Volume:
    """Values of one quantity on a grid; `quantity` makes "HU taken for density" an error.

    Attributes:
        array: [slice, row, column], read-only.
        grid: Grid of the voxels.
        quantity: What the values are; the unit is part of the name.

    Example:
        >>> grid = Grid((10, 20, 30), (0.8, 0.8, 2.0), (0, 0, 0), np.eye(3))
        >>> ct = Volume(np.zeros(grid.shape, np.int16), grid, "hu")
        >>> ct
        Volume(hu, shape=(10, 20, 30), spacing_mm=(0.8, 0.8, 2), int16)
        >>> ct.require("density_mg_cm3")
        Traceback (most recent call last):
        ValueError: volume: expected density_mg_cm3, got hu
    """

    array: np.ndarray
    grid: Grid
    quantity: Quantity

    def __post_init__(self) -> None:
        """Make the array read-only and check that it fits its grid."""
        object.__setattr__(self, "array", frozen(self.array))
        _check_on_grid(self.array, self.grid)

    def __repr__(self) -> str:
        """Quantity, shape, spacing and number type in one line."""
        spacing = format_vector(self.grid.spacing_mm)
        return f"Volume({self.quantity}, shape={self.array.shape}, spacing_mm={spacing}, {self.array.dtype})"

    def require(self, quantity: Quantity) -> Volume:
        """Itself, if it holds `quantity`.

        Raises:
            ValueError: It holds something else.
        """
        if self.quantity != quantity:
            raise ValueError(f"volume: expected {quantity}, got {self.quantity}")
        return self

    def crop(self, box: tuple[slice, slice, slice]) -> Volume:
        """The part within `box`, a view."""
        return Volume(self.array[box], self.grid.crop(box), self.quantity)

    def resample(self, grid: Grid, *, fill: float = 0.0) -> Volume:
        """Its values at the voxel centres of `grid`, linearly interpolated, float32; `fill` outside."""
        if self.grid.is_near(grid):
            return Volume(self.array.astype(np.float32, copy=False), grid, self.quantity)
        source = self.array.astype(np.float32, copy=False)
        return Volume(_sample(source, self.grid, grid, 1, fill).astype(np.float32, copy=False), grid, self.quantity)

    def to_itk(self) -> Any:
        """Its values and place as an `itk.Image` (LPS); needs `pip install bmdkit[itk]`."""
        return interchange.to_itk(self.array, self.grid)

    def to_simpleitk(self) -> SimpleITK.Image:
        """Its values and place as a `SimpleITK.Image` (LPS)."""
        return interchange.to_simpleitk(self.array, self.grid)

    def to_nibabel(self) -> nibabel.Nifti1Image:
        """Its values and place as a `nibabel.Nifti1Image` (axes i, j, k; RAS)."""
        return interchange.to_nibabel(self.array, self.grid)

    def to_monai(self) -> MetaTensor:
        """Its values and place as a `monai.data.MetaTensor`, a torch tensor (1, i, j, k) with an affine in RAS."""
        return interchange.to_monai(self.array, self.grid)

    @classmethod
    def from_itk(cls, image: Any, quantity: Quantity) -> Volume:
        """Take a volume from an `itk.Image` of three axes."""
        return cls(*interchange.from_itk(image), quantity)

    @classmethod
    def from_simpleitk(cls, image: SimpleITK.Image, quantity: Quantity) -> Volume:
        """Take a volume from a `SimpleITK.Image` of three axes."""
        return cls(*interchange.from_simpleitk(image), quantity)

    @classmethod
    def from_nibabel(cls, image: nibabel.Nifti1Image, quantity: Quantity) -> Volume:
        """Take a volume from a nibabel image of three axes."""
        return cls(*interchange.from_nibabel(image), quantity)

    @classmethod
    def from_monai(cls, tensor: MetaTensor, quantity: Quantity) -> Volume:
        """Take a volume from a MetaTensor (1, i, j, k)."""
        return cls(*interchange.from_monai(tensor), quantity)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """One structure per voxel.

    Attributes:
        array: [slice, row, column], uint8, read-only; 0 is background.
        grid: Grid of the voxels; it need not be the grid of the CT.
        values: Structure name -> value.

    Example:
        >>> grid = Grid((10, 20, 30), (0.8, 0.8, 2.0), (0, 0, 0), np.eye(3))
        >>> drawn = np.zeros(grid.shape, np.uint8)
        >>> drawn[2:4, 5:9, 5:9] = 2
        >>> labels = LabelMap(drawn, grid, {"pelvis": 1, "femur_L": 2})
        >>> labels.present(), int(labels.mask("femur_L").sum())
        (('femur_L',), 32)
    """

    array: np.ndarray
    grid: Grid
    values: Mapping[str, int]

    def __post_init__(self) -> None:
        """Make the array read-only and check that it fits its grid."""
        object.__setattr__(self, "array", frozen(self.array, np.uint8))
        object.__setattr__(self, "values", dict(self.values))
        _check_on_grid(self.array, self.grid)

    def __repr__(self) -> str:
        """Structures that are there, shape and spacing in one line."""
        present = ", ".join(self.present()) or "empty"
        return f"LabelMap({present}, shape={self.array.shape}, spacing_mm={format_vector(self.grid.spacing_mm)})"

    def mask(self, *names: str) -> np.ndarray:
        """Where any of the named structures is, bool; a structure that the map does not name is nowhere."""
        return np.isin(self.array, [self.values[name] for name in names if name in self.values])

    def present(self) -> tuple[str, ...]:
        """Names of the structures that have at least one voxel."""
        found = np.flatnonzero(np.bincount(self.array.ravel(), minlength=256))
        return tuple(name for name, value in self.values.items() if value in found)

    def crop(self, box: tuple[slice, slice, slice]) -> LabelMap:
        """The part within `box`, a view."""
        return LabelMap(self.array[box], self.grid.crop(box), self.values)

    def resample(self, grid: Grid) -> LabelMap:
        """The labels of the voxels in which the voxel centres of `grid` lie; background outside."""
        if self.grid.is_near(grid):
            return LabelMap(self.array, grid, self.values)
        return LabelMap(_sample(self.array, self.grid, grid, 0, 0), grid, self.values)


def bounding_box(mask: np.ndarray, margin: int | tuple[int, int, int] = 0) -> tuple[slice, slice, slice]:
    """The smallest box of slices around a mask's voxels, grown by `margin` voxels within the array.

    Raises:
        ValueError: The mask is empty.
    """
    margins = np.broadcast_to(margin, mask.ndim)
    box = []
    for axis, (size, grow) in enumerate(zip(mask.shape, margins, strict=True)):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if hit.size == 0:
            raise ValueError("mask: expected at least one voxel, got none")
        box.append(slice(max(int(hit[0]) - int(grow), 0), min(int(hit[-1]) + 1 + int(grow), size)))
    return cast("tuple[slice, slice, slice]", tuple(box))


def keep_largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask whose elements touch by their faces, bool; the first of equals."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return np.asarray(mask, bool)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
