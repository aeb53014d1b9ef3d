"""Joint angles from what a dataset holds, and errors that depend on an angle by a known slope."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import RigidTransform
from bmdkit.dataset.samples import Pair
from bmdkit.evaluation.joint_angle_errors import fit_angle, read_joint_angles

VIEW = RigidTransform.from_parts(Rotation.from_euler("xyz", [80, 10, 20], degrees=True).as_matrix(), [5, 6, 900.0])


def test_the_slope_of_made_up_numbers():
    angles = np.array([-2.0, -1, 0, 1, 2])
    fit = fit_angle(angles, 0.5 + 3 * angles, list("abcde"))
    assert (fit.n, fit.slope_per_deg, fit.intercept, fit.r) == pytest.approx((5, 3, 0.5, 1))
    assert fit.p < 1e-6


def test_p_counts_patients_not_images():
    """Two patients whose images repeat each other's: eight images say no more of a slope than two."""
    angles, errors = [0, 0, 0, 0, 10, 10, 10, 10], [1, 1, 1, 1.1, 2, 2, 2, 2.1]
    assert not fit_angle(angles, errors, list("aaaabbbb")).p < 0.05
    assert fit_angle(angles, errors, list("abcdefgh")).p < 1e-6


def test_rates_outside_the_limits():
    """One of 40 angles and one of 40 errors lies far out, in the same image."""
    values = np.tile([-1.0, 1.0], 20)
    values[-1] = 30
    fit = fit_angle(values, values, [str(n // 4) for n in range(40)])
    assert fit.outside_pct_usual == 0
    assert fit.outside_pct_unusual == 100
    half = 1.96 * values.std(ddof=1)
    assert fit.angle_limits == pytest.approx((values.mean() - half, values.mean() + half))


def test_an_angle_that_is_the_same_everywhere_has_no_slope():
    fit = fit_angle([4, 4, 4], [1, 2, 3], list("abc"))
    assert np.isnan([fit.slope_per_deg, fit.p]).all()
    assert np.isnan(fit.outside_pct_unusual)
    with pytest.raises(ValueError, match="two or more"):
        fit_angle([1.0], [1.0], ["a"])


def turned(flexion, abduction, side):
    """Pose of a femur in the view, moved from its place in the CT: abduction, then flexion, degrees."""
    lateral = 1 if side == "L" else -1
    turn = Rotation.from_euler("x", -flexion, degrees=True) * Rotation.from_euler(
        "y", -lateral * abduction, degrees=True
    )
    return VIEW @ RigidTransform.about(np.array([90.0, 0, 0]), turn.as_matrix())


def write_pair(root, side, flexion, abduction):
    name = f"p__standing__{side}"
    femur = turned(flexion, abduction, side)
    for dataset in "ab":
        folder = root / f"dataset_{dataset}" / name
        folder.mkdir(parents=True)
        poses = {"pelvis": VIEW.matrix.tolist()} if dataset == "a" else {}
        poses[f"femur_{side}"] = femur.matrix.tolist()
        (folder / "meta.json").write_text(json.dumps({"camera_from_ct": poses}))
    files = [root / "dataset_b" / name / f"{key}.tif" for key in ("xray", "drr", "mask")]
    return Pair(name, "p", side, "standing", "B", 0, *files), femur


@pytest.mark.parametrize("side", ["L", "R"])
def test_poses_of_dataset_a_tell_the_turn_since_the_ct(tmp_path, side):
    pair, _ = write_pair(tmp_path, side, 20, 15)
    found = read_joint_angles(tmp_path, [pair])[pair.pair_id]
    assert (found.flexion_deg, found.abduction_deg) == pytest.approx((20, 15), abs=1e-6)
    assert found.source == "change"


@pytest.mark.parametrize("side", ["L", "R"])
def test_a_registration_file_knows_better(tmp_path, side):
    """Of two radiographs of the case, the one whose femur lies where the pair's does; side by side with the CT's."""
    pair, femur = write_pair(tmp_path, side, 20, 15)
    case = tmp_path / "cases" / "p"
    case.mkdir(parents=True)
    for name, pose, flexion in (("a", turned(3, 0, side), 3.0), ("b", femur, 31.0)):
        angles = {"radiograph": {"flexion_deg": flexion, "abduction_deg": 12.0}}
        bodies = {f"femur_{side}": {"camera_from_ct": pose.matrix.tolist()}}
        (case / f"registration_{name}.json").write_text(json.dumps({"bodies": bodies, "angles": {side: angles}}))
    found = read_joint_angles(tmp_path, [pair])[pair.pair_id]
    assert (found.flexion_deg, found.abduction_deg, found.source) == (31, 12, "isb")
    # a CT without the iliac spines has no such angles
    data = json.loads((case / "registration_b.json").read_text())
    data["angles"][side]["radiograph"]["flexion_deg"] = None
    (case / "registration_b.json").write_text(json.dumps(data))
    assert read_joint_angles(tmp_path, [pair])[pair.pair_id].source == "change"


def test_a_dataset_that_knows_no_poses_gives_no_angles(tmp_path):
    pair, _ = write_pair(tmp_path, "L", 0, 0)
    for path in tmp_path.rglob("meta.json"):
        path.write_text("{}")
    assert read_joint_angles(tmp_path, [pair]) == {}
