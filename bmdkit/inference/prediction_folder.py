"""The folder that predictions are written to: resumed after an interruption, kept when finished, never overwritten."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bmdkit.errors import PreflightError
from bmdkit.io.results import read_csv, write_csv, write_json
from bmdkit.jobs.lock import hold, require_free

logger = logging.getLogger(__name__)

TABLE, RECORD = "predictions.csv", "predictions.json"
INPUT = "input"
_UNFINISHED = ".unfinished"
_SETTINGS = "_input.json"  # no radiograph has a name that begins so
_NUMBERS = ("float | None", "float")


@dataclass(frozen=True)
class PredictionRow:
    """One row of predictions.csv: a hip, or a file that could not be read.

    Attributes:
        name: Name of the outputs.
        xray: File name of the radiograph.
        side: L or R, the patient's own; None where a file could not be read and no side was asked for.
        status: ok or failed.
        code, reason: Why it failed, or why the quality is not accept.
        quality: accept, review or reject.
        dxa_bmd_g_cm2, qct_bmd_mg_cm3: BMD with the ends of its interval.
        interval_from: Patients whose errors the interval is of.
        t_score: T-score against the reference that the user named.
        pf_drr, overlay: File names of the projection and of its picture.
        dicom: File names of the DICOM objects, separated by semicolons.
        intended_use: What the numbers are for.
    """

    name: str
    xray: str
    side: str | None
    status: str
    code: str | None = None
    reason: str | None = None
    quality: str | None = None
    dxa_bmd_g_cm2: float | None = None
    dxa_bmd_g_cm2_low: float | None = None
    dxa_bmd_g_cm2_high: float | None = None
    qct_bmd_mg_cm3: float | None = None
    qct_bmd_mg_cm3_low: float | None = None
    qct_bmd_mg_cm3_high: float | None = None
    interval_from: str | None = None
    t_score: float | None = None
    pf_drr: str | None = None
    overlay: str | None = None
    dicom: str | None = None
    intended_use: str | None = None

    @classmethod
    def from_text(cls, cells: Mapping[str, str]) -> PredictionRow:
        """A row of predictions.csv as it was before it was written.

        Raises:
            ValueError, KeyError: It is no such row.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            cell = cells[field.name]
            values[field.name] = None if cell == "" else float(cell) if field.type in _NUMBERS else cell
        return cls(**values)

    def files(self) -> list[str]:
        """Names of the files that belong to the row."""
        return [name for name in (self.pf_drr, self.overlay, *(self.dicom or "").split(";")) if name]


COLUMNS = tuple(field.name for field in fields(PredictionRow))


@dataclass(frozen=True)
class RadiographRecord:
    """What was found in one radiograph.

    Attributes:
        rows: A row for each hip.
        details: What predictions.json says of each hip.
    """

    rows: tuple[PredictionRow, ...]
    details: tuple[Mapping[str, Any], ...] = ()


class PredictionFolder:
    """A held output folder; see `open_predictions`.

    Attributes:
        folder: The output.
        settings: What tells the prediction from another, as plain data.
        finished: The rows of a finished prediction of the same input; None where there is work to do.
        line: Digest of the line of known hips by which BMD is told; None without one.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], finished: list[PredictionRow] | None) -> None:
        """Take what `open_predictions` found."""
        self.folder, self.settings, self.finished = folder, settings, finished
        self.line: str | None = None

    def read(self, name: str) -> RadiographRecord | None:
        """What an interrupted prediction by the same line found in a radiograph; None if unknown or incomplete."""
        try:
            kept = json.loads((self.folder / _UNFINISHED / f"{name}.json").read_text(encoding="utf-8"))
            rows = tuple(PredictionRow(**row) for row in kept["rows"])
            details = tuple(kept["details"])
            if kept["line"] != self.line:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        there = all((self.folder / file).is_file() for row in rows for file in row.files())
        return RadiographRecord(rows, details) if there else None

    def keep(self, name: str, record: RadiographRecord) -> None:
        """Write down what was found in a radiograph, after all its files."""
        rows = [asdict(row) for row in record.rows]
        kept = {"rows": rows, "details": list(record.details), "line": self.line}
        write_json(self.folder / _UNFINISHED / f"{name}.json", kept)

    def finish(self, rows: Sequence[PredictionRow], record: Mapping[str, Any]) -> None:
        """Write the table, then the record, which says that the prediction is whole."""
        write_csv(self.folder / TABLE, [asdict(row) for row in rows], COLUMNS)
        write_json(self.folder / RECORD, {**record, INPUT: self.settings})
        shutil.rmtree(self.folder / _UNFINISHED)


@contextlib.contextmanager
def open_predictions(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> Iterator[PredictionFolder]:
    """Hold a folder for the predictions of one input.

    Args:
        folder: The output; made if it is not there.
        settings: What tells one prediction from another, as plain data.
        overwrite: Whether predictions of another input are removed; other files are left alone.

    Raises:
        PreflightError: It holds something else (BMD-PRE-002).
        LockedError: Another prediction writes to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder):
        found = _look_at(folder, settings, overwrite=overwrite)
        if found.finished is None:
            _make_room(found, overwrite=overwrite)
        else:
            shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
        yield found


def examine_predictions(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> PredictionFolder:
    """Give what `open_predictions` would find; nothing is made or changed.

    Args:
        folder: The output, which need not be there.
        settings: What tells one prediction from another, as plain data.
        overwrite: Whether predictions of another input would be removed.

    Raises:
        PreflightError: It holds something else (BMD-PRE-002).
        LockedError: Another prediction writes to it.
    """
    require_free(folder)
    return _look_at(folder, settings, overwrite=overwrite)


def _look_at(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> PredictionFolder:
    """What a prediction finds in its folder; refused where that is something else, unless it may be removed."""
    settings = json.loads(json.dumps(settings))
    finished = None if overwrite else _finished_rows(folder, settings)
    there = _json(folder / RECORD) or {}
    begun = _json(folder / _UNFINISHED / _SETTINGS)
    earlier = there.get(INPUT) if begun is None else begun
    present = folder.iterdir() if folder.is_dir() else ()
    visible = sorted(path.name for path in present if not path.name.startswith("."))
    is_other = finished is None and earlier != settings and (visible or begun is not None)
    if is_other and not overwrite:
        if earlier is None:
            message = f"it holds {len(visible)} files that are no prediction of this kind, such as {visible[0]}."
        else:
            message = f"it holds a prediction of another input: {', '.join(_differences(earlier, settings))} differ."
        raise PreflightError("BMD-PRE-002", message, file=folder)
    return PredictionFolder(folder, settings, finished)


def _make_room(found: PredictionFolder, *, overwrite: bool) -> None:
    folder = found.folder
    if overwrite:
        _remove_predictions(folder)
    for unfinished in folder.rglob(".part-*"):  # of a write that was killed
        unfinished.unlink()
    write_json(folder / _UNFINISHED / _SETTINGS, found.settings)


def _finished_rows(folder: Path, settings: Mapping[str, Any]) -> list[PredictionRow] | None:
    """The rows of a finished prediction of this input, all of whose files are there."""
    if (_json(folder / RECORD) or {}).get(INPUT) != settings:
        return None
    rows = _read_rows(folder)
    if rows is None or not all((folder / name).is_file() for row in rows for name in row.files()):
        logger.warning("%s: files of the finished prediction are missing or damaged; it is made again", folder.name)
        return None
    return rows


def _remove_predictions(folder: Path) -> None:
    """Remove what an earlier prediction wrote, and nothing else."""
    rows = list(_read_rows(folder) or [])
    for record in (folder / _UNFINISHED).glob("*.json"):
        rows += [PredictionRow(**row) for row in (_json(record) or {}).get("rows", [])]
    for name in {name for row in rows for name in row.files()}:
        (folder / name).unlink(missing_ok=True)
    for name in (TABLE, RECORD):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)


def _read_rows(folder: Path) -> list[PredictionRow] | None:
    try:
        return [PredictionRow.from_text(cells) for cells in read_csv(folder / TABLE)]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
