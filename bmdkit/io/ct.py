"""A CT in Hounsfield units, from a DICOM folder or from a volume file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.errors import CaseError
from bmdkit.io.ct_padding import AIR_HU, fill_padding
from bmdkit.io.ct_settings import CtConfig
from bmdkit.io.dicom_ct import Series, read_series
from bmdkit.io.dicom_files import MissingDecoderError, UnreadableError, describe_end, read_data_set
from bmdkit.io.dicom_frames import is_enhanced_ct
from bmdkit.io.dicom_parsing import DicomImage
from bmdkit.io.dicom_pixels import GreyFrame, decode_grey_frame
from bmdkit.io.slice_stack import TILT_LIMIT_DEG, Slice
from bmdkit.io.volumes import read_array, turn_to_axial

_AIR = (-1100, -700)
_SOFT_TISSUE = (-200, 200)
_LEAST_AIR, _LEAST_SOFT_TISSUE = 0.002, 0.02


@dataclass(frozen=True, eq=False)
class CtScan:
    """One CT as it was read.

    Attributes:
        volume: HU, int16 where the rescale allows and float32 otherwise; axes turned to run as nearly as they can
            along left, posterior and superior, no value changed.
        patient_key: Hashes of who the file says it shows, for comparison with the radiograph's; never written out.
        warnings: What was dropped or corrected.
        is_simulated: Whether the file says that bmdkit simulated the patient.
    """

    volume: Volume
    patient_key: str | None = field(repr=False)
    warnings: tuple[str, ...] = ()
    is_simulated: bool = False


def read_ct(
    path: str | Path, *, series_uid: str | None = None, config: CtConfig | None = None, case: str | None = None
) -> CtScan:
    """Read a DICOM folder, an enhanced DICOM file, or a NIfTI, MetaImage or NRRD file in HU.

    Args:
        path: Folder or file.
        series_uid: DICOM series to take; without it the rule of `dicom_ct.read_series` decides.
        config: What to refuse, and what to correct.
        case: Patient, named in errors.

    Raises:
        CaseError: BMD-CT-001 to -029, as docs/errors.md lists them.

    Example:
        >>> scan = read_ct("cohort/ct/sim000")
        >>> scan.volume.quantity, scan.volume.array.dtype, scan.warnings
        ('hu', dtype('int16'), ())
    """
    path = Path(path)
    if not path.exists():
        raise CaseError("BMD-CT-001", "no such file or folder.", case=case, file=path.name)
    key: str | None = None
    is_simulated = False
    warnings: tuple[str, ...] = ()
    if path.is_dir() or is_enhanced_ct(path):
        series = read_series(path, series_uid=series_uid, config=config, case=case)
        array, grid, warnings = _decode(series, case)
        key, is_simulated = series.patient_key, series.is_simulated
    else:
        array, grid, _ = read_array(path, case=case)
    array, grid = turn_to_axial(array, grid)
    array, padded = fill_padding(array)
    if padded:
        warnings += (f"{padded} slices with padding that the file does not declare, set to {AIR_HU} HU",)
    check_hu(array, case=case, file=path.name)
    return CtScan(Volume(array, grid, "hu"), key, warnings, is_simulated)


def check_hu(array: np.ndarray, *, case: str | None = None, file: str | None = None) -> None:
    """Make sure that the values can be Hounsfield units of a body: some air and some soft tissue.

    Raises:
        CaseError: They cannot.
    """
    stride = tuple(max(n // 64, 1) for n in array.shape)
    sample = array[:: stride[0], :: stride[1], :: stride[2]]
    air = float(np.mean((sample >= _AIR[0]) & (sample <= _AIR[1])))
    soft = float(np.mean((sample >= _SOFT_TISSUE[0]) & (sample <= _SOFT_TISSUE[1])))
    if air < _LEAST_AIR or soft < _LEAST_SOFT_TISSUE:
        raise CaseError(
            "BMD-CT-015",
            f"{air:.1%} of voxels are air (at least {_LEAST_AIR:.1%}) and {soft:.1%} soft tissue (at least "
            f"{_LEAST_SOFT_TISSUE:.1%}); values from {float(sample.min()):g} to {float(sample.max()):g}.",
            case=case,
            file=file,
        )


def _decode(series: Series, case: str | None) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """HU [slice, row, column] of a series, slice by slice into one array."""
    stack = series.stack
    partner = {second: first for first, second in stack.twins}
    kept = [i for i in range(len(stack.slices)) if i not in partner]
    first = stack.slices[kept[0]]
    out = np.empty((len(kept), *first.header.pixels.shape), np.int16)
    previous = np.empty(0, np.int16)
    row = -1
    pixels = _Pixels(case)
    for i, piece in enumerate(stack.slices):
        values = pixels.hounsfield(piece)
        if i in partner:
            if not np.array_equal(values, previous):
                raise CaseError(
                    "BMD-CT-013",
                    f"{stack.slices[i - 1].path.name} and {piece.path.name} lie at one position with other pixels.",
                    case=case,
                    file=piece.path.parent.name,
                )
            continue
        row += 1
        previous = values
        if out.dtype == np.int16 and values.dtype != np.int16:
            out = out.astype(np.float32)
        out[row] = values
    warnings = series.warnings + tuple(f"{count} slices with {what}" for what, count in pixels.warnings.items())
    if partner:
        warnings += (f"{len(partner)} identical duplicate slices dropped",)
    axes = first.orientation.reshape(2, 3)
    normal = np.cross(*axes)
    direction = np.linalg.qr(np.column_stack([*axes, normal]))[0]
    direction = direction * np.sign(np.sum(direction * np.column_stack([*axes, normal]), axis=0)) + 0.0
    distance = stack.distance_mm[kept]
    spacing_mm = np.array([first.spacing_mm[1], first.spacing_mm[0], (distance[-1] - distance[0]) / (len(kept) - 1)])
    if stack.tilt_deg > TILT_LIMIT_DEG:
        _shear_upright(out, [stack.slices[i] for i in kept], direction, spacing_mm)
    return out, Grid(out.shape, spacing_mm, first.position_mm, direction), warnings


class _Pixels:
    """The pixels of a series, one file in memory at a time."""

    def __init__(self, case: str | None) -> None:
        self._case = case
        self._path: Path | None = None
        self._image: DicomImage | None = None
        self.warnings: dict[str, int] = {}

    def hounsfield(self, piece: Slice) -> np.ndarray:
        """One slice in HU, int16 if that holds it exactly."""
        frame = self._decode(piece)
        for message in frame.warnings:
            self.warnings[message] = self.warnings.get(message, 0) + 1
        stored = frame.stored
        exact = piece.slope == 1 and float(piece.intercept).is_integer()
        values = stored + int(piece.intercept) if exact else stored * piece.slope + piece.intercept
        if piece.header.padding is not None:
            low, high = piece.header.padding
            padded = (stored >= low) & (stored <= high) & (values < AIR_HU)
            values = np.where(padded, AIR_HU, values)
        if exact and values.min() >= -32768 and values.max() <= 32767:
            return values.astype(np.int16)
        return values.astype(np.float32)

    def _decode(self, piece: Slice) -> GreyFrame:
        try:
            if self._image is None or self._path != piece.path:
                data_set = read_data_set(piece.path, pixels=True)
                after = describe_end(piece.path, data_set)
                self._image = DicomImage(piece.header, data_set, () if after is None else (after,))
                self._path = piece.path
            return decode_grey_frame(self._image, piece.header.frame)
        except MissingDecoderError as error:
            raise CaseError("BMD-CT-018", f"{error}.", case=self._case, file=piece.path.name) from error
        except UnreadableError as error:
            raise CaseError("BMD-CT-010", f"{error}.", case=self._case, file=piece.path.name) from error


def _shear_upright(out: np.ndarray, slices: list[Slice], direction: np.ndarray, spacing_mm: np.ndarray) -> None:
    """Move each slice within its plane so that all lie straight above the first, in place; linear interpolation."""
    for k, piece in enumerate(slices):
        offset = (piece.position_mm - slices[0].position_mm) @ direction[:, :2] / spacing_mm[:2]
        if np.abs(offset).max() > 1e-6:
            moved = ndimage.shift(out[k].astype(np.float32), offset[::-1], order=1, mode="constant", cval=AIR_HU)
            out[k] = np.rint(moved) if out.dtype == np.int16 else moved
