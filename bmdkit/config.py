"""Settings: frozen dataclasses filled from YAML recipes and `--set a.b=value`.

Every mistake is named by its dotted path.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that is unknown, missing or of the wrong type; the message starts with its dotted path."""


def build(kind: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Make the dataclass `kind` from nested mappings.

    Args:
        kind: Dataclass of the settings.
        values: What a recipe says; what is not named keeps its default.
        path: Dotted path of these settings in the recipe.

    Raises:
        ConfigError: A key is unknown, missing or mistyped, or the dataclass refuses a value.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or kind.__name__}: expected a mapping, got {values!r}")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    prefix = f"{path}." if path else ""
    for key in values:
        if key not in fields:
            raise ConfigError(f"{prefix}{key}: unknown setting; known here: {', '.join(fields)}")
    given = {name: _convert(hints[name], _on_default(fields[name], values[name]), prefix + name) for name in values}
    for name, f in fields.items():
        if name not in given and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{prefix}{name}: missing")
    try:
        return kind(**given)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path or kind.__name__}: {error}") from error


def _on_default(field: dataclasses.Field, value: Any) -> Any:
    """A mapping given for nested settings, laid on their defaults: what is not named keeps its value."""
    if not isinstance(value, Mapping):
        return value
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return merge(to_dict(default), value) if dataclasses.is_dataclass(default) else value


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Turn a value of a recipe into what a field's type asks for."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, path)
    if origin in (typing.Union, types.UnionType):
        return _convert_to_any_of(arguments, value, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{path}: expected one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if origin is tuple:
        return _convert_to_tuple(arguments, value, path)
    return _convert_plain(hint, value, path)


def _convert_to_any_of(options: tuple[Any, ...], value: Any, path: str) -> Any:
    """Turn a value into the first of several types that takes it; the last one's refusal is told."""
    if value is None and type(None) in options:
        return None
    failure = ConfigError(f"{path}: expected a value, got {value!r}")
    for option in options:
        if option is not type(None):
            try:
                return _convert(option, value, path)
            except ConfigError as error:
                failure = error
    raise failure


def _convert_to_tuple(hints: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    """Turn a list into a tuple of so many values, or of any number of one type."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{path}: expected a list, got {value!r}")
    inner = [hints[0]] * len(value) if hints[1:] == (Ellipsis,) else list(hints)
    if len(inner) != len(value):
        raise ConfigError(f"{path}: expected {len(inner)} values, got {len(value)}")
    return tuple(_convert(h, v, f"{path}[{n}]") for n, (h, v) in enumerate(zip(inner, value, strict=True)))


def _convert_plain(hint: Any, value: Any, path: str) -> Any:
    """Turn a value into a path, a number, a truth or a text."""
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if hint is Any or (hint in (int, bool, str) and type(value) is hint):
        return value
    raise ConfigError(f"{path}: expected {getattr(hint, '__name__', hint)}, got {value!r}")


def read_recipe(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML recipe with the safe loader.

    Raises:
        ConfigError: It cannot be read, is no YAML, uses a Python tag, or is not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name}: not plain YAML ({error})") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: cannot be read ({error})") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path.name}: expected a mapping at the top, got {type(values).__name__}")
    return values


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over` laid on it, mappings key by key."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Read `a.b=value` texts as a nested mapping, the values as YAML.

    Raises:
        ConfigError: A text is not of that form.
    """
    nested: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {text}: expected key.path=value")
        try:
            leaf = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{key}: not plain YAML ({error})") from error
        for part in reversed(key.split(".")):
            leaf = {part: leaf}
        nested = merge(nested, leaf)
    return nested


def load(
    kind: type[T], *, recipe: Path | None = None, overrides: Iterable[str] = (), flags: Mapping[str, Any] | None = None
) -> T:
    """Make the settings of one command: defaults, then the recipe, then `--set`, then its own flags.

    Args:
        kind: Dataclass of the settings.
        recipe: YAML file; None: no recipe.
        overrides: Texts `a.b=value`.
        flags: Settings that the command's own flags give.

    Raises:
        ConfigError: A setting is unknown, missing or mistyped.
    """
    values = read_recipe(recipe) if recipe else {}
    values = merge(values, parse_overrides(overrides))
    return build(kind, merge(values, flags or {}))


def make_settings(kind: type[T], recipe: str | Path | Mapping[str, Any] | None) -> T:
    """The settings that a caller from Python gives as a recipe: a YAML file, or the mapping that such a file holds.

    Args:
        kind: Dataclass of the settings.
        recipe: File or mapping; None for the defaults.

    Raises:
        ConfigError: A setting is unknown, missing or mistyped.
    """
    if isinstance(recipe, Mapping):
        return build(kind, recipe)
    return load(kind, recipe=None if recipe is None else Path(recipe))


def to_dict(settings: Any) -> dict[str, Any]:
    """Return plain nested mappings of a settings dataclass, as written beside an output."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return plain(settings)
