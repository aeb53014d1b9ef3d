"""The cohort table: every problem of every row in one pass, then one Case per patient."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bmdkit.core.anatomy import SIDES
from bmdkit.core.case import Case, CohortRow
from bmdkit.errors import PreflightError
from bmdkit.io.results import write_csv

TABLE = "cohort.csv"
REQUIRED = ("patient_id", "ct", "xray", "side")
OPTIONAL = ("pose", "landmarks", "labels", "dxa_bmd", "calibration")
FILES = ("ct", "xray", "landmarks", "labels", "calibration")
PATIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
BMD_RANGE_G_CM2 = (0.0, 5.0)
_SHOWN = 60


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the table.

    Attributes:
        line: Of cohort.csv; 0 for the table as a whole.
        column: Its name, or "".
        code: Of `errors.CODES`.
        message: What was found, and what is expected.
    """

    line: int
    column: str
    code: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", {self.column}" if self.column else "") if self.line else TABLE
        return f"{self.code}: {where}: {self.message}"


class CohortError(PreflightError):
    """The table cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(
        self, code: str, message: str, *, case: str | None = None, file=None, problems: Sequence[Problem] = ()
    ) -> None:
        super().__init__(code, message, case=case, file=file)
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Cohort:
    """All cases of a folder.

    Attributes:
        root: The folder.
        cases: One per patient, in order of their identifiers.
        carried: Names of the columns that are carried into the manifest.
        keys: Identifier used -> identifier in the table; only filled when pseudonymised, never to be written inside
            a dataset.
    """

    root: Path
    cases: tuple[Case, ...]
    carried: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)


def read_cohort(folder: Path, *, pseudonymise_key: bytes | None = None) -> Cohort:
    """Read and check the whole table; opens none of the images.

    Args:
        folder: Holds cohort.csv; its paths are relative to it.
        pseudonymise_key: If given, every patient becomes `sub-<12 hex>`, a hash keyed with it, and any identifier is
            accepted.

    Raises:
        PreflightError: With every problem of every row (a CohortError, whose `problems` lists them).
    """
    table = _Table(Path(folder), pseudonymise_key)
    table.check()
    if table.problems:
        listed = "\n".join(f"  {problem}" for problem in table.problems)
        code = table.problems[0].code if len({p.code for p in table.problems}) == 1 else "BMD-COH-001"
        raise CohortError(
            code, f"{_counted(table.problems)}:\n{listed}\n", file=table.path.name, problems=table.problems
        )
    return Cohort(Path(folder), table.cases(), table.carried, table.keys)


def check_cohort(folder: Path, *, pseudonymise_key: bytes | None = None) -> list[Problem]:
    """Every problem of every row, in order of lines; empty if the table is sound."""
    table = _Table(Path(folder), pseudonymise_key)
    table.check()
    return table.problems


def pseudonym(patient_id: str, key: bytes) -> str:
    """`sub-` and the first 12 hexadecimal digits of HMAC-SHA-256 of the identifier."""
    return "sub-" + hmac.new(key, patient_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:12]


def write_keys(path: Path, cohort: Cohort) -> None:
    """Write which pseudonym stands for whom; readable by its owner only. To be kept outside the dataset."""
    rows = [{"case": used, "patient_id": given} for used, given in sorted(cohort.keys.items())]
    write_csv(path, rows, ("case", "patient_id"), mode=0o600)


class _Table:
    """One reading of cohort.csv."""

    def __init__(self, folder: Path, key: bytes | None) -> None:
        self.folder, self.key = folder, key
        self.path = folder / TABLE
        self.problems: list[Problem] = []
        self.rows: list[CohortRow] = []
        self.carried: tuple[str, ...] = ()
        self.keys: dict[str, str] = {}
        self._originals: dict[int, str] = {}

    def report(self, line: int, column: str, code: str, message: str) -> None:
        self.problems.append(Problem(line, column, code, message))

    def check(self) -> None:
        records = self._records()
        if records is not None:
            seen: dict[tuple, int] = {}
            for line, cells in records:
                self._row(line, cells, seen)
            self._across_rows()
        self.problems.sort(key=lambda p: (p.line, p.code, p.column))

    def cases(self) -> tuple[Case, ...]:
        groups = defaultdict(list)
        for row in self.rows:
            groups[row.patient_id].append(row)
        # rows in an order of their own, so that a shuffled table is the same cohort
        return tuple(
            Case(name, tuple(sorted(groups[name], key=lambda r: (str(r.xray), r.side)))) for name in sorted(groups)
        )

    def _records(self) -> list[tuple[int, dict[str, str]]] | None:
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return self.report(0, "", "BMD-COH-002", f"not UTF-8 at byte {error.start}")
        except OSError as error:
            return self.report(0, "", "BMD-COH-002", f"cannot be read ({error.strerror})")
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
                    self.report(reader.line_num, "", "BMD-COH-004", f"{len(cells)} cells, the header has {len(header)}")
                else:
                    padded = cells + [""] * (len(header) - len(cells))
                    records.append((reader.line_num, dict(zip(header, map(str.strip, padded), strict=True))))
        except csv.Error as error:
            self.report(reader.line_num, "", "BMD-COH-002", f"no valid CSV ({error})")
        if header is None:
            return self.report(0, "", "BMD-COH-002", "empty: a header and at least one row are expected")
        doubled = sorted({name for name in header if name and header.count(name) > 1})
        if doubled:
            self.report(1, "", "BMD-COH-003", f"columns named twice: {', '.join(doubled)}")
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            hint = "; the cells look separated by semicolons" if len(header) == 1 and ";" in header[0] else ""
            self.report(1, "", "BMD-COH-003", f"missing columns: {', '.join(missing)}{hint}")
        if not records and not self.problems:
            self.report(0, "", "BMD-COH-002", "no rows")
        self.carried = tuple(name for name in header if name and name not in REQUIRED + OPTIONAL)
        return records

    def _row(self, line: int, cells: dict[str, str], seen: dict[tuple, int]) -> None:
        before = len(self.problems)
        for name in REQUIRED:
            if name in cells and not cells[name]:
                self.report(line, name, "BMD-COH-005", "empty")
        given = cells.get("patient_id", "")
        if given and self.key is None and not PATIENT_ID.fullmatch(given):
            self.report(line, "patient_id", "BMD-COH-009", f"{_short(given)} ({len(given)} characters)")
        side = cells.get("side", "")
        if side and side not in SIDES:
            self.report(line, "side", "BMD-COH-007", f"{_short(side)}, expected L or R")
        bmd = self._bmd(line, cells.get("dxa_bmd", ""))
        paths = {name: self._file(line, name, cells.get(name, "")) for name in FILES}
        row_key = (given, cells.get("xray"), side)
        if all(row_key) and row_key in seen:
            self.report(line, "", "BMD-COH-010", f"the same patient, radiograph and side as line {seen[row_key]}")
        seen.setdefault(row_key, line)
        self._originals[line] = given
        if len(self.problems) > before or not given or any(name not in cells for name in REQUIRED):
            return
        case = given if self.key is None else pseudonym(given, self.key)
        if self.key is not None:
            self.keys[case] = given
        self.rows.append(
            CohortRow(
                patient_id=case,
                side=side,
                pose=cells.get("pose") or "unknown",
                dxa_bmd_g_cm2=bmd,
                carried={name: cells[name] for name in self.carried},
                line=line,
                **paths,
            )
        )

    def _bmd(self, line: int, cell: str) -> float | None:
        if not cell:
            return None
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not BMD_RANGE_G_CM2[0] < value <= BMD_RANGE_G_CM2[1]:
            self.report(line, "dxa_bmd", "BMD-COH-008", f"{_short(cell)}, expected a number in g/cm2, 0 to 5")
            return None
        return value

    def _file(self, line: int, name: str, cell: str) -> Path | None:
        if not cell:
            return None
        path = self.folder / cell
        try:
            exists = "\ufffd" not in cell and path.exists()
            closed = exists and not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))
            empty = exists and not closed and path.is_dir() and not any(path.iterdir())
            folder = exists and path.is_dir() and name not in ("ct", "labels")
        except (OSError, ValueError):
            exists, closed, empty, folder = False, False, False, False
        if not exists:
            self.report(line, name, "BMD-COH-006", f"{_short(cell)} does not exist")
        elif closed:
            self.report(line, name, "BMD-COH-006", f"{_short(cell)} may not be read")
        elif empty:
            self.report(line, name, "BMD-COH-006", f"{_short(cell)} is an empty folder")
        elif folder:
            self.report(line, name, "BMD-COH-006", f"{_short(cell)} is a folder, expected a file")
        return path

    def _across_rows(self) -> None:
        """What no single row shows: identifiers that clash, one patient with two CTs, one image of two patients."""
        if self.key is None:
            folded: dict[str, str] = {}
            for line, given in self._originals.items():
                first = folded.setdefault(given.casefold(), given)
                if given and first != given:
                    self.report(line, "patient_id", "BMD-COH-011", f"{_short(given)} beside {_short(first)}")
        first_row: dict[tuple, CohortRow] = {}
        owners: dict[tuple, CohortRow] = {}
        for row in self.rows:
            for name in ("ct", "labels", "calibration", "landmarks"):
                group = (row.patient_id, name) + ((row.side,) if name == "landmarks" else ())
                first = first_row.setdefault(group, row)
                if _same(getattr(first, name)) != _same(getattr(row, name)):
                    self.report(row.line, name, "BMD-COH-012", f"not the one of line {first.line}, the same patient")
            for name in ("ct", "xray"):
                first = owners.setdefault((name, _same(getattr(row, name))), row)
                if first.patient_id != row.patient_id:
                    self.report(row.line, name, "BMD-COH-013", f"the one of line {first.line}, another patient")


def _same(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _counted(problems: Sequence[Problem]) -> str:
    return f"{len(problems)} problem" + ("" if len(problems) == 1 else "s")


def _short(text: str) -> str:
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return repr(shown)
