"""Recipes by name and by path, and every setting of every command with its meaning."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import bmdkit
from bmdkit import config
from bmdkit.cli import recipe_files
from bmdkit.cli.main import COMMANDS, group
from bmdkit.cli.recipe_files import THINGS, find_recipe, list_recipes
from bmdkit.cli.settings_listing import SETTINGS, list_settings, load_settings, write_recipe

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "pipelines").glob("*/*.yaml") if path.parent.name != "weights")
"""All but what `examples/make_weights.py` takes, which is no command's."""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder without any recipe, as a user of an installed package stands in one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_recipe_is_listed_once():
    listed = [recipe.path for command in recipe_files.COMMANDS for recipe in list_recipes(command)]
    assert sorted(listed) == FILES


def test_every_recipe_says_what_it_is_for():
    assert [r.path.name for c in recipe_files.COMMANDS for r in list_recipes(c) if len(r.purpose) < 10] == []
    purposes = {recipe.name: recipe.purpose for recipe in list_recipes("train decomposition")}
    assert purposes["paper"] == "Gu et al. 2023: stage one"


@pytest.mark.parametrize(
    ("text", "command", "file"),
    [
        ("paper", "train regression", "train/regression-paper.yaml"),
        ("paper", "train decomposition", "train/paper.yaml"),
        ("regression-paper", "train regression", "train/regression-paper.yaml"),
        ("paper.yaml", "train segmentation", "train/segmentation-paper.yaml"),
        ("pipelines/train/paper.yaml", "train decomposition", "train/paper.yaml"),
        ("../pipelines/study/table2.yaml", "study", "study/table2.yaml"),
        ("quick", "build-dataset", "build-dataset/quick.yaml"),
    ],
)
def test_a_recipe_is_found_without_the_repository(elsewhere, text, command, file):
    assert find_recipe(text, command) == ROOT / "pipelines" / file


def test_a_file_of_the_user_comes_first(elsewhere):
    (elsewhere / "paper").write_text("folds: 3\n")
    assert find_recipe("paper", "train decomposition") == Path("paper")


@pytest.mark.parametrize("thing", THINGS)
def test_no_training_gets_the_recipe_of_another(elsewhere, thing):
    for recipe in list_recipes(f"train {thing}"):
        assert config.load(load_settings(f"train {thing}"), recipe=recipe.path) is not None
    with pytest.raises(ValueError, match="neither a file nor a recipe"):
        find_recipe("backbones-cpu", f"train {thing}") if thing != "decomposition" else find_recipe("nothing", "study")


def test_a_mistyped_name_is_told_with_what_was_meant(elsewhere):
    for words, meant in ((["train", "regression"], "paper"), (["build-dataset"], "quick")):
        (elsewhere / "data").mkdir(exist_ok=True)
        given = [*words, "data", "--out", "out", "--recipe", meant[:3] + meant[4:]]
        done = CliRunner().invoke(group, given)
        assert done.exit_code == 2
        assert meant in done.output


@pytest.mark.parametrize(
    ("typed", "meant"), [("traim", "train"), ("build_dataset", "build-dataset"), ("valid", "validate")]
)
def test_a_mistyped_command_is_told_with_what_was_meant(typed, meant):
    done = CliRunner().invoke(group, [typed])
    assert done.exit_code == 2
    assert f"Did you mean {meant}?" in done.output


def test_a_study_finds_the_recipes_of_its_runs(elsewhere):
    for recipe in list_recipes("study"):
        for run in yaml.safe_load(recipe.path.read_text(encoding="utf-8"))["runs"]:
            assert (recipe.path.parent / run["recipe"]).is_file()


def test_the_wheel_is_told_to_carry_them():
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert "bmdkit.recipes = pipelines" in text
    assert "bmdkit.recipes =\n    */*.yaml" in text


@pytest.mark.parametrize("command", SETTINGS)
def test_every_setting_has_a_meaning(command):
    assert [setting.path for setting in list_settings(load_settings(command)) if not setting.meaning] == []


@pytest.mark.parametrize("command", SETTINGS)
def test_what_config_prints_is_a_recipe_of_the_defaults(command):
    values = yaml.safe_load(write_recipe(command)) or {}
    kind = load_settings(command)
    if command == "study":
        values["runs"] = [{"name": "one", "train": "decomposition", "recipe": "x.yaml"}]
        assert config.build(kind, values).seeds == tuple(values["seeds"])
    else:
        assert config.build(kind, values) == kind()


def test_every_command_with_settings_is_listed():
    takers = set()
    for name in COMMANDS:
        command = group.get_command(None, name)
        inner = [(f"{name} {thing}", found) for thing, found in getattr(command, "commands", {}).items()]
        for words, found in inner or [(name, command)]:
            if {"recipe", "recipe_file"} & {parameter.name for parameter in found.params}:
                takers.add(words)
    assert takers == {command for command in SETTINGS if " --" not in command}


def test_units_are_named():
    by_path = {setting.path: setting for setting in list_settings(load_settings("build-dataset"))}
    assert by_path["xray.default_sdd_mm"].unit == "mm"
    assert by_path["calibration.densities_mg_cm3"].unit == "mg/cm3"
    assert "[number or null, mm]" in write_recipe("build-dataset")


def test_the_commands_print_them():
    runner = CliRunner()
    assert "train regression\n  cpu-demo" in runner.invoke(group, ["recipes"]).output
    assert runner.invoke(group, ["recipes", "nothing"]).exit_code == 2
    assert "train key-points" in runner.invoke(group, ["config", "train"]).output
    assert "grid_mm: 1.5" in runner.invoke(group, ["config", "simulate"]).output


def test_an_installed_package_has_them_inside(monkeypatch, tmp_path):
    package = tmp_path / "site/bmdkit"
    (package / "recipes/study").mkdir(parents=True)
    (package / "recipes/study/mine.yaml").write_text("# Mine.\nruns: []\n")
    monkeypatch.setattr(bmdkit, "__file__", str(package / "__init__.py"))
    assert find_recipe("mine", "study") == package / "recipes/study/mine.yaml"
    assert find_recipe("pipelines/study/mine.yaml", "study") == package / "recipes/study/mine.yaml"
