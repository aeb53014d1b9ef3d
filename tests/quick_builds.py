"""Whole builds through the command line in a few seconds each: small simulated hips, hardly any search."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bmdkit.simulation.simulated_cohort import SimulateConfig, simulate_cohort

SETTINGS = (
    "registration.pelvis.evaluations=24",
    "registration.femur.evaluations=12",
    "registration.polish_iterations=1",
    "registration.restarts=0",
    "registration.check_mirror=false",
    "pairs.keep_rejected=true",
)  # how good a registration is, is another test's business


def simulate(root: Path, patients: int = 1, seed: int = 1) -> Path:
    """A cohort of one radiograph and one hip each, with truth, labels and landmarks."""
    config = SimulateConfig(
        patients=patients, poses=("standing",), sides=("L",), slice_mm=6.0, pixel_mm=1.5, grid_mm=3.0
    )
    simulate_cohort(root, config, seed=seed)
    return root


def command(cohort: Path, out: Path, *words: str) -> list[str]:
    """`build-dataset` of a cohort, as a user gives it."""
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    start = [sys.executable, "-m", "bmdkit.cli.main", "build-dataset", str(cohort), "--out", str(out), "--no-report"]
    return [*start, *settings, *words]


def build(cohort: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(command(cohort, out, *words), capture_output=True, text=True, check=False)
