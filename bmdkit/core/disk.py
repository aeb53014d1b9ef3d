"""A full disk, told by name."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmdkit.errors import DiskFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def name_full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left" of anything inside into a DiskFullError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError("BMD-OUT-001", f"no space left while writing ({error.strerror}).", file=path) from error
        raise
