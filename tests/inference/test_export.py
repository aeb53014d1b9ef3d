"""A run to hand on: every copy gives what the network gives, and the card says what it is."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from monai.bundle import ConfigParser

from bmdkit.cli.main import group
from bmdkit.config import load
from bmdkit.core.anatomy import LANDMARKS
from bmdkit.errors import PreflightError
from bmdkit.inference import exporting as module
from bmdkit.inference.exportable import read_exportable
from bmdkit.inference.exporting import export_run
from bmdkit.segmentation.failures import SHIPPED
from bmdkit.training.key_points import KeyPointConfig, train_key_points
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run import load_run

RECIPES = Path(__file__).parents[2] / "pipelines/train"
KINDS = ("decomposition", "representation", "baseline", "key-points", "segmentation")


@pytest.fixture(scope="module")
def runs(hips, decomposition_run, tmp_path_factory) -> dict[str, Path]:
    """A finished run of each kind."""
    root = tmp_path_factory.mktemp("runs")
    for network in ("representation", "baseline"):
        flags = {"fold": 0, "network": network}
        regression = load(RegressionConfig, recipe=RECIPES / "regression-test.yaml", flags=flags)
        train_regression(hips, root / network, regression, device="cpu")
    points = load(KeyPointConfig, recipe=RECIPES / "key-points-test.yaml", flags={"fold": 0})
    train_key_points(hips, root / "key-points", points, device="cpu")
    trained = {name: root / name for name in ("representation", "baseline", "key-points")}
    return {"decomposition": decomposition_run, **trained, "segmentation": SHIPPED}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_any_run_gives_what_its_network_gives(runs, tmp_path, monkeypatch, kind):
    differences = export_run(runs[kind], tmp_path / "out", ["monai"])
    assert differences == {"safetensors": 0.0, "monai": 0.0}
    monkeypatch.chdir(tmp_path / "out")  # as `python -m monai.bundle` is called
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    parser.read_meta("configs/metadata.json")
    found = read_exportable(runs[kind])
    with torch.inference_mode():
        copy = parser.get_parsed_content("network")(found.examples()[0])
        assert torch.equal(copy, found.network(found.examples()[0]))
    data = parser["_meta_"]["network_data_format"]["outputs"]["prediction"]
    assert list(data["channel_def"].values()) == list(found.outputs)
    assert data["num_channels"] == (copy.shape[1] if copy.ndim > 1 else 1)
    assert data["type"] == ("image" if copy.ndim == 4 else "tuples")  # a regression gives (B,)
    assert data["spatial_shape"] == (["16*n", "16*n"] if found.any_size else list(copy.shape[2:]))


def test_the_card_says_what_it_is_for_and_what_was_measured(runs, tmp_path):
    export_run(runs["decomposition"], tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    metrics = json.loads((runs["decomposition"] / "metrics.json").read_text())
    for expected in (
        "For research. Not for diagnosis.",
        f'"psnr_db": {metrics["test"]["psnr_db"]}',
        *load_run(runs["decomposition"]).channels,
    ):
        assert expected in card
    scale = load_run(runs["decomposition"]).scale_g_cm2
    assert f"{scale:g} g/cm2" in card
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "model.json", "model.safetensors"}


def test_the_card_of_key_points_names_them_in_their_order(runs, tmp_path):
    export_run(runs["key-points"], tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{', '.join(LANDMARKS)}; scores, one map for each point in this order" in card
    assert "Softmax over all places" in card
    metrics = json.loads((runs["key-points"] / "scratch" / "metrics.json").read_text())
    assert f'"p95_mm": {metrics["test"]["all"]["p95_mm"]}' in card


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("decomposition", [(64, 32)]), ("key-points", [(64, 32)]), ("segmentation", [(256, 256), (48, 96), (32, 32)])],
)
def test_onnx_on_the_command_line(runs, tmp_path, kind, sizes):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "out"
    words = ["export", str(runs[kind]), "--out", str(out), "--format", "onnx", "-q"]
    result = CliRunner().invoke(group, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    found = read_exportable(runs[kind])
    for size in sizes:
        image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(5)) * 2 - 1
        with torch.inference_mode():
            own = found.network(image).numpy()
        copy = session.run(None, {"image": image.numpy()})[0]
        np.testing.assert_allclose(copy, own, atol=1e-4 * max(1.0, np.abs(own).max()))


def test_copies_are_compared_at_a_second_size_where_any_is_possible():
    found = read_exportable(SHIPPED)
    first, second = (image.shape[-2:] for image in found.examples())
    assert first == found.shape[1:] != second
    assert second[0] != second[1]

    def only_the_first(image):
        with torch.inference_mode():
            return found.network(image).numpy() + (image.shape[-2:] != first)

    assert module._difference(found, only_the_first) > module.TOLERANCE


def test_what_cannot_be_exported_is_said(runs, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(PreflightError, match="BMD-EXP-001"):
        export_run(runs["decomposition"], tmp_path / "full")
    with pytest.raises(PreflightError, match="BMD-TRN-009"):
        export_run(tmp_path / "full", tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"full"}


def test_a_copy_that_differs_is_not_left_behind_and_the_same_can_be_tried_again(runs, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(module, "_difference", lambda found, copy: 0.01)
        with pytest.raises(PreflightError, match="BMD-EXP-003"):
            export_run(runs["decomposition"], tmp_path / "out", ["monai"])
    assert list(tmp_path.iterdir()) == []
    export_run(runs["decomposition"], tmp_path / "out", ["monai"])


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_no_onnx_without_its_libraries_and_nothing_is_written(runs, tmp_path, monkeypatch, library):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == library else sys)
    monkeypatch.setattr(module, "save_weights", lambda path, network: pytest.fail("written too early"))
    (tmp_path / "out").mkdir()
    with pytest.raises(PreflightError, match=f"BMD-EXP-002.*{library} is not installed"):
        export_run(runs["decomposition"], tmp_path / "out", ["onnx"])
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_the_shipping_example_makes_a_model_that_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ship", str(SHIPPED), str(tmp_path / "shipped")])
    runpy.run_path(str(RECIPES.parents[1] / "examples/ship_segmentation.py"), run_name="__main__")
    assert "pixels of 1.5 mm" in capsys.readouterr().out
