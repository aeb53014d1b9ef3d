"""Settings: precedence, and every mistake named by its dotted path."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from bmdkit import config


@dataclass(frozen=True)
class Inner:
    sigma: float = 1.0
    mode: Literal["fast", "exact"] = "fast"
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    limit: float | None = None
    where: Path | None = None


def test_flag_over_set_over_recipe_over_default(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: recipe\ninner: {sigma: 2, sizes: [3]}\nlimit: 1e-4\n")
    made = config.load(Outer, recipe=recipe, overrides=["inner.sigma=3", "name=set"], flags={"name": "flag"})
    assert made == Outer("flag", Inner(3.0, "fast", (3,)), 1e-4)
    assert config.build(Outer, config.to_dict(made)) == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"^name: missing"),
        ({"name": "a", "nmae": 1}, r"^nmae: unknown"),
        ({"name": "a", "inner": {"sgima": 1}}, r"^inner\.sgima: unknown"),
        ({"name": "a", "inner": {"sigma": "wide"}}, r"^inner\.sigma: expected float"),
        ({"name": "a", "inner": {"sigma": True}}, r"^inner\.sigma: expected float"),
        ({"name": "a", "inner": {"mode": "slow"}}, r"^inner\.mode: expected one of fast, exact"),
        ({"name": "a", "inner": {"sizes": [1, "b"]}}, r"^inner\.sizes\[1\]: expected int"),
        ({"name": 3}, r"^name: expected str"),
    ],
)
def test_mistakes_are_named_by_their_path(values, message):
    with pytest.raises(config.ConfigError, match=message):
        config.build(Outer, values)


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "[1, 2]", "a: [1"])
def test_unsafe_or_shapeless_yaml_is_refused(tmp_path, text):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    with pytest.raises(config.ConfigError, match=r"r\.yaml"):
        config.read_recipe(recipe)


@pytest.mark.parametrize("text", ["a.b", ".a=1", "a..b=1", "a=!!python/name:os.system"])
def test_overrides_of_the_wrong_form_are_refused(text):
    with pytest.raises(config.ConfigError):
        config.parse_overrides([text])
