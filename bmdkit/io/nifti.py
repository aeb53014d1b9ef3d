"""NIfTI through nibabel: a checked header, every byte of the stream read, RAS turned into LPS here and nowhere else."""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from bmdkit.core.grid import Grid
from bmdkit.core.interchange import LPS_FROM_RAS
from bmdkit.core.length_units import NIFTI_UNITS_MM, require_voxel_size
from bmdkit.errors import CaseError
from bmdkit.io.results import check_size, open_whole_file

if TYPE_CHECKING:
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.nifti1 import Nifti1Header, Nifti1Image

FORMS_APART_MM = 0.05  # single precision over half a metre, and rounding of the quaternion
MAX_VOXELS = 2**31
MAX_SIDE = 8192
_MAX_DEFLATE = 1100  # DEFLATE cannot shrink further than 1032 : 1
_CHUNK = 1 << 22

logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)


def read_nifti(path: Path, *, case: str | None = None) -> tuple[np.ndarray, Grid, bytes]:
    """Read a .nii or .nii.gz whole.

    Returns:
        Values [slice, row, column], int16 when they are whole and small enough and float32 otherwise; where they lie;
        and the header extension text (empty if there is none).

    Raises:
        CaseError: Truncated or damaged, not three-dimensional, no or contradictory position, singular, not finite.
    """
    import nibabel

    path = Path(path)
    try:
        whole = _whole_stream(path)
        image = nibabel.Nifti1Image.from_bytes(cast(bytes, whole))  # a copy would be as large as the volume
        # as it is in the file: a loaded header has spacings of zero replaced by one
        stored_spacing = nibabel.Nifti1Header(bytes(whole[:348]), check=False)["pixdim"][1:4]
        del whole
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # any defect of the header ends here
        raise CaseError("BMD-CT-020", f"not readable as NIfTI ({error}).", case=case, file=path.name) from error
    header = image.header
    if len(image.shape) != 3 or min(image.shape) < 2 or max(image.shape) > MAX_SIDE:
        raise CaseError("BMD-CT-021", f"shape {image.shape}, expected three axes.", case=case, file=path.name)
    if not (np.isfinite(stored_spacing) & (stored_spacing > 0)).all():
        raise CaseError("BMD-CT-022", f"spacing {stored_spacing.tolist()}.", case=case, file=path.name)
    grid = _grid(header, image.shape, case, path.name)
    array = _values(image, case, path.name)
    text = b"\n".join(bytes(e.get_content()) for e in header.extensions if isinstance(e.get_content(), bytes))
    return array, grid, text


def _whole_stream(path: Path) -> bytearray:
    """All bytes of the file after decompression, its checksum verified and its length held against its header."""
    size = path.stat().st_size
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        try:
            head = stream.read(352)
            expected = _expected_bytes(head)
            if expected > size * (_MAX_DEFLATE if packed else 1):
                raise ValueError(f"{size} bytes cannot hold the {expected} that the header announces")
            whole = bytearray(head)
            while block := stream.read(_CHUNK):
                whole += block
                if len(whole) > expected:
                    raise ValueError("more data than the header announces")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"truncated or damaged: {error}") from error
    if len(whole) < expected:
        raise ValueError(f"truncated: {len(whole)} of {expected} bytes")
    return whole


def _expected_bytes(head: bytes) -> int:
    import nibabel

    if len(head) < 348:
        raise ValueError(f"truncated: {len(head)} bytes")
    header = nibabel.Nifti1Header.from_fileobj(io.BytesIO(bytes(head[:348]) + b"\0\0\0\0"))
    shape = header.get_data_shape()
    count = 1
    for n in shape:
        count *= int(n)
    if not shape or min(shape) < 1 or count > MAX_VOXELS:
        raise ValueError(f"shape {shape} is not plausible")
    return int(header.get_data_offset()) + count * header.get_data_dtype().itemsize


def _grid(header: Nifti1Header, shape: tuple[int, int, int], case: str | None, name: str) -> Grid:
    unit = int(header["xyzt_units"]) & 7
    if unit not in NIFTI_UNITS_MM:
        raise CaseError("BMD-CT-025", f"xyzt_units {unit}, expected 1, 2 or 3.", case=case, file=name)
    scale_mm = NIFTI_UNITS_MM[unit]
    has_q, has_s = int(header["qform_code"]) > 0, int(header["sform_code"]) > 0
    if not (has_q or has_s):
        raise CaseError("BMD-CT-007", "neither qform nor sform is set.", case=case, file=name)
    try:
        affines = [header.get_qform()] if has_q else []
        affines += [header.get_sform()] if has_s else []
        to_mm = np.diag([scale_mm] * 3 + [1.0])
        affines = [to_mm @ LPS_FROM_RAS @ np.asarray(a, np.float64) for a in affines]
    except MemoryError:
        raise
    except Exception as error:
        raise CaseError("BMD-CT-022", f"its qform cannot be read ({error}).", case=case, file=name) from error
    for affine in affines:
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise CaseError("BMD-CT-022", f"affine {affine[:3].tolist()} is singular.", case=case, file=name)
    if len(affines) == 2:
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1])).reshape(4, -1)
        apart = np.linalg.norm((affines[0] - affines[1])[:3] @ corners, axis=0).max()
        if apart > FORMS_APART_MM:
            raise CaseError(
                "BMD-CT-023", f"they are {apart:.2f} mm apart, allowed {FORMS_APART_MM} mm.", case=case, file=name
            )
    affine = affines[-1]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    require_voxel_size(spacing, case=case, file=name)
    direction = affine[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise CaseError("BMD-CT-008", f"direction {direction.round(4).tolist()}.", case=case, file=name)
    return Grid(shape[::-1], spacing, affine[:3, 3], _orthonormal(direction))


def _orthonormal(direction: np.ndarray) -> np.ndarray:
    """The nearest orthonormal matrix, if rounding of the file has left more than a trace."""
    if np.abs(direction.T @ direction - np.eye(3)).max() < 1e-6:
        return direction
    u, _, vt = np.linalg.svd(direction)
    return u @ vt


def _values(image: Nifti1Image, case: str | None, name: str) -> np.ndarray:
    stored = cast("ArrayProxy", image.dataobj)
    raw = stored.get_unscaled()
    if raw.dtype.kind not in "iuf":
        raise CaseError("BMD-CT-021", f"values of type {raw.dtype}, expected numbers.", case=case, file=name)
    slope, intercept = float(stored.slope), float(stored.inter)
    raw = raw.transpose(2, 1, 0)
    if raw.dtype.kind != "f" and slope == 1 and float(intercept).is_integer():
        low, high = int(raw.min()) + int(intercept), int(raw.max()) + int(intercept)
        if low >= -32768 and high <= 32767:
            wide = raw.astype(np.int32) + int(intercept) if intercept else raw
            return np.ascontiguousarray(wide, np.int16)
    out = np.empty(raw.shape, np.float32)
    for k in range(raw.shape[0]):
        plane = raw[k].astype(np.float64) * slope + intercept
        if not np.isfinite(plane).all():
            raise CaseError("BMD-CT-024", f"slice {k} of the file.", case=case, file=name)
        out[k] = plane
    return out


def write_nifti(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Write [slice, row, column] values of a grid as .nii or .nii.gz, the same bytes for the same values.

    bool is written as uint8. The length of what was written is read back before the file gets its name.
    """
    import nibabel

    path = Path(path)
    values = np.asarray(array)
    values = values.astype(np.uint8) if values.dtype == bool else values
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), LPS_FROM_RAS @ grid.lps_from_ijk)
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    data = image.to_bytes()
    with open_whole_file(path) as temporary:
        with temporary.open("wb") as plain:
            if path.name.lower().endswith(".gz"):
                with gzip.GzipFile(filename="", mode="wb", fileobj=plain, compresslevel=3, mtime=0) as packed:
                    for start in range(0, len(data), _CHUNK):
                        packed.write(data[start : start + _CHUNK])
            else:
                plain.write(data)
            written = plain.tell()
        check_size(temporary, written, path)
