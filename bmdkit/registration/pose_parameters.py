"""Six scaled numbers for a rigid motion in front of the camera, and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bmdkit.core.geometry import RigidTransform

UNIT = np.array([np.radians(6), np.radians(6), np.radians(6), 10.0, 10.0, 30.0])
"""One unit of each: turns about the camera's x, y, z (rad), moves along x, y and the viewing ray (mm).

Each moves the projection of a hip by about the same amount. Source: METHODS of Otake et al. 2012, scaled variables.
"""


def make_rotations(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices (n, 3, 3) of rotation vectors (n, 3), rad (Rodrigues' formula).

    Written out: scipy's rotations go through quaternions and differ in the last bits, which a search makes visible.
    """
    vectors = np.atleast_2d(np.asarray(vectors, float))
    angle = np.linalg.norm(vectors, axis=1)
    x, y, z = (vectors / np.where(angle > 0, angle, 1)[:, None]).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)


def find_rotation_vectors(matrices: np.ndarray) -> np.ndarray:
    """Rotation vectors (n, 3), rad, of matrices (n, 3, 3); the inverse of `make_rotations` for angles up to pi."""
    m = np.asarray(matrices, float).reshape(-1, 3, 3)
    skew = np.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], axis=1) / 2
    sine, cosine = np.linalg.norm(skew, axis=1), (np.trace(m, axis1=1, axis2=2) - 1) / 2
    angle = np.arctan2(sine, cosine)
    vectors = skew * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)[:, None]
    for n in np.flatnonzero((sine <= 1e-6) & (cosine < 0)):  # half a turn: the axis from the symmetric part
        outer = (m[n] + np.eye(3)) / 2
        axis = outer[int(np.argmax(np.diag(outer)))]
        vectors[n] = np.pi * axis / np.linalg.norm(axis)
    return vectors


@dataclass(frozen=True, eq=False)
class PoseParameters:
    """Poses around a start, as six numbers about a body's own centre in camera axes.

    Attributes:
        start: camera_from_ct of the six zeros.
        centre_mm: (3,), LPS, about which the body turns.
        unit: (6,), rad and mm, one unit of each value.
    """

    start: RigidTransform
    centre_mm: np.ndarray
    unit: np.ndarray = field(default_factory=lambda: UNIT)

    def matrices(self, values: np.ndarray) -> np.ndarray:
        """camera_from_ct, (n, 4, 4), of scaled values (n, 6)."""
        raw = np.atleast_2d(np.asarray(values, float)) * self.unit
        centre = self.start.apply(self.centre_mm)
        turn = make_rotations(raw[:, :3])
        move = raw[:, 3:].copy()
        move[:, :2] += raw[:, 5:] * centre[:2] / centre[2]  # along the ray, the projection stays
        out = np.zeros((len(raw), 4, 4))
        out[:, :3, :3] = turn @ self.start.rotation
        out[:, :3, 3] = turn @ (self.start.translation_mm - centre) + centre + move
        out[:, 3, 3] = 1
        return out

    def pose(self, values: np.ndarray) -> RigidTransform:
        """camera_from_ct of one set of scaled values (6,)."""
        return RigidTransform(self.matrices(values)[0])

    def values(self, pose: RigidTransform) -> np.ndarray:
        """The six scaled values of a pose; the inverse of `pose`."""
        centre = self.start.apply(self.centre_mm)
        move = pose.apply(self.centre_mm) - centre
        move[:2] -= move[2] * centre[:2] / centre[2]
        return np.concatenate([find_rotation_vectors(pose.rotation @ self.start.rotation.T)[0], move]) / self.unit
