"""What a CT costs beside its segmentation: finding phantom and line, and a hip's landmarks; and how right the line is.

    python benchmarks/ct_stage.py COHORT ... [--json FILE]

Each COHORT has truth/<patient>/ (`bmdkit simulate` makes one): the landmarks are found in its labels.nii.gz, the
line is held against its truth.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from figure_files import write_figures
from segmentation import labelled

from bmdkit.calibration.modes import calibrate
from bmdkit.core.anatomy import SIDES
from bmdkit.errors import CaseError
from bmdkit.evaluation.summary import density_errors
from bmdkit.regions.landmark_detection import find_landmarks
from bmdkit.segmentation.labels import prepare_labels

PROBED = np.array([0.0, 100.0, 200.0, 800.0])
"""Densities, mg/cm3, at which the line is held against the true one."""


def main() -> None:
    """Read the arguments, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {"calibration": [], "landmarks": []}
    refused, wrong = 0, []
    for cohort in args.cohorts:
        for name, ct, labels in labelled(cohort):
            began = time.process_time()
            line = calibrate(ct)
            seconds["calibration"].append(time.process_time() - began)
            truth = json.loads((cohort / "truth" / name.split("/")[1] / "truth.json").read_text(encoding="utf-8"))
            wrong.append(density_errors(line.slope_mg_cm3_per_hu, line.intercept_mg_cm3, truth, PROBED))
            bones = prepare_labels(labels)
            for side in SIDES:
                began = time.process_time()
                try:
                    find_landmarks(bones, side)
                except CaseError:
                    refused += 1
                seconds["landmarks"].append(time.process_time() - began)
            print(f"  {name} {ct.grid.shape}: {seconds['calibration'][-1]:.2f} s, {seconds['landmarks'][-2:]} s")
    flat = {f"{name}_s_{what}": float(pick(found)) for name, found in seconds.items() for what, pick in
            (("median", np.median), ("worst", np.max))} | {"refused": refused}  # fmt: skip
    to_200, at_800 = np.array(wrong)[:, :3].max(axis=1), np.array(wrong)[:, 3]
    for name, errors in (("density_error_0_to_200", to_200), ("density_error_800", at_800)):
        flat |= {f"{name}_median_mg_cm3": float(np.median(errors)), f"{name}_worst_mg_cm3": float(errors.max())}
    flat["cts"] = len(wrong)
    print("  ".join(f"{name} {value:.3g}" for name, value in flat.items()))
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
