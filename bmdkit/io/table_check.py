"""One reading of a table in CSV that a user has written, and everything that is wrong with it."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.errors import PreflightError
from bmdkit.io.cohort_columns import find_near_columns

logger = logging.getLogger(__name__)

BMD_LIMITS = {"dxa_bmd": (5.0, "g/cm2"), "qct_bmd": (2000.0, "mg/cm3")}
"""Largest value that is believed, and unit, of each column of BMD."""

_SHOWN = 60  # letters of a cell that is not the name of a file
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"  # how the workbooks of Excel begin
_SAVE_AS = "save it as CSV, UTF-8, separated by commas"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a table, or one that its user should know.

    Attributes:
        line: Line of the table; 0 for the table as a whole.
        column: Name of the column, or "".
        code: Code of `errors.CODES`.
        message: What was found, and what is expected.
        is_warning: Whether the table can be used in spite of it.
        table: File name of the table.
    """

    line: int
    column: str
    code: str
    message: str
    is_warning: bool = False
    table: str = "cohort.csv"

    def __str__(self) -> str:
        """Code, place and message in one line."""
        where = f"line {self.line}" + (f", {self.column}" if self.column else "") if self.line else self.table
        return f"{self.code}: {where}: {self.message}"


class TableError(PreflightError):
    """A table cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        case: str | None = None,
        file: str | Path | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        """Make the error of a code, a message and all problems."""
        super().__init__(code, message, case=case, file=file)
        self.problems = tuple(problems)


class TableCheck:
    """One reading of a table; its paths are relative to its folder.

    Attributes:
        path: File of the table.
        problems: Everything that is wrong, and every warning.
        header: Names of the columns, once the table was read.
    """

    def __init__(self, path: Path) -> None:
        """Begin to read a table."""
        self.path = path
        self.problems: list[Problem] = []
        self.header: tuple[str, ...] = ()

    def report(self, line: int, column: str, code: str, message: str, *, is_warning: bool = False) -> None:
        """Note a problem."""
        self.problems.append(Problem(line, column, code, message, is_warning, self.path.name))

    def sort(self) -> None:
        """Bring the problems in the order of the lines."""
        self.problems.sort(key=lambda p: (p.line, p.code, p.column))

    def require_sound(self) -> None:
        """Raise a `TableError` with all problems if there is one that is no warning; else log the warnings."""
        errors = [problem for problem in self.problems if not problem.is_warning]
        if errors:
            listed = "\n".join(f"  {problem}" for problem in errors)
            code = errors[0].code if len({problem.code for problem in errors}) == 1 else "BMD-COH-001"
            message = f"{_count_problems(errors)}:\n{listed}\n"
            raise TableError(code, message, file=self.path.name, problems=self.problems)
        for warning in self.problems:
            logger.warning("%s", warning)

    def _read_text(self) -> str | None:
        """The text of the table; None with a problem if there is none."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            others = (self.path.with_suffix(suffix) for suffix in (".xlsx", ".xls", ".ods"))
            beside = [other.name for other in others if other != self.path and other.exists()]
            hint = f"; {beside[0]} is there: {_SAVE_AS}" if beside else ""
            self.report(0, "", "BMD-COH-002", f"cannot be read ({error.strerror}){hint}")
            return None
        if data.startswith((_ZIP, _OLE)):
            self.report(0, "", "BMD-COH-002", f"it is a workbook of a spreadsheet program: {_SAVE_AS}")
            return None
        if data.startswith(_UTF_16) or (len(data) > 1 and 0 in data[:2] and data[:2] != b"\0\0"):
            self.report(0, "", "BMD-COH-002", f"it is UTF-16: {_SAVE_AS}")
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            self.report(0, "", "BMD-COH-002", f"not UTF-8 at byte {error.start}, line {line}: {_SAVE_AS}")
            return None

    def read_records(self, required: Sequence[str], known: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
        """Line and cells of every row, none where the table cannot be read.

        Args:
            required: Columns that have to be there.
            known: All columns that have a meaning; what is near to one of them and is not it is a problem.
        """
        text = self._read_text()
        if text is None:
            return []
        reader = csv.reader(io.StringIO(text.replace("\0", "\ufffd"), newline=""), strict=True)
        header: list[str] | None = None
        records = []
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if header is None:
                    header = [cell.strip() for cell in cells]
                elif len(cells) > len(header):
                    message = f"{len(cells)} cells, the header has {len(header)}"
                    self.report(reader.line_num, "", "BMD-COH-004", message)
                else:
                    padded = cells + [""] * (len(header) - len(cells))
                    records.append((reader.line_num, dict(zip(header, map(str.strip, padded), strict=True))))
        except csv.Error as error:
            self.report(reader.line_num, "", "BMD-COH-002", f"no valid CSV ({error})")
        if header is None:
            self.report(0, "", "BMD-COH-002", "empty: a header and at least one row are expected")
            return []
        self.header = tuple(header)
        self._check_header(required, known)
        if not records and not any(not problem.is_warning for problem in self.problems):
            self.report(0, "", "BMD-COH-002", "no rows")
        return records

    def _check_header(self, required: Sequence[str], known: Sequence[str]) -> None:
        header = self.header
        doubled = sorted({name for name in header if name and header.count(name) > 1})
        if doubled:
            self.report(1, "", "BMD-COH-003", f"columns named twice: {', '.join(doubled)}")
        near = find_near_columns(header, known)
        for column in near:
            shown = shorten(column.given)
            if column.certain:
                self.report(1, column.given, "BMD-COH-014", f"{shown} is not known: did you mean {column.meant}?")
            else:
                message = f"{shown} is carried as it is: did you mean {column.meant}?"
                self.report(1, column.given, "BMD-COH-014", message, is_warning=True)
        meant = {column.meant for column in near if column.certain}
        missing = [name for name in required if name not in header and name not in meant]
        if missing:
            parted = {";": "semicolons", "\t": "tabs", "|": "bars"}
            by = next((word for sign, word in parted.items() if len(header) == 1 and sign in header[0]), None)
            hint = f"; the cells are separated by {by}: {_SAVE_AS}" if by else ""
            self.report(1, "", "BMD-COH-003", f"missing columns: {', '.join(missing)}{hint}")

    def check_filled(self, line: int, cells: dict[str, str], required: Sequence[str]) -> None:
        """Note the cells of a row that have to be filled and are not."""
        for name in required:
            if name in cells and not cells[name]:
                self.report(line, name, "BMD-COH-005", "empty")

    def check_side(self, line: int, cell: str) -> Side | None:
        """The side that a cell names; None with a problem if it is neither L nor R, and where it is empty."""
        for side in SIDES:
            if cell == side:
                return side
        if cell:
            self.report(line, "side", "BMD-COH-007", f"{shorten(cell)}, expected L or R")
        return None

    def check_bmd(self, line: int, name: str, cell: str) -> float | None:
        """The value of a column of `BMD_LIMITS`; None with a problem if it is none, and where the cell is empty."""
        if not cell:
            return None
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        most, unit = BMD_LIMITS[name]
        if not 0 < value <= most:
            self.report(line, name, "BMD-COH-008", f"{shorten(cell)}, expected a number in {unit}, 0 to {most:g}")
            return None
        return value

    def check_spellings(self, patients: Mapping[int, str]) -> None:
        """Note identifiers that are alike but for the case of their letters.

        Args:
            patients: Line and identifier of every row.
        """
        folded: dict[str, str] = {}
        for line, given in patients.items():
            known = folded.setdefault(given.casefold(), given)
            if given and known != given:
                self.report(line, "patient_id", "BMD-COH-011", f"{shorten(given)} beside {shorten(known)}")

    def check_owners(self, name: str, rows: Iterable[tuple[int, Path, str]]) -> None:
        """Note files that are named for two patients.

        Args:
            name: Column of the files.
            rows: Line, file and patient of every row.
        """
        owners: dict[Path, tuple[int, str]] = {}
        for line, path, patient in rows:
            first, owner = owners.setdefault(path.resolve(), (line, patient))
            if owner != patient:
                self.report(line, name, "BMD-COH-013", f"the one of line {first}, another patient")

    def check_file(self, line: int, name: str, cell: str) -> Path | None:
        """The path that a cell names; a problem if it cannot be used. None where the cell is empty."""
        if not cell:
            return None
        path = self.path.parent / cell
        if reason := _find_fault(path, name, cell):
            self.report(line, name, "BMD-COH-006", f"{_quote(cell)} {reason}")
        return path


def _count_problems(problems: list[Problem]) -> str:
    """Say how many problems there are, and of how many kinds."""
    counted = f"{len(problems)} problem" + ("" if len(problems) == 1 else "s")
    kinds = Counter(problem.code for problem in problems)
    return counted if len(kinds) < 2 else f"{counted} of {len(kinds)} kinds"


def _find_fault(path: Path, name: str, cell: str) -> str | None:
    """Why a file or folder that a cell names cannot be used."""
    try:
        exists = "\ufffd" not in cell and path.exists()
        if exists and not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            return "may not be read"
        if exists and path.is_dir() and not any(path.iterdir()):
            return "is an empty folder"
        if exists and path.is_dir() and name not in ("ct", "labels"):
            return "is a folder, expected a file"
    except (OSError, ValueError):
        exists = False
    if exists:
        return None
    windows = PureWindowsPath(cell)
    if windows.drive:
        return "does not exist: it is a path of Windows; write paths relative to the table, with /"
    if "\\" in cell:
        return f"does not exist: write paths with /, such as {_quote(windows.as_posix())}"
    return "does not exist"


def _quote(text: str) -> str:
    """The whole text in quotes; what cannot be printed is escaped."""
    return "'" + "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text) + "'"


def shorten(text: str) -> str:
    """The beginning of a text in quotes; what cannot be printed is escaped."""
    return _quote(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
