"""Errors that a patient's data or a user's set-up can cause, each with a stable code.

A caller's mistake in Python raises ValueError or TypeError. What a hospital's data, a cohort or a machine can do
wrong raises a `BmdkitError`, which carries a code of `CODES`; docs/errors.md is made from the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["quarantine", "failed", "flag", "exit 4", "exit 5", "exit 6"]


@dataclass(frozen=True)
class Code:
    """What one code means: its cause, what becomes of the case or the run, and what the user can do."""

    cause: str
    remedy: str
    outcome: Outcome = "quarantine"


CODES: dict[str, Code] = {}


class BmdkitError(Exception):
    """Something outside the program is wrong, and the user can be told what.

    Args:
        code: A key of `CODES`, such as "BMD-CT-012".
        message: What was measured against what is allowed.
        case: The patient's identifier in the cohort.
        file: The file at fault.
    """

    exit_code = 3

    def __init__(self, code: str, message: str, *, case: str | None = None, file: str | Path | None = None) -> None:
        if code not in CODES:
            raise ValueError(f"code {code!r} is not documented in bmdkit.errors.CODES")
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.case = case
        self.file = None if file is None else str(file)

    def __reduce__(self):
        return _rebuild, (type(self), self.code, self.message, self.case, self.file)

    @property
    def remedy(self) -> str:
        """What the user can do about it."""
        return CODES[self.code].remedy

    def __str__(self) -> str:
        where = " ".join(part for part in (self.case, self.file) if part)
        return f"{self.code}: {where + ': ' if where else ''}{self.message} Remedy: {self.remedy}"


def _rebuild(kind, code, message, case, file):
    return kind(code, message, case=case, file=file)


class CaseError(BmdkitError):
    """One case's data are unfit: the case is quarantined and the rest of the cohort is built."""


class PreflightError(BmdkitError):
    """Nothing was started: the cohort, the output or the machine is not as it has to be."""

    exit_code = 4


class LockedError(BmdkitError):
    """Another run holds the output."""

    exit_code = 5


class DiskFullError(BmdkitError):
    """The output's file system is full; what was finished is safe and the run can be resumed."""

    exit_code = 6


def as_markdown() -> str:
    """The page docs/errors.md: every code with its outcome, cause and remedy."""
    lines = [
        "# Error codes",
        "",
        "Made from `bmdkit/errors.py` by `make docs`. *quarantine*: the case is left out and named, the rest is",
        "built; *flag*: the hip is marked and left out of BMD; *failed*: the case broke off; *exit N*: the command",
        "ends with that status.",
        "",
        "| code | outcome | cause | remedy |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {code.outcome} | {code.cause} | {code.remedy} |" for name, code in sorted(CODES.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    from bmdkit import errors

    sys.stdout.write(errors.as_markdown())
