"""What of a network's failures a build accepts: the labels of CTs as they are and spoilt, with all that a build checks.

    python benchmarks/segmentation_in_builds.py CT_WITH_LABELS ... [--model RUN] [--between-mm 5] [--json FILE]

The CTs are those of segmentation.py, and so is what spoils them. Each goes through what a build does with a CT: labels,
landmarks, proximal femurs, and everything that leaves a hip out (doubtful labels, labels off the bones' edges, metal, a
scan that ends too early). A structure is accepted where a hip is accepted that rests on it: the femur by its own hip,
the pelvis by either. Slices nearer than --between-mm to the last one computed are interpolated.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from figure_files import write_figures
from segmentation import AIR_HU, labelled, versions_of

from bmdkit.calibration.line import Calibration
from bmdkit.core.anatomy import SIDES
from bmdkit.core.case import Case, CohortRow
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.ct_stage import measure_ct
from bmdkit.dataset.settings import BuildConfig
from bmdkit.errors import CaseError
from bmdkit.evaluation.segmentation_metrics import dice
from bmdkit.io.ct import CtScan
from bmdkit.io.results import write_csv
from bmdkit.segmentation.ct_labels import SegmentationConfig
from bmdkit.segmentation.settings import PredictConfig
from bmdkit.training.segmentation_results import FAILED_DICE

STRUCTURES = ("pelvis", "femur_L", "femur_R")
NOT_CALIBRATED = Calibration(1.0, 0.0, None, None, (), "none")


def build_labels(name: str, ct: Volume, config: BuildConfig) -> tuple[LabelMap | None, dict[str, str]]:
    """Labels as a build makes them, None where it has none; and why a side's hip is left out, "" where it is not."""
    rows = tuple(CohortRow(name, Path(name), Path(name), side) for side in SIDES)
    try:
        found = measure_ct(Case(name, rows), CtScan(ct, None), NOT_CALIBRATED, config)
    except CaseError as error:
        return None, dict.fromkeys(SIDES, error.code)
    problems = {side: hip.problem for side, hip in found.hips.items()}
    return found.labels, {side: "" if problem is None else problem.code for side, problem in problems.items()}


def measure_version(name: str, version: str, ct: Volume, truth: LabelMap, config: BuildConfig) -> list[dict]:
    """One row per structure that the CT shows."""
    found, problems = build_labels(name, ct, config)
    drawn = None if found is None else found.resample(ct.grid)
    seen = ct.array > AIR_HU if version.startswith("field of view") else np.ones(ct.array.shape, bool)
    rows = []
    for structure in STRUCTURES:
        mask = truth.mask(structure) & seen
        if not mask.any():
            continue
        reasons = [problems[side] for side in SIDES if structure in ("pelvis", f"femur_{side}")]
        codes = sorted({*reasons} - {""})
        overlap = 0.0 if drawn is None else dice(drawn.mask(structure) & seen, mask)
        rows.append(
            {
                "ct": name,
                "version": version,
                "structure": structure,
                "dice": overlap,
                "failed": overlap < FAILED_DICE,
                "accepted": "" in reasons,
                "codes": " ".join(codes),
            }
        )
    return rows


def run(args: argparse.Namespace) -> list[dict]:
    """One row per CT, version and structure."""
    rows: list[dict] = []
    seed = args.seed
    for folder in args.folders:
        for name, ct, labels in labelled(folder):
            stride = max(1, round(args.between_mm / float(ct.grid.spacing_mm[2])))
            segmentation = SegmentationConfig(
                source="model", model=args.model, predict=PredictConfig(slice_stride=stride)
            )
            config = replace(BuildConfig(), segmentation=segmentation, seed=seed)
            truth = labels.resample(ct.grid)
            for version, spoilt, _ in versions_of(ct, truth.array, seed, spoil=True):
                began = time.process_time()
                own = measure_version(name, version, spoilt, truth, config)
                told = {row["structure"]: (round(row["dice"], 3), row["accepted"], row["codes"]) for row in own}
                print(f"  {name} {version}: {told} {time.process_time() - began:.0f} s", file=sys.stderr, flush=True)
                rows += own
            seed += 1
    return rows


def summarise(rows: list[dict]) -> dict[str, float]:
    """How many structures failed, and how many of these are accepted; how many of the others are not."""
    failed = [row for row in rows if row["failed"]]
    good = [row for row in rows if not row["failed"]]
    clean = [row for row in rows if row["version"] == "as it is"]
    accepted = sum(row["accepted"] for row in failed)
    return {
        "structures": len(rows),
        "failed": len(failed),
        "failed_accepted": accepted,
        "failed_accepted_pct": 100 * accepted / max(len(failed), 1),
        "not_failed_refused_pct": 100 * sum(not row["accepted"] for row in good) / max(len(good), 1),
        "as_they_are": len(clean),
        "as_they_are_refused": sum(not row["accepted"] for row in clean),
        "as_they_are_failed": sum(row["failed"] for row in clean),
    }


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="cohorts, or folders with images/ and labels/")
    parser.add_argument("--model", type=Path, help="run of `bmdkit train segmentation`  [default: that of the package]")
    parser.add_argument("--between-mm", type=float, default=5.0, help="distance of the slices that are computed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    parser.add_argument("--rows", type=Path, help="write one line per structure as CSV")
    args = parser.parse_args()
    began = time.process_time()
    rows = run(args)
    flat = summarise(rows) | {"cpu_seconds": time.process_time() - began}
    for name, value in flat.items():
        print(f"{name}: {value:.4g}")
    if args.rows:
        write_csv(args.rows, rows, list(rows[0]))
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
