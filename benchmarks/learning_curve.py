"""How accuracy grows with patients and with steps, and where it would end: a curve through finished trainings.

    python benchmarks/learning_curve.py RUN ... [--json FILE]

Each RUN is a decomposition of dataset B of one study: the same patients held out, the same settings but for the number
of training patients and of steps. Points with as many steps as most have give the curve by patients, points with as
many patients as most have that by steps. The share of the variance of DXA-BMD that is not explained, 1 - PCC^2, is
fitted by floor + gain / n, both at least 0; the PCC at the floor is the limit.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from figure_files import write_figures
from scipy.optimize import nnls

from bmdkit.training.run_layout import CONFIG, METRICS

LEAST_POINTS = 3
"""Fewer have no residual that tells whether the curve fits."""


@dataclass(frozen=True)
class Point:
    """One training.

    Attributes:
        patients, steps: What it had.
        pcc, pcc_low, pcc_high: Correlation with DXA-BMD of held-out patients, with its interval.
        mae_g_cm2: Their mean error.
    """

    patients: int
    steps: int
    pcc: float
    pcc_low: float
    pcc_high: float
    mae_g_cm2: float


@dataclass(frozen=True)
class Curve:
    """1 - PCC^2 = floor + gain / n.

    Attributes:
        floor, gain: The line.
        residual: Largest difference of a point's PCC from the curve.
    """

    floor: float
    gain: float
    residual: float

    @property
    def limit(self) -> float:
        """PCC of infinitely many."""
        return float(np.sqrt(max(1.0 - self.floor, 0.0)))


def read_point(run: Path) -> Point:
    """What a finished run says."""
    settings = json.loads((run / CONFIG).read_text(encoding="utf-8"))["settings"]
    figures = json.loads((run / METRICS).read_text(encoding="utf-8"))
    loop, told = settings["loop"], figures["test"]["dxa"]
    steps = figures["epochs"] * loop["epoch_samples"] // loop["batch_size"]
    return Point(figures["train"]["patients"], steps, told["pcc"], *told["pcc_interval"], told["mae"])


def fit_curve(counts: Sequence[int], pcc: Sequence[float]) -> Curve:
    """Fit the share of the variance that is not explained."""
    n, r = np.array(counts, float), np.array(pcc, float)
    (floor, gain), _ = nnls(np.column_stack([np.ones_like(n), 1.0 / n]), 1.0 - r**2)
    fitted = np.sqrt(np.clip(1.0 - floor - gain / n, 0.0, 1.0))
    return Curve(float(floor), float(gain), float(np.abs(fitted - r).max()))


def summarise(points: Sequence[Point]) -> dict[str, float]:
    """All points, and the curve by patients and by steps where there are points enough."""
    flat: dict[str, float] = {}
    for point in sorted(points, key=lambda one: (one.patients, one.steps)):
        name = f"{point.patients} patients, {point.steps} steps"
        figures = {"pcc": point.pcc, "pcc_low": point.pcc_low, "pcc_high": point.pcc_high, "mae_g_cm2": point.mae_g_cm2}
        flat |= {f"{name}: {figure}": value for figure, value in figures.items()}
    for varied, held in (("patients", "steps"), ("steps", "patients")):
        usual = Counter(getattr(point, held) for point in points).most_common(1)[0][0]
        own = [point for point in points if getattr(point, held) == usual]
        if len({getattr(point, varied) for point in own}) < LEAST_POINTS:
            continue
        curve = fit_curve([getattr(point, varied) for point in own], [point.pcc for point in own])
        name = f"by {varied}, {usual} {held}"
        flat |= {f"{name}: limit of pcc": curve.limit, f"{name}: residual": curve.residual}
    return flat


def main() -> None:
    """Read the runs, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    flat = summarise([read_point(run) for run in args.runs])
    for name, value in flat.items():
        print(f"{name}: {value:.4g}")
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
