"""SHA256SUMS of a built dataset, and the check of every file against it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bmdkit.dataset.layout import LOGS, RATINGS, REPORT, STAGING, SUMS
from bmdkit.io.results import sha256_of, write_text
from bmdkit.jobs.lock import LOCK_FILE

Kind = Literal["missing", "damaged", "extra"]


@dataclass(frozen=True)
class Finding:
    """One file that is not as it was written; `path` is relative to the dataset."""

    kind: Kind
    path: str


def list_data_files(out: Path) -> Iterator[str]:
    """All files that SHA256SUMS vouches for, relative, sorted: not logs, ratings, or what a running build holds."""
    names = (file.relative_to(out) for file in out.rglob("*") if file.is_file() or file.is_symlink())
    kept = (
        name.as_posix()
        for name in names
        if name.parts[0] not in (STAGING, LOGS, SUMS, RATINGS) and not name.name.startswith(LOCK_FILE)
    )
    return iter(sorted(kept))


def read_sums(out: Path) -> dict[str, str]:
    """Relative path -> SHA-256, from SHA256SUMS.

    Raises:
        OSError: There is none.
        ValueError: A line is not "<64 hex digits>  <path>", or the last one is cut off.
    """
    sums = {}
    text = (out / SUMS).read_bytes().decode("utf-8")
    if not text.endswith("\n"):
        raise ValueError(f"{SUMS}: its last line is not whole")
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        value, gap, name = line[:64], line[64:66], line[66:]
        if gap != "  " or not name or not set(value) <= set("0123456789abcdef") or len(value) != 64:
            raise ValueError(f"{SUMS}, line {number}: expected '<sha256>  <path>'")
        sums[name] = value
    return sums


def write_sums(out: Path, sums: dict[str, str]) -> None:
    """Write SHA256SUMS, in the format of `sha256sum --check`."""
    write_text(out / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def record_report(out: Path) -> None:
    """Vouch for the report as it is now; all other lines of SHA256SUMS stay as they were."""
    try:
        sums = read_sums(out)
    except OSError:
        return
    kept = {name: value for name, value in sums.items() if not name.startswith(f"{REPORT}/")}
    kept |= {name: sha256_of(out / name) for name in list_data_files(out) if name.startswith(f"{REPORT}/")}
    write_sums(out, kept)


def check_files(
    out: Path, *, names: Iterable[str] | None = None, on_file: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """Hash every file again.

    Args:
        out: A folder with SHA256SUMS, such as a built dataset.
        names: Files that have to be listed; those of `list_data_files` if not given.
        on_file: Function that is called with the number of files checked and of all.

    Returns:
        What is missing, damaged, or not listed, by path; a SHA256SUMS that cannot be read is itself damaged.
    """
    try:
        sums = read_sums(out)
    except FileNotFoundError:
        return [Finding("missing", SUMS)]
    except (OSError, ValueError):
        return [Finding("damaged", SUMS)]
    findings = [
        Finding("extra", name) for name in (list_data_files(out) if names is None else names) if name not in sums
    ]
    for number, (name, expected) in enumerate(sums.items(), start=1):
        try:
            if sha256_of(out / name) != expected:
                findings.append(Finding("damaged", name))
        except FileNotFoundError:
            findings.append(Finding("missing", name))
        except OSError:
            findings.append(Finding("damaged", name))
        if on_file:
            on_file(number, len(sums))
    return sorted(findings, key=lambda finding: finding.path)
