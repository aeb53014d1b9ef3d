"""Landmark files of 3D Slicer: LPS or RAS as the file says, and only if it says."""

import json

import numpy as np
import pytest

from bmdkit.core.anatomy import LANDMARKS
from bmdkit.core.landmarks import Landmarks
from bmdkit.errors import CaseError
from bmdkit.io.markups import read_landmarks, read_points, write_landmarks

POINTS = {name: np.array([n + 0.5, 2.0 * n - 3, 100.25 - n]) for n, name in enumerate(LANDMARKS)}
RAS = (-1, -1, 1)


def markup(points, system="LPS", **more):
    control = [{"label": name, "position": list(p), "positionStatus": "defined"} for name, p in points.items()]
    return {"markups": [{"type": "Fiducial", "coordinateSystem": system, "controlPoints": control, **more}]}


@pytest.mark.parametrize("name", ["a.mrk.json", "a.fcsv"])
def test_round_trip(tmp_path, name):
    write_landmarks(tmp_path / name, Landmarks("L", POINTS))
    back = read_landmarks(tmp_path / name, "L")
    assert back.missing() == ()
    for key, point in POINTS.items():
        np.testing.assert_allclose(back[key], point, atol=1e-4)


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_json_says_which_system(tmp_path, system):
    given = POINTS if system == "LPS" else {k: v * RAS for k, v in POINTS.items()}
    (tmp_path / "a.mrk.json").write_text(json.dumps(markup({k: v.tolist() for k, v in given.items()}, system)))
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.mrk.json", "R")["shaft_5cm"], POINTS["shaft_5cm"])


@pytest.mark.parametrize(("system", "signs"), [("LPS", (1, 1, 1)), ("1", (1, 1, 1)), ("RAS", RAS), ("0", RAS)])
def test_fcsv_says_which_system(tmp_path, system, signs):
    lines = ["# Markups fiducial file version = 4.11", f"# CoordinateSystem = {system}", "# columns = id,x,y,z,label"]
    lines += [f"{n},{','.join(str(c) for c in p * signs)},{name}" for n, (name, p) in enumerate(POINTS.items())]
    (tmp_path / "a.fcsv").write_text("\n".join(lines))
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.fcsv", "L")["head_center"], POINTS["head_center"])


def test_names_are_forgiving_and_other_points_left_out(tmp_path):
    points = {"Head centre": [1, 2, 3], "SHAFT-2cm": [4, 5, 6], "liver": [7, 8, 9]}
    (tmp_path / "a.json").write_text(json.dumps(markup(points)))
    found = read_landmarks(tmp_path / "a.json", "L")
    assert set(found.points_mm) == {"head_center", "shaft_2cm"}
    assert set(read_points(tmp_path / "a.json")) == set(points)


def test_undefined_points_are_left_out(tmp_path):
    data = markup({"head_center": [1, 2, 3], "neck_center": [0, 0, 0]})
    data["markups"][0]["controlPoints"][1]["positionStatus"] = "undefined"
    (tmp_path / "a.json").write_text(json.dumps(data))
    assert read_landmarks(tmp_path / "a.json", "L").missing()[0] == "neck_center"


BAD = {
    "no system": (json.dumps(markup({"head_center": [1, 2, 3]}, None)), "BMD-MRK-002"),
    "unknown system": (json.dumps(markup({"head_center": [1, 2, 3]}, "IJK")), "BMD-MRK-002"),
    "other names only": (json.dumps(markup({"F-1": [1, 2, 3]})), "BMD-MRK-003"),
    "no points": (json.dumps(markup({})), "BMD-MRK-003"),
    "two numbers": (json.dumps(markup({"head_center": [1, 2]})), "BMD-MRK-001"),
    "NaN": (json.dumps(markup({"head_center": [1, 2, float("nan")]})), "BMD-MRK-001"),
    "no number": (json.dumps(markup({"head_center": [1, 2, "x"]})), "BMD-MRK-001"),
    "metres": (json.dumps(markup({"head_center": [1, 2, 3]}, coordinateUnits="m")), "BMD-MRK-001"),
    "no markups": ("{}", "BMD-MRK-001"),
    "no JSON": ("head_center 1 2 3", "BMD-MRK-001"),
    "list": ("[]", "BMD-MRK-001"),
}


@pytest.mark.parametrize(("content", "code"), BAD.values(), ids=BAD)
def test_bad_files(tmp_path, content, code):
    (tmp_path / "a.mrk.json").write_text(content)
    with pytest.raises(CaseError) as caught:
        read_landmarks(tmp_path / "a.mrk.json", "L", case="p1")
    assert caught.value.code == code


def test_a_point_given_twice(tmp_path):
    data = markup({"head_center": [1, 2, 3]})
    data["markups"][0]["controlPoints"] *= 2
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(CaseError, match="twice"):
        read_landmarks(tmp_path / "a.json", "L")
