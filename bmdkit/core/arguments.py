"""Arguments of another type are refused by name, before they fail somewhere deep inside."""

from __future__ import annotations

from dataclasses import fields, is_dataclass


def require_type(name: str, value: object, kind: type) -> None:
    """Refuse an argument of another type.

    Args:
        name: Name of the argument.
        value: Value that was given for it.
        kind: Class that it has to be of.

    Raises:
        TypeError: It is of another class. Where one of its fields would do, the message names that field.

    Example:
        >>> require_type("ct", "cohort/ct/p1", float)
        Traceback (most recent call last):
        ...
        TypeError: ct: expected float, got str
    """
    if isinstance(value, kind):
        return
    message = f"{name}: expected {kind.__name__}, got {type(value).__name__}"
    names = [field.name for field in fields(value)] if is_dataclass(value) else []
    held = next((field for field in names if isinstance(getattr(value, field), kind)), None)
    raise TypeError(message + (f", whose `{held}` is one" if held else ""))
