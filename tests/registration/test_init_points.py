"""`bmdkit register --init-points` and `--slicer`, from files to files, on the small skeleton."""

import json

import click
import numpy as np
import pytest
from click.testing import CliRunner
from dicom_samples import write_dx
from hip_skeleton import CAMERA, expose, skeleton

from bmdkit.calibration.line import Calibration
from bmdkit.cli.register import command
from bmdkit.cli.registration_inputs import read_start
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.volume import Volume
from bmdkit.io.label_maps import write_labels
from bmdkit.io.results import write_json
from bmdkit.io.volumes import write_volume
from bmdkit.slicer.transform_files import read_transform, write_transform

REACHED_MM = 3.0  # mean point error: one voxel of the skeleton
SETTINGS = {
    "coarse_pixel_mm": 6.0, "coarse_voxel_mm": 6.0, "fine_pixel_mm": 3.0, "fine_voxel_mm": 3.0,
    "pelvis.sigma": 0.3, "pelvis.population": 8, "pelvis.evaluations": 64, "femur.population": 8,
    "femur.evaluations": 48, "restarts": 0, "check_mirror": "false",
}  # fmt: skip


def named_points(bodies) -> dict[str, np.ndarray]:
    """Named points of the pelvis, spread over it."""
    return {f"p{k}": point for k, point in enumerate(bodies[0].points_mm[::60])}


def error_mm(matrix, true, body) -> float:
    found = RigidTransform(np.array(matrix))
    return float(np.linalg.norm(found.apply(body.points_mm) - true.apply(body.points_mm), axis=1).mean())


@pytest.fixture
def files(bodies, tmp_path):
    """CT, labels, calibration, radiograph and points on disk, and the true poses."""
    density, labels = skeleton()
    shown = expose(bodies, np.random.default_rng(3))
    hu = density.array.copy()
    hu[:, :3] = -1000  # air in front
    write_volume(tmp_path / "ct.nii.gz", Volume(hu, density.grid, "hu"))
    write_labels(tmp_path / "labels.nii.gz", labels)
    write_json(tmp_path / "calibration.json", Calibration(1.0, 0.0, None, None, (), "file").to_dict())

    def edit(ds):
        ds.DistanceSourceToDetector, ds.ImagerPixelSpacing = CAMERA.sdd_mm, [1.0, 1.0]

    write_dx(tmp_path / "xray.dcm", shown.radiograph.pixels, edit=edit)
    points, noise = named_points(bodies), np.random.default_rng(5)
    controls = [{"label": n, "position": p.tolist(), "positionStatus": "defined"} for n, p in points.items()]
    markups = {"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": controls}]}
    (tmp_path / "ct.mrk.json").write_text(json.dumps(markups))
    clicked = {
        name: (CAMERA.project(p, camera_from_world=shown.poses["pelvis"]) + noise.normal(0, 1, 2)).tolist()
        for name, p in points.items()
    }
    (tmp_path / "xray.json").write_text(json.dumps(clicked))
    return tmp_path, shown.poses


def arguments_in(folder) -> list[str]:
    """What is typed."""
    found = [str(folder / "ct.nii.gz"), str(folder / "xray.dcm"), "--out", str(folder / "out")]
    found += ["--labels", str(folder / "labels.nii.gz"), "--calibration", str(folder / "calibration.json")]
    found += ["--init-points", str(folder / "ct.mrk.json"), str(folder / "xray.json")]
    return found + [part for key, value in SETTINGS.items() for part in ("--set", f"registration.{key}={value}")]


def test_registration_starts_where_the_points_say(bodies, files):
    folder, true = files
    result = CliRunner().invoke(command, [*arguments_in(folder), "--slicer"], catch_exceptions=False)
    assert result.exit_code in (0, 3), result.output  # 3: a verdict is reject
    data = json.loads((folder / "out" / "registration_xray.json").read_text())
    assert error_mm(data["start"], true["pelvis"], bodies[0]) < 12.0  # clicks 1 mm off: mostly depth
    for body in bodies:
        assert error_mm(data["bodies"][body.name]["camera_from_ct"], true[body.name], body) < REACHED_MM
    assert (folder / "out" / "registration_xray_edges.png").stat().st_size > 0
    scene = folder / "out" / "registration_xray_slicer"
    assert (scene / "scene.mrml").stat().st_size > 0
    moved = read_transform(scene / "camera_from_ct_femur_L.tfm")
    np.testing.assert_allclose(moved.matrix, data["bodies"]["femur_L"]["camera_from_ct"], atol=1e-9)


def test_a_pose_that_was_moved_in_slicer_is_a_start(tmp_path):
    camera_from_ct = RigidTransform.from_parts(np.eye(3), (10.0, -20.0, 860.0))
    write_transform(tmp_path / "camera_from_ct_pelvis.tfm", camera_from_ct)
    camera, begun = read_start(tmp_path / "camera_from_ct_pelvis.tfm", None, CAMERA)
    assert camera is CAMERA
    np.testing.assert_allclose(begun.matrix, camera_from_ct.matrix, atol=1e-12)
    (tmp_path / "bad.tfm").write_text("no transform")
    with pytest.raises(click.UsageError, match=r"--init: bad\.tfm"):
        read_start(tmp_path / "bad.tfm", None, CAMERA)


def test_too_few_pairs_are_a_usage_error(files):
    folder, _ = files
    (folder / "xray.json").write_text(json.dumps({"p0": [10, 10]}))
    result = CliRunner().invoke(command, arguments_in(folder))
    assert result.exit_code == 2
    assert "three" in result.output
    assert not (folder / "out").exists()


def list_files(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_a_dry_run_says_what_would_be_registered_and_writes_nothing(files):
    folder, _ = files
    before = list_files(folder)
    result = CliRunner().invoke(command, [*arguments_in(folder), "--slicer", "--dry-run"], catch_exceptions=False)
    told = " ".join(result.output.split())
    assert result.exit_code == 0
    assert "CT: 84 slices of 50 x 110 pixels of 3.00 x 3.00 mm, 3.00 mm apart." in told
    assert f"Radiograph xray: {CAMERA.rows} x {CAMERA.columns} pixels of 1.000 x 1.000 mm" in told
    assert "It would register pelvis, femur_L, femur_R, on " in told
    assert "begin with the given start" in told
    assert "registration_xray.json, settings_xray.json, registration_xray_edges.png" in told
    assert "registration_xray_slicer." in told
    assert list_files(folder) == before


@pytest.mark.parametrize("change", ["no labels of such a name", "too few pairs", "no image", "no camera"])
def test_a_dry_run_refuses_what_the_command_refuses(files, change):
    folder, _ = files
    words = arguments_in(folder)
    if change == "no labels of such a name":
        words += ["--structure", "rib"]
    elif change == "too few pairs":
        (folder / "xray.json").write_text(json.dumps({"p0": [10, 10]}))
    elif change == "no image":
        (folder / "xray.dcm").write_bytes(b"0")
    else:
        (folder / "cameras.json").write_text("{}")
        words += ["--cameras", str(folder / "cameras.json")]
    before = list_files(folder)
    first = CliRunner().invoke(command, [*words, "--dry-run"])
    real = CliRunner().invoke(command, words)
    assert (type(first.exception), str(first.exception)) == (type(real.exception), str(real.exception))
    assert first.exit_code == real.exit_code != 0
    assert first.output == real.output
    assert list_files(folder) == before
