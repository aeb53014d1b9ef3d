"""The reader of the DeepFluoro layout, on a small file written in that layout."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

h5py = pytest.importorskip("h5py")

ROWS, COLUMNS, PIXEL_MM, FOCAL_MM = 120, 140, 2.0, 1020.0
INTRINSIC = np.array([[-FOCAL_MM / PIXEL_MM, 0, 66.5], [0, -FOCAL_MM / PIXEL_MM, 61.0], [0, 0, 1]])
POINT = np.array([31.0, -12.0, 45.0])  # LPS


@pytest.fixture
def deepfluoro(monkeypatch):
    path = Path(__file__).parents[2] / "benchmarks" / "registration_deepfluoro.py"
    spec = importlib.util.spec_from_file_location("registration_deepfluoro", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sample(tmp_path):
    """A file of one specimen and two projections, the second upside down and blind to the right femur."""
    rng = np.random.default_rng(0)
    path = tmp_path / "small.h5"
    extrinsic = np.eye(4)
    extrinsic[:3, :3] = Rotation.from_euler("xyz", (20, -10, 5), degrees=True).as_matrix()
    extrinsic[:3, 3] = (5, -8, 12)
    # the bone lies in front of the source, at negative z of the file's camera
    projective_from_ct = np.eye(4)
    projective_from_ct[:3, :3] = Rotation.from_euler("xyz", (95, 3, -4), degrees=True).as_matrix()
    projective_from_ct[:3, 3] = (10, -20, -700)
    ct_from_world = np.linalg.inv(np.linalg.inv(extrinsic) @ projective_from_ct)
    with h5py.File(path, "w") as file:
        shared = file.create_group("proj-params")
        for key, value in {
            "extrinsic": extrinsic,
            "intrinsic": INTRINSIC,
            "num-cols": COLUMNS,
            "num-rows": ROWS,
            "pixel-col-spacing": PIXEL_MM,
            "pixel-row-spacing": PIXEL_MM,
        }.items():
            shared[key] = value
        labels = np.zeros((12, 10, 14), np.uint8)
        labels[2:5, 3:6, 4:9], labels[7:9, 3:6, 10:12] = 1, 5
        for where, pixels in (("17-0001/vol", labels * 300.0 - 50), ("17-0001/vol-seg/image", labels)):
            group = file.create_group(where)
            group["pixels"], group["spacing"], group["dir-mat"] = pixels, np.array([[1.0], [1.0], [1.0]]), np.eye(3)
            group["origin"] = np.array([[-20.0], [-30.0], [100.0]])
        names = file.create_group("17-0001/vol-seg/labels-def")
        for value, name in {1: "left-hemipelvis", 3: "vertebrae", 5: "left-femur"}.items():
            names[str(value)] = name
        for k, name in enumerate(("000", "001")):
            shot = file.create_group(f"17-0001/projections/{name}")
            shot["image/pixels"] = rng.uniform(100, 60000, (ROWS, COLUMNS)).astype(np.float32)
            shot["rot-180-for-up"] = k
            poses = shot.create_group("gt-poses")
            for key in ("cam-to-pelvis-vol", "cam-to-left-femur-vol", "cam-to-right-femur-vol"):
                poses[key] = ct_from_world
            poses["left-femur-good-fov"], poses["right-femur-good-fov"] = 1, 1 - k
    seen = INTRINSIC @ (projective_from_ct[:3, :3] @ POINT + projective_from_ct[:3, 3])
    return path, seen[:2] / seen[2]


def test_specimen(deepfluoro, sample):
    with deepfluoro.open_file(sample[0]) as file:
        (specimen,) = deepfluoro.specimens(file)
    assert specimen.name == "17-0001"
    assert specimen.projections == ("000", "001")
    assert specimen.labels.present() == ("pelvis", "femur_L")
    assert specimen.density.array.min() == 0
    assert np.allclose(specimen.labels.grid.points([0, 0, 3]), (-17, -30, 100))


@pytest.mark.parametrize("name", ["000", "001"])
def test_known_points_project_where_the_file_says(deepfluoro, sample, name):
    path, (u, v) = sample
    with deepfluoro.open_file(path) as file:
        shot = deepfluoro.projection(file, "17-0001", name)
        raw = np.asarray(file[f"17-0001/projections/{name}/image/pixels"])
    expected = (COLUMNS - 1 - u, v) if name == "000" else (u, ROWS - 1 - v)
    found = shot.camera.project(POINT, camera_from_world=shot.poses["pelvis"])
    assert np.allclose(found, expected)
    assert shot.camera.sdd_mm == pytest.approx(FOCAL_MM)
    back = shot.radiograph.pixels[:, ::-1] if name == "000" else shot.radiograph.pixels[::-1]
    inner = np.s_[20:100, 20:120]
    order = np.argsort(back[inner], axis=None, kind="stable")
    assert (np.diff(raw[inner].ravel()[order]) <= 0).mean() > 0.98  # fewer counts: denser, brighter


def test_a_femur_out_of_view_has_no_pose(deepfluoro, sample):
    with deepfluoro.open_file(sample[0]) as file:
        assert set(deepfluoro.projection(file, "17-0001", "000").poses) == {"pelvis", "femur_L", "femur_R"}
        assert set(deepfluoro.projection(file, "17-0001", "001").poses) == {"pelvis", "femur_L"}
