"""A run to hand on: every copy gives what the network gives, and the card says what it is."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from dicom_samples import write_dx
from monai.bundle import ConfigParser

from bmdkit.cli.main import group
from bmdkit.config import load, to_dict
from bmdkit.core.anatomy import LANDMARKS
from bmdkit.dataset.pairs import make_hip_window
from bmdkit.errors import PreflightError
from bmdkit.inference import exporting as module
from bmdkit.inference.bundle_steps import HipReader
from bmdkit.inference.exportable import read_exportable
from bmdkit.inference.exporting import export_run
from bmdkit.io.images import read_tiff
from bmdkit.io.label_maps import read_labels
from bmdkit.io.xray import read_radiograph
from bmdkit.segmentation.failures import SHIPPED
from bmdkit.simulation.simulated_cohort import SimulateConfig, simulate_cohort
from bmdkit.training.key_points import KeyPointConfig, train_key_points
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_results import predict_bmd
from bmdkit.training.regression_run import load_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run import load_run, predict_pf_drr

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
        torch.testing.assert_close(copy, found.network(found.examples()[0]).reshape(copy.shape), rtol=1e-5, atol=1e-6)
    data = parser["_meta_"]["network_data_format"]["outputs"]["pred"]
    assert list(data["channel_def"].values()) == list(found.outputs)
    assert data["num_channels"] == copy.shape[1]
    assert data["type"] == ("image" if copy.ndim == 4 else "tuples")  # a regression gives (B, 1)
    assert data["spatial_shape"] == (["32*n", "32*n"] if found.any_size else list(copy.shape[2:]))


SCHEMA = {
    "type": "object",
    "required": [
        *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description"),
        *("required_packages_version", "authors", "copyright", "network_data_format"),
    ],
    "additionalProperties": {"type": ["string", "object"]},
}
"""What MONAI's schema requires of metadata.json, in our words; the schema itself lies on a server."""
TENSOR = {"type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str, "value_range": list}


@pytest.mark.parametrize("kind", KINDS)
def test_monai_verifies_a_bundle_of_any_run(runs, tmp_path, kind):
    pytest.importorskip("jsonschema")
    out, schema = tmp_path / "out", tmp_path / "schema.json"
    export_run(runs[kind], out, ["monai"])
    meta, config = out / "configs/metadata.json", out / "configs/inference.json"
    schema.write_text(json.dumps(SCHEMA))
    monai.bundle.verify_metadata(meta_file=str(meta), filepath=str(schema))
    for tensors in json.loads(meta.read_text())["network_data_format"].values():
        for tensor in tensors.values():
            assert {name: type(tensor[name]) for name in TENSOR} == TENSOR
    for net in ("network_def", "network"):
        monai.bundle.verify_net_in_out(
            net_id=net, meta_file=str(meta), config_file=str(config), device="cpu", bundle_root=str(out)
        )
    weights = torch.load(out / "models/model.pt", weights_only=True)
    network = read_exportable(runs[kind]).network
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    meta.write_text(json.dumps({k: v for k, v in json.loads(meta.read_text()).items() if k != "authors"}))
    with pytest.raises(ValueError, match="Failed validating"):
        monai.bundle.verify_metadata(meta_file=str(meta), filepath=str(schema))


@pytest.fixture
def radiograph(hips, tmp_path) -> Path:
    """A radiograph of the pelvis: a fixture's hip and its mirror image."""
    left = read_tiff(hips / "dataset_b" / "p1__standing__L" / "xray.tif")[0]
    return write_dx(tmp_path / "pelvis.dcm", np.hstack([left[:, ::-1], left]))


def run_bundle(out: Path, **changes) -> list[Path]:
    """Run a bundle as MONAI does; returns what it wrote."""
    monai.bundle.run(
        meta_file=str(out / "configs/metadata.json"),
        config_file=str(out / "configs/inference.json"),
        bundle_root=str(out),
        **changes,
    )
    return sorted((out / "eval").iterdir())


def test_monai_runs_a_bundle_of_a_decomposition(runs, radiograph, tmp_path):
    export_run(runs["decomposition"], tmp_path / "out", ["monai"])
    (written,) = run_bundle(tmp_path / "out", datalist=[str(radiograph)], side="R")
    run = load_run(runs["decomposition"])
    read = read_radiograph(radiograph, config=run.xray)
    window = make_hip_window(read, "R", run.pairs)
    image, coverage = window.carry_inside(read.pixels, read.mask)
    expected = predict_pf_drr(run, np.clip(image, 0, 1), coverage >= run.pairs.mask_coverage)
    assert written.name == "pelvis.tif"
    np.testing.assert_allclose(read_tiff(written)[0], expected.reshape(-1, *expected.shape[-2:])[0], atol=1e-6)
    with pytest.raises(RuntimeError):
        run_bundle(tmp_path / "out")  # no file is given


def test_monai_runs_a_bundle_of_a_regression_and_of_key_points(runs, radiograph, tmp_path):
    export_run(runs["representation"], tmp_path / "bmd", ["monai"])
    (written,) = run_bundle(tmp_path / "bmd", datalist=[str(radiograph)])
    found = json.loads(written.read_text())
    assert (found["task"], found["unit"]) == ("dxa", "g/cm2")
    regression = load_regression(runs["representation"])
    cut = HipReader("L", regression.config.image_size, to_dict(regression.pairs), to_dict(regression.xray))(radiograph)
    expected = float(predict_bmd(regression.network, cut.image, regression.scale)[0])
    assert found["bmd"] == pytest.approx(expected, abs=1e-5)
    export_run(runs["key-points"], tmp_path / "points", ["monai"])
    (written,) = run_bundle(tmp_path / "points", datalist=[str(radiograph), str(radiograph)])[:1]
    points = json.loads(written.read_text())["points_column_row"]
    assert list(points) == list(LANDMARKS)
    assert all(0 <= column < 32 and 0 <= row < 64 for column, row in points.values())
    assert len(list((tmp_path / "points/eval").iterdir())) == 2


def test_a_bundle_runs_on_the_command_line_of_monai(runs, radiograph, tmp_path):
    pytest.importorskip("fire")
    export_run(runs["decomposition"], tmp_path / "out", ["monai"])
    words = ["run", "--config_file", "configs/inference.json", "--meta_file", "configs/metadata.json"]
    words += ["--datalist", f"['{radiograph}']"]
    told = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *words],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(module.__file__).parents[2])},
    )
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "out/eval/pelvis.tif").exists()


@pytest.mark.slow
def test_monai_runs_the_bundle_of_the_segmentation_that_comes_with_the_package(tmp_path):
    hip = SimulateConfig(patients=1, poses=("standing",), sides=("L",), slice_mm=6.0, pixel_mm=1.5, grid_mm=3.0)
    simulate_cohort(tmp_path / "hips", hip, seed=1)
    export_run(SHIPPED, tmp_path / "out", ["monai"])
    run_bundle(tmp_path / "out", datalist=[str(tmp_path / "hips/ct/sim000")], **{"inferer#passes": 1})
    truth = read_labels(next((tmp_path / "hips/labels").glob("*.nii.gz")))
    found = read_labels(tmp_path / "out/eval/sim000.nii.gz").resample(truth.grid)
    for name in ("pelvis", "femur_L", "femur_R"):
        one, other = found.mask(name), truth.mask(name)
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.8, name


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


def test_the_example_runs_an_onnx_network_where_there_is_no_bmdkit(runs, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export_run(runs["decomposition"], tmp_path / "out", ["onnx"])
    image = np.random.default_rng(0).uniform(-1, 1, (64, 32)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    words = [str(tmp_path / "out/model.onnx"), str(tmp_path / "image.npy")]
    example = Path(__file__).parents[2] / "examples/02_run_an_onnx_network.py"
    alone = f"import runpy, sys; sys.modules['bmdkit'] = None; sys.argv[1:] = {words}; runpy.run_path({str(example)!r})"
    told = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    with torch.inference_mode():
        own = read_exportable(runs["decomposition"]).network(torch.from_numpy(image)[None, None]).numpy()
    assert float(told.stdout.splitlines()[1].split(" to ")[0]) == pytest.approx(own.min(), abs=2e-4)
    assert f"pred {own.shape}" in told.stdout


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
