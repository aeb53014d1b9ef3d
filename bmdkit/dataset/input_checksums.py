"""A sealed cohort: SHA256SUMS beside cohort.csv vouches for the table and for every file that it names.

Raw DICOM and plain NIfTI have no checksum, so a pixel that has changed on a disk or on the way is read as what it says;
the seal is how it is noticed.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bmdkit.core.case import Case
from bmdkit.dataset.commit import hash_input, list_input_files
from bmdkit.dataset.integrity import Finding, check_files, read_sums, write_sums
from bmdkit.dataset.layout import SUMS
from bmdkit.errors import PreflightError
from bmdkit.io.cohort import TABLE
from bmdkit.io.results import sha256_of
from bmdkit.io.volumes import find_stem

_NAMED = 5


@dataclass(frozen=True)
class InputChecksums:
    """What the files of a cohort have to be.

    Attributes:
        root: The cohort's folder.
        sums: SHA-256 by path, relative to `root`, with '/'.
    """

    root: Path
    sums: Mapping[str, str]

    def select_case(self, case: Case) -> InputChecksums:
        """The part that is about one case."""
        names = {name for path in case.inputs.values() for name in self.under(path)}
        return InputChecksums(self.root, {name: self.sums[name] for name in sorted(names)})

    def under(self, path: Path) -> list[str]:
        """Sealed files of one input: those in its folder, or those that share its stem."""
        name = _relative(path, self.root)
        start = f"{name}/" if path.is_dir() else name[: len(name) - len(path.name)] + find_stem(path) + "."
        first = bisect.bisect_left(self._names, start)
        return self._names[first : bisect.bisect_left(self._names, start[:-1] + chr(ord(start[-1]) + 1))]

    def find_changes(self, inputs: Mapping[str, Path | None], found: Mapping[Path, str]) -> dict[str, str]:
        """What is not as it was sealed, in words, by role of the input.

        Args:
            inputs: Inputs by role; None where there is none.
            found: SHA-256 of all files of the inputs, as they are now.
        """
        found_changes: dict[str, str] = {}
        for role, path in inputs.items():
            if path is None:
                continue
            now = {_relative(file, self.root): file for file in list_input_files(path)}
            changed = [file.name for name, file in now.items() if self.sums.get(name) != found[file]]
            gone = len(set(self.under(path)) - now.keys())
            parts = [f"{len(changed)} not as sealed ({_list_some(changed)})"] if changed else []
            parts += [f"{gone} gone"] if gone else []  # a name that is not there now could not be hidden
            if parts:
                found_changes[role] = ", ".join(parts)
        return found_changes

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.sums)


def read_input_checksums(root: Path) -> InputChecksums | None:
    """The seal of a cohort, None if it has none; the table is held against it.

    Raises:
        PreflightError: The seal cannot be read, or the table is not the one that was sealed (BMD-SUM-003).
    """
    try:
        sums = read_sums(root)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PreflightError("BMD-SUM-003", f"{error}.", file=SUMS) from error
    if sums.get(TABLE) != sha256_of(root / TABLE):
        raise PreflightError("BMD-SUM-003", "it is not the table that was sealed.", file=TABLE)
    return InputChecksums(root, sums)


def hash_files(case: Case) -> dict[Path, str]:
    """SHA-256 of every file of every input of a case, as they are now."""
    found: dict[Path, str] = {}
    for path in case.inputs.values():
        hash_input(path, found)
    return found


def check_input_checksums(root: Path, cases: Iterable[Case]) -> list[Finding]:
    """Hash every sealed file again.

    Args:
        root: The cohort's folder.
        cases: Cases of its table; an input that the seal does not list is "extra".

    Raises:
        PreflightError: There is no seal (BMD-SUM-002).
    """
    if not (root / SUMS).exists():
        raise PreflightError("BMD-SUM-002", f"there is no {SUMS}.", file=root.absolute().name)
    files = (file for case in cases for path in case.inputs.values() for file in list_input_files(path))
    return check_files(root, names=sorted({_relative(file, root) for file in files}))


def write_input_checksums(root: Path, cases: Iterable[Case], *, overwrite: bool = False) -> list[Finding]:
    """Vouch for the table and for all files that it names, as they are now.

    Args:
        root: The cohort's folder.
        cases: All of its table.
        overwrite: Forget an earlier seal.

    Returns:
        Files of these cases that an earlier seal knows otherwise, or that are gone since: if there are any, nothing is
        written. The table may have changed.
    """
    cases = tuple(cases)
    found = {file: value for case in cases for file, value in hash_files(case).items()}
    sums = {_relative(path, root): value for path, value in found.items()}
    if not overwrite and (root / SUMS).exists():
        before = InputChecksums(root, read_sums(root))
        known = {name for case in cases for name in before.select_case(case).sums}
        findings = [Finding("missing", name) for name in sorted(known - sums.keys())]
        findings += [
            Finding("damaged", name) for name in sorted(known & sums.keys()) if before.sums[name] != sums[name]
        ]
        if findings:
            return findings
    write_sums(root, sums | {TABLE: sha256_of(root / TABLE)})
    return []


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _list_some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
