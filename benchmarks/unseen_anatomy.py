"""How well a network reads BMD of anatomies that it has not seen: correlation, and error after a line of a few hips.

    python benchmarks/unseen_anatomy.py COHORT ... [--run RUN] [--line-hips 8] [--json FILE] [--rows FILE]

Each COHORT is a cohort (cohort.csv with dxa_bmd) of one anatomy, best of a simulator that the network has not learnt
from. Its radiographs go through `bmdkit predict` as a user's would. The first hips give the line from predicted to
measured BMD, by least squares and as `bmdkit predict --known` fits it ("recalibrated"), and the mean that is predicted
without a network; the others are measured. Which hips these are matters: "drawn" is of draws of as many patients. A
radiograph that is rejected keeps its number, and counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figure_files import write_figures
from known_hips import draw_lines, measure_line

from bmdkit.core.radiograph import Radiograph
from bmdkit.evaluation.agreement import bootstrap_interval, pearson
from bmdkit.inference.hip_prediction import predict_hip
from bmdkit.inference.predictor import Predictor, load_predictor
from bmdkit.io.results import read_csv, write_csv
from bmdkit.io.xray import read_radiograph

RESAMPLES = 2000


def predict_cohort(folder: Path, predictor: Predictor) -> list[dict[str, Any]]:
    """One row per hip and radiograph, in the order of the cohort."""
    rows, read = [], {}
    for line in read_csv(folder / "cohort.csv"):
        path = folder / line["xray"]
        if path not in read:
            read[path] = read_radiograph(path, config=predictor.xray, case=line["patient_id"])
        radiograph: Radiograph = read[path]
        found = predict_hip(predictor, radiograph, line["side"])
        rows.append(
            {
                "cohort": folder.name,
                "patient_id": line["patient_id"],
                "side": line["side"],
                "pose": line["pose"],
                "dxa_bmd_g_cm2": float(line["dxa_bmd"]),
                "predicted_g_cm2": found.bmd["dxa"],
                "quality": found.quality,
            }
        )
    return rows


def count_hips(rows: Sequence[dict[str, Any]]) -> int:
    """Number of hips; each counts once, however many radiographs show it."""
    return len({(row["patient_id"], row["side"]) for row in rows})


def measure(rows: Sequence[dict[str, Any]], line_hips: int, rng: np.random.Generator) -> dict[str, float]:
    """Figures of the rows after those that give the line; a patient's rows lie on one side of the cut."""
    patients = list(dict.fromkeys(row["patient_id"] for row in rows))
    first: list[dict[str, Any]] = []
    while count_hips(first) < line_hips:
        first += [row for row in rows if row["patient_id"] == patients[0]]
        patients.pop(0)
    others = [row for row in rows if row["patient_id"] in patients]
    told, known = (np.array([row[name] for row in rows]) for name in ("predicted_g_cm2", "dxa_bmd_g_cm2"))
    given = np.array([row["patient_id"] not in patients for row in rows])
    predicted, truth = told[~given], known[~given]
    shown = [row["patient_id"] for row in others]
    low, high = bootstrap_interval(pearson, predicted, truth, patients=shown, rng=rng, repeats=RESAMPLES)
    return {
        "line_hips": count_hips(first),
        "images": len(others),
        "patients": len(patients),
        **measure_line(told, known, given, [row["patient_id"] for row in rows]),
        "pcc_low": float(low),
        "pcc_high": float(high),
        "mae_as_told_g_cm2": float(np.abs(predicted - truth).mean()),
        "rejected": sum(row["quality"] == "reject" for row in others),
        **draw_lines(told, known, [row["patient_id"] for row in rows], len({row["patient_id"] for row in first})),
    }


def main() -> None:
    """Read the arguments, predict, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--run", type=Path, nargs="+", help="decomposition runs  [default: those of the package]")
    parser.add_argument("--line-hips", type=int, default=8, help="hips that give the line")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    parser.add_argument("--rows", type=Path, help="write one line per hip as CSV")
    args = parser.parse_args()
    predictor, began = load_predictor(args.run), time.process_time()
    every, flat = [], {}
    for folder in args.cohorts:
        rows = predict_cohort(folder, predictor)
        every += rows
        found = measure(rows, args.line_hips, np.random.default_rng(args.seed))
        flat |= {f"{folder.name}.{name}": value for name, value in found.items()}
        print(f"{folder.name}: " + "  ".join(f"{name} {value:.3g}" for name, value in found.items()))
    flat["cpu_seconds"] = time.process_time() - began
    print(f"{flat['cpu_seconds']:.0f} CPU seconds", file=sys.stderr)
    if args.rows:
        write_csv(args.rows, every, list(every[0]))
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
