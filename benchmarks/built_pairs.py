"""What a network loses by learning from what a build projected, in place of the true projections of the radiographs.

    bmdkit simulate COHORT --patients 60 --set site=2
    bmdkit build-dataset COHORT --out DATASET --n-jobs 2
    python benchmarks/built_pairs.py COHORT DATASET --work WORK [--epochs N] [--json FILE]

The copy WORK/true of the dataset has, in place of each projection of dataset B, that of the true density and region of
the proximal femur under the true pose and camera. From both, in five folds, a decomposition is trained on from the
network of the package, and a ridge regression on what it sees; the folds of either are pooled. The difference of their
correlations with DXA-BMD comes with an interval over patients.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from figure_files import write_figures
from true_projections import read_true_ct, read_true_poses, read_truth

from bmdkit.config import load
from bmdkit.core.anatomy import SIDES
from bmdkit.dataset.layout import MANIFEST_CSV
from bmdkit.dataset.pairs import PairWindow
from bmdkit.dataset.radiograph_stage import Regions
from bmdkit.drr.targets import project_region
from bmdkit.evaluation.agreement import pearson
from bmdkit.io.images import read_tiff, write_tiff
from bmdkit.io.results import read_csv, sha256_of, write_csv
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run_layout import PairPrediction, read_predictions
from bmdkit.training.settings import DecompositionConfig
from bmdkit.training.shipped import DECOMPOSITION

RECIPES = Path(__file__).resolve().parents[1] / "pipelines" / "train"
FOLDS, RESAMPLES = 5, 2000
STEPS_PER_EPOCH = 128


def copy_with_truth(cohort: Path, dataset: Path, out: Path) -> float:
    """Copy a dataset with true projections in its dataset B; gives the median difference of the means, %."""
    shutil.copytree(dataset, out, ignore=shutil.ignore_patterns("cases", "report", "logs", "manifest.parquet"))
    rows, differences = read_csv(out / MANIFEST_CSV), []
    chosen = [row for row in rows if row["dataset"] == "B" and row["status"] == "ok"]
    for patient in dict.fromkeys(row["patient_id"] for row in chosen):
        told, regions = read_truth(cohort, patient)["radiographs"], Regions(read_true_ct(cohort, patient))
        for side in SIDES:
            region = regions.cut_proximal_femur(side)
            for row in chosen:
                if (row["patient_id"], row["side"]) != (patient, side):
                    continue
                meta = json.loads((out / row["drr"]).with_name("meta.json").read_text(encoding="utf-8"))
                window = PairWindow(**meta["window"])
                true = read_true_poses(told[row["pose"]])
                page = window.carry(project_region(region, true.poses[f"femur_{side}"], true.camera))
                built = read_tiff(out / row["drr"])[0]
                differences.append(100 * abs(built[built > 0].mean() / page[page > 0].mean() - 1))
                write_tiff(out / row["drr"], page[None])
                row["drr_sha256"] = sha256_of(out / row["drr"])
    write_csv(out / MANIFEST_CSV, rows, list(rows[0]))
    return float(np.median(differences))


def predict_folds(data: Path, out: Path, epochs: int) -> list[PairPrediction]:
    """Held-out predictions of all folds, of networks that go on from that of the package."""
    found: list[PairPrediction] = []
    for fold in range(FOLDS):
        overrides = (
            f"loop.epochs={epochs}",
            f"optimiser.warmup_steps={epochs * STEPS_PER_EPOCH // 10}",
            "optimiser.lr=1.0e-3",
            "loop.precision=bf16",
            f"fold={fold}",
        )
        settings = load(DecompositionConfig, recipe=RECIPES / "unet-cpu.yaml", overrides=overrides)
        run = out / f"fold-{fold}"
        train_decomposition(data, run, settings, seed=0, device="cpu", init_from=DECOMPOSITION)
        ridge = load(RegressionConfig, recipe=RECIPES / "regression-ridge.yaml", flags={"task": "dxa", "fold": fold})
        train_regression(data, out / f"dxa-{fold}", ridge, seed=0, device="cpu", init_from=run)
        rows = read_predictions(out / f"dxa-{fold}" / "ridge" / "predictions.csv")
        found += [row for row in rows if row.split == "test"]
    return found


def compare(
    built: Sequence[PairPrediction], true: Sequence[PairPrediction], rng: np.random.Generator
) -> dict[str, float]:
    """Correlation and error of both on the same images, and the difference with an interval over patients."""
    others = {row.pair_id: row for row in true}
    rows = [(row, others[row.pair_id]) for row in built if row.pair_id in others]
    values = np.array(
        [[a.predicted_dxa_bmd_g_cm2, b.predicted_dxa_bmd_g_cm2, a.dxa_bmd_g_cm2] for a, b in rows], dtype=float
    )
    patients = np.array([a.patient_id for a, _ in rows])
    names = np.unique(patients)
    who = [np.flatnonzero(patients == name) for name in names]

    def lost(index: np.ndarray) -> float:
        first, second, truth = values[index].T
        return float(pearson(second, truth) - pearson(first, truth))

    drawn = [lost(np.concatenate([who[n] for n in rng.integers(len(who), size=len(who))])) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    first, second, truth = values.T
    return {
        "images": len(rows),
        "patients": len(names),
        "built.pcc": float(pearson(first, truth)),
        "true.pcc": float(pearson(second, truth)),
        "built.mae_g_cm2": float(np.abs(first - truth).mean()),
        "true.mae_g_cm2": float(np.abs(second - truth).mean()),
        "pcc_lost": lost(np.arange(len(rows))),
        "pcc_lost_low": float(low),
        "pcc_lost_high": float(high),
    }


def main() -> None:
    """Read the arguments, make the true dataset, train on both, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12, help=f"of each training, {STEPS_PER_EPOCH} steps long")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    began = time.process_time()
    args.work.mkdir(parents=True, exist_ok=True)
    flat = {"mean_difference_pct_median": copy_with_truth(args.cohort, args.dataset, args.work / "true")}
    built = predict_folds(args.dataset, args.work / "on-built", args.epochs)
    true = predict_folds(args.work / "true", args.work / "on-true", args.epochs)
    flat |= compare(built, true, np.random.default_rng(0))
    flat["cpu_seconds"] = time.process_time() - began
    for name, value in flat.items():
        print(f"{name}: {value:.4g}")
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
