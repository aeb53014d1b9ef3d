"""Edges of a collimator's opening in a radiograph: straight and round ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StraightEdge:
    """A line; the field lies where `row * normal[0] + column * normal[1] <= offset`, pixels of the whole image.

    Attributes:
        normal: (row, column), of length one, pointing away from the field.
        offset: Distance of the line from the centre of the first pixel.
        contrast: Mean step along it, as a part of the image's range.
    """

    normal: tuple[float, float]
    offset: float
    contrast: float

    def moved(self, outward: float) -> StraightEdge:
        """The edge, farther out by some pixels."""
        return StraightEdge(self.normal, self.offset + outward, self.contrast)

    def opening(self, shape: tuple[int, int]) -> np.ndarray:
        """[row, column], bool, True on the field's side."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        return rows * self.normal[0] + columns * self.normal[1] <= self.offset


@dataclass(frozen=True)
class RoundEdge:
    """A circle about the field, pixels of the whole image.

    Attributes:
        centre: (row, column).
        radius: Radius of the circle.
        contrast: Mean step along it, as a part of the image's range.
    """

    centre: tuple[float, float]
    radius: float
    contrast: float

    def moved(self, outward: float) -> RoundEdge:
        """The edge, farther out by some pixels."""
        return RoundEdge(self.centre, self.radius + outward, self.contrast)

    def opening(self, shape: tuple[int, int]) -> np.ndarray:
        """[row, column], bool, True within."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        return (rows - self.centre[0]) ** 2 + (columns - self.centre[1]) ** 2 <= self.radius**2


Edge = StraightEdge | RoundEdge
