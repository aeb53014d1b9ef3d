"""bmdkit render-drr: one small CT, every kind of view and output."""

import json

import numpy as np
import pydicom
import pytest
import tifffile
import torch
from click.testing import CliRunner
from PIL import Image

from bmdkit.cli.main import group, main
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.drr.channels import Channels
from bmdkit.drr.render import render
from bmdkit.io.label_maps import write_labels
from bmdkit.io.volumes import write_volume

CALIBRATION = {"slope_mg_cm3_per_hu": 0.8, "intercept_mg_cm3": 5.0, "residual_mg_cm3": None, "phantom": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A body of water in air; bone in the patient's left upper half, and a second, smaller piece."""
    root = tmp_path_factory.mktemp("drr")
    shape = (24, 32, 40)
    hu = np.full(shape, -1000, np.int16)
    hu[2:-2, 4:-4, 4:-4] = 0
    labels = np.zeros(shape, np.uint8)
    labels[14:20, 10:20, 24:34] = 1
    labels[4:8, 12:18, 8:14] = 2
    hu[labels > 0] = 500
    grid = Grid(hu.shape, (3, 3, 4), (-58.5, -40, -30), np.eye(3))
    write_volume(root / "ct.nii.gz", Volume(hu, grid, "hu"))
    write_labels(root / "labels.nii.gz", LabelMap(labels, grid, {"pelvis": 1, "femur_L": 2}))
    (root / "calibration.json").write_text(json.dumps(CALIBRATION))
    return root


def run(folder, *arguments, expect: int = 0):
    outcome = CliRunner().invoke(group, ["render-drr", str(folder / "ct.nii.gz"), *map(str, arguments), "-q"])
    assert outcome.exit_code == expect, outcome.output + repr(outcome.exception)
    return outcome


def about(path) -> dict:
    return json.loads(path.with_suffix(".json").read_text())


def test_an_ap_view_shows_the_left_on_the_right_and_the_head_up(folder, tmp_path):
    run(folder, "--out", tmp_path / "ap.tif", "--out", tmp_path / "ap.png", "--ap")
    image = tifffile.imread(tmp_path / "ap.tif")
    rows, columns = image.shape
    assert image.dtype == np.float32
    brightest = np.argwhere(image > 0.98 * image.max()).mean(axis=0)
    assert brightest[0] < rows / 2
    assert brightest[1] > columns / 2
    grey = np.asarray(Image.open(tmp_path / "ap.png"))
    assert grey.dtype == np.uint8
    assert grey.shape == image.shape
    # 24 voxels of water and 10 of bone (1.5 of water), 3 mm each, seen a little obliquely
    assert image.max() == pytest.approx((14 + 10 * 1.5) * 0.3, rel=0.02)
    assert about(tmp_path / "ap.tif")["unit"] == "g/cm2"


def test_opposite_views_mirror(folder, tmp_path):
    for view in ("ap", "pa", "lateral", "lateral-right"):
        run(folder, "--out", tmp_path / f"{view}.tif", f"--{view}", "--sdd-mm", 1e5, "--rows", 90, "--columns", 150)
    images = {view: tifffile.imread(tmp_path / f"{view}.tif") for view in ("ap", "pa", "lateral", "lateral-right")}
    np.testing.assert_allclose(images["pa"][:, ::-1], images["ap"], atol=0.05)
    np.testing.assert_allclose(images["lateral-right"][:, ::-1], images["lateral"], atol=0.05)


def test_structures_are_pages_of_calibrated_density(folder, tmp_path):
    out = tmp_path / "bones.tif"
    labels = ["--labels", folder / "labels.nii.gz", "--calibration", folder / "calibration.json"]
    run(
        folder,
        "--out",
        out,
        *labels,
        "--structure",
        "pelvis",
        "--structure",
        "femur_L",
        "--structure",
        "pelvis+femur_L",
    )
    pelvis, femur, both = tifffile.imread(out)
    np.testing.assert_allclose(pelvis + femur, both, atol=1e-5 * both.max())
    assert pelvis.max() == pytest.approx((500 * 0.8 + 5) * 30 * 1e-4, rel=0.02)
    assert [page["structure"] for page in about(out)["pages"]] == ["pelvis", "femur_L", "pelvis+femur_L"]
    run(folder, "--out", tmp_path / "all.png", *labels)
    assert np.asarray(Image.open(tmp_path / "all.png")).shape == (both.shape[0], 2 * both.shape[1])


def test_many_poses_from_one_file(folder, tmp_path):
    run(folder, "--out", tmp_path / "one.tif")
    said = about(tmp_path / "one.tif")
    matrix = np.array(said["pages"][0]["camera_from_ct"])
    moved = matrix.copy()
    moved[0, 3] += 12
    file = tmp_path / "poses.json"
    for data in (
        [matrix.tolist(), moved.tolist()],
        {"poses": [{"camera_from_ct": m.tolist()} for m in (matrix, moved)]},
    ):
        data = (
            {"camera": said["camera"], "poses": data} if isinstance(data, list) else data | {"camera": said["camera"]}
        )
        file.write_text(json.dumps(data))
        run(folder, "--out", tmp_path / "two.tif", "--pose", file)
        images = tifffile.imread(tmp_path / "two.tif")
        np.testing.assert_array_equal(images[0], tifffile.imread(tmp_path / "one.tif"))
        assert np.abs(images[1] - images[0]).max() > 0.1
    file.write_text(json.dumps(matrix.tolist()))
    run(folder, "--out", tmp_path / "again.tif", "--pose", file)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "again.tif"), images[0])


def test_a_registration_gives_each_structure_its_own_pose(folder, tmp_path):
    labels = ["--labels", folder / "labels.nii.gz"]
    run(folder, "--out", tmp_path / "still.tif", *labels)
    said = about(tmp_path / "still.tif")
    pose = said["pages"][0]["camera_from_ct"]
    moved = np.array(pose)
    moved[1, 3] -= 9
    bodies = {"pelvis": {"camera_from_ct": pose}, "femur_L": {"camera_from_ct": moved.tolist()}}
    (tmp_path / "registration.json").write_text(json.dumps({"camera": said["camera"], "bodies": bodies}))
    run(folder, "--out", tmp_path / "moved.tif", *labels, "--pose", tmp_path / "registration.json")
    still, moved = tifffile.imread(tmp_path / "still.tif"), tifffile.imread(tmp_path / "moved.tif")
    np.testing.assert_array_equal(still[0], moved[0])
    assert np.argwhere(moved[1] > 0)[:, 0].mean() < np.argwhere(still[1] > 0)[:, 0].mean() - 5


def test_dicom_gives_the_values_and_the_geometry_back(folder, tmp_path):
    for name in ("a", "b"):
        run(folder, "--out", tmp_path / f"{name}.dcm", "--out", tmp_path / "a.tif", "--pixel-mm", 1.5, "--sdd-mm", 1100)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    data, image = pydicom.dcmread(tmp_path / "a.dcm"), tifffile.imread(tmp_path / "a.tif")
    assert data.SOPClassUID.name == "Secondary Capture Image Storage"
    values = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
    np.testing.assert_allclose(values, image, atol=image.max() / 65000)
    assert data.DistanceSourceToDetector == 1100
    assert data.ImagerPixelSpacing == [1.5, 1.5]
    assert not data.PatientName
    assert json.loads(data.ImageComments)["camera"]["columns"] == image.shape[1]


def test_an_exposure(folder, tmp_path):
    run(folder, "--out", tmp_path / "film.tif", "--spectrum", 80, "--seed", 3)
    run(folder, "--out", tmp_path / "again.tif", "--spectrum", 80, "--seed", 3)
    run(folder, "--out", tmp_path / "plain.tif")
    film, plain = (tifffile.imread(tmp_path / f"{name}.tif") for name in ("film", "plain"))
    np.testing.assert_array_equal(film, tifffile.imread(tmp_path / "again.tif"))
    assert np.corrcoef(film.ravel(), plain.ravel())[0, 1] > 0.9
    assert about(tmp_path / "film.tif")["quantity"] == "exposure"


def test_angles_and_supersampling(folder, tmp_path):
    run(folder, "--out", tmp_path / "turned.tif", "--angles", 0, 90, 0, "--sdd-mm", 1e5, "--rows", 90, "--columns", 150)
    run(folder, "--out", tmp_path / "side.tif", "--lateral", "--sdd-mm", 1e5, "--rows", 90, "--columns", 150)
    run(folder, "--out", tmp_path / "other.tif", "--lateral-right", "--sdd-mm", 1e5, "--rows", 90, "--columns", 150)
    turned = tifffile.imread(tmp_path / "turned.tif")
    apart = [np.abs(turned - tifffile.imread(tmp_path / f"{name}.tif")).max() for name in ("side", "other")]
    assert min(apart) < 0.05 < max(apart)
    run(folder, "--out", tmp_path / "coarse.tif", "--pixel-mm", 2, "--rows", 60, "--columns", 80, "--supersample", 2)
    run(folder, "--out", tmp_path / "fine.tif", "--pixel-mm", 1, "--rows", 120, "--columns", 160)
    fine = tifffile.imread(tmp_path / "fine.tif").reshape(60, 2, 80, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(tifffile.imread(tmp_path / "coarse.tif"), fine, atol=1e-5 * fine.max())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "x.jpg"], "expected .tif, .png or .dcm"),
        (["--out", "x.tif", "--structure", "pelvis"], "needs --labels"),
        (["--out", "x.tif", "--quantity", "density"], "needs --calibration"),
        (["--out", "x.tif", "--labels", "labels.nii.gz", "--structure", "skull"], "skull not in the label map"),
        (["--out", "x.tif", "--pose", "calibration.json"], "expected a 4x4 matrix"),
        (["--out", "x.tif", "--pose", "behind.json"], "behind the source"),
        (["--out", "x.tif", "--pose", "shear.json"], "proper rotation"),
        (["--out", "x.tif", "--pose", "text.json"], "is not JSON"),
        (["--out", "x.tif", "--pose", "behind.json", "--ap"], "not both"),
        (["--out", "x.tif", "--object-to-detector-mm", "1300"], "less than --sdd-mm"),
        (["--out", "x.tif", "--spectrum", "80", "--labels", "labels.nii.gz"], "exposes the whole body"),
        (["--out", "x.tif", "--rows", "0"], "--rows"),
    ],
)
def test_mistakes_are_usage_errors(folder, monkeypatch, arguments, said):
    monkeypatch.chdir(folder)
    behind, shear = np.eye(4), np.eye(4)
    behind[2, 3], shear[0, 1] = -900, 1
    (folder / "behind.json").write_text(json.dumps(behind.tolist()))
    (folder / "shear.json").write_text(json.dumps(shear.tolist()))
    (folder / "text.json").write_text("ap")
    assert said in " ".join(run(folder, *arguments, expect=2).output.split())


def test_an_unfit_ct_is_refused_with_its_code(tmp_path, capsys):
    write_volume(
        tmp_path / "ct.nii.gz",
        Volume(np.full((4, 5, 6), 3000.0), Grid((4, 5, 6), (1, 1, 1), (0, 0, 0), np.eye(3)), "hu"),
    )
    with pytest.raises(SystemExit) as stop:
        main(["render-drr", str(tmp_path / "ct.nii.gz"), "--out", str(tmp_path / "x.tif"), "-q"])
    assert stop.value.code == 3
    assert "BMD-CT-0" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_exit_4(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["render-drr", str(folder / "ct.nii.gz"), "--out", str(tmp_path / "x.tif"), "-q", "--device", "cuda"])
    assert stop.value.code == 4
    assert "BMD-DRR-001" in capsys.readouterr().err


def test_the_tiff_is_what_render_gives(folder, tmp_path):
    """In value times mm, times 1e-4."""
    from bmdkit.core.geometry import ProjectionGeometry
    from bmdkit.io.volumes import read_volume

    run(folder, "--out", tmp_path / "ap.tif", "--angles", 5, 10, -7)
    said = about(tmp_path / "ap.tif")
    hu = read_volume(folder / "ct.nii.gz", "hu")
    water = Volume(np.maximum(hu.array.astype(np.float32) + 1000, 0), hu.grid, "density_mg_cm3")
    pose = np.array(said["pages"][0]["camera_from_ct"])[None]
    image = render(Channels.from_volume(water), pose, ProjectionGeometry.from_dict(said["camera"]))[0, 0] * 1e-4
    np.testing.assert_allclose(tifffile.imread(tmp_path / "ap.tif"), image, atol=1e-5 * image.max())
