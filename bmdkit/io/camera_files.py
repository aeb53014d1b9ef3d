"""Cameras in files: the JSON of `--cameras` and of side-cars, and the calibration text of XMALab (MayaCam 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.core.calibrated_camera import CalibratedCamera, CameraSpread
from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.errors import CaseError

SDD_RANGE_MM = (400.0, 5000.0)
SPACING_RANGE_MM = (0.01, 4.0)

VIRTUAL_SDD_MM = 1400.0
"""Source distance that is taken where K alone is known: only its ratio to the pixel is seen in an image."""

CAMERA_KEYS = ("K", "principal_point_uv", "camera_from_world", "sd", "columns", "rows", "column_spacing_mm")
_KNOWN = (*CAMERA_KEYS, "row_spacing_mm", "sdd_mm", "reversed_columns", "sources", "note")
_SAME_SDD = 0.005
"""The largest difference of the source distance by columns and by rows, as a part of it."""
_SECTIONS = {"image size": (1, 2), "camera matrix": (3, 3), "rotation": (3, 3), "translation": (3, 1)}


@dataclass(frozen=True, eq=False)
class CameraEntry:
    """What a file says of one camera; the image that it belongs to may add its size.

    Attributes:
        sdd_mm: Source to detector; None where the file does not say.
        spacing_mm: Between columns and between rows; None where the file does not say.
        matrix: K, (3, 3), pixels; None where the file does not say.
        principal_point_uv: (2,), pixels; None where neither it nor K is given.
        shape: Rows and columns of the image; None where the file does not say.
        camera_from_world: Place of the camera; None where the file does not say.
        sd: How sure the numbers are.
        source: Origin of the numbers.
        reversed_columns: Whether the image is displayed as seen from the detector.
    """

    sdd_mm: float | None = None
    spacing_mm: tuple[float, float] | None = None
    matrix: np.ndarray | None = None
    principal_point_uv: np.ndarray | None = None
    shape: tuple[int, int] | None = None
    camera_from_world: RigidTransform | None = None
    sd: CameraSpread = field(default_factory=CameraSpread)
    source: str = "camera file"
    reversed_columns: bool = False

    def fit(self, rows: int, columns: int) -> CalibratedCamera:
        """The camera of an image of that size.

        Raises:
            GeometryError: It belongs to an image of another size, or its numbers are too few or contradict each other.
        """
        if self.shape is not None and (rows, columns) not in (self.shape, self.shape[::-1]):
            raise GeometryError(
                f"camera: made for an image of {self.shape[1]} x {self.shape[0]}, got {columns} x {rows}"
            )
        sdd_mm, spacing_mm = self.find_scale()
        point = self.principal_point_uv if self.matrix is None else self.matrix[:2, 2]
        geometry = ProjectionGeometry(sdd_mm, *spacing_mm, columns, rows, point, self.reversed_columns)  # type: ignore[arg-type]
        return CalibratedCamera(geometry, self.camera_from_world, self.sd, self.source)

    def find_scale(self) -> tuple[float, tuple[float, float]]:
        """Find the source distance and the spacing between columns and rows, mm; from K what is not given besides.

        Raises:
            GeometryError: The numbers are too few, or contradict each other.
        """
        if self.matrix is None:
            if self.sdd_mm is None or self.spacing_mm is None:
                raise GeometryError("camera: expected K, or sdd_mm with column_spacing_mm and row_spacing_mm")
            return self.sdd_mm, self.spacing_mm
        focal = float(self.matrix[0, 0]), float(self.matrix[1, 1])
        if self.spacing_mm is not None:
            by = focal[0] * self.spacing_mm[0], focal[1] * self.spacing_mm[1]
            sdd = (by[0] + by[1]) / 2
            given = sdd if self.sdd_mm is None else self.sdd_mm
            if abs(by[0] - by[1]) > _SAME_SDD * sdd or abs(sdd - given) > _SAME_SDD * sdd:
                raise GeometryError(
                    f"camera: K and the pixel spacing give source distances of {by[0]:.1f}, {by[1]:.1f}"
                )
            return sdd, (sdd / focal[0], sdd / focal[1])
        sdd = VIRTUAL_SDD_MM if self.sdd_mm is None else self.sdd_mm
        return sdd, (sdd / focal[0], sdd / focal[1])


def parse_camera(data: Any, source: str = "camera file") -> CameraEntry:
    """Understand one camera of a JSON file.

    Args:
        data: {K or sdd_mm, column_spacing_mm, row_spacing_mm, principal_point_uv, camera_from_world, sd}.
        source: Origin that is recorded.

    Raises:
        ValueError: A key is unknown, or a value is not what it should be.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"camera: expected a mapping, got {type(data).__name__}")
    unknown = [key for key in data if key not in _KNOWN]
    if unknown:
        raise ValueError(f"camera: unknown key {', '.join(map(str, unknown))}; known are {', '.join(_KNOWN)}")
    spacing = _pair(data, "column_spacing_mm", "row_spacing_mm")
    size = _pair(data, "rows", "columns")
    world = data.get("camera_from_world")
    return CameraEntry(
        sdd_mm=require_in_range(data.get("sdd_mm"), SDD_RANGE_MM, "sdd_mm"),
        spacing_mm=None if spacing is None else _check_spacing(spacing),
        matrix=_check_matrix(data["K"]) if data.get("K") is not None else None,
        principal_point_uv=_array(data, "principal_point_uv", (2,)),
        shape=None if size is None else (int(size[0]), int(size[1])),
        camera_from_world=None if world is None else RigidTransform(np.array(world, float)),
        sd=CameraSpread(**data["sd"]) if data.get("sd") else CameraSpread(),
        source=source,
        reversed_columns=bool(data.get("reversed_columns", False)),
    )


def read_cameras(path: Path) -> dict[str, CameraEntry]:
    """Read a camera file.

    Args:
        path: JSON, {name of the radiograph: camera}, see `parse_camera`; or the calibration text of one camera, whose
            name is then that of the file.

    Raises:
        CaseError: It cannot be used (BMD-XR-027).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() != ".json":
            return {path.stem: parse_mayacam(text)}
        data = json.loads(text)
        if not isinstance(data, Mapping) or not data:
            raise ValueError("expected a mapping from the name of a radiograph to its camera")
        return {str(name): _named(str(name), entry, path.name) for name, entry in data.items()}
    except (OSError, ValueError, TypeError) as error:
        raise CaseError("BMD-XR-027", f"{error}.", file=path.name) from error


def parse_mayacam(text: str) -> CameraEntry:
    """Understand the calibration text of XMALab (MayaCam 2): image size, camera matrix, rotation and translation.

    Source: the file format as the manual of SlicerAutoscoperM describes it; the rotation and translation map the world
    of the calibration object to the camera, mm, and pixel centres lie at integers.

    Raises:
        ValueError: A section is missing, or is not what it should be.
    """
    found: dict[str, list[list[float]]] = {}
    current: list[list[float]] | None = None
    for line in text.splitlines():
        words = line.strip()
        if words.lower() in _SECTIONS:
            current = found.setdefault(words.lower(), [])
        elif words:
            if current is None:
                raise ValueError(f"expected one of {', '.join(_SECTIONS)}, got {words[:40]!r}")
            current.append([float(value) for value in words.split(",")])
    arrays = {}
    for name, shape in _SECTIONS.items():
        if np.shape(found.get(name, [])) != shape:
            raise ValueError(f"{name}: expected {shape[0]} x {shape[1]} numbers, got {found.get(name)!r}")
        arrays[name] = np.array(found[name])
    width, height = (int(value) for value in arrays["image size"][0])
    pose = RigidTransform.from_parts(_nearest_rotation(arrays["rotation"]), arrays["translation"][:, 0])
    matrix = _check_matrix(arrays["camera matrix"])
    return CameraEntry(matrix=matrix, shape=(height, width), camera_from_world=pose, source="calibration text")


def _nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation nearest to one that was written with few digits."""
    u, scale, v = np.linalg.svd(matrix)
    if np.abs(scale - 1).max() > 1e-3 or np.linalg.det(u @ v) < 0:
        raise ValueError(f"rotation: expected a proper rotation, got {matrix.tolist()}")
    return np.asarray(u @ v)


def _named(name: str, entry: Any, source: str) -> CameraEntry:
    try:
        return parse_camera(entry, source)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from error


def _pair(data: Mapping[str, Any], first: str, second: str) -> tuple[float, float] | None:
    if data.get(first) is None and data.get(second) is None:
        return None
    try:
        return float(data[first]), float(data[second])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{first}, {second}: expected two numbers") from error


def _array(data: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    if data.get(name) is None:
        return None
    found = np.array(data[name], float)
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(f"{name}: expected finite numbers of shape {shape}, got {data[name]!r}")
    return found


def _check_matrix(value: Any) -> np.ndarray:
    matrix = np.array(value, float)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not np.allclose(matrix[2], (0, 0, 1)):
        raise ValueError(f"K: expected (3, 3) with a last row of 0 0 1, got {matrix.tolist()}")
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or abs(matrix[0, 1]) > 1e-3 * matrix[0, 0] or matrix[1, 0] != 0:
        raise ValueError(f"K: expected positive focal lengths and no skew, got {matrix.tolist()}")
    return matrix


def _check_spacing(pair: tuple[float, float]) -> tuple[float, float]:
    for value in pair:
        require_in_range(value, SPACING_RANGE_MM, "column_spacing_mm, row_spacing_mm")
    return pair


def require_in_range(value: Any, allowed: tuple[float, float], name: str) -> float | None:
    """A length from a file, mm; None where it does not say.

    Raises:
        ValueError: It is no number, or outside of what is allowed.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not allowed[0] <= value <= allowed[1]:
        raise ValueError(f"{name}: expected {allowed[0]:g} to {allowed[1]:g} mm, got {value!r}")
    return float(value)
