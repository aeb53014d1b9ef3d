import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bmdkit.cli.main import main
from bmdkit.config import load
from bmdkit.dataset.samples import read_pairs
from bmdkit.errors import PreflightError
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.pair_batches import load_cropped_pairs
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.settings import DecompositionConfig

RECIPES = Path(__file__).parents[2] / "pipelines/train"


def config(*overrides):
    return load(RegressionConfig, recipe=RECIPES / "regression-test.yaml", overrides=overrides)


@pytest.fixture(scope="module")
def stage_two(hips, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "b"
    settings = load(DecompositionConfig, recipe=RECIPES / "test.yaml", overrides=["dataset=B", "loop.epochs=1"])
    train_decomposition(hips, out, settings, device="cpu")
    return out


def test_frozen_then_tuned(stage_two, hips, tmp_path):
    figures = train_regression(hips, tmp_path / "run", config(), device="cpu", init_from=stage_two)
    assert list(figures) == ["frozen", "tuned"]
    assert figures["frozen"]["test"]["n"] == 2
    learnt = load_file(stage_two / "generator.safetensors")
    frozen, tuned = (load_file(tmp_path / "run" / phase / "regressor.safetensors") for phase in ("frozen", "tuned"))
    encoder = [name for name in frozen if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(frozen[name], learnt[name]) for name in encoder)
    assert not all(torch.equal(tuned[name], learnt[name]) for name in encoder)
    rows = list(csv.DictReader((tmp_path / "run/tuned/predictions.csv").open()))
    assert {row["split"] for row in rows} == {"train", "test"}
    assert np.isfinite([float(row["predicted_dxa_bmd_g_cm2"]) for row in rows]).all()
    assert json.loads((tmp_path / "run/run.json").read_text())["phases"] == ["frozen", "tuned"]


def test_resuming_gives_the_same_weights(stage_two, hips, tmp_path):
    settings = config("loop.checkpoint_epochs=1")
    train_regression(hips, tmp_path / "whole", settings, device="cpu", init_from=stage_two)
    train_regression(hips, tmp_path / "cut", settings, device="cpu", init_from=stage_two)
    max((tmp_path / "cut/tuned/checkpoints").iterdir()).unlink()
    max((tmp_path / "cut/frozen/checkpoints").iterdir()).unlink()
    train_regression(hips, tmp_path / "cut", settings, device="cpu", init_from=stage_two)
    one, other = (load_file(tmp_path / name / "tuned/regressor.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_longer_first_phase_takes_the_second_with_it(stage_two, hips, tmp_path):
    """As if it had been as long from the start."""
    train_regression(hips, tmp_path / "grown", config("loop.epochs=1"), device="cpu", init_from=stage_two)
    for name in ("grown", "whole"):
        settings = config("loop.epochs=3", "optimiser.first_cycle_epochs=10")
        train_regression(hips, tmp_path / name, settings, device="cpu", init_from=stage_two)
    one, other = (load_file(tmp_path / name / "tuned/regressor.safetensors") for name in ("grown", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    logs = [(tmp_path / name / "tuned/log.csv").read_text().count("\n") for name in ("grown", "whole")]
    assert logs[0] == logs[1]


def test_baseline_learns_from_the_region_of_interest(hips, tmp_path):
    still = [f"augment.{n}=0" for n in ("rotation_deg", "shear_deg", "shift", "scale", "brightness", "contrast")]
    still += ["augment.flip_horizontal=0", "augment.flip_vertical=0", "weighting=none", "loop.ema=0"]
    still += ["loop.epochs=60", "optimiser.lr=3e-3", "optimiser.first_cycle_epochs=60"]
    settings = config("network=baseline", "task=qct", "fold=1", "filters=8", *still)
    figures = train_regression(hips, tmp_path / "run", settings, device="cpu")
    assert list(figures) == ["baseline"]
    rows = list(csv.DictReader((tmp_path / "run/baseline/log.csv").open()))
    assert float(rows[-1]["weighted_l1"]) < 0.5 * float(rows[0]["weighted_l1"])
    assert figures["baseline"]["train"]["pcc"] > 0.8


def test_region_of_interest_is_the_target_with_its_margin(hips):
    pairs = read_pairs(hips, "B")
    cut = load_cropped_pairs(pairs, (48, 32), margin=0.0)
    for border in (cut.drr[:, 0, 0], cut.drr[:, 0, -1], cut.drr[:, 0, :, 0], cut.drr[:, 0, :, -1]):
        assert (border.amax(-1) > 0).all()
    wide = load_cropped_pairs(pairs, (48, 32), margin=0.5)
    assert (wide.drr > 0).float().mean() < 0.6 * (cut.drr > 0).float().mean()


def test_without_a_run_all_is_trained_from_scratch(hips, tmp_path):
    figures = train_regression(hips, tmp_path / "run", config("loop.epochs=1"), device="cpu")
    assert list(figures) == ["scratch"]


def test_bmd_that_is_all_the_same_is_refused(own_hips, tmp_path):
    text = (own_hips / "manifest.csv").read_text().splitlines()
    rows = list(csv.DictReader(text))
    with (own_hips / "manifest.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"dxa_bmd_g_cm2": ""} for row in rows)
    with pytest.raises(PreflightError, match=r"BMD-TRN-004: 0 training pairs have dxa_bmd_g_cm2"):
        train_regression(own_hips, tmp_path / "run", config(), device="cpu")


def test_command_line(stage_two, hips, tmp_path, capsys):
    recipe = ["--recipe", str(RECIPES / "regression-test.yaml"), "--device", "cpu", "-q"]
    out = str(tmp_path / "run")
    main(["train", "regression", str(hips), "--out", out, "--init-from", str(stage_two), "--task", "qct", *recipe])
    printed = capsys.readouterr().out
    assert "QCT-BMD, frozen" in printed
    assert "QCT-BMD, tuned" in printed
    main(["train", "baseline", str(hips), "--out", str(tmp_path / "base"), "--set", "loop.epochs=1", *recipe])
    assert "DXA-BMD, baseline" in capsys.readouterr().out
