"""What a trained decomposition makes of radiographs that are not as they should be, and whether its quality flag tells.

The held-out pairs are predicted as they are, compressed as JPEG, and spoilt so that the prediction has to be wrong.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from bmdkit.core.naming import make_unique_name
from bmdkit.dataset.samples import Pair, read_images, read_pairs, split_pairs
from bmdkit.errors import PreflightError
from bmdkit.evaluation.agreement import mean_absolute_error, pearson
from bmdkit.evaluation.segmentation_metrics import auroc
from bmdkit.inference.predictor import Predictor, load_predictor
from bmdkit.io.results import finite, write_csv, write_json
from bmdkit.training.run import estimate_bmd, predict_pf_drr
from bmdkit.training.run_layout import BMD_COLUMNS

QUALITIES = (100, 75, 50, 25, 10)
"""Of JPEG, those of the paper."""

LARGE = 2.0
"""An error is large beyond this many root mean square errors of the radiographs as they are."""

COLUMNS = ("run", "change", "level", "task", "images", "patients", "pcc", "mae", "file_kb", "flagged_pct")


@dataclass(frozen=True, eq=False)
class Seen:
    """One prediction.

    Attributes:
        pair: Of the radiograph.
        bmd: Predicted, by task.
        strangeness, quality: Of its projection; see `Plausibility`.
        file_kb: Of the compressed radiograph, or NaN.
    """

    pair: Pair
    bmd: dict[str, float]
    strangeness: float
    quality: str
    file_kb: float

    def error(self, task: str) -> float:
        """Predicted less measured; NaN where not known."""
        true = getattr(self.pair, BMD_COLUMNS[task])
        return math.nan if true is None else self.bmd[task] - true


Change = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray, float]]


def as_jpeg(quality: int) -> Change:
    """Eight bits, compressed and read again; with the size of the file, kB."""

    def change(xray: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        buffer = io.BytesIO()
        Image.fromarray(np.rint(255 * xray).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer), np.float32) / 255, mask, len(buffer.getvalue()) / 1000

    return change


def _changed(how: Callable[[np.ndarray, np.random.Generator], np.ndarray], *, mask_too: bool) -> Change:
    def change(xray: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        seen = how(mask, rng) > 0.5 if mask_too else mask
        return np.clip(how(xray, rng), 0, 1).astype(np.float32), seen, math.nan

    return change


_spoilt = functools.partial(_changed, mask_too=True)  # what moves the image moves its mask
_toned = functools.partial(_changed, mask_too=False)


def _moved(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = image.shape
    return ndimage.shift(image, (rows / 4, columns / 5), order=1, cval=0)


def _enlarged(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    middle = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, [1 / 1.5] * 2, middle - middle / 1.5, order=1)


SPOILT: dict[str, Change] = {
    "upside down": _spoilt(lambda image, rng: image[::-1]),
    "the other hip": _spoilt(lambda image, rng: image[:, ::-1]),
    "a quarter lower": _spoilt(_moved),
    "half as large again": _spoilt(_enlarged),
    "turned by 30 degrees": _spoilt(lambda image, rng: ndimage.rotate(image, 30, reshape=False, order=1)),
    "inverted": _toned(lambda image, rng: 1 - image),
    "half the exposure": _toned(lambda image, rng: 0.5 * image),
    "noise": _toned(lambda image, rng: image + rng.normal(0, 0.2, image.shape)),
    "blank": _toned(lambda image, rng: np.full_like(image, image.mean())),
}
"""Radiographs that should not have come: what a reader or a user gets wrong."""


def measure_robustness(runs: Sequence[Path], data: Path, out: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Predict the held-out pairs of runs, as they are and changed, and write robustness.csv and robustness.json.

    Args:
        runs: Of decompositions trained on dataset B of `data`; others are left out.
        data: The dataset.
        out: To write to.
        device: auto, cpu or cuda[:N].

    Returns:
        What robustness.json holds: per run, the loss of PCC by JPEG, and how well the quality flag tells large errors.

    Raises:
        PreflightError: No run is of that kind, or none holds patients out (BMD-EVA-004).
    """
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for folder in runs:
        try:
            predictor = load_predictor(folder, device=device)
        except PreflightError as error:
            if error.code not in ("BMD-PRE-001", "BMD-TRN-009"):
                raise
            continue
        config = predictor.run.config
        pairs = split_pairs(read_pairs(data, "B", verdicts=config.verdicts), config.fold)[1]
        if not pairs:
            continue
        name = make_unique_name(f"{folder.parent.name}/{folder.name}", found)  # another study may have the same
        images = [tuple(image[0].numpy() for image in read_images(pair)[::2]) for pair in pairs]
        changes = {("as it is", ""): None} | {("jpeg", q): as_jpeg(q) for q in QUALITIES}
        changes |= {("spoilt", how): change for how, change in SPOILT.items()}
        seen = {key: list(_predicted(predictor, pairs, images, change)) for key, change in changes.items()}
        for (change, level), predictions in seen.items():
            rows += [
                {"run": name, "change": change, "level": level, **row}
                for row in _rows(predictions, predictor.run.lines)
            ]
        found[name] = _summary(seen, predictor.run.lines)
    if not found:
        raise PreflightError("BMD-EVA-004", "no decomposition run on dataset B with held-out patients.")
    write_csv(out / "robustness.csv", rows, COLUMNS)
    write_json(out / "robustness.json", found)
    return found


def _predicted(
    predictor: Predictor, pairs: Sequence[Pair], images: Sequence[tuple[np.ndarray, ...]], change: Change | None
) -> Iterator[Seen]:
    for number, (pair, (xray, mask)) in enumerate(zip(pairs, images, strict=True)):
        size_kb = math.nan
        if change is not None:
            xray, mask, size_kb = change(xray, mask, np.random.default_rng(number))
        drr = predict_pf_drr(predictor.run, np.ascontiguousarray(xray), np.ascontiguousarray(mask))
        quality, _ = predictor.plausibility.check(drr, pair.side)
        strange = predictor.plausibility.strangeness(drr, pair.side)
        yield Seen(pair, estimate_bmd(predictor.run, drr), strange, quality, size_kb)


def _rows(seen: Sequence[Seen], tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        known = [one for one in seen if math.isfinite(one.error(task))]
        if not known:
            continue
        predicted = [one.bmd[task] for one in known]
        true = [getattr(one.pair, BMD_COLUMNS[task]) for one in known]
        size_kb = float(np.mean([one.file_kb for one in known]))
        yield {
            "task": task,
            "images": len(known),
            "patients": len({one.pair.patient_id for one in known}),
            "pcc": finite(pearson(predicted, true)) if len(known) > 2 else None,
            "mae": mean_absolute_error(predicted, true),
            "file_kb": finite(size_kb),
            "flagged_pct": 100 * float(np.mean([one.quality != "accept" for one in known])),
        }


def _summary(seen: dict[tuple[str, Any], list[Seen]], tasks: Sequence[str]) -> dict[str, Any]:
    """What JPEG costs, and the AUROC of the strangeness for large errors over all radiographs, spoilt or not."""
    summary: dict[str, Any] = {}
    for task in tasks:
        own = {key: next(_rows(predictions, [task]), None) for key, predictions in seen.items()}
        plain = own["as it is", ""]
        if plain is None:
            continue
        rms = math.sqrt(np.nanmean([one.error(task) ** 2 for one in seen["as it is", ""]]))
        mixed = [one for (change, _), some in seen.items() if change != "jpeg" for one in some]
        mixed = [one for one in mixed if math.isfinite(one.error(task))]
        large = np.array([abs(one.error(task)) > LARGE * rms for one in mixed])
        flagged = np.array([one.quality != "accept" for one in mixed])
        strange = np.array([min(one.strangeness, 1e9) for one in mixed])
        both = large.any() and not large.all()
        summary[task] = {
            "pcc": plain["pcc"],
            "jpeg_pcc_loss": {
                str(q): None if None in (plain["pcc"], own["jpeg", q]["pcc"]) else plain["pcc"] - own["jpeg", q]["pcc"]
                for q in QUALITIES
            },
            "large_error": LARGE * rms,
            "images": len(mixed),
            "with_a_large_error": int(large.sum()),
            "flag_auroc": auroc(strange, large) if both else None,
            "large_errors_flagged_pct": 100 * float(flagged[large].mean()) if large.any() else None,
            "others_flagged_pct": 100 * float(flagged[~large].mean()) if not large.all() else None,
        }
    return summary
