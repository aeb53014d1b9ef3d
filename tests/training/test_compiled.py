import csv
from functools import partial
from pathlib import Path

import pytest
import torch

from bmdkit.config import load
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.settings import DecompositionConfig

RECIPES = Path(__file__).parents[2] / "pipelines/train"


@pytest.fixture
def without_code(monkeypatch):
    """torch.compile traces the networks and their gradients as ever, but emits no code: that would take minutes."""
    torch.compiler.reset()
    seen = []
    traced = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", lambda network: seen.append(network) or traced(network))
    yield seen
    torch.compiler.reset()


def losses(log, name):
    return [float(row[name]) for row in csv.DictReader(log.open())]


def test_a_compiled_training_takes_the_same_way(hips, tmp_path, without_code):
    logs = {}
    for kind in ("false", "true"):
        settings = load(DecompositionConfig, recipe=RECIPES / "test.yaml", overrides=[f"loop.compile={kind}"])
        train_decomposition(hips, tmp_path / kind, settings, device="cpu")
        logs[kind] = losses(tmp_path / kind / "log.csv", "generator")
    assert len(without_code) == 1
    assert logs["true"] == pytest.approx(logs["false"], rel=1e-4)


def test_so_does_a_regression(hips, tmp_path, without_code):
    b = load(DecompositionConfig, recipe=RECIPES / "test.yaml", overrides=["dataset=B", "loop.epochs=1"])
    train_decomposition(hips, tmp_path / "b", b, device="cpu")
    logs = {}
    for kind in ("false", "true"):
        settings = load(RegressionConfig, recipe=RECIPES / "regression-test.yaml", overrides=[f"loop.compile={kind}"])
        train_regression(hips, tmp_path / kind, settings, device="cpu", init_from=tmp_path / "b")
        logs[kind] = [losses(tmp_path / kind / phase / "log.csv", "weighted_l1") for phase in ("frozen", "tuned")]
    assert len(without_code) == 2
    for one, other in zip(logs["false"], logs["true"], strict=True):
        assert other == pytest.approx(one, rel=1e-4)
