"""One patient of a cohort: what was given, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bmdkit.core.anatomy import Side

VIEW_GROUP = "view_group"
"""Column of the cohort: rows of one patient with the same word are views of one moment, registered together."""


@dataclass(frozen=True)
class CohortRow:
    """One radiograph and hip, a line of cohort.csv.

    Attributes:
        patient_id: Names the case everywhere.
        ct: DICOM folder or volume file.
        xray: Radiograph file.
        side: The target hip, the patient's own.
        pose: standing, supine, abduction, adduction or any other word.
        landmarks, labels, calibration: Files given by the user, or None.
        dxa_bmd_g_cm2, qct_bmd_mg_cm3: BMD that was measured elsewhere, or None.
        carried: Further columns, as text.
        line: Its line number in cohort.csv.
    """

    patient_id: str
    ct: Path
    xray: Path
    side: Side
    pose: str = "unknown"
    landmarks: Path | None = None
    labels: Path | None = None
    calibration: Path | None = None
    dxa_bmd_g_cm2: float | None = None
    qct_bmd_mg_cm3: float | None = None
    carried: Mapping[str, str] = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True)
class Case:
    """All rows of one patient; they share one CT, which is processed once."""

    patient_id: str
    rows: tuple[CohortRow, ...]

    def __post_init__(self) -> None:
        """Check that all rows name the same files of the patient."""
        if not self.rows:
            raise ValueError("rows: expected at least one")
        for name in ("ct", "labels", "calibration"):
            if len({getattr(row, name) for row in self.rows}) > 1:
                raise ValueError(f"rows: patient {self.patient_id} names more than one {name}")

    @property
    def ct(self) -> Path:
        """DICOM folder or volume file of the patient's CT."""
        return self.rows[0].ct

    @property
    def labels(self) -> Path | None:
        """Label map given for the CT, or None."""
        return self.rows[0].labels

    @property
    def calibration(self) -> Path | None:
        """Calibration given for the CT, or None."""
        return self.rows[0].calibration

    @property
    def sides(self) -> tuple[Side, ...]:
        """The hips that are asked for, L before R."""
        return tuple(sorted({row.side for row in self.rows}))

    @property
    def xrays(self) -> tuple[Path, ...]:
        """The radiographs, each once, in the order of the table."""
        return tuple(dict.fromkeys(row.xray for row in self.rows))

    def views_with(self, xray: Path) -> tuple[Path, ...]:
        """All radiographs of the moment of one, itself among them, in the order of their paths."""
        groups = {row.carried.get(VIEW_GROUP, "") for row in self.rows if row.xray == xray} - {""}
        found = {row.xray for row in self.rows if row.carried.get(VIEW_GROUP, "") in groups}
        return tuple(sorted(found | {xray}, key=str))

    @property
    def inputs(self) -> dict[str, Path]:
        """Every input by its role: ct, labels, calibration, landmarks_<side>, xray_1, xray_2, ...; each once."""
        files = {"ct": self.ct, "labels": self.labels, "calibration": self.calibration}
        files |= {f"landmarks_{side}": self.landmarks_of(side) for side in self.sides}
        files |= {f"xray_{number}": path for number, path in enumerate(sorted(self.xrays, key=str), start=1)}
        return {role: path for role, path in files.items() if path is not None}

    def landmarks_of(self, side: Side) -> Path | None:
        """The landmark file given for one hip, or None."""
        return next((row.landmarks for row in self.rows if row.side == side and row.landmarks), None)
