"""Seconds of what a CT costs beside its segmentation: finding the phantom and the line, and the landmarks of a hip.

    python benchmarks/ct_side.py COHORT ... [--json FILE]

Each COHORT has truth/<patient>/labels.nii.gz (`bmdkit simulate` makes one): the landmarks are found in those labels.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from segmentation import labelled, write_figures

from bmdkit.calibration.modes import calibrate
from bmdkit.core.anatomy import SIDES
from bmdkit.errors import CaseError
from bmdkit.regions.landmarks import find_landmarks
from bmdkit.segmentation.labels import prepare_labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {"calibration": [], "landmarks": []}
    refused = 0
    for cohort in args.cohorts:
        for name, ct, labels in labelled(cohort):
            began = time.process_time()
            calibrate(ct)
            seconds["calibration"].append(time.process_time() - began)
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
    print("  ".join(f"{name} {value:.3g}" for name, value in flat.items()))
    if args.json:
        write_figures(args.json, flat)


if __name__ == "__main__":
    main()
