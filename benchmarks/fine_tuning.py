"""What some patients of a new place do for the network that comes with the package: the others are measured.

    python benchmarks/fine_tuning.py COHORT ... --work WORK [--patients 20] [--seeds 0 1 2] [--json FILE]

Each COHORT is a cohort with truth/ of one anatomy and one site, best of a simulator that the networks have not learnt
from. The first patients are learnt from by the recipe finetune.yaml, as `bmdkit train decomposition --init-from bmdkit`
does it, with a ridge regression on what the network then sees; all others are measured. The targets are the true
projections of the radiographs. "one" is the first of the package's networks, on average over the seeds, "together" the
mean of what these tell; "all" is the mean of all networks of the package, each trained on with the first seed. "frozen"
and "all_frozen" are the ridge regression alone, on the first network and on all of them as they are. "line" is a line
alone, from what the package tells to what was measured. It costs nothing, so that it is also given over many draws of
the patients that are learnt from ("drawn"): how much a figure of a dozen patients is worth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from figure_files import write_figures
from known_hips import draw_lines, measure_line
from true_pairs import HELD_OUT, LEARNT, write_true_pairs

from bmdkit.config import load
from bmdkit.core.anatomy import Side
from bmdkit.dataset.layout import DESCRIPTION
from bmdkit.dataset.samples import read_images, read_pairs
from bmdkit.evaluation.agreement import bootstrap_interval, pearson
from bmdkit.inference.predictor import load_predictor
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.joint_predictions import average_predictions, join_predictions
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run import load_run
from bmdkit.training.run_layout import PairPrediction, read_predictions
from bmdkit.training.settings import DecompositionConfig
from bmdkit.training.shipped import DECOMPOSITIONS

RECIPES = Path(__file__).resolve().parents[1] / "pipelines" / "train"


def tune(data: Path, out: Path, network: Path, seed: int) -> tuple[PairPrediction, ...]:
    """Train on from a network of the package, at the size that it has learnt at, then a regression; its predictions."""
    flags = {"fold": HELD_OUT, "image_size": load_run(network, device="cpu").config.image_size}
    settings = load(DecompositionConfig, recipe=RECIPES / "finetune.yaml", flags=flags)
    run = out / f"{network.name}-seed-{seed}"
    train_decomposition(data, run, settings, seed=seed, device="cpu", init_from=network)
    return regress(data, run.with_name(f"{run.name}-dxa"), run)


def regress(data: Path, out: Path, network: Path) -> tuple[PairPrediction, ...]:
    """A ridge regression on what a network sees; its predictions."""
    ridge = load(RegressionConfig, recipe=RECIPES / "regression-ridge.yaml", flags={"task": "dxa", "fold": HELD_OUT})
    train_regression(data, out, ridge, seed=0, device="cpu", init_from=network)
    return read_predictions(out / "ridge" / "predictions.csv")


def measure_told(data: Path, learnt: int) -> dict[str, float]:
    """Lines alone on what the package tells: of the first patients, and over draws of as many."""
    predictor, pairs = load_predictor(), read_pairs(data, "B")
    told = list[float]()
    for pair in pairs:
        xray, _, mask = read_images(pair)
        side: Side = "L" if pair.side == "L" else "R"
        told.append(predictor.look(xray[0].numpy(), mask[0].numpy() > 0, side).bmd["dxa"])
    predicted, known = np.array(told), np.array([pair.dxa_bmd_g_cm2 for pair in pairs], float)
    patients = [pair.patient_id for pair in pairs]
    of_first = measure_line(predicted, known, np.array([pair.fold == LEARNT for pair in pairs]), patients)
    flat = {f"line.{name}": of_first[name] for name in ("pcc", "mae_ratio", "recalibrated_ratio") if name in of_first}
    return flat | draw_lines(predicted, known, patients, learnt)


def measure(rows: Sequence[PairPrediction], rng: np.random.Generator) -> dict[str, float]:
    """Correlation with an interval over patients, and mean error beside that of the mean of those learnt from."""
    held = [row for row in rows if row.split == "test"]
    predicted = np.array([row.predicted("dxa") for row in held], float)
    truth = np.array([row.measured("dxa") for row in held], float)
    mean = np.mean([row.measured("dxa") for row in rows if row.split == "train"])
    low, high = bootstrap_interval(pearson, predicted, truth, patients=[row.patient_id for row in held], rng=rng)
    return {
        "pcc": float(pearson(predicted, truth)),
        "pcc_low": float(low),
        "pcc_high": float(high),
        "mae_g_cm2": float(np.abs(predicted - truth).mean()),
        "mae_ratio": float(np.abs(predicted - truth).mean() / np.abs(mean - truth).mean()),
    }


def measure_cohort(cohort: Path, work: Path, patients: int, seeds: Sequence[int]) -> dict[str, float]:
    """All figures of one cohort."""
    data = work / "pairs"
    if not (data / DESCRIPTION).is_file():
        write_true_pairs([cohort], data, patients, load_run(DECOMPOSITIONS[0], device="cpu").pairs)
    first, *others = DECOMPOSITIONS
    told = [tune(data, work, first, seed) for seed in seeds]
    frozen = [regress(data, work / f"{network.name}-frozen-dxa", network) for network in DECOMPOSITIONS]
    networks = [told[0], *(tune(data, work, network, seeds[0]) for network in others)]
    alone = [measure(rows, np.random.default_rng(0)) for rows in told]
    held = [row for row in told[0] if row.split == "test"]
    flat: dict[str, float] = {"images": len(held), "patients": len({row.patient_id for row in held})}
    for name in ("pcc", "mae_g_cm2", "mae_ratio"):
        flat[f"one.{name}"] = float(np.mean([found[name] for found in alone]))
    flat["one.pcc_sd"] = float(np.std([found["pcc"] for found in alone], ddof=1)) if len(alone) > 1 else 0.0
    for name, runs in {"together": told, "all": networks, "frozen": frozen[:1], "all_frozen": frozen}.items():
        found = measure(average_predictions(join_predictions(runs)), np.random.default_rng(0))
        flat |= {f"{name}.{figure}": value for figure, value in found.items()}
    return flat | measure_told(data, patients)


def main() -> None:
    """Read the arguments, train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True, help="pairs and runs; what is there is kept")
    parser.add_argument("--patients", type=int, default=20, help="patients that are learnt from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    began, flat = time.process_time(), dict[str, float]()
    for cohort in args.cohorts:
        found = measure_cohort(cohort, args.work / cohort.name, args.patients, args.seeds)
        flat |= {f"{cohort.name}.{name}": value for name, value in found.items()}
        print(f"{cohort.name}: " + "  ".join(f"{name} {value:.3g}" for name, value in found.items()), flush=True)
    flat["cpu_seconds"] = time.process_time() - began
    print(f"{flat['cpu_seconds']:.0f} CPU seconds", file=sys.stderr)
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
