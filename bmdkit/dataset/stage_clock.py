"""How long a case spends in each stage, and which stage it is in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_SUFFIX = ".stage"


class Spent(NamedTuple):
    """What a stage has cost: wall time, and processor time of all threads of the process."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


class StageClock:
    """Time by stage, summed; the stage of the moment is noted where the process that began the case can read it.

    Args:
        note: File of the note, see `note_file`; None: none is written.

    Attributes:
        spent: Time by stage.
        part: What is worked on within a stage, in words; it is added to the note.
    """

    def __init__(self, note: Path | None = None) -> None:
        """Start with no stage."""
        self.spent: dict[str, Spent] = {}
        self.part = ""
        self._note = note

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time that the body takes to a stage."""
        start, cpu_start = time.monotonic(), time.process_time()
        if self._note is not None:
            with contextlib.suppress(OSError):  # a note is not worth a case
                self._note.parent.mkdir(exist_ok=True)
                self._note.write_text(f"{stage} {self.part}".strip(), encoding="utf-8")
        try:
            yield
        finally:
            wall, cpu = self.spent.get(stage, Spent())
            self.spent[stage] = Spent(wall + time.monotonic() - start, cpu + time.process_time() - cpu_start)


def note_file(staging: Path, patient_id: str) -> Path:
    """The file where a case that is built in this staging folder notes its stage."""
    return staging / f"{patient_id}{_SUFFIX}"


def read_stages(staging: Path) -> dict[str, str]:
    """Read the stage of every case that is being built, or was built, in a staging folder or one level below it.

    Args:
        staging: Staging folder of a run.

    Returns:
        Patient -> stage, sorted by patient.
    """
    found = {}
    for file in (*staging.glob(f"*{_SUFFIX}"), *staging.glob(f"*/*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            found[file.name.removesuffix(_SUFFIX)] = file.read_text(encoding="utf-8")
    return dict(sorted(found.items()))
