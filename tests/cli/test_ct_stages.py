"""`bmdkit calibrate` and `bmdkit landmarks` on files, as a user runs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from bmdkit.calibration import Calibration
from bmdkit.cli.calibrate import command as calibrate
from bmdkit.cli.landmarks import command as landmarks
from bmdkit.core.anatomy import LANDMARKS
from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.errors import CaseError

HERE = Path(__file__).resolve().parent
for folder in ("calibration", "regions"):
    sys.path.append(str(HERE.parent / folder))

from rod_scans import RodScan, density_errors  # noqa: E402
from solid_femur import VALUES, SolidFemur  # noqa: E402


def save(path: Path, array: np.ndarray, grid: Grid) -> Path:
    """NIfTI in RAS."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.lps_from_ijk
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine), path)
    return path


@pytest.fixture
def rods(tmp_path: Path) -> tuple[RodScan, Path]:
    scan = RodScan(slices=12)
    volume = scan.volume()
    return scan, save(tmp_path / "ct.nii.gz", volume.array, volume.grid)


@pytest.fixture
def hip_files(tmp_path: Path) -> tuple[Path, Path]:
    """CT and label map of two femurs and a bar of pelvis."""
    spacing = 2.5
    grid = Grid((105, 100, 150), [spacing] * 3, [-186.0, -125.0, -200.0], np.eye(3))
    points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))
    x, y, z = np.moveaxis(points, -1, 0)
    array = np.zeros(grid.shape, np.uint8)
    for side in "LR":
        array[SolidFemur(side, shaft_bottom=-195.0).inside(points)] = VALUES[f"femur_{side}"]
    array[(np.abs(x) < 60) & (np.abs(y) < 20) & (np.abs(z) < 30)] = VALUES["pelvis"]
    hu = np.where((x / 180) ** 2 + (y / 115) ** 2 < 1, 40, -1000)
    hu = np.where(array > 0, 500, hu).astype(np.int16)
    labels = save(tmp_path / "labels.nii.gz", array, grid)
    (tmp_path / "labels.json").write_text(json.dumps(VALUES), encoding="utf-8")
    return save(tmp_path / "ct.nii.gz", hu, grid), labels


def run(command, *arguments) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_calibrate_writes_the_line_and_a_picture(rods, tmp_path):
    scan, ct = rods
    code, _ = run(calibrate, ct, "--out", tmp_path / "out")
    assert code == 0
    data = json.loads((tmp_path / "out" / "calibration.json").read_text(encoding="utf-8"))
    assert (data["phantom"], data["source"], len(data["rods"])) == ("b-mas200", "phantom", 5)
    assert np.abs(density_errors(Calibration.from_dict(data), scan)[:3]).max() < 2.0
    assert (tmp_path / "out" / "calibration.png").stat().st_size > 1000


def test_calibrate_takes_rods_of_a_recipe(rods, tmp_path):
    _, ct = rods
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("calibration: {phantom: custom, densities_mg_cm3: [0, 50, 100, 150, 200]}\n", encoding="utf-8")
    code, _ = run(calibrate, ct, "--out", tmp_path / "out", "--recipe", recipe)
    assert code == 0
    data = json.loads((tmp_path / "out" / "calibration.json").read_text(encoding="utf-8"))
    assert data["phantom"] == "custom"
    assert json.loads((tmp_path / "out" / "calibration_settings.json").read_text())["phantom"] == "custom"


def test_calibrate_without_a_phantom_needs_another_mode(hip_files, tmp_path):
    ct, _ = hip_files
    with pytest.raises(CaseError, match="BMD-CAL-001"):
        run(calibrate, ct, "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "calibration.json").exists()
    assert run(calibrate, ct, "--out", tmp_path / "out", "--mode", "none")[0] == 0


def test_landmarks_writes_a_file_for_each_hip(hip_files, tmp_path):
    ct, labels = hip_files
    code, _ = run(landmarks, ct, "--labels", labels, "--out", tmp_path / "out")
    assert code == 0
    for side in "LR":
        markup = json.loads((tmp_path / "out" / f"landmarks_{side}.mrk.json").read_text(encoding="utf-8"))["markups"][0]
        points = {point["label"]: np.array(point["position"]) for point in markup["controlPoints"]}
        assert markup["coordinateSystem"] == "LPS"
        assert set(points) == set(LANDMARKS)
        assert np.linalg.norm(points["head_center"] - SolidFemur(side).head) < 2.5
    found = json.loads((tmp_path / "out" / "landmarks.json").read_text(encoding="utf-8"))
    assert set(found["L"]["confidence"]) == set(LANDMARKS)
    assert found["L"]["flags"] == []


def test_landmarks_of_a_cut_femur_are_refused_and_the_other_hip_is_written(hip_files, tmp_path):
    ct, labels = hip_files
    image = nibabel.load(labels)
    array = np.asarray(image.dataobj).copy()
    slices = array.shape[2]
    array[:, :, : int(0.48 * slices)][array[:, :, : int(0.48 * slices)] == VALUES["femur_R"]] = 0
    nibabel.save(nibabel.Nifti1Image(array, image.affine), labels)
    code, _ = run(landmarks, ct, "--labels", labels, "--out", tmp_path / "out")
    assert code == 3
    found = json.loads((tmp_path / "out" / "landmarks.json").read_text(encoding="utf-8"))
    assert found["R"]["refused"] == "BMD-LMK-001"
    assert (tmp_path / "out" / "landmarks_L.mrk.json").exists()
    assert not (tmp_path / "out" / "landmarks_R.mrk.json").exists()


def test_the_scan_of_a_volume_survives_the_file(rods):
    scan, ct = rods
    from bmdkit.io.ct import read_ct

    volume = scan.volume()
    read = read_ct(ct).volume
    assert isinstance(read, Volume)
    assert np.allclose(read.grid.corners().mean(axis=0), volume.grid.corners().mean(axis=0), atol=1e-3)
