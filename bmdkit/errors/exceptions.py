"""The exceptions, each of which carries a documented code."""

from __future__ import annotations

from pathlib import Path

from bmdkit.errors.case_codes import CASE_CODES
from bmdkit.errors.input_codes import INPUT_CODES
from bmdkit.errors.run_codes import RUN_CODES

CODES = {**INPUT_CODES, **CASE_CODES, **RUN_CODES}
"""Every code with its cause, its remedy and its outcome."""


class BmdkitError(Exception):
    """Something outside the program is wrong, and the user can be told what.

    Args:
        code: Key of `CODES`, such as "BMD-CT-012".
        message: Measured value against the allowed one.
        case: Identifier of the patient in the cohort.
        file: File at fault.

    Raises:
        ValueError: The code is not documented.

    Example:
        >>> error = CaseError("BMD-CT-011", "3 of 120 slices are missing.", case="p001")
        >>> error.code, error.remedy
        ('BMD-CT-011', 'Find the slices of the gaps that are listed, or export again.')
    """

    exit_code = 3

    def __init__(self, code: str, message: str, *, case: str | None = None, file: str | Path | None = None) -> None:
        """Check that the code is documented."""
        if code not in CODES:
            raise ValueError(f"code {code!r} is not documented in bmdkit.errors.CODES")
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.case = case
        self.file = None if file is None else str(file)

    def __reduce__(self) -> tuple:
        """Pickle every attribute, so that an error arrives whole from another process."""
        return _rebuild, (type(self), self.code, self.message, self.case, self.file)

    @property
    def remedy(self) -> str:
        """Steps that the user can take."""
        return CODES[self.code].remedy

    def __str__(self) -> str:
        """Code, place, message and remedy in one line."""
        where = " ".join(part for part in (self.case, self.file) if part)
        return f"{self.code}: {where + ': ' if where else ''}{self.message} Remedy: {self.remedy}"


def _rebuild(kind: type[BmdkitError], code: str, message: str, case: str | None, file: str | None) -> BmdkitError:
    return kind(code, message, case=case, file=file)


class CaseError(BmdkitError):
    """The data of one case are unfit: the case is quarantined, and the rest of the cohort is built."""


class PreflightError(BmdkitError):
    """Nothing was started: the cohort, the output or the machine is not as it has to be."""

    exit_code = 4


class LockedError(BmdkitError):
    """Another run holds the output."""

    exit_code = 5


class DiskFullError(BmdkitError):
    """The file system of the output is full; what was finished is safe, and the run can be resumed."""

    exit_code = 6
