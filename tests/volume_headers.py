"""One volume as files of several formats hold it, in any unit of length, and headers that lack some of it."""

from __future__ import annotations

import nibabel
import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume

SHAPE = (4, 5, 6)
VALUES = np.random.default_rng(2).integers(-1000, 1000, SHAPE).astype("<i2")
GRID = Grid(
    SHAPE,
    np.array([0.7, 1.1, 2.5]),
    np.array([-120.5, 33.0, 410.0]),
    Rotation.from_euler("z", 10, degrees=True).as_matrix(),
)


def write_nifti(path, unit: str, scale: float) -> None:
    """The volume with its places in another unit; `scale` of them are a millimetre."""
    image = Volume(VALUES, GRID, "hu").to_nibabel()
    affine = np.diag([scale] * 3 + [1.0]) @ image.affine
    other = nibabel.Nifti1Image(np.asanyarray(image.dataobj), affine)
    other.set_qform(affine, code=1)
    other.set_sform(affine, code=1)
    other.header.set_xyzt_units(unit)
    nibabel.save(other, path)


def nrrd_header(**changes) -> str:
    directions = " ".join(f"({','.join(f'{v:.12g}' for v in axis)})" for axis in GRID.lps_from_ijk[:3, :3].T)
    fields = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, SHAPE[::-1])),
        "space directions": directions,
        "endian": "little",
        "encoding": "raw",
        "space origin": f"({','.join(f'{v:.12g}' for v in GRID.origin_mm)})",
        **changes,
    }
    return "NRRD0004\n" + "".join(f"{k}: {v}\n" for k, v in fields.items() if v is not None) + "\n"


def scaled_nrrd(scale: float, unit: str) -> str:
    matrix, origin = scale * GRID.lps_from_ijk[:3, :3], scale * GRID.origin_mm
    return nrrd_header(
        **{
            "space directions": " ".join(f"({','.join(f'{v:.12g}' for v in axis)})" for axis in matrix.T),
            "space origin": f"({','.join(f'{v:.12g}' for v in origin)})",
            "space units": " ".join([f'"{unit}"'] * 3),
        }
    )


def metaimage_header(scale: float = 1.0, **changes) -> str:
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": " ".join(f"{v:.12g}" for v in GRID.direction.T.ravel()),
        "Offset": " ".join(f"{v:.12g}" for v in scale * GRID.origin_mm),
        "ElementSpacing": " ".join(f"{v:.12g}" for v in scale * GRID.spacing_mm),
        "DimSize": " ".join(map(str, SHAPE[::-1])),
        "ElementType": "MET_SHORT",
        **changes,
        "ElementDataFile": "LOCAL",
    }
    return "".join(f"{k} = {v}\n" for k, v in fields.items() if v is not None)
