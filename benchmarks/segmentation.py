"""Segmentation of CTs with known labels, as they are and spoilt: Dice, time, memory, and whether uncertainty tells.

    python benchmarks/segmentation.py CT_WITH_LABELS ... [--model RUN] [--spoil] [--json FILE] [--roc FILE]
    python benchmarks/segmentation.py CT_WITH_LABELS --shape 200 512 512 [--whole-slices]

Each CT_WITH_LABELS is a cohort with truth/<patient>/labels.nii.gz (`bmdkit simulate` makes one) or a folder with
images/ and labels/. `--spoil` adds noise, blur, HU offsets, metal with streaks, and a narrow field of view to each CT,
and asks how well the mean variance of a structure tells that its Dice is below 0.9; the threshold it prints keeps 90 %
of what did not fail. It holds for the draws, pixels and weights that it was measured with, which `--roc` writes beside
it. A model that has such a threshold is asked what passes it here, on CTs that did not choose it ("limit").
`--every N` keeps each N-th slice: the network sees one slice at a time, so a sample will do.
`--shape` brings the CT to so many slices, rows and columns first, for time and memory; `--whole-slices` does not leave
out the air around the body, as if a patient filled them.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from figure_files import write_figures
from scipy import ndimage

from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.evaluation.segmentation_metrics import auroc, dice, surface_distance
from bmdkit.io.cohort import TABLE, read_cohort
from bmdkit.io.ct import read_ct
from bmdkit.io.results import write_csv
from bmdkit.io.volumes import read_array
from bmdkit.regions.scan_check import find_metal
from bmdkit.segmentation.dropout_prediction import predict
from bmdkit.segmentation.failures import SHIPPED, VARIANCE
from bmdkit.segmentation.labels import rejoin_pieces
from bmdkit.segmentation.model import CLASSES, SegmentationModel, load_model
from bmdkit.segmentation.settings import Precision, PredictConfig
from bmdkit.training.labelled_slices import class_map, find_labelled
from bmdkit.training.segmentation_results import FAILED_DICE

KEPT = 0.9
"""Share of the structures that did not fail which the threshold lets pass."""

AIR_HU, METAL_HU = -1000.0, 3000.0


def labelled(folder: Path) -> Iterator[tuple[str, Volume, LabelMap]]:
    """Name, HU and true labels of every CT of a folder."""
    if (folder / TABLE).is_file():
        for case in read_cohort(folder).cases:
            truth = folder / "truth" / case.patient_id
            array, grid, _ = read_array(truth / "labels.nii.gz")
            values = json.loads((truth / "truth.json").read_text(encoding="utf-8"))["labels"]
            yield f"{folder.name}/{case.patient_id}", read_ct(case.ct).volume, LabelMap(array, grid, values)
    else:
        for ct in find_labelled(folder, seed=0):
            yield f"{folder.name}/{ct.name}", *ct.read()


def noisy(hu: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    """Add noise of this standard deviation, HU."""
    return hu + rng.normal(0, size, hu.shape).astype(np.float32)


def blurred(hu: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    """Blur with this standard deviation, mm."""
    return ndimage.gaussian_filter(hu, size / spacing[::-1])


def shifted(hu: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    """Add this many HU to everything that is not air."""
    return np.where(hu > AIR_HU / 2, hu + size, hu)


def narrow(hu: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    """Air outside a circle of this radius, mm, about a point off the middle."""
    rows, columns = np.indices(hu.shape[1:])
    middle = [n / 2 + rng.uniform(-40, 40) / s for n, s in zip(hu.shape[1:], spacing[1::-1], strict=True)]
    far = np.hypot((rows - middle[0]) * spacing[1], (columns - middle[1]) * spacing[0]) > size
    return np.where(far[None], np.float32(AIR_HU), hu)


def with_metal(hu: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    """A sphere of metal of this radius, mm, in the densest bone of a side, and streaks in its slices."""
    out = hu.copy()
    half = np.arange(hu.shape[2]) < hu.shape[2] / 2
    dense = ndimage.uniform_filter(hu, 20 / spacing[::-1]) * (half if rng.random() < 0.5 else ~half)
    centre = np.array(np.unravel_index(np.argmax(dense), hu.shape))
    away = (np.indices(hu.shape).reshape(3, -1) - centre[:, None]) * spacing[::-1][:, None]
    distance = np.linalg.norm(away, axis=0).reshape(hu.shape)
    level = np.abs(away[0].reshape(hu.shape)) < size
    turn = np.arctan2(away[1], away[2]).reshape(hu.shape)
    streaks = sum(np.cos(k * turn + rng.uniform(0, 7)) for k in (2, 5, 9, 14)) * 900 * np.exp(-distance / 120)
    out[level] += streaks[level].astype(np.float32)
    out[distance < size] = METAL_HU
    return out


SPOILT: dict[str, tuple[Callable[..., np.ndarray], tuple[float, ...]]] = {
    "noise": (noisy, (60, 150, 400)),
    "blur": (blurred, (2, 4, 8)),
    "HU offset": (shifted, (-300, -120, 120, 300)),
    "field of view": (narrow, (190, 140, 100)),
    "metal": (with_metal, (12, 25, 40)),
}
"""How a CT is spoilt: the function, and its sizes (HU, mm, HU, mm, mm) from hardly to badly."""


def versions_of(ct: Volume, truth: np.ndarray, seed: int, spoil: bool) -> Iterator[tuple[str, Volume, np.ndarray]]:
    """The CT as it is and, one size of each, spoilt; with the classes that it still shows."""
    yield "as it is", ct, truth
    rng = np.random.default_rng(seed)
    for name, (change, sizes) in SPOILT.items() if spoil else ():
        size = sizes[seed % len(sizes)]
        array = change(ct.array.astype(np.float32), ct.grid.spacing_mm, rng, size).astype(np.float32)
        seen = np.where(array <= AIR_HU, 0, truth) if change is narrow else truth
        yield f"{name} {size:g}", Volume(array, ct.grid, ct.quantity), seen


def thinned(ct: Volume, every: int) -> Volume:
    """Each n-th slice, as slices that far apart."""
    if every == 1:
        return ct
    old = ct.grid
    grid = Grid(ct.array[::every].shape, old.spacing_mm * [1, 1, every], old.origin_mm, old.direction)
    return Volume(ct.array[::every], grid, ct.quantity)


def run(args: argparse.Namespace, model: SegmentationModel, config: PredictConfig) -> list[dict]:
    """One row per CT, version and structure."""
    rows, seed = [], args.seed
    for folder in args.folders:
        for name, ct, labels in labelled(folder):
            if args.shape:
                size = ct.grid.shape / np.array(args.shape) * ct.grid.spacing_mm[::-1]
                ct = ct.resample(ct.grid.with_spacing(size[::-1]), fill=AIR_HU)
            for version, spoilt, truth in versions_of(ct, class_map(labels.resample(ct.grid)), seed, args.spoil):
                has_metal = bool(find_metal(spoilt))
                spoilt, truth = thinned(spoilt, args.every), truth[:: args.every]
                began, wall = time.process_time(), time.perf_counter()
                found = predict(spoilt, model, config, seed=seed)
                seconds, wall = time.process_time() - began, time.perf_counter() - wall
                bones = rejoin_pieces(found.labels) if args.rejoin else found.labels
                for value, structure in enumerate(CLASSES[1:], start=1):
                    one, other = bones.array == value, truth == value
                    if not other.any():
                        continue
                    doubt = float(found.variance.array[one].mean(dtype=float)) if one.any() else float("nan")
                    rows.append(
                        {
                            "ct": name, "version": version, "structure": structure, "dice": dice(one, other),
                            "assd_mm": surface_distance(one, other, spoilt.grid.spacing_mm).mean_mm,
                            "uncertainty": doubt, "metal": has_metal,
                            "seconds": seconds, "wall_seconds": wall, "slices": len(truth),
                        }
                    )  # fmt: skip
                last = {row["structure"]: round(row["dice"], 3) for row in rows[-len(CLASSES) + 1 :]}
                print(f"  {name} {version}: {last} CPU {seconds:.0f} s, wall {wall:.0f} s", file=sys.stderr, flush=True)
            seed += 1
    return rows


def summarise(rows: list[dict]) -> dict[str, float]:
    """Print the tables; returns them flat."""
    flat: dict[str, float] = {}
    clean = [row for row in rows if row["version"] == "as it is"]
    for structure in CLASSES[1:]:
        values = np.array([row["dice"] for row in clean if row["structure"] == structure])
        if values.size:
            flat |= {f"{structure}.dice_median": float(np.median(values)), f"{structure}.dice_min": float(values.min())}
            print(f"{structure:8s} n {values.size}  Dice median {np.median(values):.4f}  least {values.min():.4f}")
    flat["seconds_per_100_slices"] = float(np.median([100 * row["seconds"] / row["slices"] for row in clean]))
    flat["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{flat['seconds_per_100_slices']:.0f} CPU seconds per 100 slices, peak memory {flat['peak_gib']:.2f} GiB")
    return flat


def measured_with(args: argparse.Namespace, model: SegmentationModel) -> dict[str, object]:
    """What the uncertainty depends on beside the CT, as roc.json has it."""
    return {
        "passes": args.passes,
        "variance": VARIANCE,
        "pixel_mm": args.pixel_mm or model.pixel_mm,
        "weights_sha256": model.weights_sha256,
    }


def roc(rows: list[dict], settings: dict[str, object]) -> dict | None:
    """How uncertainty tells failures; None unless there are both failures and successes."""
    known = [row for row in rows if np.isfinite(row["uncertainty"])]
    doubt = np.array([row["uncertainty"] for row in known])
    failed = np.array([row["dice"] < FAILED_DICE for row in known])
    if not failed.any() or failed.all():
        return None
    threshold = float(np.quantile(doubt[~failed], KEPT, method="higher"))
    unseen = np.array([not row["metal"] for row in known])  # a build leaves a hip with metal out, whatever its labels
    steps = np.quantile(doubt, np.linspace(0, 1, 41))
    found = {
        "failed_below_dice": FAILED_DICE,
        "structures": len(known),
        "failed": int(failed.sum()),
        "auroc": auroc(doubt, failed),
        "measured_with": settings,
        "threshold": threshold,
        "sensitivity": float((doubt[failed] > threshold).mean()),
        "specificity": float((doubt[~failed] <= threshold).mean()),
        "failed_accepted": int((failed & (doubt <= threshold)).sum()),
        "failed_accepted_without_metal": int((failed & (doubt <= threshold) & unseen).sum()),
        "curve": {
            "threshold": [float(s) for s in steps],
            "sensitivity": [float((doubt[failed] > s).mean()) for s in steps],
            "specificity": [float((doubt[~failed] <= s).mean()) for s in steps],
        },
    }
    print("  ".join(f"{k} {v:.4g}" for k, v in found.items() if isinstance(v, float | int)))
    return found


def pass_limit(rows: list[dict], model: SegmentationModel, config: PredictConfig) -> dict[str, float]:
    """What passes the largest uncertainty that comes with a model; empty where it has none for these settings."""
    most = model.limit_uncertainty(config).most
    if most is None:
        return {}
    failed = np.array([row["dice"] < FAILED_DICE for row in rows])
    passed = np.array([row["uncertainty"] <= most for row in rows])  # nothing found: NaN, which does not pass
    unseen = np.array([not row["metal"] for row in rows])
    found = {
        "limit.most": most,
        "limit.structures": len(rows),
        "limit.failed": int(failed.sum()),
        "limit.failed_accepted": int((failed & passed).sum()),
        "limit.failed_accepted_without_metal": int((failed & passed & unseen).sum()),
        "limit.kept_pct": 100 * float(passed[~failed].mean()),
    }
    print("  ".join(f"{k} {v:.4g}" for k, v in found.items()))
    return found


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="cohorts, or folders with images/ and labels/")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="run of `bmdkit train segmentation`")
    parser.add_argument("--spoil", action="store_true", help="each CT in five spoilt versions, too")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--pixel-mm", type=float, help="bring pixels to this size  [default: the model's]")
    parser.add_argument("--slice-stride", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="each n-th slice only")
    parser.add_argument("--rejoin", action="store_true", help="stray pieces rejoined, as in a build; needs all slices")
    parser.add_argument("--shape", type=int, nargs=3, help="slices, rows, columns")
    parser.add_argument("--whole-slices", action="store_true", help="the air around the body, too")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    parser.add_argument("--rows", type=Path, help="write one line per structure as CSV")
    parser.add_argument("--roc", type=Path, help="write the curve and the threshold that it gives")
    args = parser.parse_args()
    if args.passes < 2:
        parser.error("--passes: one draw has no variance; at least 2 are needed")
    model = load_model(args.model)
    config = PredictConfig(
        args.passes,
        args.pixel_mm,
        args.slice_stride,
        crop_to_body=not args.whole_slices,
        precision=args.precision,
    )
    rows = run(args, model, config)
    flat, curve = summarise(rows), roc(rows, measured_with(args, model))
    flat |= pass_limit(rows, model, config)
    if args.rows:
        write_csv(args.rows, rows, list(rows[0]))
    if curve:
        flat |= {f"uncertainty.{name}": value for name, value in curve.items() if isinstance(value, float | int)}
        if args.roc:
            args.roc.write_text(json.dumps(curve, indent=1) + "\n", encoding="utf-8")
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
