"""Densities of a whole CT in half the room: the CT's own numbers, with the calibration line in the NIfTI header."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from bmdkit.core.interchange import LPS_FROM_RAS
from bmdkit.core.volume import Volume
from bmdkit.io.results import check_size, open_whole_file

FRACTION_HU = 1 / 8
"""Step to which HU that are not whole are rounded."""

_BLOCK_SLICES = 16


def write_density(path: Path, ct: Volume, slope_mg_cm3_per_hu: float, intercept_mg_cm3: float) -> None:
    """Write slope * HU + intercept as a .nii.gz of int16 with that scaling, which every NIfTI reader applies.

    Whole HU are kept exactly; others are rounded to an eighth (about 0.1 mg/cm3), values beyond +-4095 HU clipped then.

    Args:
        path: File to be written.
        ct: HU.
        slope_mg_cm3_per_hu: Slope of the calibration line.
        intercept_mg_cm3: Density at 0 HU.
    """
    import nibabel

    hu = ct.require("hu").array
    step = 1.0 if hu.dtype == np.int16 else FRACTION_HU
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(hu.shape[::-1])
    header.set_xyzt_units("mm")
    affine = LPS_FROM_RAS @ ct.grid.lps_from_ijk
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_slope_inter(slope_mg_cm3_per_hu * step, intercept_mg_cm3)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    with open_whole_file(path) as temporary:
        with temporary.open("wb") as plain:
            with gzip.GzipFile(filename="", mode="wb", fileobj=plain, compresslevel=3, mtime=0) as packed:
                packed.write(header.binaryblock + b"\0\0\0\0")
                for start in range(0, len(hu), _BLOCK_SLICES):
                    block = hu[start : start + _BLOCK_SLICES]
                    if block.dtype != np.int16:
                        block = np.clip(np.rint(block / np.float32(step)), -32768, 32767)
                    packed.write(block.astype("<i2").tobytes())
            written = plain.tell()
        check_size(temporary, written, path)
