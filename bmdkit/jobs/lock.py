"""One writer at a time on an output folder; the lock dies with its holder.

The lock is `flock` on a file, which the kernel releases when the holder ends, however it ends. A run over the whole
cohort holds it alone; the shards of one cohort hold it together, and each its own shard alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from bmdkit.errors import LockedError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def hold(folder: Path, *, shard: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold `folder` for writing while the body runs.

    Args:
        folder: An existing folder.
        shard: (I, N) of a run over a part of the cohort, 1-based; None for the whole.

    Raises:
        LockedError: A living run holds it (BMD-RUN-020).
    """
    with contextlib.ExitStack() as held:
        held.enter_context(_flock(folder / LOCK_FILE, shared=shard is not None))
        if shard is not None:
            held.enter_context(_flock(folder / f"{LOCK_FILE}-{shard[0]}-of-{shard[1]}", shared=False))
        yield


def is_held(folder: Path) -> bool:
    """Whether a living run holds `folder`."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def _flock(path: Path, *, shared: bool) -> Iterator[None]:
    handle = _acquire(path, shared)
    try:
        if not shared:
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
        yield
    finally:
        if not shared:  # a shared lock file stays: others may hold it
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(handle)


def _acquire(path: Path, shared: bool) -> int:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(handle, 200, 0).decode(errors="replace")
            os.close(handle)
            raise LockedError("BMD-RUN-020", f"held by {holder or 'another run'}", file=path.name) from None
        try:
            if path.stat().st_ino == os.fstat(handle).st_ino:  # not unlinked between open and flock
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)
