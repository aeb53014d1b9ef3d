"""Names that are safe in a file system, and names that are there once."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST_NAME = 80
"""Characters that a part of a file's name may have."""


def make_safe_name(text: str, *, also: str = ".-", otherwise: str = "xray") -> str:
    """Turn any text into a part of a file's name: letters, digits and underscores.

    Args:
        text: Any text.
        also: Further characters that are kept within the name.
        otherwise: The name if nothing of the text is left.

    Returns:
        At most `LONGEST_NAME` characters.

    Example:
        >>> make_safe_name("hip AP (standing).dcm")
        'hip_AP_standing_.dcm'
    """
    plain = re.sub(rf"[^A-Za-z0-9{re.escape(also)}]+", "_", text)
    return plain.strip("_.-")[:LONGEST_NAME].strip("_.-") or otherwise


def make_unique_name(name: str, taken: Iterable[str], *, separator: str = " #") -> str:
    """Number a name if it is taken already, whatever its case: the second becomes "name #2".

    Args:
        name: The name that is wanted.
        taken: Names that are there.
        separator: What stands between name and number.

    Example:
        >>> make_unique_name("U-Net", ["u-net", "U-Net #2"])
        'U-Net #3'
    """
    used = {other.casefold() for other in taken}
    unique, number = name, 1
    while unique.casefold() in used:
        number += 1
        unique = f"{name}{separator}{number}"
    return unique
