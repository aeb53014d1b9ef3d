"""Files that are either whole or absent (temporary name, flush, fsync, rename), and tables read back."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.core.disk import flush_to_disk, name_full_disk


@contextmanager
def open_whole_file(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """A temporary path beside `path` to write to; published under its own name only if the block succeeds.

    Args:
        path: The file to be.
        mode: Its permissions; the usual ones of the user if not given. Windows knows only whether it may be written.

    Raises:
        DiskFullError: The file system is full; nothing is published.
    """
    path = Path(path)
    with name_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix="-" + path.name[-64:], dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            temporary.chmod(0o666 & ~_umask() if mode is None else mode)
            yield temporary
            flush_to_disk(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_to_disk(path.parent)


def write_bytes(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write a whole file, and make sure that as many bytes as were given are there."""
    with open_whole_file(path, mode=mode) as temporary:
        with temporary.open("wb") as handle:
            handle.write(data)
        check_size(temporary, len(data), path)


def check_size(temporary: Path, expected: int, path: Path) -> None:
    """Raise if a written file is not as long as it has to be (a full network disk may not report it)."""
    found = temporary.stat().st_size
    if found != expected:
        raise OSError(errno.EIO, f"wrote {expected} bytes but {found} are there", str(path))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Write plain data, NumPy numbers and arrays, and paths as JSON, indented by one.

    Raises:
        ValueError: A number is not finite.
    """
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False, default=_make_json) + "\n")


def finite(value: float) -> float | None:
    """A number, or None where JSON has no word for it: not a number, or infinite."""
    return value if math.isfinite(value) else None


def make_plain(value: Any) -> Any:
    """Turn nested values into what JSON has words for: None stands for numbers that are not finite.

    Args:
        value: Mappings, sequences, NumPy arrays and numbers, paths and plain values.

    Raises:
        TypeError: Something else is in it.

    Example:
        >>> make_plain({"interval": (0.5, float("nan"))})
        {'interval': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: make_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [make_plain(one) for one in value]
    if value is None or isinstance(value, str | int):
        return value
    return finite(value) if isinstance(value, float) else make_plain(_make_json(value))


def write_csv(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, mode: int | None = None
) -> None:
    """Write a table; None becomes an empty cell, a float its shortest exact text.

    Raises:
        ValueError: A row has a column that is not in `columns`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    write_bytes(path, text.getvalue().encode("utf-8"), mode=mode)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table with a header, every cell as text.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not UTF-8 or no valid CSV.
    """
    with Path(path).open(newline="", encoding="utf-8-sig") as handle:
        try:
            return list(csv.DictReader(handle))
        except csv.Error as error:
            raise ValueError(f"no valid CSV ({error})") from error


def sha256_of(path: Path, found: dict[Path, str] | None = None) -> str:
    """Hexadecimal SHA-256 of a file; of a folder, over the names and hashes of all files in it.

    The hash of every single file is added to `found`, if that is given.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file, found)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    if found is not None:
        found[path] = digest.hexdigest()
    return digest.hexdigest()


@contextmanager
def open_staged_folder(final: Path) -> Iterator[Path]:
    """A private folder beside `final` that takes its place, whole, if the block succeeds.

    An earlier `final` stays until the new one is complete.
    """
    final = Path(final)
    with name_full_disk(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".part-{final.name[:64]}-", dir=final.parent))
        try:
            staging.chmod(0o777 & ~_umask())
            yield staging
            for path in [*staging.rglob("*"), staging]:
                flush_to_disk(path)
            replaced = staging.with_name(staging.name + "-old")
            if final.exists():
                final.rename(replaced)
            staging.rename(final)
            flush_to_disk(final.parent)
            shutil.rmtree(replaced, ignore_errors=True)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _make_json(value: Any) -> Any:
    """NumPy arrays and numbers, and paths, as JSON has them."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"data: expected plain values, got {type(value).__name__}")


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return "" if value is None or (isinstance(value, float) and value != value) else value
