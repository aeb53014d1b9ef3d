"""What the border of a pair's window takes from the densities that a network tells: cut hips against whole ones.

    python benchmarks/border_effect.py DATASET RUN [--split test] [--json FILE]

DATASET holds the pairs, RUN a decomposition that was trained on them. The file of each held-out pair says whether
its proximal femur reaches the border. Figures: how often, by pose; the errors of DXA-BMD of cut and
whole hips; and how much of it the true projection loses as well, whose mean is the best that a network can tell.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from figure_files import write_figures

from bmdkit.evaluation.agreement import pearson
from bmdkit.training.run_layout import PREDICTIONS, PairPrediction, read_json, read_predictions


def find_cut(dataset: Path, pairs: Sequence[str]) -> dict[str, bool]:
    """Pair -> whether its region reaches the border."""
    return {pair: bool(read_json(dataset / "dataset_b" / pair / "meta.json")["pf_touches_border"]) for pair in pairs}


def measure(rows: Sequence[PairPrediction], cut: dict[str, bool]) -> dict[str, float]:
    """All figures, flat."""
    flat: dict[str, float] = {}
    for pose in sorted({row.pose for row in rows}):
        flat[f"cut_pct.{pose}"] = 100 * float(np.mean([cut[row.pair_id] for row in rows if row.pose == pose]))
    for name, wanted in (("cut", True), ("whole", False)):
        some = [row for row in rows if cut[row.pair_id] == wanted]
        flat[f"{name}.images"] = float(len(some))
        if len(some) < 3:
            continue
        truth, told, target = (
            np.array([getattr(row, key) for row in some], float)
            for key in ("dxa_bmd_g_cm2", "predicted_dxa_bmd_g_cm2", "target_mean_dxa_g_cm2")
        )
        flat[f"{name}.mae_g_cm2"] = float(np.abs(told - truth).mean())
        flat[f"{name}.bias_g_cm2"] = float((told - truth).mean())
        flat[f"{name}.pcc"] = float(pearson(told, truth))
        flat[f"{name}.target_pcc"] = float(pearson(target, truth))
    return flat


def main() -> None:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    rows = [row for row in read_predictions(args.run / PREDICTIONS) if row.split == args.split]
    flat = measure(rows, find_cut(args.dataset, [row.pair_id for row in rows]))
    for name, value in flat.items():
        print(f"{name:22s} {value:.3g}")
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
