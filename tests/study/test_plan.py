"""A study from one recipe: what is trained from what, what is compared, and what is refused before anything starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from bmdkit.cli.main import group
from bmdkit.config import ConfigError, build, load
from bmdkit.study.members import PreparedStudy, list_members, split_chains
from bmdkit.study.plan import run_study
from bmdkit.study.plan_settings import StudyConfig
from bmdkit.training.settings import DecompositionConfig

PIPELINES = Path(__file__).parents[2] / "pipelines"
STUDIES = sorted((PIPELINES / "study").glob("*.yaml"))

RECIPE = f"""
simulate: {{count: 9, poses: [standing], pixel_mm: 3.0, grid_mm: 4.0, folds: 3}}
seeds: [4]
robustness: true
runs:
  - {{name: one, train: decomposition, recipe: {PIPELINES}/train/test.yaml, dataset: A, compare: false}}
  - {{name: two, train: decomposition, recipe: {PIPELINES}/train/test.yaml, init_from: one}}
  - {{name: direct, train: baseline, recipe: {PIPELINES}/train/regression-test.yaml, task: qct}}
"""


def test_all_is_trained_and_compared_by_one_command(tmp_path):
    (tmp_path / "study.yaml").write_text(RECIPE, encoding="utf-8")
    command = ["study", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out"), "--device", "cpu", "-q"]
    found = CliRunner().invoke(group, command)
    assert found.exit_code == 0, found.output
    for line in ("decomposition (resnet)", "direct regression", "ground-truth PF-DRR", "mean of the training patients"):
        assert line in found.output
    assert found.output.count("seed 4:") >= 3
    trained = {
        path.parent.relative_to(tmp_path / "out/runs").as_posix() for path in tmp_path.rglob("runs/*/*/run.json")
    }
    assert trained == {f"{name}/seed4" for name in ("one", "two", "direct")}
    assert (tmp_path / "out/results/robustness.json").is_file()
    kept = {path: path.read_text() for path in tmp_path.rglob("log.csv")}
    again = CliRunner().invoke(group, command)
    assert (again.exit_code, again.stdout) == (0, found.stdout)  # warnings bear the time of day
    assert {path: path.read_text() for path in tmp_path.rglob("log.csv")} == kept


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([{"name": "b", "train": "decomposition", "recipe": "r", "init_from": "a"}], "no earlier run"),
        ([{"name": "a", "train": "baseline", "recipe": "r"}] * 2, "stands twice"),
        ([{"name": "../a", "train": "baseline", "recipe": "r"}], "letters"),
        ([{"name": "a", "train": "baseline", "recipe": "r", "compare": False}], "to compare"),
        ([{"name": "a", "train": "baseline", "recipe": "r", "task": "hip"}], "expected one of"),
        ([{"name": "a", "train": "baseline", "recipe": "r", "init_from": "a"}], "takes over no weights"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(runs, said):
    with pytest.raises(ConfigError, match=said):
        build(StudyConfig, {"runs": runs})


def test_a_mistyped_setting_of_any_run_stops_the_study_before_it_starts(tmp_path):
    run = {"name": "a", "train": "decomposition", "recipe": "test.yaml", "set": ["loop.epoch=3"]}
    with pytest.raises(ConfigError, match="epoch"):
        run_study(build(StudyConfig, {"runs": [run]}), tmp_path / "out", recipes=PIPELINES / "train")
    assert not (tmp_path / "out").exists()


def test_a_fold_that_holds_nobody_out_is_refused():
    run = {"name": "a", "train": "baseline", "recipe": "r"}
    with pytest.raises(ConfigError, match="hold out"):
        build(StudyConfig, {"runs": [run], "fold": "all"})


def test_a_built_dataset_needs_its_kind_before_anything_is_trained(hips, tmp_path):
    run = f"{{name: one, train: decomposition, recipe: {PIPELINES}/train/test.yaml, set: [loop.epochs=1]}}"
    recipe = tmp_path / "study.yaml"
    recipe.write_text(f"seeds: [0]\nruns: [{run}]\n", encoding="utf-8")
    command = ["study", str(recipe), "--data", str(hips), "--out", str(tmp_path / "out"), "--device", "cpu", "-q"]
    assert CliRunner().invoke(group, command).exception.code == "BMD-EVA-005"
    assert not (tmp_path / "out").exists()
    told = CliRunner().invoke(group, [*command, "--kind", "clinical"])
    assert told.exit_code == 0, told.output
    assert "clinical data" in told.output


@pytest.mark.parametrize("words", [["--set", "runs=1"], ["--device", "gpu"]])
def test_what_is_mistyped_on_the_command_line_is_an_error_of_use(tmp_path, words):
    (tmp_path / "study.yaml").write_text(RECIPE, encoding="utf-8")
    told = CliRunner().invoke(group, ["study", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out"), *words])
    assert told.exit_code == 2


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [("dataset: A,", "dataset: A, set: [loop.epoch=3],", "epoch"), ("train/test.yaml", "train/tset.yaml", "tset.yaml")],
)
def test_a_mistyped_setting_or_recipe_of_a_run_is_one_too(tmp_path, right, wrong, said):
    (tmp_path / "study.yaml").write_text(RECIPE.replace(right, wrong))
    told = CliRunner().invoke(group, ["study", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out")])
    assert told.exit_code == 2
    assert said in told.output


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_recipes_can_be_read(path):
    config = load(StudyConfig, recipe=path)
    settings = [run.settings(path.parent / run.recipe, config.fold) for run in config.runs]
    assert settings
    assert all(dataclasses.is_dataclass(one) for one in settings)


@pytest.mark.parametrize("name", ["hierarchical-cpu", "cpu-demo", "backbones-cpu"])
def test_both_kinds_of_learning_take_as_many_epochs(name):
    """What is trained alone goes on for as long as stage one and stage two together."""
    study = load(StudyConfig, recipe=PIPELINES / f"study/{name}.yaml")
    epochs = {
        run.name: load(DecompositionConfig, recipe=PIPELINES / "study" / run.recipe, overrides=run.set).loop.epochs
        for run in study.runs
        if run.train == "decomposition"
    }
    staged = [run for run in study.runs if run.name in epochs and run.init_from]
    alone = [run.name for run in study.runs if run.name in epochs and not run.init_from and run.compare]
    assert staged
    assert len(staged) == len(alone)
    for run, single in zip(staged, alone, strict=True):
        assert epochs[single] == epochs[run.init_from] + epochs[run.name], single


def test_folds_and_both_kinds_of_targets_have_their_folders():
    runs = [
        {"name": "a", "train": "decomposition", "recipe": "r"},
        {"name": "b", "train": "decomposition", "recipe": "r", "data": "ct", "compare": False},
    ]
    one = build(StudyConfig, {"runs": runs, "seeds": [0]})
    assert one.sources == ("qct", "ct")
    assert [str(path) for path in one.folders(Path("out"))] == ["out/runs/a/seed0", "out/runs/b/seed0"]
    five = build(StudyConfig, {"runs": runs, "seeds": [0, 1], "folds": [0, 4]})
    assert five.held_out == (0, 4)
    assert [str(path) for path in five.folders(Path("out"), compared=True)] == [
        f"out/runs/a/fold{fold}/seed{seed}" for fold in (0, 4) for seed in (0, 1)
    ]
    with pytest.raises(ConfigError, match="folds"):
        build(StudyConfig, {"runs": runs, "folds": [1, 1]})


def test_one_of_two_datasets_alone_is_refused(hips, tmp_path):
    runs = [{"name": name, "train": "baseline", "recipe": "r", "data": name} for name in ("qct", "ct")]
    config = build(StudyConfig, {"runs": runs})
    with pytest.raises(ValueError, match="expected qct and ct, got qct"):
        run_study(config, tmp_path, recipes=tmp_path, data=hips)


def test_the_recipe_of_the_papers_tables_has_every_row():
    """Fifteen rows of Table 2 (two of which need no run), eight of Table 3 and the conventional method."""
    config = load(StudyConfig, recipe=PIPELINES / "study" / "paper-tables.yaml")
    assert config.held_out == (0, 1, 2, 3, 4)
    rows = set()
    for run in config.runs:
        settings = run.settings(PIPELINES / "study" / run.recipe, 0)
        if run.compare:
            rows.add((run.train, run.data, run.task if run.train != "decomposition" else "", settings.train_poses))
    two = ("standing", "supine")
    for source in ("qct", "ct"):
        for poses in ((), two):
            assert ("decomposition", source, "", poses) in rows
            assert {("regression", source, task, poses) for task in ("dxa", "qct")} <= rows
    assert {("baseline", "qct", task, ()) for task in ("dxa", "qct")} <= rows
    alone = [run for run in config.runs if run.compare and "train_poses=[standing]" in run.set]
    assert len([run for run in alone if run.train == "decomposition"]) == 8
    assert {run.task for run in alone if run.train == "baseline"} == {"dxa", "qct"}


def test_only_what_starts_from_each_other_is_trained_one_after_the_other():
    runs = [
        {"name": "one", "train": "decomposition", "recipe": "r", "compare": False},
        {"name": "direct", "train": "baseline", "recipe": "r"},
        {"name": "two", "train": "decomposition", "recipe": "r", "init_from": "one"},
        {"name": "three", "train": "regression", "recipe": "r", "init_from": "two"},
        {"name": "tuned", "train": "decomposition", "recipe": "r", "init_from": "pretrained"},
        {"name": "again", "train": "decomposition", "recipe": "r", "init_from": "pretrained"},
    ]
    config = build(StudyConfig, {"runs": runs, "seeds": [0, 1], "pretrained": "before"})
    planned = {("", 0): [(run, DecompositionConfig()) for run in config.runs]}
    study = PreparedStudy("cpu", planned, {"": {"qct": Path("data")}}, [])
    members = list_members(config, study, Path("out"), "")
    assert [[(member.name, member.seed) for member in chain] for chain in split_chains(members)] == [
        chain
        for seed in (0, 1)
        for chain in (
            [("one", seed), ("two", seed), ("three", seed)],
            [("direct", seed)],
            [("tuned", seed)],
            [("again", seed)],
        )
    ]
