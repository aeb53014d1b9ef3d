"""Pictures of finished runs, from the command line on."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.spatial.transform import Rotation

from bmdkit.cli.main import group
from bmdkit.config import load
from bmdkit.core.geometry import RigidTransform
from bmdkit.evaluation.embedding import has_tsne
from bmdkit.io.results import sha256_of
from bmdkit.study.representation import draw_pictures
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig

RECIPES = Path(__file__).parents[2] / "pipelines/train"


@pytest.fixture(scope="module")
def runs(hips, decomposition_run, tmp_path_factory) -> list[Path]:
    """A decomposition and a regression that takes over its encoder."""
    regression = tmp_path_factory.mktemp("runs") / "regression"
    settings = load(RegressionConfig, recipe=RECIPES / "regression-test.yaml")
    train_regression(hips, regression, settings, device="cpu", init_from=decomposition_run)
    return [decomposition_run, regression]


def give_poses(hips):
    """Poses in dataset A, each femur bent otherwise."""
    rng = np.random.default_rng(0)
    for path in sorted((hips / "dataset_a").glob("*/meta.json")):
        turn = Rotation.from_euler("xy", rng.normal(0, 8, 2), degrees=True).as_matrix()
        femur = RigidTransform.about(np.zeros(3), turn)
        poses = {"pelvis": np.eye(4).tolist(), "femur_L": femur.matrix.tolist()}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"camera_from_ct": poses}))


def stem(method):
    """A method's name as part of a file's."""
    return re.sub(r"[^a-z0-9]+", "_", method.lower()).strip("_")


def evaluate(runs, data, out, *options):
    arguments = ["evaluate", *map(str, runs), "--data", str(data), "--out", str(out), "--kind", "simulated", "-q"]
    told = CliRunner().invoke(group, [*arguments, *options])
    assert told.exit_code == 0, told.output
    return told.output


def test_all_pictures_from_the_command_line(runs, own_hips, tmp_path):
    give_poses(own_hips)  # the same pairs as those of the runs
    told = evaluate(runs, own_hips, tmp_path / "out", "--pictures")
    assert ("Left out: t-SNE" not in told) == has_tsne()
    assert "Left out: representation by stage: no run of stage one was given." in told
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    with (tmp_path / "out" / "predictions.csv").open(newline="") as handle:
        stems = sorted({stem(row["method"]) for row in csv.DictReader(handle)})
    assert len(stems) == 3  # the decomposition, and the regression's two phases
    expected = {f"{'attention' if 'regression' in name else 'places'}_{name}" for name in stems}
    expected |= {f"representation_{name}" for name in stems}
    numbered = {f"figure_10_{angle}_dxa" for angle in ("flexion", "abduction")}
    expected |= {f"{angle}_{name}_dxa" for angle in ("flexion", "abduction") for name in stems if "tuned" not in name}
    expected |= numbered | {"figure_02_stages", "figure_12_hierarchical_learning"}
    if has_tsne():
        expected.add("figure_05_tsne")
    assert {f"{name}.{suffix}" for name in expected for suffix in ("png", "pdf")} <= names
    with (tmp_path / "out" / "joint_angles.csv").open(newline="") as handle:
        points = [row for row in csv.DictReader(handle) if "tuned" in row["method"]]
    assert len(points) == 2  # one held-out patient in two poses
    assert {row["source"] for row in points} == {"change"}
    with (tmp_path / "out" / "joint_angle_fits.csv").open(newline="") as handle:
        fits = list(csv.DictReader(handle))
    assert {row["images"] for row in fits} == {"2"}
    assert {row["slope_per_deg"] for row in fits} == {""}  # any two points lie on a line


def test_what_the_data_do_not_tell_is_said(runs, hips, tmp_path, monkeypatch):
    monkeypatch.setattr("bmdkit.study.representation.has_tsne", lambda: False)
    left_out = draw_pictures(runs[:1], hips, tmp_path, split="test", kind="simulated", device="cpu")
    assert [sentence.split(":")[0] for sentence in left_out] == [
        "representation by stage",
        "t-SNE of the radiographs",
        "error against hip-joint angle",
    ]
    assert not (tmp_path / "joint_angles.csv").exists()
    assert not list((tmp_path / "figures").glob("*tsne*"))


def test_the_same_run_makes_the_same_pictures(runs, hips, tmp_path):
    for name in ("a", "b"):
        draw_pictures(runs[:1], hips, tmp_path / name, split="train", kind="simulated", device="cpu")
    assert sha256_of(tmp_path / "a") == sha256_of(tmp_path / "b")
    page = (tmp_path / "a" / "index.html").read_text()
    for name in ("figure_01_intensity", "figure_02_stages", "figure_11_outliers", "figure_12_hierarchical_learning"):
        assert {path.suffix for path in (tmp_path / "a/figures").glob(f"{name}.*")} == {".png", ".pdf", ".csv"}
        assert f"figures/{name}.png" in page
