"""Ctrl-C and SIGTERM end a command as if by an exception, so that everything on the way out is undone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """While the body runs, SIGTERM exits with 143; Ctrl-C is KeyboardInterrupt as always, and exits with 130."""

    def end(number, frame):
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
