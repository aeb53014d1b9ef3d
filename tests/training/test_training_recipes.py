from pathlib import Path

import pytest

from bmdkit.config import ConfigError, load
from bmdkit.training.key_points import KeyPointConfig
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.segmentation_settings import SegmentationTrainingConfig
from bmdkit.training.settings import DecompositionConfig

RECIPES = sorted((Path(__file__).parents[2] / "pipelines/train").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_is_described(recipe):
    kinds = {"regression": RegressionConfig, "baseline": RegressionConfig, "segmentation": SegmentationTrainingConfig}
    kinds |= {"key": KeyPointConfig}
    load(kinds.get(recipe.stem.partition("-")[0], DecompositionConfig), recipe=recipe)
    assert f"`{recipe.name}`" in (recipe.parent / "README.md").read_text()


@pytest.mark.parametrize("kind", [DecompositionConfig, RegressionConfig, KeyPointConfig])
def test_a_size_that_the_backbone_cannot_take_is_refused_before_anything_is_read(kind):
    load(kind, overrides=["image_size=[96, 48]"])
    with pytest.raises(ConfigError, match="multiples of 32 for hrnet_w18"):
        load(kind, overrides=["image_size=[96, 48]", "generator.backbone=hrnet_w18"])


def test_the_paper_recipe_says_what_the_paper_says():
    config = load(DecompositionConfig, recipe=next(r for r in RECIPES if r.stem == "paper"))
    assert config.image_size == (512, 256)
    assert config.generator.backbone == "hrformer_b"
    assert (config.losses.l1, config.losses.gradient_correlation, config.losses.feature_matching) == (100, 1, 10)
    assert (config.optimiser.lr, config.optimiser.weight_decay, config.optimiser.betas) == (6e-5, 1e-2, (0.5, 0.999))
    assert config.loop.epochs == 630
    assert (config.augment.rotation_deg, config.augment.shear_deg, config.augment.shift) == (25, 9, 0.3)
