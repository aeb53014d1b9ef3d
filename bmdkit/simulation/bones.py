"""The bones of an adult hip as solids, in a frame with its origin midway between the femoral heads.

Axes as in LPS: x to the patient's left, y to the back, z to the head, mm. Only left bones are drawn; right ones are
mirrored. Sizes are those of an average adult: heads 178 mm apart, iliac crests 280 mm wide, neck-shaft angle 128
degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.simulation.solids import Solid, ball, refine, sheet, tube, union

HEAD_CENTRE_MM = np.array([89.0, 0.0, 0.0])
JOINT_GAP_MM = 3.6
"""From the surface of the head to the bony socket: both layers of cartilage."""


@dataclass(frozen=True)
class FemurShape:
    """What differs between femurs.

    Attributes:
        head_radius_mm: Radius of the spherical head.
        neck_shaft_deg, anteversion_deg: Angles of the neck.
        neck_length_mm: Distance from the head's centre to the axis of the shaft.
        shaft_radius_mm: Outer.
        neck_width: Factor of the thickness of the neck.
        greater_mm: Where the tip of the greater trochanter lies beyond its usual place, (3,).
        lesser: Factor of how far the lesser trochanter stands out.
        bow_mm: How far the shaft bends outward and backward, 300 mm below the head, beyond the usual.
        spurs: Bony spurs at the rim of the head: turn about the neck (radians, 0 is up) and radius (mm) of each.
    """

    head_radius_mm: float = 24.0
    neck_shaft_deg: float = 128.0
    anteversion_deg: float = 12.0
    neck_length_mm: float = 54.0
    shaft_radius_mm: float = 14.0
    neck_width: float = 1.0
    greater_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lesser: float = 1.0
    bow_mm: tuple[float, float] = (0.0, 0.0)
    spurs: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class HipBoneShape:
    """What differs between hip bones.

    Attributes:
        head_radius_mm: Radius of the head that the socket holds.
        joint_gap_mm: From the head to the bony socket.
        uncovered_deg: How much of the socket's rim is missing; less than 0 where it reaches farther.
        opening_deg: Turns of the socket's opening: more outward than down, and more forward.
        wing_flare, wing_height, wing_thickness: Factors of the ilium's wing: to the side, upward, of its thickness.
        wing_turn_deg: Turn of the wing about the vertical, its front outward.
    """

    head_radius_mm: float = 24.0
    joint_gap_mm: float = JOINT_GAP_MM
    uncovered_deg: float = 0.0
    opening_deg: tuple[float, float] = (0.0, 0.0)
    wing_flare: float = 1.0
    wing_height: float = 1.0
    wing_thickness: float = 1.0
    wing_turn_deg: float = 0.0


@dataclass(frozen=True)
class AxialShape:
    """What differs between spines: turn of the sacrum (its top forward), factor of its size, bend to the left."""

    slope_deg: float = 0.0
    size: float = 1.0
    bend_mm: float = 0.0


def make_hip_bone(shape: HipBoneShape) -> Solid:
    """The left ilium, ischium and pubis with the socket for a head."""
    crest = [(119, -52, 84), (137, -27, 115), (129, 14, 134), (91, 57, 126), (46, 88, 86)]
    upper = [(113, -48, 77), (121, -24, 98), (115, 12, 111), (84, 52, 108), (48, 80, 76)]
    fossa = [(104, -42, 62), (102, -16, 71), (93, 14, 79), (74, 45, 83), (50, 70, 68)]
    lower = [(95, -33, 40), (90, -12, 42), (82, 12, 44), (68, 36, 51), (54, 56, 56)]
    net = np.array([crest, upper, fossa, lower], float)
    half = np.array(
        [[6.5, 6.5, 5.0, 5.5, 7.5], [4.0, 3.2, 2.4, 3.4, 7.5], [5.0, 2.6, 2.2, 4.0, 8.0], [8, 8.5, 9.5, 8.5, 8.0]],
        float,
    )
    if (shape.wing_flare, shape.wing_height, shape.wing_turn_deg) != (1.0, 1.0, 0.0):
        net[:3] = _shape_wing(net[:3], shape)  # what is below belongs to the socket
    half[:3] *= shape.wing_thickness
    wing = sheet(refine(net, 11, 17), np.maximum(refine(half, 11, 17), 2.0), 3.0)
    socket_radius = shape.head_radius_mm + shape.joint_gap_mm
    parts = [
        wing,
        tube([(93, -31, 40), (95, -36, 33)], (8, 6.5), 5),  # anterior inferior spine
        tube([(86, 4, 47), (97, 2, 32)], (12, 9), 7),  # body of the ilium, down to the roof of the socket
        tube([(91, -20, 44), (97, -17, 28)], (9.5, 7.5), 6),
        tube([(78, 24, 46), (90, 22, 26)], (11, 8), 6),
        tube([(52, 57, 54), (59, 36, 36), (64, 8, 20), (63, -14, 9)], (8, 8, 7, 7), 6),  # arcuate line
        sheet(np.array([lower[1:], [(88, -12, 33), (84, 8, 33), (66, 30, 36), (53, 53, 52)]], float), 7.5, 6),
        sheet(
            np.array([[(66, -14, 12), (63, 10, 16), (66, 30, 22)], [(58, -12, -8), (59, 12, -14), (62, 26, -20)]]),
            3.6,
            5,
        ),
        tube([(48, 78, 70), (48, 72, 54), (51, 62, 50)], (7.5, 6.5, 6), 4),  # posterior inferior spine
        _make_socket(socket_radius, shape),
        tube([(76, 20, 30), (72, 31, 6), (67, 31, -18)], (9, 10, 11), 6),  # posterior column
        tube([(70, 30, -12), (61, 25, -42), (60, 22, -60)], (12, 12.5, 13.5), 6),  # body and tuber of the ischium
        tube([(60, 24, -54), (58, 14, -70), (52, 6, -75)], (12, 11, 8.5), 5),
        tube([(66, 37, 2), (57, 46, -8)], (6, 2.5), 4),  # ischial spine
        tube([(54, 6, -75), (38, -16, -66), (22, -34, -51), (14, -41, -40)], (7.5, 5.6, 5.4, 6.5), 4),  # ischiopubic
        tube([(70, -22, 9), (50, -36, 3), (28, -46, -6), (14, -48, -14)], (9.5, 7.6, 7.2, 7.8), 5),  # superior ramus
        sheet(np.array([[(9.5, -48, -12), (24, -46, -12)], [(9.5, -43, -42), (17, -41, -40)]], float), 7.2, 4),
        tube([(26, -51, -4), (24, -51, -5)], (5, 4), 4),  # pubic tubercle
        ball(HEAD_CENTRE_MM, socket_radius, 1.5).carving(),
    ]
    return union(parts)


def _shape_wing(rows: np.ndarray, shape: HipBoneShape) -> np.ndarray:
    """Rows of the wing's net, crest first, moved away from its root, the lowest of them the least."""
    root = np.array([72.0, 20.0, 52.0])
    turn = Rotation.from_euler("z", shape.wing_turn_deg, degrees=True).as_matrix()
    share = np.array([1.0, 0.75, 0.35])[: len(rows), None, None]
    far = (rows - root) * (shape.wing_flare, 1.0, shape.wing_height) @ turn.T + root
    return rows + share * (far - rows)


def _make_socket(radius_mm: float, shape: HipBoneShape) -> Solid:
    """The acetabulum: a bowl about the head that opens outward, downward and forward."""
    opening = np.array([0.80, -0.30, -0.52])
    opening /= np.linalg.norm(opening)
    if any(shape.opening_deg):
        outward, forward = shape.opening_deg
        opening = Rotation.from_euler("yz", (-outward, -forward), degrees=True).apply(opening)
    up = np.array([0, 0, 1.0]) - opening[2] * opening
    up /= np.linalg.norm(up)
    side = np.cross(opening, up)
    turn = np.linspace(0, 2 * np.pi, 25)[None]  # 0 at the roof
    below = np.clip(-np.cos(turn), 0, 1)  # the notch at the lower rim
    rim = 86 + shape.uncovered_deg * (1 - below) + 9 * np.sin(turn) ** 2 + 12 * below
    polar = np.radians(rim + (180 - rim) * np.linspace(0, 1, 8)[:, None])
    wall = radius_mm + 2.8
    ring = np.cos(turn)[..., None] * up + np.sin(turn)[..., None] * side
    net = HEAD_CENTRE_MM + wall * (np.cos(polar)[..., None] * opening + np.sin(polar)[..., None] * ring)
    return sheet(net, 3.4 - 1.4 * below * np.sin(polar), 3.0)


def make_axial_skeleton(shape: AxialShape) -> Solid:
    """Sacrum, coccyx and the vertebrae L3 to L5."""
    whole = _make_usual_axial_skeleton()
    if shape == AxialShape():
        return whole
    joint = np.array([0.0, 50.0, 72.0])  # the sacroiliac joints
    turn = Rotation.from_euler("x", shape.slope_deg, degrees=True).as_matrix()

    def move(points: np.ndarray) -> np.ndarray:
        moved = (points - joint) * shape.size @ turn.T + joint
        up = np.clip((moved[:, 2] - 100.0) / 100.0, 0, None)
        return moved + shape.bend_mm * (up**2)[:, None] * np.array([1.0, 0, 0])

    return whole.moved(move)


def _make_usual_axial_skeleton() -> Solid:
    levels = np.array([(0, 36, 92), (0, 56, 70), (0, 69, 48), (0, 75, 28), (0, 74, 11)], float)
    wide = np.array([(40, 50, 88), (38, 61, 69), (29, 71, 49), (23, 75, 29), (15, 74, 12)], float)
    thick = np.array([(13.5, 11.5), (11, 9.5), (8.5, 7.5), (7, 6), (5.5, 5)], float)
    rows, radii = [], []
    for middle, outer, (inner, edge) in zip(levels, wide, thick, strict=True):
        rows.append([outer * (-1, 1, 1), (outer * (-1, 1, 1) + middle) / 2, middle, (outer + middle) / 2, outer])
        radii.append([edge, (inner + edge) / 2, inner, (inner + edge) / 2, edge])
    plate = sheet(refine(np.array(rows), 9, 9), refine(np.array(radii), 9, 9), 3.0)
    endplate = _make_disc((0, 30, 97), Rotation.from_euler("x", 36, degrees=True).as_matrix(), 17, 9, 5.0)
    crest = tube([(0, 66, 92), (0, 86, 66), (0, 92, 45), (0, 88, 26)], (3.5, 4, 4, 3), 5)
    coccyx = tube([(0, 72, 8), (0, 66, -8), (0, 55, -19)], (6, 5, 3.5), 3)
    holes = []
    for upper, lower, across, size in zip(
        levels[:-1], levels[1:], (21, 18, 15.5, 13), (4.6, 4.2, 3.6, 3.0), strict=True
    ):
        middle = (upper + lower) / 2
        for side in (-1, 1):
            front, back = np.add(middle, [(side * across, -26, 10), (side * across, 34, -12)])
            holes.append(tube([front, back], size, 2.0).carving())
    canal = tube([(0, 60, 112), (0, 72, 70), (0, 84, 40)], (8, 5.5, 3), 2.0).carving()
    sacrum = union([plate, endplate, tube([(0, 33, 95), (0, 40, 88)], 13, 5), crest, coccyx, canal, *holes])
    spine = [_make_vertebra(c, a) for c, a in (((0, 13, 122), 26), ((0, 1, 158), 12), ((0, -3, 195), 2))]
    return union([sacrum, *spine])


def _make_disc(centre, turn, across: float, depth: float, radius: float) -> Solid:
    """An elliptic disc with rounded rim: half axes `find_perpendiculars` and `depth` of its flat part."""
    angle = np.linspace(0, 2 * np.pi, 17)
    rim = np.stack([across * np.cos(angle), depth * np.sin(angle), 0 * angle], axis=1)
    net = np.stack([rim * 0.02, rim]) @ np.asarray(turn).T + np.asarray(centre, float)
    return sheet(net, radius, 1.0)


def _make_vertebra(centre, lordosis_deg: float) -> Solid:
    """A lumbar vertebra about its body's centre, its front tipped down by the lordosis."""
    turn = Rotation.from_euler("x", lordosis_deg, degrees=True).as_matrix()

    def at(x, y, z):
        return np.asarray(centre, float) + turn @ (x, y, z)

    parts = [_make_disc(at(0, 0, z), turn, 20.5 - 0.25 * (9 - abs(z)), 11.5, 4.6) for z in (-9.3, -4.5, 0, 4.5, 9.3)]
    for side in (-1, 1):
        parts += [
            tube([at(side * 13, 12, 3), at(side * 14, 25, 3)], 5.0, 3),  # pedicle
            tube([at(side * 14, 24, 12), at(side * 15, 29, 2), at(side * 14, 33, -18)], (4.5, 5.0, 5.0), 3),  # facets
            tube([at(side * 14, 27, 0), at(side * 5, 38, -4)], 3.6, 3),  # lamina
            tube(
                [at(side * 14, 22, 3), at(side * 30, 26, 3), at(side * 44, 29, 8)], (5, 4.0, 3.2), 3
            ),  # transverse process
        ]
    spinous = np.array([[at(0, 38, 1), at(0, 62, -3)], [at(0, 38, -7), at(0, 62, -14)]])
    return union([*parts, sheet(spinous, 3.4, 3)])


def find_neck_direction(shape: FemurShape) -> np.ndarray:
    """The unit vector from the head's centre along the neck of a left femur."""
    drop, version = np.radians(shape.neck_shaft_deg - 90.0), np.radians(shape.anteversion_deg)
    return np.array([np.cos(drop) * np.cos(version), np.cos(drop) * np.sin(version), -np.sin(drop)])


def locate_lesser_trochanter(shape: FemurShape) -> np.ndarray:
    """The middle of the lesser trochanter's tip of a left femur, before it is moved."""
    knee = HEAD_CENTRE_MM + shape.neck_length_mm * find_neck_direction(shape)
    return knee + np.array([-6 - 12.5 * shape.lesser, 8 + 6.5 * shape.lesser, -36.5])


def make_femur(shape: FemurShape, length_mm: float = 300.0) -> Solid:
    """The left proximal femur, `length_mm` long below the head's centre."""
    head, r = HEAD_CENTRE_MM, shape.shaft_radius_mm / 14.0
    drop = np.radians(shape.neck_shaft_deg - 90.0)
    version = np.radians(shape.anteversion_deg)
    neck = find_neck_direction(shape)
    knee = head + shape.neck_length_mm * neck  # where the axes of neck and shaft meet

    def at(x, y, z):
        return knee + np.array([x, y, z])

    down = np.array([(0, 0, 0), (-3.0, -1.5, -40), (-6.5, -4, -80), (-10.5, -6, -130), (-26.0, -2, -length_mm)])
    down[:, :2] += (down[:, 2:] / length_mm) ** 2 * shape.bow_mm
    greater, w = np.asarray(shape.greater_mm, float), shape.neck_width
    up = np.array([np.sin(drop) * np.cos(version), np.sin(drop) * np.sin(version), np.cos(drop)])
    waist = head + 0.60 * shape.neck_length_mm * neck
    parts = [
        ball(head, shape.head_radius_mm, 1.0),
        tube([head + 12 * neck + 1.0 * up, waist + 2.6 * up, knee + 3 * up], np.array([14.5, 12.8 * w, 14.5]) * r, 5),
        tube([head + 15 * neck - 3.0 * up, waist - 3.6 * up, knee - 8 * up], np.array([14.0, 12.6 * w, 15.0]) * r, 5),
        tube(knee + down, np.array([17.5, 16.6, 14.8, 14.0, 13.6]) * r, 8),
        tube([at(4, 4, -6), at(14, 8, -16), at(11, 6, -38), at(0, 0, -62)], np.array([13, 14, 13, 13]) * r, 8),  # flare
        tube(
            [at(13, 9, -12), at(15, 13, 10) + greater / 2, at(10, 17, 26) + greater], np.array([14, 12.5, 8.5]) * r, 6
        ),  # greater trochanter
        tube([at(10, 17, 26) + greater, at(2, 20, 14) + greater / 2], np.array([7.0, 5.0]) * r, 5),
        tube(
            [at(6, 19, 12) + greater / 2, at(-1, 15.5, -10), at(-9, 12, -28)], np.array([6.5, 6, 6]) * r, 6
        ),  # intertrochanteric crest
        tube([at(-6, 8, -38), locate_lesser_trochanter(shape)], np.array([11, 6.2]) * r, 7),  # lesser trochanter
        *[_make_spur(head, neck, up, shape.head_radius_mm, turn, size) for turn, size in shape.spurs],
    ]
    return union(parts)


def _make_spur(head: np.ndarray, neck: np.ndarray, up: np.ndarray, radius_mm: float, turn: float, size: float) -> Solid:
    """A ball at the rim of the head, where it meets the neck."""
    side = np.cross(neck, up)
    way = np.cos(turn) * up + np.sin(turn) * side
    return ball(head + 0.55 * radius_mm * neck + 0.8 * radius_mm * way, size, 4.0)
