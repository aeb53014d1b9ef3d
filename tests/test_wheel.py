"""A wheel, installed without the repository, has all that it needs: recipes by name and by path, and no inner links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.relative_to(ROOT / "pipelines").as_posix() for path in (ROOT / "pipelines").glob("*/*.yaml"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = folder.glob("bmdkit-*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder of installed packages with bmdkit alone."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--target", str(folder), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_what_is_no_code_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("report/templates", "segmentation/weights", "training/weights"):
        mine = [path for path in (ROOT / "bmdkit" / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
        assert mine
        assert {path.relative_to(ROOT).as_posix() for path in mine} <= names


def run(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    code = [sys.executable, "-m", "bmdkit.cli.main", *words]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(code, cwd=folder, env=environment, check=False, capture_output=True, text=True)


def test_every_recipe_is_inside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    inside = [name.removeprefix("bmdkit/recipes/") for name in names if name.startswith("bmdkit/recipes/")]
    assert sorted(inside) == RECIPES
    assert [name for name in names if name.startswith("pipelines/")] == []


def test_the_description_links_to_nothing_that_is_not_there(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    text = archive.read(metadata).decode("utf-8")
    assert "bmdkit turns a folder of hip CTs" in text
    assert re.findall(r"\]\((?!https?:)[^)]*\)", text) == []


def test_recipes_are_listed_from_inside(site, tmp_path):
    done = run(site, tmp_path, "recipes", "train", "--paths")
    assert done.returncode == 0, done.stderr
    paths = [line.strip() for line in done.stdout.splitlines() if Path(line.strip()).is_absolute()]
    assert paths
    assert all(Path(path).is_relative_to(site) for path in paths)


@pytest.mark.parametrize("recipe", ["quick", "quick.yaml", "pipelines/build-dataset/quick.yaml"])
def test_a_command_takes_one_by_name_and_by_its_path_in_the_repository(site, tmp_path, recipe):
    (tmp_path / "cohort").mkdir()
    done = run(site, tmp_path, "build-dataset", "cohort", "--out", "out", "--recipe", recipe)
    assert done.returncode == 4, done.stderr  # the recipe was found; there is no table
    assert "BMD-COH-002" in done.stderr
    wrong = run(site, tmp_path, "build-dataset", "cohort", "--out", "out", "--recipe", "quickly")
    assert wrong.returncode == 2


def test_a_study_finds_the_recipes_of_its_runs_inside(site, tmp_path):
    code = (
        "import bmdkit, yaml\nfrom bmdkit.cli.recipe_files import find_recipe, list_recipes\n"
        f"assert bmdkit.__file__.startswith({str(site)!r}), bmdkit.__file__\n"
        "for recipe in list_recipes('study'):\n"
        "    for run in yaml.safe_load(recipe.path.read_text(encoding='utf-8'))['runs']:\n"
        "        assert (recipe.path.parent / run['recipe']).is_file(), run\n"
        "print(find_recipe('pipelines/study/table2.yaml', 'study'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site)
