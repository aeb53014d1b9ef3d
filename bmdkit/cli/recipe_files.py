"""Where recipes are, what they are called, and which command each is for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath

import click

import bmdkit

THINGS = ("decomposition", "regression", "baseline", "key-points", "segmentation")
"""What `train` learns. Recipes of all but the first bear its name in front of theirs."""
COMMANDS = ("build-dataset", "simulate", "study", *(f"train {thing}" for thing in THINGS))
"""Every command that recipes come for."""
OTHERS = dict.fromkeys(("validate", "register", "calibrate", "segment", "landmarks"), "build-dataset")
"""Commands that take the recipes of another one, since they do a part of its work."""
_SUFFIXES = (".yaml", ".yml")
_HOME = "pipelines"


@dataclass(frozen=True)
class RecipeFile:
    """One recipe that comes with bmdkit.

    Attributes:
        command: Command that it is for, with the thing that is learnt.
        name: Name that --recipe takes.
        path: Its file.
    """

    command: str
    name: str
    path: Path

    @property
    def purpose(self) -> str:
        """The first sentence of the remark at its top; empty without one."""
        remark = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("# ") or line.startswith("#   "):
                break
            remark.append(line[2:].strip())
        text = " ".join(remark)
        return re.split(r"\. (?=[A-Z])", text)[0].rstrip(".")


def find_recipe_home() -> Path:
    """The folder of all recipes: in an installed package `bmdkit/recipes`, in a checkout `pipelines`."""
    package = Path(bmdkit.__file__).resolve().parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / _HOME


def list_recipes(command: str) -> list[RecipeFile]:
    """The recipes of one command, in the order of their names.

    Args:
        command: One of `COMMANDS`; for `train` with the thing that is learnt.

    Example:
        >>> [recipe.name for recipe in list_recipes("train baseline")]
        ['cpu-demo', 'paper']
    """
    folder, _, thing = command.partition(" ")
    found = []
    for path in sorted((find_recipe_home() / folder).glob("*.yaml")):
        owner, name = _split_name(path.stem) if folder == "train" else ("", path.stem)
        if owner == thing:
            found.append(RecipeFile(command, name, path))
    return sorted(found, key=lambda recipe: recipe.name)


def _split_name(stem: str) -> tuple[str, str]:
    """The thing that a recipe of `train` is for, and the rest of its name."""
    for thing in THINGS[1:]:
        if stem.startswith(f"{thing}-"):
            return thing, stem.removeprefix(f"{thing}-")
    return THINGS[0], stem


def find_recipe(text: str, command: str) -> Path:
    """The file that a user means: a path, a name of `list_recipes`, or a path below `pipelines` of a checkout.

    Args:
        text: As it was typed.
        command: Command that it is for.

    Raises:
        ValueError: There is no such file and no such recipe.
    """
    if Path(text).is_file():
        return Path(text)
    parts = PureWindowsPath(text).parts if "\\" in text else PurePosixPath(text).parts
    if _HOME in parts:
        below = find_recipe_home().joinpath(*parts[parts.index(_HOME) + 1 :])
        if below.is_file():
            return below
    recipes = list_recipes(command)
    whole = {recipe.path.stem: recipe.path for recipe in recipes}
    named = {recipe.name: recipe.path for recipe in recipes} | whole
    name = Path(text).stem if len(parts) == 1 and text.endswith(_SUFFIXES) else text
    if name in named:
        return named[name]
    near = get_close_matches(name, named, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    known = ", ".join(recipe.name for recipe in recipes)
    offered = f" ({command} has {known})" if recipes else ""
    raise ValueError(f"{text!r} is neither a file nor a recipe{offered}{meant}")


class Recipe(click.ParamType):
    """A recipe of the command that takes the option, by its name or its file."""

    name = "NAME|FILE"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the file."""
        try:
            command = name_command(ctx)
            return find_recipe(str(value), OTHERS.get(command, command))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def name_command(ctx: click.Context | None) -> str:
    """The words of a command behind `bmdkit`, such as "train regression"."""
    words: list[str] = []
    while ctx is not None and ctx.parent is not None:
        words.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return " ".join(words)


def choose_commands(words: Sequence[str]) -> list[str]:
    """The commands that some words name: all without words, all things that are learnt for `train` alone.

    Raises:
        ValueError: No recipe comes for such a command.
    """
    text = " ".join(words)
    chosen = [command for command in COMMANDS if command == text or command.startswith(f"{text} ") or not text]
    if not chosen:
        raise ValueError(f"{text!r} takes no recipes; these do: {', '.join(COMMANDS)}")
    return chosen
