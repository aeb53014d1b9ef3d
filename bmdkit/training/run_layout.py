"""What stands in the folder of a training: names of files and columns, and what is read from them as typed rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bmdkit.core.units import PROJECTION_UNITS
from bmdkit.dataset.samples import Fold, Pair
from bmdkit.errors import PreflightError
from bmdkit.io.results import read_csv, write_csv
from bmdkit.training.bone_density import Task

if TYPE_CHECKING:
    from typing_extensions import Self

CONFIG, RUN, LOG, METRICS, PREDICTIONS = "config.json", "run.json", "log.csv", "metrics.json", "predictions.csv"
MONTAGE, PLAUSIBILITY, PROGRESS = "montage.png", "plausibility.json", "progress.png"
FAMILIARITY = "familiarity"
"""Entry of plausibility.json: the features of the training radiographs."""

GENERATOR, REGRESSOR, KEY_POINTS = "generator.safetensors", "regressor.safetensors", "key_points.safetensors"
CHECKPOINTS, SLICES, TENSORBOARD = "checkpoints", "slices", "tensorboard"

Split = Literal["train", "tune", "test"]
"""Patients that a run learns from, that choices are made on, and that it is measured with."""

BMD_COLUMNS: dict[Task, str] = {"dxa": "dxa_bmd_g_cm2", "qct": "qct_bmd_mg_cm3"}
"""Column of the measured values of a task, in the manifest and in predictions.csv."""

TARGET_MEAN, PREDICTED_MEAN = "target_mean_g_cm2", "predicted_mean_g_cm2"
TARGET_MEANS: dict[Task, str] = {task: f"target_mean_{task}_g_cm2" for task in BMD_COLUMNS}
"""Mean of the true projection, over the threshold that the images are compared with, and over that of each task."""


_UNCALIBRATED = "_khu_cm"
PROJECTION_COLUMNS = ("l1_g_cm2", TARGET_MEAN, *TARGET_MEANS.values(), PREDICTED_MEAN)
"""Columns in the unit of the projections; where that is 1000 HU cm, their names end in _khu_cm in the file."""


def _column_in_file(name: str, unit: str) -> str:
    """Name that a column of predictions.csv bears in the file.

    >>> _column_in_file("l1_g_cm2", "1000 HU cm"), _column_in_file("dxa_bmd_g_cm2", "1000 HU cm")
    ('l1_khu_cm', 'dxa_bmd_g_cm2')
    """
    uncalibrated = unit == PROJECTION_UNITS["hu"] and name in PROJECTION_COLUMNS
    return name.removesuffix("_g_cm2") + _UNCALIBRATED if uncalibrated else name


def predicted_column(measured: str) -> str:
    """Column of the predicted values that belong to a column of measured ones.

    >>> predicted_column("dxa_bmd_g_cm2")
    'predicted_dxa_bmd_g_cm2'
    """
    return f"predicted_{measured}"


@dataclass(frozen=True)
class PairColumns:
    """The first columns of every table of predictions: which pair a row is of, and whether it was trained on.

    Attributes:
        pair_id, patient_id, side, pose, fold: Values of the manifest.
        split: `train`, `tune` or `test`.
    """

    pair_id: str
    patient_id: str
    side: str
    pose: str
    fold: int
    split: str

    @classmethod
    def of(cls, pair: Pair, split: str) -> Self:
        """The columns of one pair."""
        return cls(pair.pair_id, pair.patient_id, pair.side, pair.pose, pair.fold, split)


PAIR_COLUMNS = tuple(field.name for field in fields(PairColumns))


@dataclass(frozen=True)
class PairPrediction(PairColumns):
    """One row of predictions.csv of a decomposition or a regression; None where a run has no such value.

    Attributes:
        l1_g_cm2, psnr_db, dice: Difference of the predicted projection from the true one, over the radiograph's mask;
            as all means of projections in their unit, which can be 1000 HU cm.
        target_mean_g_cm2, predicted_mean_g_cm2: Means of both projections over the threshold of the silhouette.
        target_mean_dxa_g_cm2, target_mean_qct_g_cm2: Means of the true projection over the threshold of each task.
        dxa_bmd_g_cm2, qct_bmd_mg_cm3: Measured values.
        predicted_dxa_bmd_g_cm2, predicted_qct_bmd_mg_cm3: Predicted values.
    """

    l1_g_cm2: float | None = None
    psnr_db: float | None = None
    dice: float | None = None
    target_mean_g_cm2: float | None = None
    target_mean_dxa_g_cm2: float | None = None
    target_mean_qct_g_cm2: float | None = None
    predicted_mean_g_cm2: float | None = None
    dxa_bmd_g_cm2: float | None = None
    predicted_dxa_bmd_g_cm2: float | None = None
    qct_bmd_mg_cm3: float | None = None
    predicted_qct_bmd_mg_cm3: float | None = None

    def measured(self, task: Task) -> float | None:
        """The measured value of a task, in its unit."""
        return self.dxa_bmd_g_cm2 if task == "dxa" else self.qct_bmd_mg_cm3

    def predicted(self, task: Task) -> float | None:
        """The predicted value of a task, in its unit."""
        return self.predicted_dxa_bmd_g_cm2 if task == "dxa" else self.predicted_qct_bmd_mg_cm3

    def target_mean(self, task: Task) -> float | None:
        """Mean of the true projection over the threshold of a task, g/cm2."""
        return self.target_mean_dxa_g_cm2 if task == "dxa" else self.target_mean_qct_g_cm2

    @property
    def hip(self) -> str:
        """Name of the hip, unique in a dataset."""
        return f"{self.patient_id} {self.side}"


PREDICTION_COLUMNS = tuple(field.name for field in fields(PairPrediction))


def write_predictions(
    path: Path,
    rows: Sequence[PairPrediction],
    columns: Sequence[str] = PREDICTION_COLUMNS,
    *,
    unit: str = PROJECTION_UNITS["density"],
) -> None:
    """Write the named columns of predictions as CSV.

    Args:
        path: File to write.
        rows: The predictions.
        columns: Names of their values.
        unit: Unit of the projections.
    """
    names = {name: _column_in_file(name, unit) for name in columns}
    plain = [{shown: getattr(row, name) for name, shown in names.items()} for row in rows]
    write_csv(path, plain, tuple(names.values()))


def read_predictions(path: Path) -> tuple[PairPrediction, ...]:
    """Read predictions.csv of a decomposition or of one phase of a regression.

    Raises:
        OSError: The file cannot be read.
        ValueError: It lacks a column that says of which image a row is, or a value is no number.
    """
    rows = read_csv(path)
    missing = [name for name in PAIR_COLUMNS if rows and name not in rows[0]]
    if missing:
        raise ValueError(f"{path.name} has no column {', '.join(missing)}")
    return tuple(_prediction(row) for row in rows)


def _prediction(row: Mapping[str, str]) -> PairPrediction:
    names = PREDICTION_COLUMNS[len(PAIR_COLUMNS) :]
    cells = [row.get(name) or row.get(_column_in_file(name, PROJECTION_UNITS["hu"])) for name in names]
    values = [float(cell) if cell else None for cell in cells]
    return PairPrediction(
        row["pair_id"], row["patient_id"], row["side"], row["pose"], int(row["fold"]), row["split"], *values
    )


@dataclass(frozen=True)
class Ancestor:
    """A run that another one has started from.

    Attributes:
        kind: Kind of the run.
        dataset: A or B.
        fold: Fold that it held out.
        data_sha256: Checksum of its manifest.
        settings: Digest of its settings.
    """

    kind: str
    dataset: str
    fold: Fold
    data_sha256: str
    settings: str


@dataclass(frozen=True)
class Provenance:
    """What a training learns from, as entries of its config.json.

    Attributes:
        data_sha256: Checksum of the dataset's manifest.
        lineage: The runs before it, the nearest first.
    """

    data_sha256: str
    lineage: tuple[Ancestor, ...] = ()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run's folder.

    Raises:
        PreflightError: There is none, or it is damaged (BMD-TRN-009).
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PreflightError("BMD-TRN-009", f"no finished run ({error}).", file=path) from error
    if not isinstance(values, dict):
        raise PreflightError("BMD-TRN-009", "no finished run.", file=path)
    return values


@dataclass(frozen=True)
class RegressionDescription:
    """What run.json of a regression holds.

    Attributes:
        kind: `representation` or `baseline`.
        task: What it predicts.
        image_size: (rows, columns) of its images.
        bmd_mean, bmd_sd: Mean and standard deviation of the training set, in the task's unit.
        phases: Names of the folders of its phases, in the order of training.
        pairs, xray: Settings by which the radiographs that it has learnt from were cut and read.
        data: Kind of the data that it has learnt from; None where the dataset did not say it.
    """

    kind: str
    task: Task
    image_size: tuple[int, int]
    bmd_mean: float
    bmd_sd: float
    phases: tuple[str, ...]
    pairs: Mapping[str, Any] = field(default_factory=dict)
    xray: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None


@dataclass(frozen=True)
class KeyPointDescription:
    """What run.json of a key point training holds.

    Attributes:
        kind: `key points`.
        image_size: (rows, columns) of its images.
        points: Names of the landmarks.
        phases: Names of the folders of its phases, in the order of training.
    """

    kind: str
    image_size: tuple[int, int]
    points: tuple[str, ...]
    phases: tuple[str, ...]
