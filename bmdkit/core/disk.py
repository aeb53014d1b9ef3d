"""A full disk, told by name."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmdkit.errors import DiskFullError

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no quota by that name
_CANNOT_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


@contextmanager
def name_full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left" of anything inside into a DiskFullError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError("BMD-OUT-001", f"no space left while writing ({error.strerror}).", file=path) from error
        raise


def flush_to_disk(path: Path) -> None:
    """Make sure that a file, or the names in a folder, are on the disk and not only on their way to it.

    File systems that cannot do it for folders, and Windows, which does not let a folder be opened, are passed over.

    Args:
        path: File or folder.
    """
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(handle)
