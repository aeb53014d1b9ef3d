"""A table of hips whose DXA-BMD is known, each with its radiograph; a cohort's own table is one as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bmdkit.core.anatomy import Side
from bmdkit.io.table_check import TableCheck

COLUMNS = ("patient_id", "xray", "side", "dxa_bmd")


@dataclass(frozen=True)
class KnownHip:
    """One radiograph of a hip whose DXA-BMD is known.

    Attributes:
        patient_id: Whose hip it is.
        xray: File of the radiograph.
        side: The patient's own.
        dxa_bmd_g_cm2: BMD that was measured.
        line: Line of the table.
    """

    patient_id: str
    xray: Path
    side: Side
    dxa_bmd_g_cm2: float
    line: int


def read_known_hips(path: Path) -> list[KnownHip]:
    """Read and check the whole table; opens no radiograph.

    Args:
        path: CSV with the columns patient_id, xray (relative to the table), side (L or R) and dxa_bmd (g/cm2). Other
            columns mean nothing here, and a row without dxa_bmd is left out.

    Raises:
        PreflightError: With every problem of every row (a `TableError`, whose `problems` lists them).
    """
    table, hips = TableCheck(Path(path)), list[KnownHip]()
    seen: dict[tuple[Path, Side], int] = {}
    for line, cells in table.read_records(COLUMNS, COLUMNS):
        if not cells.get("dxa_bmd"):
            continue
        before = len(table.problems)
        table.check_filled(line, cells, COLUMNS)
        side = table.check_side(line, cells.get("side", ""))
        bmd = table.check_bmd(line, "dxa_bmd", cells["dxa_bmd"])
        xray = table.check_file(line, "xray", cells.get("xray", ""))
        if len(table.problems) > before or side is None or bmd is None or xray is None:
            continue
        if (other := seen.setdefault((xray.resolve(), side), line)) != line:
            table.report(line, "", "BMD-COH-010", f"the same radiograph and side as line {other}")
        hips.append(KnownHip(cells["patient_id"], xray, side, bmd, line))
    table.check_spellings({hip.line: hip.patient_id for hip in hips})
    table.check_owners("xray", [(hip.line, hip.xray, hip.patient_id) for hip in hips])
    if not hips and not table.problems:
        table.report(0, "", "BMD-COH-002", "no row has a dxa_bmd")
    table.sort()
    table.require_sound()
    return hips
