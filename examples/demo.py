"""The whole line on simulated hips: cohort, datasets A and B, a network trained on A and then on B, and how true it is.

    python examples/demo.py DIR [--patients 5] [--n-jobs 2]

Takes minutes on two cores and needs no data. What is there from an earlier run is kept and gone on with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bmdkit.evaluation.summary import summarise

RECIPE = Path(__file__).parents[1] / "pipelines/train/demo.yaml"


def bmdkit(*arguments: object) -> None:
    """Run one command as a user would type it; a failure ends the demo with its status."""
    words = [str(word) for word in arguments]
    print(f"\n$ bmdkit {' '.join(words)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "bmdkit.cli.main", *words], check=False).returncode
    if status:
        sys.exit(status)


def learned(run: Path) -> list[tuple[str, str, str]]:
    """The held-out numbers of a training run, as rows of the summary."""
    test = json.loads((run / "metrics.json").read_text(encoding="utf-8")).get("test")
    if not test:
        return []
    rows = [("L1 of the DRR", test["l1_g_cm2"], "g/cm2"), ("PSNR", test["psnr_db"], "dB")]
    rows.append(("PCC of the predicted with the true mean", test["pf_drr_mean_pcc"], ""))
    count = f"{test['patients']} patients, {test['images']} images"
    return [
        (f"Network {run.name.upper()}, held out ({count}): {name}", f"{value:.3g}", unit)
        for name, value, unit in rows
        if value is not None
    ]


def main() -> None:
    """Run the whole line, and print how far it is from the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=5)
    parser.add_argument("--poses", nargs="+", default=["standing", "supine"])
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    start = time.monotonic()
    folder = arguments.folder
    cohort, built, runs = folder / "cohort", folder / "built", folder / "runs"

    if not (cohort / "cohort.csv").exists():
        bmdkit(
            "simulate", cohort, "--patients", arguments.patients, "--poses", *arguments.poses, "--seed", arguments.seed
        )
    bmdkit("validate", cohort)
    bmdkit("build-dataset", cohort, "--out", built, "--n-jobs", arguments.n_jobs)
    bmdkit("train", "decomposition", built, "--dataset", "A", "--recipe", RECIPE, "--out", runs / "a")
    stage_two = ("--dataset", "B", "--recipe", RECIPE, "--init-from", runs / "a", "--out", runs / "b")
    bmdkit("train", "decomposition", built, *stage_two)

    table = Table("quantity", "value", "unit", "n", title="How far the demo is from the truth")
    for finding in summarise(built, cohort / "truth"):
        table.add_row(finding.quantity, f"{finding.value:.3g}", finding.unit, str(finding.n))
    table.add_section()
    for run in (runs / "a", runs / "b"):
        for name, value, unit in learned(run):
            table.add_row(name, value, unit, "")
    Console().print(table)
    print(f"{(time.monotonic() - start) / 60:.1f} minutes. Look at {built / 'report/index.html'}")
    print(f"and at the predicted PF-DRRs beside their targets: {runs / 'b/montage.png'}")


if __name__ == "__main__":
    main()
