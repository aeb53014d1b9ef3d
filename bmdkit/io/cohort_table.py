"""One reading of cohort.csv: every problem of every row, and the rows that are sound."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.case import CohortRow
from bmdkit.io.cohort_columns import FILES, OPTIONAL, REQUIRED, find_near_columns, find_near_pose
from bmdkit.io.pseudonyms import make_pseudonym

TABLE = "cohort.csv"
PATIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
BMD_LIMITS = {"dxa_bmd": (5.0, "g/cm2"), "qct_bmd": (2000.0, "mg/cm3")}
"""Largest value that is believed, and unit, of each column of BMD."""

_SHOWN = 60  # letters of a cell that is not the name of a file
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"  # how the workbooks of Excel begin
_SAVE_AS = "save it as CSV, UTF-8, separated by commas"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a cohort, or one that its user should know.

    Attributes:
        line: Line of cohort.csv; 0 for the table as a whole.
        column: Name of the column, or "".
        code: Code of `errors.CODES`.
        message: What was found, and what is expected.
        is_warning: Whether the cohort can be used in spite of it.
    """

    line: int
    column: str
    code: str
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        """Code, place and message in one line."""
        where = f"line {self.line}" + (f", {self.column}" if self.column else "") if self.line else TABLE
        return f"{self.code}: {where}: {self.message}"


class CohortTable:
    """One reading of cohort.csv; `check` fills the attributes.

    Attributes:
        folder, path: The cohort's folder and its table.
        key: Key of the pseudonyms, or None.
        problems: Everything that is wrong, and every warning, in the order of the lines.
        rows: Rows that are sound.
        carried: Names of the columns that are carried into the manifest.
        originals: Pseudonym -> identifier in the table; empty without a key.
    """

    def __init__(self, folder: Path, key: bytes | None) -> None:
        """Begin to read the table of a folder."""
        self.folder, self.key = folder, key
        self.path = folder / TABLE
        self.problems: list[Problem] = []
        self.rows: list[CohortRow] = []
        self.carried: tuple[str, ...] = ()
        self.originals: dict[str, str] = {}
        self._given_ids: dict[int, str] = {}
        self._poses: dict[str, list[int]] = {}

    def check(self) -> None:
        """Read the table and note every problem of every row."""
        records = self._read_records()
        if records is not None:
            seen: dict[tuple[str | None, ...], int] = {}
            for line, cells in records:
                self._check_row(line, cells, seen)
            self._check_poses()
            self._check_across_rows()
        self.problems.sort(key=lambda p: (p.line, p.code, p.column))

    def _report(self, line: int, column: str, code: str, message: str, *, is_warning: bool = False) -> None:
        self.problems.append(Problem(line, column, code, message, is_warning))

    def _read_text(self) -> str | None:
        """The text of the table; None with a problem if there is none."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            beside = [name for name in ("cohort.xlsx", "cohort.xls", "cohort.ods") if (self.folder / name).exists()]
            hint = f"; {beside[0]} is there: {_SAVE_AS}" if beside else ""
            self._report(0, "", "BMD-COH-002", f"cannot be read ({error.strerror}){hint}")
            return None
        if data.startswith((_ZIP, _OLE)):
            self._report(0, "", "BMD-COH-002", f"it is a workbook of a spreadsheet program: {_SAVE_AS}")
            return None
        if data.startswith(_UTF_16) or (len(data) > 1 and 0 in data[:2] and data[:2] != b"\0\0"):
            self._report(0, "", "BMD-COH-002", f"it is UTF-16: {_SAVE_AS}")
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            self._report(0, "", "BMD-COH-002", f"not UTF-8 at byte {error.start}, line {line}: {_SAVE_AS}")
            return None

    def _read_records(self) -> list[tuple[int, dict[str, str]]] | None:
        """Line and cells of every row, once the header is known."""
        text = self._read_text()
        if text is None:
            return None
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
                    self._report(reader.line_num, "", "BMD-COH-004", message)
                else:
                    padded = cells + [""] * (len(header) - len(cells))
                    records.append((reader.line_num, dict(zip(header, map(str.strip, padded), strict=True))))
        except csv.Error as error:
            self._report(reader.line_num, "", "BMD-COH-002", f"no valid CSV ({error})")
        if header is None:
            self._report(0, "", "BMD-COH-002", "empty: a header and at least one row are expected")
            return None
        self._check_header(header)
        if not records and not any(not problem.is_warning for problem in self.problems):
            self._report(0, "", "BMD-COH-002", "no rows")
        self.carried = tuple(name for name in header if name and name not in REQUIRED + OPTIONAL)
        return records

    def _check_header(self, header: list[str]) -> None:
        doubled = sorted({name for name in header if name and header.count(name) > 1})
        if doubled:
            self._report(1, "", "BMD-COH-003", f"columns named twice: {', '.join(doubled)}")
        near = find_near_columns(header)
        for column in near:
            shown = _shorten(column.given)
            if column.certain:
                self._report(1, column.given, "BMD-COH-014", f"{shown} is not known: did you mean {column.meant}?")
            else:
                message = f"{shown} is carried as it is: did you mean {column.meant}?"
                self._report(1, column.given, "BMD-COH-014", message, is_warning=True)
        meant = {column.meant for column in near if column.certain}
        missing = [name for name in REQUIRED if name not in header and name not in meant]
        if missing:
            parted = {";": "semicolons", "\t": "tabs", "|": "bars"}
            by = next((word for sign, word in parted.items() if len(header) == 1 and sign in header[0]), None)
            hint = f"; the cells are separated by {by}: {_SAVE_AS}" if by else ""
            self._report(1, "", "BMD-COH-003", f"missing columns: {', '.join(missing)}{hint}")

    def _check_row(self, line: int, cells: dict[str, str], seen: dict[tuple[str | None, ...], int]) -> None:
        before = len(self.problems)
        for name in REQUIRED:
            if name in cells and not cells[name]:
                self._report(line, name, "BMD-COH-005", "empty")
        given = cells.get("patient_id", "")
        if given and self.key is None and not PATIENT_ID.fullmatch(given):
            self._report(line, "patient_id", "BMD-COH-009", f"{_shorten(given)} ({len(given)} characters)")
        side = self._check_side(line, cells.get("side", ""))
        dxa, qct = (self._check_bmd(line, name, cells.get(name, "")) for name in BMD_LIMITS)
        paths = {name: self._check_file(line, name, cells.get(name, "")) for name in FILES}
        row_key = (given, cells.get("xray"), cells.get("side"))
        if all(row_key) and row_key in seen:
            self._report(line, "", "BMD-COH-010", f"the same patient, radiograph and side as line {seen[row_key]}")
        seen.setdefault(row_key, line)
        self._given_ids[line] = given
        pose = cells.get("pose") or "unknown"
        self._poses.setdefault(pose, []).append(line)
        ct, xray = paths["ct"], paths["xray"]
        if len(self.problems) > before or not given or side is None or ct is None or xray is None:
            return
        case = given if self.key is None else make_pseudonym(given, self.key)
        if self.key is not None:
            self.originals[case] = given
        self.rows.append(
            CohortRow(
                patient_id=case,
                ct=ct,
                xray=xray,
                side=side,
                pose=pose,
                landmarks=paths["landmarks"],
                labels=paths["labels"],
                calibration=paths["calibration"],
                dxa_bmd_g_cm2=dxa,
                qct_bmd_mg_cm3=qct,
                carried={name: cells[name] for name in self.carried},
                line=line,
            )
        )

    def _check_side(self, line: int, cell: str) -> Side | None:
        for side in SIDES:
            if cell == side:
                return side
        if cell:
            self._report(line, "side", "BMD-COH-007", f"{_shorten(cell)}, expected L or R")
        return None

    def _check_bmd(self, line: int, name: str, cell: str) -> float | None:
        if not cell:
            return None
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        most, unit = BMD_LIMITS[name]
        if not 0 < value <= most:
            self._report(line, name, "BMD-COH-008", f"{_shorten(cell)}, expected a number in {unit}, 0 to {most:g}")
            return None
        return value

    def _check_file(self, line: int, name: str, cell: str) -> Path | None:
        if not cell:
            return None
        path = self.folder / cell
        if reason := _find_fault(path, name, cell):
            self._report(line, name, "BMD-COH-006", f"{_quote(cell)} {reason}")
        return path

    def _check_poses(self) -> None:
        for word, lines in self._poses.items():
            if meant := find_near_pose(word):
                rows = f"{len(lines)} row" + ("" if len(lines) == 1 else "s")
                message = f"{_shorten(word)} ({rows}) is carried as it is: did you mean {meant}?"
                self._report(lines[0], "pose", "BMD-COH-015", message, is_warning=True)

    def _check_across_rows(self) -> None:
        """Note what no single row shows: identifiers that clash, a patient with two CTs, an image of two patients."""
        if self.key is None:
            folded: dict[str, str] = {}
            for line, given in self._given_ids.items():
                known = folded.setdefault(given.casefold(), given)
                if given and known != given:
                    self._report(line, "patient_id", "BMD-COH-011", f"{_shorten(given)} beside {_shorten(known)}")
        first_row: dict[tuple[str, ...], CohortRow] = {}
        owners: dict[tuple[str, str | None], CohortRow] = {}
        for row in self.rows:
            for name in ("ct", "labels", "calibration", "landmarks"):
                group = (row.patient_id, name) + ((row.side,) if name == "landmarks" else ())
                first = first_row.setdefault(group, row)
                if _resolve(getattr(first, name)) != _resolve(getattr(row, name)):
                    self._report(row.line, name, "BMD-COH-012", f"not the one of line {first.line}, the same patient")
            for name in ("ct", "xray"):
                first = owners.setdefault((name, _resolve(getattr(row, name))), row)
                if first.patient_id != row.patient_id:
                    self._report(row.line, name, "BMD-COH-013", f"the one of line {first.line}, another patient")


def count_problems(problems: list[Problem]) -> str:
    """Say how many problems there are, and of which columns the most."""
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
        return "does not exist: it is a path of Windows; write paths relative to the cohort, with /"
    if "\\" in cell:
        return f"does not exist: write paths with /, such as {_quote(windows.as_posix())}"
    return "does not exist"


def _resolve(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _quote(text: str) -> str:
    """The whole text in quotes; what cannot be printed is escaped."""
    return "'" + "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text) + "'"


def _shorten(text: str) -> str:
    """As `_quote`, of the text's beginning."""
    return _quote(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
