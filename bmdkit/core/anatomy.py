"""Names of sides, bodies and structures, and the names that other tools give them."""

from __future__ import annotations

from typing import Literal

Side = Literal["L", "R"]
SIDES: tuple[Side, ...] = ("L", "R")
SIDE_NAMES: dict[str, str] = {"L": "left", "R": "right"}


def require_side(side: object) -> None:
    """Refuse what is not a side.

    Raises:
        ValueError: It is neither "L" nor "R".

    Example:
        >>> require_side("left")
        Traceback (most recent call last):
        ...
        ValueError: side: expected L or R, got 'left'
    """
    if side not in SIDES:
        raise ValueError(f"side: expected L or R, got {side!r}")


STRUCTURES = ("pelvis", "femur_L", "femur_R", "axial")
"""Names of a label map, as in the contract; `axial` is the sacrum and the spine."""

BODIES = ("pelvis", "femur_L", "femur_R")
"""What moves as one piece between CT and radiograph; the axial skeleton goes with the pelvis."""

LABEL_VALUES = {name: value for value, name in enumerate(STRUCTURES, start=1)}
"""The values that bmdkit writes: pelvis 1, femur_L 2, femur_R 3, axial 4."""

STRUCTURES_OF_BODY = {"pelvis": ("pelvis", "axial"), "femur_L": ("femur_L",), "femur_R": ("femur_R",)}

COLOURS = {"pelvis": (64, 200, 255), "femur_L": (255, 190, 40), "femur_R": (120, 255, 90), "axial": (176, 184, 196)}
"""Colour of each structure in every picture, RGB; they show on grey."""

REGION_COLOUR = (255, 70, 190)
"""Colour of the proximal femur region, RGB."""


def choose_colour(name: str, number: int = 0) -> tuple[int, int, int]:
    """Choose the colour of any structure, RGB, 0 to 255.

    Args:
        name: A structure of ours, the proximal femur of a side, or any other name.
        number: Place of the structure in a list, by which others than ours are told apart.

    Example:
        >>> choose_colour("femur_L"), choose_colour("proximal_femur_R"), choose_colour("ulna", 1)
        ((255, 190, 40), (255, 70, 190), (255, 190, 40))
    """
    if name.startswith("proximal_femur"):
        return REGION_COLOUR
    others = tuple(COLOURS.values())
    return COLOURS.get(name, others[number % len(others)])


LANDMARKS = (
    "head_center",
    "neck_center",
    "junction_superior",
    "junction_inferior",
    "junction_anterior",
    "junction_posterior",
    "shaft_2cm",
    "shaft_5cm",
)
"""The eight points of one proximal femur. Source: Uemura et al. 2022."""
