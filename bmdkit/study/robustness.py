"""What a trained network makes of radiographs that are not as they should be, and whether its quality flag tells.

The held-out pairs are predicted as they are, as JPEG, in fewer bits, and spoilt so that predictions have to be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.dataset.samples import Pair, read_images, read_pairs, split_pairs
from bmdkit.errors import PreflightError
from bmdkit.evaluation.agreement import FEWEST_PATIENTS, mean_absolute_error, pearson
from bmdkit.evaluation.segmentation_metrics import auroc
from bmdkit.inference.predictor import Predictor, load_predictor
from bmdkit.io.results import finite, write_csv, write_json
from bmdkit.study.finished_runs import Result, group_methods, read_results
from bmdkit.study.image_changes import BITS, QUALITIES, SPOILT, Change, as_bits, as_jpeg
from bmdkit.study.task_values import measured_values
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.run_layout import RUN, read_json

LARGE = 2.0
"""An error is large beyond this many root mean square errors of the radiographs as they are."""

Level = tuple[str, str | int]
"""A kind of change and its level; ("as it is", "") for none."""

_UNCHANGED: Level = ("as it is", "")


@dataclass(frozen=True, eq=False)
class ChangedPrediction:
    """The prediction of one radiograph, changed or as it is.

    Attributes:
        pair: Pair of the radiograph.
        bmd: Predicted BMD by task.
        strangeness, quality: Strangeness and quality of it; see `Judgement`.
        file_kb: Size of the compressed radiograph, or NaN.
    """

    pair: Pair
    bmd: Mapping[Task, float]
    strangeness: float
    quality: str
    file_kb: float

    def error(self, task: Task) -> float:
        """Predicted less measured; NaN where not known."""
        return self.bmd.get(task, math.nan) - float(measured_values([self.pair], task)[0])


@dataclass(frozen=True)
class RobustnessRow:
    """One row of robustness.csv.

    Attributes:
        method, seed: What predicted; its folds are pooled.
        change, level, task: What was predicted.
        images, patients: Number of images and of patients.
        pcc, mae: Agreement; the first None below ten patients.
        file_kb: Mean size of the files of the radiographs: as they are on disk, or compressed; None where spoilt.
        flagged_pct: Share of the images whose quality is not accept.
    """

    method: str
    seed: int
    change: str
    level: str | int
    task: str
    images: int
    patients: int
    pcc: float | None
    mae: float
    file_kb: float | None
    flagged_pct: float


def measure_robustness(
    runs: Sequence[Path],
    data: Path | Sequence[Path],
    out: Path,
    *,
    methods: Collection[str] | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Predict the held-out pairs of runs, as they are and changed, and write robustness.csv and robustness.json.

    Args:
        runs: Folders of runs that can predict BMD, trained on dataset B; others are left out. Folds of a method are
            pooled.
        data: The dataset, or several of the same patients.
        out: Folder to write to.
        methods: Names of the methods that are measured; None: all.
        device: Device to compute on: auto, cpu or cuda[:N].

    Returns:
        What robustness.json holds: per method, the loss of PCC by JPEG and by fewer bits, and how well the quality flag
        tells large errors.

    Raises:
        PreflightError: No run is of that kind, or none holds patients out (BMD-EVA-004).
    """
    datasets = (data,) if isinstance(data, Path) else tuple(data)
    results = [result for run in runs for result in read_results(run, *datasets)]
    results.sort(key=lambda result: (result.order, str(result.fold), result.seed))
    rows: list[RobustnessRow] = []
    found: dict[str, Any] = {}
    for method in group_methods(results):
        for seed, members in method.seeds.items() if methods is None or method.name in methods else ():
            predictions: dict[Level, list[ChangedPrediction]] = {}
            for result in members:
                _add_predictions(predictions, result, device)
            if not predictions:
                continue
            tasks = [task for task in TASKS if any(task in one.bmd for one in predictions[_UNCHANGED])]
            rows += [
                row
                for level, some in predictions.items()
                for task in tasks
                if (row := _measure(method.name, seed, level, some, task)) is not None
            ]
            found[method.name if len(method.seeds) == 1 else f"{method.name}, seed {seed}"] = _summarise(
                predictions, tasks
            )
    if not found:
        raise PreflightError("BMD-EVA-004", "no run on dataset B that predicts BMD holds patients out.")
    write_csv(out / "robustness.csv", map(asdict, rows), [field.name for field in fields(RobustnessRow)])
    write_json(out / "robustness.json", found)
    return found


def _add_predictions(found: dict[Level, list[ChangedPrediction]], result: Result, device: str) -> None:
    """Predict the held-out pairs of one result, where it can predict BMD."""
    predictor = _load_or_leave_out(result, device)
    pairs = [] if predictor is None else _held_out_pairs(predictor, result.data)
    if predictor is not None and pairs:
        for level, some in _predict_changes(predictor, pairs).items():
            found.setdefault(level, []).extend(some)


def _load_or_leave_out(result: Result, device: str) -> Predictor | None:
    """Read a run that can predict BMD, of a regression its last phase; None where it is of another kind."""
    phases = result.phase in ("frozen", "tuned", "scratch", "ridge")
    if phases and result.phase != read_json(result.folder / RUN)["phases"][-1]:
        return None
    try:
        return load_predictor(result.folder / result.phase if result.phase == "ridge" else result.folder, device=device)
    except PreflightError as error:
        if error.code not in ("BMD-PRE-001", "BMD-TRN-009"):
            raise
        return None


def _held_out_pairs(predictor: Predictor, data: Path) -> Sequence[Pair]:
    config = predictor.first.config
    return split_pairs(read_pairs(data, "B", verdicts=config.verdicts), config.fold)[1]


def _predict_changes(predictor: Predictor, pairs: Sequence[Pair]) -> dict[Level, list[ChangedPrediction]]:
    """Predict every pair as it is and with every change."""
    images = [tuple(image[0].numpy() for image in read_images(pair)[::2]) for pair in pairs]
    changes: dict[Level, Change | None] = {_UNCHANGED: None}
    changes |= {("jpeg", quality): as_jpeg(quality) for quality in QUALITIES}
    changes |= {("bits", bits): as_bits(bits) for bits in BITS}
    changes |= {("spoilt", how): change for how, change in SPOILT.items()}
    return {level: list(_predict(predictor, pairs, images, change)) for level, change in changes.items()}


def _predict(
    predictor: Predictor, pairs: Sequence[Pair], images: Sequence[tuple[np.ndarray, ...]], change: Change | None
) -> Iterator[ChangedPrediction]:
    for number, (pair, (xray, mask)) in enumerate(zip(pairs, images, strict=True)):
        size_kb = pair.xray.stat().st_size / 1000
        if change is not None:
            xray, mask, size_kb = change(xray, mask, np.random.default_rng(number))
        side: Side = "L" if pair.side == "L" else "R"
        seen = predictor.look(np.ascontiguousarray(xray), np.ascontiguousarray(mask), side)
        yield ChangedPrediction(pair, seen.bmd, seen.strangeness, seen.quality, size_kb)


def _measure(
    method: str, seed: int, level: Level, predictions: Sequence[ChangedPrediction], task: Task
) -> RobustnessRow | None:
    """Agreement of the images whose BMD is known; None where there are none."""
    known = [one for one in predictions if math.isfinite(one.error(task))]
    if not known:
        return None
    patients = {one.pair.patient_id for one in known}
    predicted, measured = [one.bmd[task] for one in known], measured_values([one.pair for one in known], task)
    return RobustnessRow(
        method,
        seed,
        *level,
        task=task,
        images=len(known),
        patients=len(patients),
        pcc=finite(pearson(predicted, measured)) if len(patients) >= FEWEST_PATIENTS else None,
        mae=mean_absolute_error(predicted, measured),
        file_kb=finite(float(np.mean([one.file_kb for one in known]))),
        flagged_pct=100 * float(np.mean([one.quality != "accept" for one in known])),
    )


def _summarise(predictions: Mapping[Level, Sequence[ChangedPrediction]], tasks: Sequence[Task]) -> dict[str, Any]:
    """What JPEG costs, and the AUROC of the strangeness for large errors over all radiographs, spoilt or not."""
    summary: dict[str, Any] = {}
    for task in tasks:
        unchanged = _measure("", 0, _UNCHANGED, predictions[_UNCHANGED], task)
        if unchanged is None:
            continue
        lost = {str(q): _pcc_loss(unchanged, predictions["jpeg", q], task) for q in QUALITIES}
        fewer = {str(bits): _pcc_loss(unchanged, predictions["bits", bits], task) for bits in BITS}
        rms = math.sqrt(np.nanmean([one.error(task) ** 2 for one in predictions[_UNCHANGED]]))
        mixed = [one for (change, _), some in predictions.items() if change not in ("jpeg", "bits") for one in some]
        summary[task] = {"pcc": unchanged.pcc, "jpeg_pcc_loss": lost, "bits_pcc_loss": fewer} | _judge_flag(
            mixed, task, LARGE * rms
        )
    return summary


def _pcc_loss(unchanged: RobustnessRow, changed: Sequence[ChangedPrediction], task: Task) -> float | None:
    row = _measure("", 0, _UNCHANGED, changed, task)
    return None if row is None or unchanged.pcc is None or row.pcc is None else unchanged.pcc - row.pcc


def _judge_flag(predictions: Sequence[ChangedPrediction], task: Task, large_error: float) -> dict[str, Any]:
    """How well strangeness and quality tell large errors."""
    known = [one for one in predictions if math.isfinite(one.error(task))]
    large = np.array([abs(one.error(task)) > large_error for one in known])
    flagged = np.array([one.quality != "accept" for one in known])
    strangeness = np.array([min(one.strangeness, 1e9) for one in known])
    return {
        "large_error": large_error,
        "images": len(known),
        "with_a_large_error": int(large.sum()),
        "flag_auroc": auroc(strangeness, large) if large.any() and not large.all() else None,
        "large_errors_flagged_pct": 100 * float(flagged[large].mean()) if large.any() else None,
        "others_flagged_pct": 100 * float(flagged[~large].mean()) if not large.all() else None,
    }
