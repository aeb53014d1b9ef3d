"""Landmarks found on a femur whose geometry is known; refusals where there is nothing to find."""

from __future__ import annotations

import json

import numpy as np
import pytest
from solid_femur import SolidFemur

from bmdkit.core.anatomy import LANDMARKS
from bmdkit.core.volume import LabelMap
from bmdkit.errors import CaseError
from bmdkit.regions import find_landmarks

TOLERANCE_MM = 2.0  # between one and two voxels
JUNCTION_TOLERANCE_MM = 3.0


def section_at(femur: SolidFemur, z: float) -> np.ndarray:
    return np.array([femur.shaft_top[0], femur.shaft_top[1], z])


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (0.8, 0.8, 3.0), (1.5, 1.5, 5.0)])
def test_landmarks_of_a_known_femur(side, spacing):
    femur = SolidFemur(side)
    found = find_landmarks(femur.labels(spacing), side)
    points = found.landmarks.points_mm
    tolerance = max(TOLERANCE_MM, 0.6 * max(spacing))
    assert set(points) == set(LANDMARKS) == set(found.confidence)
    assert np.linalg.norm(points["head_center"] - femur.head) < tolerance
    assert found.head_radius_mm == pytest.approx(femur.head_radius, abs=1.0)
    assert found.neck_shaft_angle_deg == pytest.approx(femur.neck_shaft_deg, abs=4)
    assert np.linalg.norm(np.array(found.lesser_trochanter_mm) - femur.lesser) < 2.5 * tolerance
    for name, drop in (("shaft_2cm", 20), ("shaft_5cm", 50)):
        assert np.linalg.norm(points[name] - section_at(femur, femur.lesser_z - drop)) < 2 * tolerance
    # the neck's centre lies on its axis
    away = points["neck_center"] - femur.head
    assert np.linalg.norm(away - (away @ femur.neck_direction) * femur.neck_direction) < tolerance
    assert all(0 < value <= 1 for value in found.confidence.values())


def test_junction_is_where_the_neck_leaves_the_head():
    femur = SolidFemur()
    found = find_landmarks(femur.labels(), "L")
    heights = (found.landmarks.junction() - femur.head) @ femur.neck_direction
    measured = np.sqrt(femur.head_radius**2 - femur.neck_radius**2)  # where the cylinder pierces the sphere
    expected = 0.5 * (measured + 0.74 * femur.head_radius)
    assert heights == pytest.approx([expected] * 4, abs=JUNCTION_TOLERANCE_MM)
    up, down = found.landmarks["junction_superior"], found.landmarks["junction_inferior"]
    front, back = found.landmarks["junction_anterior"], found.landmarks["junction_posterior"]
    assert up[2] > down[2]
    assert front[1] < back[1]


def test_a_right_femur_is_the_mirror_image_of_a_left_one():
    left, right = SolidFemur("L"), SolidFemur("R")
    labels = left.labels()
    mirrored = LabelMap(
        np.where(labels.array[:, :, ::-1] > 0, right.labels().values["femur_R"], 0).astype(np.uint8),
        type(labels.grid)(
            labels.grid.shape,
            labels.grid.spacing_mm,
            labels.grid.points([0, 0, labels.grid.shape[2] - 1]) * [-1, 1, 1],
            np.eye(3),
        ),
        labels.values,
    )
    one, other = find_landmarks(labels, "L").landmarks, find_landmarks(mirrored, "R").landmarks
    for name in LANDMARKS:
        assert other[name] == pytest.approx(one[name] * [-1, 1, 1], abs=0.3)


def test_a_grid_of_another_direction_gives_the_same_points():
    femur = SolidFemur()
    turned = find_landmarks(femur.labels(direction=np.diag([-1.0, -1.0, 1.0])), "L").landmarks
    plain = find_landmarks(femur.labels(), "L").landmarks
    for name in LANDMARKS:
        apart = turned[name] - plain[name]
        if name == "neck_center":  # a cylinder's smallest section is anywhere along it
            apart = apart - (apart @ femur.neck_direction) * femur.neck_direction
        assert np.linalg.norm(apart) < TOLERANCE_MM


def test_a_femur_without_a_neck_falls_back_and_says_so():
    found = find_landmarks(SolidFemur(neck_radius=23.5, neck_length=60).labels(), "L")
    assert [flag.code for flag in found.flags] == ["BMD-LMK-002"]
    heights = (found.landmarks.junction() - found.landmarks["head_center"]).mean(axis=0)
    assert np.linalg.norm(heights) == pytest.approx(0.74 * found.head_radius_mm, abs=2.0)
    assert found.confidence["junction_superior"] < 0.5


def test_where_no_junction_is_seen_the_finding_can_be_written_as_json(monkeypatch):
    monkeypatch.setattr("bmdkit.regions.landmark_detection.find_junction_height", lambda *_: (np.nan, np.inf))
    found = find_landmarks(SolidFemur().labels(), "L").to_dict()
    (flag,) = found["flags"]
    assert (flag["code"], flag["measured"], flag["message"]) == ("BMD-LMK-002", None, "no junction: set at 0.74 radii")
    json.dumps(found, allow_nan=False)


def test_a_short_shaft_flags_the_lower_point_and_a_shorter_one_refuses():
    found = find_landmarks(SolidFemur(shaft_bottom=-100).labels(), "L")
    assert [flag.code for flag in found.flags] == ["BMD-LMK-002"]
    assert found.landmarks["shaft_5cm"] == pytest.approx(section_at(SolidFemur(), -115), abs=4)
    with pytest.raises(CaseError, match="BMD-LMK-001"):
        find_landmarks(SolidFemur(shaft_bottom=-78).labels(), "L")


def test_a_femur_without_a_head_is_refused():
    femur = SolidFemur()
    labels = femur.labels()
    array = labels.array.copy()
    index = np.argwhere(array)
    points = labels.grid.points(index)
    cut = points[:, 0] < femur.shaft_top[0] - 12
    array[tuple(index[cut].T)] = 0
    with pytest.raises(CaseError, match="BMD-LMK-001"):
        find_landmarks(LabelMap(array, labels.grid, labels.values), "L")


def test_a_missing_femur_is_refused():
    with pytest.raises(CaseError, match="BMD-LMK-001"):
        find_landmarks(SolidFemur("L").labels(), "R")
