"""Every recipe of build-dataset is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bmdkit.config import load
from bmdkit.dataset.settings import BuildConfig

RECIPES = sorted((Path(__file__).parents[2] / "pipelines" / "build-dataset").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_changes_a_setting(recipe):
    assert load(BuildConfig, recipe=recipe) != BuildConfig()
