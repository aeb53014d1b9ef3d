"""The curve through trainings: its limit, and which trainings it goes through."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import learning_curve

    return learning_curve


def write_run(folder: Path, patients: int, epochs: int, pcc: float) -> Path:
    folder.mkdir(parents=True)
    loop = {"epoch_samples": 1024, "batch_size": 8}
    (folder / "config.json").write_text(json.dumps({"settings": {"loop": loop}}))
    told = {"pcc": pcc, "pcc_interval": [pcc - 0.05, pcc + 0.05], "mae": 0.05}
    figures = {"epochs": epochs, "train": {"patients": patients}, "test": {"dxa": told}}
    (folder / "metrics.json").write_text(json.dumps(figures))
    return folder


def expected(n: int) -> float:
    return float(np.sqrt(1 - 0.1 - 20 / n))


def test_points_on_a_curve_give_its_limit(module) -> None:
    curve = module.fit_curve([80, 240, 630], [expected(n) for n in (80, 240, 630)])
    assert curve.limit == pytest.approx(np.sqrt(0.9))
    assert curve.residual == pytest.approx(0, abs=1e-9)


def test_more_than_everything_is_never_explained(module) -> None:
    assert module.fit_curve([10, 20, 40], [0.2, 0.8, 0.999]).limit <= 1.0


def test_each_curve_goes_through_the_trainings_that_differ_in_nothing_else(module, tmp_path) -> None:
    runs = [write_run(tmp_path / f"p{n}", n, 18, expected(n)) for n in (80, 240, 630)]
    runs += [write_run(tmp_path / f"s{epochs}", 630, epochs, 0.9) for epochs in (9, 36)]
    flat = module.summarise([module.read_point(run) for run in runs])
    assert flat["by patients, 2304 steps: limit of pcc"] == pytest.approx(np.sqrt(0.9))
    assert flat["by patients, 2304 steps: residual"] == pytest.approx(0, abs=1e-9)
    assert flat["630 patients, 1152 steps: pcc"] == 0.9
    assert "by steps, 630 patients: limit of pcc" in flat


def test_two_points_are_no_curve(module, tmp_path) -> None:
    runs = [write_run(tmp_path / f"p{n}", n, 18, expected(n)) for n in (80, 240)]
    assert not [name for name in module.summarise([module.read_point(run) for run in runs]) if "limit" in name]
