"""Studies of several cohorts: each is trained on and measured apart, finished runs are kept, weak ones are marked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bmdkit.config import ConfigError, build
from bmdkit.study import plan
from bmdkit.study.members import prepare_study
from bmdkit.study.plan import run_study
from bmdkit.study.plan_settings import StudyConfig

RECIPES = Path(__file__).parents[2] / "pipelines/train"
RUN = {"name": "b", "train": "decomposition", "recipe": "test.yaml", "set": ["loop.epochs=1"]}
COHORTS = [{"name": "small", "set": ["count=4"]}, {"name": "large", "set": ["count=8", "poses=[supine]"]}]


@pytest.fixture
def simulated(monkeypatch, hips):
    """Cohorts of drawn hips in place of simulated ones; gives what was asked for."""
    asked = {}

    def copy_hips(out, config, *, seed, n_jobs):
        asked[out.parent.name] = config
        if not out.exists():
            shutil.copytree(hips, out)
            text = json.loads((out / "dataset.json").read_text())
            (out / "dataset.json").write_text(json.dumps(text | {"data": "simulated"}))

    monkeypatch.setattr(plan, "simulate_pairs", copy_hips)
    return asked


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_each_cohort_is_trained_on_apart_and_what_is_finished_is_kept(simulated, tmp_path, monkeypatch, n_jobs):
    config = build(StudyConfig, {"runs": [RUN], "seeds": [3], "simulate": {"pixel_mm": 2.0}, "cohorts": COHORTS})
    told: list = []
    given = {"recipes": RECIPES, "device": "cpu", "n_jobs": n_jobs}
    figures = run_study(config, tmp_path, **given, on_run=lambda name, seed: told.append((name, seed)))
    assert list(figures) == ["small", "large"]
    assert told == [("b", 3)] * 2
    assert {name: (one.count, one.pixel_mm, one.poses) for name, one in simulated.items()} == {
        "small": (4, 2.0, ("standing", "supine", "abduction", "adduction")),
        "large": (8, 2.0, ("supine",)),
    }
    for name in ("small", "large"):
        assert (tmp_path / name / "runs/b/seed3/run.json").is_file()
        assert "decomposition without hierarchical learning (resnet)" in figures[name]["methods"]
        assert json.loads((tmp_path / name / "results/metrics.json").read_text()) == figures[name]

    def refuse(*arguments, **named):
        raise AssertionError("it was finished")

    monkeypatch.setattr(plan, "train_decomposition", refuse)
    assert run_study(config, tmp_path, **given | {"n_jobs": 1}) == figures
    longer = build(StudyConfig, {"runs": [RUN | {"set": ["loop.epochs=2"]}], "seeds": [3], "cohorts": COHORTS})
    with pytest.raises(AssertionError, match="it was finished"):
        run_study(longer, tmp_path, **given | {"n_jobs": 1})


def test_a_run_that_has_learnt_nothing_is_marked_and_the_study_goes_on(simulated, tmp_path):
    runs = [RUN, {"name": "direct", "train": "baseline", "recipe": "regression-test.yaml", "set": ["loop.epochs=1"]}]
    figures = run_study(build(StudyConfig, {"runs": runs, "seeds": [3]}), tmp_path, recipes=RECIPES, device="cpu")
    path = tmp_path / "runs/direct/seed3/baseline/metrics.json"
    codes = [{"code": "BMD-TRN-023", "message": "", "patients": 12}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weaknesses": codes}))
    figures = run_study(build(StudyConfig, {"runs": runs, "seeds": [3]}), tmp_path, recipes=RECIPES, device="cpu")[""]
    assert figures["methods"]["direct regression"]["weaknesses"] == {"direct/seed3": ["BMD-TRN-023"]}
    table = (tmp_path / "results/table_2.md").read_text()
    assert "no better than the mean of the training patients: direct regression (1 of 1: BMD-TRN-023)" in table


@pytest.mark.parametrize(
    ("cohorts", "said"),
    [
        ([{"name": "a"}, {"name": "a"}], "differ"),
        ([{"name": "../a"}], "letters"),
        ([{"name": "a", "sets": []}], "sets"),
    ],
)
def test_cohorts_that_cannot_work_are_refused(cohorts, said):
    with pytest.raises(ConfigError, match=said):
        build(StudyConfig, {"runs": [RUN], "cohorts": cohorts})


def test_a_mistyped_setting_of_a_cohort_stops_the_study_before_it_starts(simulated, tmp_path):
    config = build(StudyConfig, {"runs": [RUN], "cohorts": [{"name": "a", "set": ["counts=4"]}]})
    with pytest.raises(ConfigError, match="counts"):
        run_study(config, tmp_path / "out", recipes=RECIPES, device="cpu")
    assert not simulated


def test_data_beside_cohorts_are_refused(hips, tmp_path):
    config = build(StudyConfig, {"runs": [RUN], "cohorts": COHORTS})
    with pytest.raises(ValueError, match="cohorts"):
        run_study(config, tmp_path, recipes=RECIPES, data=hips)


def test_the_decompositions_of_a_cohort_may_differ_and_nothing_else_does(tmp_path):
    cohorts = [{"name": "one"}, {"name": "many", "decompositions": ["augment.tone=0.8", "optimiser.lr=0.002"]}]
    ridge = {"name": "r", "train": "regression", "recipe": "regression-ridge.yaml", "init_from": "b"}
    config = build(StudyConfig, {"runs": [RUN, ridge], "cohorts": cohorts})
    given = {"recipes": RECIPES, "data": None, "data_ct": None, "device": "cpu"}
    planned = prepare_study(config, tmp_path / "out", **given).planned
    (_, one), (_, regression) = planned["one", 0]
    (_, many), (_, other) = planned["many", 0]
    assert (one.augment.tone, many.augment.tone) == (0.0, 0.8)
    assert many == replace(one, augment=many.augment, optimiser=many.optimiser)
    assert many.optimiser.lr == 0.002
    assert regression == other
    wrong = build(StudyConfig, {"runs": [RUN], "cohorts": [{"name": "a", "decompositions": ["augment.tones=1"]}]})
    with pytest.raises(ConfigError, match="tones"):
        prepare_study(wrong, tmp_path / "out", **given)
