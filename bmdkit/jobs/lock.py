"""One writer at a time on an output folder; the lock dies with its holder.

The lock is one of the operating system's on an open file (flock, on Windows LockFileEx), which the kernel releases when
the holder ends, however it ends. A run over the whole cohort holds it alone; the shards of one cohort hold it together,
and each its own shard alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import portalocker

from bmdkit.errors import LockedError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def hold(folder: Path, *, shard: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold `folder` for writing while the body runs.

    Args:
        folder: An existing folder.
        shard: (I, N) of a run over a part of the cohort, 1-based; None for the whole.

    Yields:
        Nothing.

    Raises:
        LockedError: A living run holds the folder (BMD-RUN-020).
    """
    with contextlib.ExitStack() as held:
        held.enter_context(_hold_file(folder / LOCK_FILE, shared=shard is not None))
        if shard is not None:
            held.enter_context(_hold_file(folder / f"{LOCK_FILE}-{shard[0]}-of-{shard[1]}", shared=False))
        yield


def is_held(folder: Path) -> bool:
    """Whether a living run holds `folder`; nothing is written."""
    return _find_holder(folder) is not None


def require_free(folder: Path) -> None:
    """Make sure that no living run holds `folder`; nothing is written, and it need not be there.

    Raises:
        LockedError: One holds it (BMD-RUN-020).
    """
    holder = _find_holder(folder)
    if holder is not None:
        raise _locked(holder, LOCK_FILE)


def _find_holder(folder: Path) -> str | None:
    """What the run that holds `folder` has written of itself; None where none does."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _try_lock(handle, shared=False) else _read_holder(handle)
    finally:
        os.close(handle)


def _locked(holder: str, name: str) -> LockedError:
    return LockedError("BMD-RUN-020", f"held by {holder or 'another run'}", file=name)


@contextlib.contextmanager
def _hold_file(path: Path, *, shared: bool) -> Iterator[None]:
    handle = _open_locked(path, shared=shared)
    try:
        if not shared:
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
        yield
    finally:
        if not shared:  # a shared lock file stays: others may hold it
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                path.unlink()
        os.close(handle)


def _open_locked(path: Path, *, shared: bool) -> int:
    """Open and lock a file that still has its name when it is locked."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _try_lock(handle, shared=shared):
            holder = _read_holder(handle)
            os.close(handle)
            raise _locked(holder, path.name)
        try:
            if path.stat().st_ino == os.fstat(handle).st_ino:  # not unlinked between open and lock
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _try_lock(handle: int, *, shared: bool) -> bool:
    kind = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    try:
        portalocker.lock(handle, kind | portalocker.LockFlags.NON_BLOCKING)
    except (portalocker.LockException, OSError):
        return False
    return True


def _read_holder(handle: int) -> str:
    """What the holder has written of itself; nothing where the system lets nobody read a locked file."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        return os.read(handle, 200).decode(errors="replace")
    except OSError:
        return ""
