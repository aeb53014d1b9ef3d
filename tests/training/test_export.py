"""A run to hand on: every copy gives what the network gives, and the card says what it is."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from monai.bundle import ConfigParser

from bmdkit.cli.main import group
from bmdkit.config import load
from bmdkit.errors import PreflightError
from bmdkit.segmentation.failures import SHIPPED
from bmdkit.training import export as module
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.export import export_run, read_exportable
from bmdkit.training.regression import RegressionConfig, train_regression
from bmdkit.training.run import load_run
from bmdkit.training.settings import DecompositionConfig

RECIPES = Path(__file__).parents[2] / "pipelines/train"


@pytest.fixture(scope="module")
def runs(hips, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    config = load(DecompositionConfig, recipe=RECIPES / "test.yaml", flags={"dataset": "B", "fold": 0})
    train_decomposition(hips, root / "decomposition", config, device="cpu")
    for network in ("representation", "baseline"):
        flags = {"fold": 0, "network": network}
        regression = load(RegressionConfig, recipe=RECIPES / "regression-test.yaml", flags=flags)
        train_regression(hips, root / network, regression, device="cpu")
    return {name: root / name for name in ("decomposition", "representation", "baseline")} | {"segmentation": SHIPPED}


@pytest.mark.parametrize("kind", ["decomposition", "representation", "baseline", "segmentation"])
def test_a_bundle_of_any_run_gives_what_its_network_gives(runs, tmp_path, monkeypatch, kind):
    differences = export_run(runs[kind], tmp_path / "out", ["monai"])
    assert differences == {"safetensors": 0.0, "monai": 0.0}
    monkeypatch.chdir(tmp_path / "out")  # as `python -m monai.bundle` is called
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    parser.read_meta("configs/metadata.json")
    found = read_exportable(runs[kind])
    with torch.inference_mode():
        copy = parser.get_parsed_content("network")(found.example())
        assert torch.equal(copy, found.network(found.example()))
    data = parser["_meta_"]["network_data_format"]["outputs"]["prediction"]
    assert list(data["channel_def"].values()) == list(found.outputs)


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


def test_onnx_on_the_command_line(runs, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "out"
    words = ["export", str(runs["decomposition"]), "--out", str(out), "--format", "onnx", "-q"]
    result = CliRunner().invoke(group, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    found = read_exportable(runs["decomposition"])
    image = torch.rand(1, *found.shape, generator=torch.Generator().manual_seed(5)) * 2 - 1
    copy = session.run(None, {"image": image.numpy()})[0]
    with torch.inference_mode():
        np.testing.assert_allclose(copy, found.network(image).numpy(), atol=1e-4)


def test_what_cannot_be_exported_is_said(runs, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(PreflightError, match="BMD-EXP-001"):
        export_run(runs["decomposition"], tmp_path / "full")
    with pytest.raises(PreflightError, match="BMD-TRN-009"):
        export_run(tmp_path / "full", tmp_path / "new")
    monkeypatch.setattr(module, "_difference", lambda found, copy: 0.01)
    with pytest.raises(PreflightError, match="BMD-EXP-003"):
        export_run(runs["decomposition"], tmp_path / "differs")
    assert not (tmp_path / "differs" / "README.md").exists()


def test_no_onnx_without_its_libraries(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(PreflightError, match="BMD-EXP-002"):
        export_run(runs["decomposition"], tmp_path / "out", ["onnx"])


def test_the_shipping_example_makes_a_model_that_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ship", str(SHIPPED), str(tmp_path / "shipped")])
    runpy.run_path(str(RECIPES.parents[1] / "examples/ship_segmentation.py"), run_name="__main__")
    assert "pixels of 1.5 mm" in capsys.readouterr().out
