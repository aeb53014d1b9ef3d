"""Volumes from NIfTI, MetaImage and NRRD files, and back to NIfTI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmdkit.core.grid import Grid
from bmdkit.core.length_units import GeometryTextError, read_scale_mm, require_voxel_size
from bmdkit.core.volume import Quantity, Volume
from bmdkit.errors import CaseError
from bmdkit.io.nifti import read_nifti, write_nifti

if TYPE_CHECKING:
    import SimpleITK

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES
_MOST_LAYERS = 64


def find_suffix(path: Path) -> str:
    """The ending that says the kind of file, in lower case, ".nii.gz" as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def find_stem(path: Path) -> str:
    """The name without that ending."""
    return Path(path).name[: len(Path(path).name) - len(find_suffix(path))]


def read_array(path: Path, *, case: str | None = None) -> tuple[np.ndarray, Grid, bytes]:
    """Values [slice, row, column] of a volume file, where they lie, and its header's extension text.

    Raises:
        CaseError: The file is not a sound three-dimensional volume.
    """
    path = Path(path)
    if find_suffix(path) in NIFTI_SUFFIXES:
        return read_nifti(path, case=case)
    if find_suffix(path) in ITK_SUFFIXES:
        return (*_read_itk(path, case), b"")
    raise CaseError(*explain_kind(path), case=case, file=path.name)


def explain_kind(path: Path) -> tuple[str, str]:
    """Code and message of a file that is no volume file: what it is, and what to give instead."""
    try:
        with path.open("rb") as handle:
            head = handle.read(262)
    except OSError:
        head = b""
    if head.startswith((b"PK\3\4", b"7z\xbc\xaf", b"Rar!", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:] == b"ustar":
        return "BMD-CT-020", "an archive: unpack it, and give the folder with the CT series."
    if head[128:132] == b"DICM" or path.suffix.lower() in (".dcm", ".ima", ".dicom"):
        return "BMD-CT-004", "one DICOM file: give the folder that holds all slices of the series."
    return "BMD-CT-020", f"expected a folder of DICOM slices, or one of {', '.join(VOLUME_SUFFIXES)}."


def read_volume(path: Path, quantity: Quantity, *, case: str | None = None) -> Volume:
    """A volume file whose values are `quantity`.

    Raises:
        CaseError: As `read_array`.
    """
    array, grid, _ = read_array(path, case=case)
    return Volume(array, grid, quantity)


def write_volume(path: Path, volume: Volume) -> None:
    """Write a volume as .nii or .nii.gz, the same bytes for the same volume."""
    write_nifti(path, volume.array, volume.grid)


def turn_to_axial(array: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """Permute and flip axes so that i, j, k run as nearly as they can to L, P, S; no value changes.

    nibabel's `io_orientation` takes one axis after the other, and finds another order than the best of all six in 5 %
    of oblique volumes.
    """
    direction = grid.direction
    order = [0, 1, 2]
    best = -1.0
    for candidate in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
        fit = sum(abs(direction[axis, source]) for axis, source in enumerate(candidate))
        if fit > best + 1e-9:
            order, best = candidate, fit
    flips = [direction[axis, source] < 0 for axis, source in enumerate(order)]
    if order == [0, 1, 2] and not any(flips):
        return array, grid
    axes = [2 - order[2 - a] for a in range(3)]  # array axes are k, j, i
    turned = array.transpose(axes)
    turned = turned[tuple(slice(None, None, -1) if flips[2 - a] else slice(None) for a in range(3))]
    signs = np.where(flips, -1.0, 1.0)
    corner = np.zeros(3)
    for axis, source in enumerate(order):
        if flips[axis]:
            corner[source] = grid.shape[2 - source] - 1
    origin = grid.points(corner[::-1])
    spacing = grid.spacing_mm[order]
    return np.ascontiguousarray(turned), Grid(turned.shape, spacing, origin, direction[:, order] * signs)


def read_layers(path: Path, *, case: str | None = None) -> tuple[np.ndarray, Grid, dict[str, str]]:
    """Values of a MetaImage or NRRD file that may hold several values a voxel, and the words of its header.

    Returns:
        [layer, slice, row, column]; where the voxels lie; key -> text of the header.

    Raises:
        CaseError: As `read_array`.
    """
    return _read_itk_layers(Path(path), case, most_layers=_MOST_LAYERS)


def _read_itk(path: Path, case: str | None) -> tuple[np.ndarray, Grid]:
    array, grid, _ = _read_itk_layers(path, case, most_layers=1)
    return array[0], grid


def _read_itk_layers(path: Path, case: str | None, *, most_layers: int) -> tuple[np.ndarray, Grid, dict[str, str]]:
    import SimpleITK

    def refuse(code: str, message: str) -> CaseError:
        return CaseError(code, message, case=case, file=path.name)

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        scale_mm = read_scale_mm(path)
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) != 3 or min(size) < 2 or max(size) > 8192 or reader.GetNumberOfComponents() > most_layers:
            raise refuse("BMD-CT-021", f"size {size}, {reader.GetNumberOfComponents()} values a voxel.")
        if np.prod(size, dtype=float) * reader.GetNumberOfComponents() > 2**31:
            raise refuse("BMD-CT-020", f"size {size} is not plausible.")
        _check_itk_length(path, reader)
        image = reader.Execute()
    except GeometryTextError as error:
        raise refuse(error.code, f"{error}.") from error
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise refuse("BMD-CT-020", f"not readable ({reason}).") from error
    direction = np.array(image.GetDirection()).reshape(3, 3)
    spacing, origin = scale_mm * np.array(image.GetSpacing()), scale_mm * np.array(image.GetOrigin())
    placed = np.r_[direction.ravel(), spacing, origin]
    if not np.isfinite(placed).all() or (spacing <= 0).any() or abs(np.linalg.det(direction)) < 1e-6:
        raise refuse("BMD-CT-022", f"spacing {spacing.tolist()}, direction {direction.tolist()}.")
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise refuse("BMD-CT-008", f"direction {direction.round(4).tolist()}.")
    require_voxel_size(spacing, case=case, file=path.name)
    array = SimpleITK.GetArrayFromImage(image)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise refuse("BMD-CT-024", "NaN or infinite values.")
    elif array.min() >= -32768 and array.max() <= 32767:
        array = array.astype(np.int16, copy=False)
    else:
        array = array.astype(np.float32)
    layers = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    words = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    return layers, Grid(layers.shape[1:], spacing, origin, direction), words


def _check_itk_length(path: Path, reader: SimpleITK.ImageFileReader) -> None:
    """An uncompressed single file must be long enough for its pixels: ITK reads a shorter one without a word."""
    import SimpleITK

    if find_suffix(path) not in (".mha", ".nrrd"):
        return
    with path.open("rb") as handle:
        head = handle.read(1 << 16).split(b"\n\n")[0].lower()
    packed = b"compresseddata = true" in head or re.search(rb"encoding:\s*(gz|bz)", head)
    announced = (
        float(np.prod(reader.GetSize(), dtype=float))
        * SimpleITK.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    )
    if announced > path.stat().st_size * (1100 if packed else 1):
        raise RuntimeError(f"truncated: {path.stat().st_size} bytes for {announced:.0f}")
