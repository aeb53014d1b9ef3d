"""Rigid transforms as files of ITK, which 3D Slicer, SimpleITK and ANTs read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bmdkit.core.geometry import RigidTransform
from bmdkit.io.results import write_text

SUFFIXES = (".tfm", ".h5", ".txt")
"""Files of transforms that are read; the first is what is written."""


def write_transform(path: Path, parent_from_node: RigidTransform) -> None:
    """Write a transform that moves what is put under it in 3D Slicer.

    A file of ITK maps points the other way, from the parent to what is moved ("from parent", as images are resampled),
    in LPS, mm; that is what is written, so that 3D Slicer has `parent_from_node` as its transform to the parent.

    Args:
        path: File to be written, `.tfm`.
        parent_from_node: Where the moved things go, LPS, mm.

    Source: developer guide of 3D Slicer, Transforms, "Transform files".
    """
    node_from_parent = parent_from_node.inverse()
    numbers = [*node_from_parent.rotation.ravel(), *node_from_parent.translation_mm]
    lines = (
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: AffineTransform_double_3_3",
        f"Parameters: {' '.join(repr(float(number) + 0.0) for number in numbers)}",
        "FixedParameters: 0 0 0",
    )
    write_text(path, "\n".join(lines) + "\n")


def read_transform(path: Path) -> RigidTransform:
    """Read a rigid transform that ITK, SimpleITK or 3D Slicer wrote.

    Args:
        path: File with one linear transform, `.tfm`, `.h5` or `.txt`.

    Returns:
        parent_from_node, LPS, mm: the inverse of the map that the file holds.

    Raises:
        ValueError: It cannot be read, or holds no rigid transform (a GeometryError).
    """
    import SimpleITK

    try:
        transform = SimpleITK.ReadTransform(str(path))
    except RuntimeError as error:
        raise ValueError(f"{Path(path).name}: not readable as a transform of ITK") from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise ValueError(f"{Path(path).name}: expected a rigid transform of space")
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(axis))) - origin for axis in np.eye(3)]
    return RigidTransform.from_parts(np.array(columns).T, origin).inverse()
