"""One reading of cohort.csv: every problem of every row, and the rows that are sound."""

from __future__ import annotations

import re
from pathlib import Path

from bmdkit.core.case import CohortRow
from bmdkit.io.cohort_columns import FILES, KNOWN, OPTIONAL, REQUIRED, find_near_pose
from bmdkit.io.pseudonyms import make_pseudonym
from bmdkit.io.table_check import BMD_LIMITS, TableCheck, shorten

TABLE = "cohort.csv"
PATIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class CohortTable:
    """One reading of cohort.csv; `check` fills the attributes.

    Attributes:
        table: The table with everything that is wrong, and every warning, in the order of the lines.
        key: Key of the pseudonyms, or None.
        rows: Rows that are sound.
        carried: Names of the columns that are carried into the manifest.
        originals: Pseudonym -> identifier in the table; empty without a key.
    """

    def __init__(self, folder: Path, key: bytes | None) -> None:
        """Begin to read the table of a folder."""
        self.table, self.key = TableCheck(folder / TABLE), key
        self.rows: list[CohortRow] = []
        self.carried: tuple[str, ...] = ()
        self.originals: dict[str, str] = {}
        self._given_ids: dict[int, str] = {}
        self._poses: dict[str, list[int]] = {}

    def check(self) -> None:
        """Read the table and note every problem of every row."""
        records = self.table.read_records(REQUIRED, KNOWN)
        self.carried = tuple(name for name in self.table.header if name and name not in REQUIRED + OPTIONAL)
        seen: dict[tuple[str | None, ...], int] = {}
        for line, cells in records:
            self._check_row(line, cells, seen)
        self._check_poses()
        self._check_across_rows()
        self.table.sort()

    def _check_row(self, line: int, cells: dict[str, str], seen: dict[tuple[str | None, ...], int]) -> None:
        table = self.table
        before = len(table.problems)
        table.check_filled(line, cells, REQUIRED)
        given = cells.get("patient_id", "")
        if given and self.key is None and not PATIENT_ID.fullmatch(given):
            table.report(line, "patient_id", "BMD-COH-009", f"{shorten(given)} ({len(given)} characters)")
        side = table.check_side(line, cells.get("side", ""))
        dxa, qct = (table.check_bmd(line, name, cells.get(name, "")) for name in BMD_LIMITS)
        paths = {name: table.check_file(line, name, cells.get(name, "")) for name in FILES}
        row_key = (given, cells.get("xray"), cells.get("side"))
        if all(row_key) and row_key in seen:
            table.report(line, "", "BMD-COH-010", f"the same patient, radiograph and side as line {seen[row_key]}")
        seen.setdefault(row_key, line)
        self._given_ids[line] = given
        pose = cells.get("pose") or "unknown"
        self._poses.setdefault(pose, []).append(line)
        ct, xray = paths["ct"], paths["xray"]
        if len(table.problems) > before or not given or side is None or ct is None or xray is None:
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

    def _check_poses(self) -> None:
        for word, lines in self._poses.items():
            if meant := find_near_pose(word):
                rows = f"{len(lines)} row" + ("" if len(lines) == 1 else "s")
                message = f"{shorten(word)} ({rows}) is carried as it is: did you mean {meant}?"
                self.table.report(lines[0], "pose", "BMD-COH-015", message, is_warning=True)

    def _check_across_rows(self) -> None:
        """Note what no single row shows: identifiers that clash, a patient with two CTs, an image of two patients."""
        if self.key is None:
            self.table.check_spellings(self._given_ids)
        first_row: dict[tuple[str, ...], CohortRow] = {}
        for row in self.rows:
            for name in ("ct", "labels", "calibration", "landmarks"):
                group = (row.patient_id, name) + ((row.side,) if name == "landmarks" else ())
                first = first_row.setdefault(group, row)
                if _resolve(getattr(first, name)) != _resolve(getattr(row, name)):
                    self.table.report(
                        row.line, name, "BMD-COH-012", f"not the one of line {first.line}, the same patient"
                    )
        self.table.check_owners("ct", [(row.line, row.ct, row.patient_id) for row in self.rows])
        self.table.check_owners("xray", [(row.line, row.xray, row.patient_id) for row in self.rows])


def _resolve(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
