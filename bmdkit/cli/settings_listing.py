"""Every setting of a command with its default, unit and meaning, read from the dataclasses that hold them."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from bmdkit.config import to_dict

SETTINGS = {
    "init-cohort": "bmdkit.intake.settings:IntakeConfig",
    "validate": "bmdkit.dataset.settings:BuildConfig",
    "build-dataset": "bmdkit.dataset.settings:BuildConfig",
    "register": "bmdkit.dataset.settings:BuildConfig",
    "calibrate": "bmdkit.dataset.settings:BuildConfig",
    "segment": "bmdkit.dataset.settings:BuildConfig",
    "landmarks": "bmdkit.dataset.settings:BuildConfig",
    "simulate": "bmdkit.simulation.settings:SimulateConfig",
    "simulate --pairs": "bmdkit.dataset.simulated_pairs_settings:SimulatePairsConfig",
    "train decomposition": "bmdkit.training.settings:DecompositionConfig",
    "train regression": "bmdkit.training.regression:RegressionConfig",
    "train baseline": "bmdkit.training.regression:RegressionConfig",
    "train key-points": "bmdkit.training.key_points:KeyPointConfig",
    "train segmentation": "bmdkit.training.segmentation_settings:SegmentationTrainingConfig",
    "study": "bmdkit.study.plan:StudyConfig",
}
"""Module and dataclass of each command's settings."""

UNITS = {
    "mg_cm3": "mg/cm3",
    "g_cm2": "g/cm2",
    "mm": "mm",
    "hu": "HU",
    "deg": "degrees",
    "rad": "radians",
    "gb": "GB",
    "s": "seconds",
    "kev": "keV",
    "kvp": "kV",
    "minutes": "minutes",
    "epochs": "epochs",
    "steps": "steps",
    "percentile": "%",
    "pct": "%",
    "days": "days",
    "px": "pixels",
    "pixels": "pixels",
}
"""Ending of a name -> unit."""

_ENTRY = re.compile(r"^(?P<names>\w+(?:, \w+)*): (?P<text>.*)$", re.DOTALL)


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        path: Dotted path, as --set takes it.
        default: Plain value; `dataclasses.MISSING` where it has to be given.
        kind: Kind of value in words.
        unit: Unit of the value; empty where it has none.
        meaning: Meaning in one or several sentences.
        is_section: Whether it holds further settings.
    """

    path: str
    default: Any
    kind: str
    unit: str
    meaning: str
    is_section: bool


def load_settings(command: str) -> type:
    """Import the dataclass of a command's settings.

    Raises:
        ValueError: The command has none.
    """
    if command not in SETTINGS:
        raise ValueError(f"{command!r} has no settings; these have: {', '.join(SETTINGS)}")
    module, _, name = SETTINGS[command].partition(":")
    return getattr(importlib.import_module(module), name)


def list_settings(kind: type, prefix: str = "", default: Any = None) -> Iterator[Setting]:
    """Every setting below a dataclass, a section before what it holds.

    Args:
        kind: The dataclass.
        prefix: Dotted path of the section, with a dot behind it.
        default: The section's own value where it is a default; None for the whole.
    """
    hints = typing.get_type_hints(kind)
    meanings = read_meanings(kind)
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name) if default is not None else _find_default(field)
        inner = _find_dataclass(hints[field.name])
        is_section = dataclasses.is_dataclass(value) and not isinstance(value, type)
        yield Setting(
            path=prefix + field.name,
            default=value if value is dataclasses.MISSING else to_dict(value),
            kind=describe_type(hints[field.name]),
            unit=find_unit(field.name),
            meaning=meanings.get(field.name, ""),
            is_section=is_section,
        )
        if is_section:
            yield from list_settings(inner or type(value), f"{prefix}{field.name}.", value)


def _find_default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _find_dataclass(hint: Any) -> type | None:
    """The dataclass that a type is or may be."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return next((option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)), None)


def read_meanings(kind: type) -> dict[str, str]:
    """Name of each attribute -> what its class says of it: in its docstring, or in a text below the attribute.

    The classes that it extends count too.
    """
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if dataclasses.is_dataclass(owner):
            found |= _read_texts_below(owner)
        entries: list[str] = []
        for line in _read_attributes(owner).splitlines():
            if line.startswith(" ") and entries:
                entries[-1] += " " + line.strip()
            elif line.strip():
                entries.append(line.strip())
        for match in filter(None, map(_ENTRY.match, entries)):
            for name in match["names"].split(", "):
                found[name] = match["text"]
    return found


def _read_attributes(owner: type) -> str:
    """The section Attributes of a class's own docstring, without its indent."""
    section = inspect.cleandoc(owner.__dict__.get("__doc__") or "").partition("\nAttributes:\n")[2]
    lines = itertools.takewhile(lambda line: line.startswith(" ") or not line.strip(), section.splitlines())
    return textwrap.dedent("\n".join(lines))


def _read_texts_below(owner: type) -> dict[str, str]:
    """The texts that stand below the attributes of one class, by the attributes' names."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    found = {}
    for line, below in itertools.pairwise(getattr(definition, "body", [])):
        match line, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def find_unit(name: str) -> str:
    """The unit that a name ends with; empty where it names none."""
    for ending in sorted(UNITS, key=len, reverse=True):
        if name == ending or name.endswith(f"_{ending}"):
            return UNITS[ending]
    return ""


def describe_type(hint: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        named = [describe_type(option) for option in arguments if option is not type(None)]
        return " or ".join(dict.fromkeys([*named, *(["null"] if type(None) in arguments else [])]))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        inner = dict.fromkeys(describe_type(option) for option in arguments if option is not Ellipsis)
        count = "" if Ellipsis in arguments else f" of {len(arguments)}"
        return f"list{count} ({' or '.join(inner)})"
    if dataclasses.is_dataclass(hint):
        return "settings"
    names = {bool: "true or false", int: "whole number", float: "number", str: "text", Any: "any value"}
    return names.get(hint, "path" if getattr(hint, "__name__", "") == "Path" else getattr(hint, "__name__", str(hint)))


def write_recipe(command: str) -> str:
    """A recipe of every setting of a command at its default, each with its meaning above it."""
    lines = [f"# Every setting of `bmdkit {command}` at its default. Keep the lines that you change; all are optional."]
    before = ""
    for setting in list_settings(load_settings(command)):
        depth = setting.path.count(".")
        indent = "  " * depth
        name = setting.path.rpartition(".")[2]
        facts = ", ".join(filter(None, [setting.kind if not setting.is_section else "", setting.unit]))
        meaning = setting.meaning if setting.meaning != before else "The same"
        before = setting.meaning
        remark = meaning + (f" [{facts}]" if facts else "")
        if depth == 0:
            lines.append("")
        lines += [f"{indent}# {line}" for line in textwrap.wrap(remark, 110 - len(indent))]
        if setting.is_section:
            lines.append(f"{indent}{name}:")
        elif setting.default is dataclasses.MISSING:
            lines.append(f"{indent}# {name}: (has to be given)")
        else:
            lines.append(f"{indent}{name}: {write_value(setting.default)}")
    return "\n".join(lines) + "\n"


def write_value(value: Any) -> str:
    """A plain value on one line of YAML."""
    if isinstance(value, float | int | bool) or value is None:
        return json.dumps(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()
