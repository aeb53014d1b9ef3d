"""The whole line on simulated hips: cohort, datasets A and B, a network, the BMD that it reads, and how true it all is.

    python examples/demo.py DIR [--patients 3] [--n-jobs 2]

Takes minutes on two cores and needs no data. What is there from an earlier run is kept and gone on with.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bmdkit.evaluation.summary import summarise
from bmdkit.io.results import read_csv

PIPELINES = Path(__file__).parents[1] / "pipelines"
PAIRS, RECIPE = PIPELINES / "simulate/demo.yaml", PIPELINES / "train/demo.yaml"
READOUT = PIPELINES / "train/regression-ridge.yaml"
SITE = ("--site", 3)
"""All radiographs come from one room, as those of one hospital may."""


def bmdkit(*arguments: object) -> None:
    """Run one command as a user would type it; a failure ends the demo with its status."""
    words = [str(word) for word in arguments]
    print(f"\n$ bmdkit {' '.join(words)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "bmdkit.cli.main", *words], check=False).returncode
    if status:
        sys.exit(status)


def compare_with_dxa(predictions: Path, cohort: Path) -> Iterator[tuple[str, float, float]]:
    """Name, predicted and measured areal BMD (g/cm2) of each hip that a prediction shows."""
    measured = {(Path(row["xray"]).stem, row["side"]): float(row["dxa_bmd"]) for row in read_csv(cohort / "cohort.csv")}
    for row in read_csv(predictions / "predictions.csv"):
        key = Path(row["xray"]).stem, row["side"]
        if row["dxa_bmd_g_cm2"] and key in measured:
            yield " ".join(key), float(row["dxa_bmd_g_cm2"]), measured[key]


def describe_learning(run: Path) -> list[tuple[str, float, str, int]]:
    """How well a regression reads BMD of patients that it has not seen, beside always predicting the mean."""
    rows = [row for row in read_csv(run / "predictions.csv") if row["dxa_bmd_g_cm2"] and row["predicted_dxa_bmd_g_cm2"]]
    measured, predicted = (
        np.array([float(row[n]) for row in rows]) for n in ("dxa_bmd_g_cm2", "predicted_dxa_bmd_g_cm2")
    )
    learnt, held = (np.array([row["split"] == split for row in rows]) for split in ("train", "test"))
    count = len({row["patient_id"] for row, is_held in zip(rows, held, strict=True) if is_held})
    figures = [
        ("PCC with DXA-BMD", float(np.corrcoef(predicted[held], measured[held])[0, 1]), ""),
        ("mean error of DXA-BMD", float(np.abs(predicted - measured)[held].mean()), "g/cm2"),
        ("the same of the training mean", float(np.abs(measured[learnt].mean() - measured[held]).mean()), "g/cm2"),
    ]
    return [(f"Network on held-out patients: {name}", value, unit, count) for name, value, unit in figures]


def main() -> None:
    """Run the whole line, and print how far it is from the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=3)
    parser.add_argument("--poses", nargs="+", default=["standing", "supine"])
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    start = time.monotonic()
    folder = arguments.folder
    cohort, built, pairs, runs, out = (folder / name for name in ("cohort", "built", "pairs", "runs", "predictions"))
    common = ("--poses", *arguments.poses, *SITE, "--n-jobs", arguments.n_jobs)

    if not (cohort / "cohort.csv").exists():
        bmdkit("simulate", cohort, "--patients", arguments.patients, *common, "--seed", arguments.seed)
    bmdkit("validate", cohort)
    bmdkit("build-dataset", cohort, "--out", built, "--n-jobs", arguments.n_jobs)
    # a network needs more patients than a demo can register: theirs are pairs at true poses
    bmdkit("simulate", pairs, "--pairs", 160, "--recipe", PAIRS, *common, "--seed", arguments.seed + 1)
    bmdkit("train", "decomposition", pairs, "--recipe", RECIPE, "--init-from", "bmdkit", "--out", runs / "b")
    readout = ("--task", "dxa", "--recipe", READOUT, "--init-from", runs / "b", "--out", runs / "dxa")
    bmdkit("train", "regression", pairs, *readout)
    bmdkit("predict", cohort / "xray", "--run", runs / "dxa/ridge", "--out", out)

    table = Table("quantity", "value", "unit", "n", title="How far the demo is from the truth")
    for finding in summarise(built, cohort / "truth"):
        table.add_row(finding.quantity, f"{finding.value:.3g}", finding.unit, str(finding.n))
    table.add_section()
    for name, value, unit, count in describe_learning(runs / "dxa/ridge"):
        table.add_row(name, f"{value:.3g}", unit, str(count))
    Console().print(table)
    hips = Table("radiograph and hip", "predicted", "DXA", "difference", title="Areal BMD of the cohort, g/cm2")
    for name, predicted, true in compare_with_dxa(out, cohort):
        hips.add_row(name, f"{predicted:.3f}", f"{true:.3f}", f"{predicted - true:+.3f}")
    Console().print(hips)
    print(f"{(time.monotonic() - start) / 60:.1f} minutes. Look at {built / 'report/index.html'}")
    print(f"and at what the network sees in the radiographs: {out}")


if __name__ == "__main__":
    main()
