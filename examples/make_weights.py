"""Make the networks for radiographs that come with the package, again or otherwise.

    python examples/make_weights.py pipelines/weights/cpu.yaml OUT [--maps MAP ...] [--init-from PACKAGE] [--n-jobs N]

Simulates pairs of the built-in anatomy and of each label map that is named, joins them, trains decompositions and
ridge regressions of both BMDs on what each sees, and writes what is to go into bmdkit/training/weights to OUT/package,
a folder for each. A fifth of the patients is held out from all: the figures at the end, of the mean of all networks,
and those of each in its metrics.json are of them. With --init-from each network has the last of its trainings alone,
from the network of its name in another such folder, bmdkit/training/weights for one. What is finished is kept, so that
the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
from safetensors.torch import save

from bmdkit.config import load
from bmdkit.dataset.case_meta import read_meta
from bmdkit.dataset.layout import CASES, DESCRIPTION
from bmdkit.dataset.manifest import ManifestRow, write_manifest
from bmdkit.dataset.simulated_pairs import simulate_pairs
from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig
from bmdkit.dataset.splits import assign_folds
from bmdkit.evaluation.agreement import pearson
from bmdkit.io.results import write_bytes, write_json
from bmdkit.jobs.local_pool import run_in_pool
from bmdkit.models.weights import halved, read_weights
from bmdkit.training.bone_density import TASKS
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.joint_predictions import average_predictions, join_predictions
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run_layout import (
    CONFIG,
    GENERATOR,
    METRICS,
    PLAUSIBILITY,
    PREDICTIONS,
    RUN,
    read_predictions,
    write_predictions,
)
from bmdkit.training.settings import DecompositionConfig


@dataclass(frozen=True)
class WeightsConfig:
    """What the networks learn from, and how.

    Attributes:
        built_in: Pairs of the built-in anatomy.
        maps: Pairs of each label map that is named, in one way or several.
        decomposition, regression: Recipes of the trainings, relative to this one.
        networks: Of each network the trainings, one after the other, each from the weights of the one before: the
            settings, `key.path=value`, in which it differs from the recipe, beside those of the trainings before it.
        seed: Seed of the patients and of the first network; those of further ones are two and more above it.
    """

    built_in: SimulatePairsConfig = field(default_factory=SimulatePairsConfig)
    maps: tuple[SimulatePairsConfig, ...] = ()
    decomposition: str = "../train/unet-cpu.yaml"
    networks: tuple[tuple[tuple[str, ...], ...], ...] = ()
    regression: str = "../train/regression-ridge.yaml"
    seed: int = 0


def read_trainings(config: WeightsConfig, recipes: Path) -> list[list[DecompositionConfig]]:
    """Settings of the trainings of each network, one after the other; `recipes` is the folder of the recipe."""
    recipe = recipes / config.decomposition
    return [
        [load(DecompositionConfig, recipe=recipe, overrides=tuple(chain(*own[: n + 1]))) for n in range(len(own))]
        for own in config.networks
    ]


def name_network(number: int) -> str:
    """Folder of a network in the package; the first has no number."""
    return "decomposition" if number == 1 else f"decomposition-{number}"


def make_network(
    out: Path, name: str, trainings: Sequence[DecompositionConfig], ridge: Path, seed: int, init_from: Path | None
) -> Path:
    """Train one network, each training from the weights of the one before; returns its folder of the package."""
    data, run = out / "data", init_from
    for number, settings in enumerate(trainings, start=1):
        train_decomposition(data, out / name / f"training-{number}", settings, seed=seed, device="cpu", init_from=run)
        run = out / name / f"training-{number}"
    for task in TASKS:
        settings = load(RegressionConfig, recipe=ridge, flags={"task": task})
        train_regression(data, out / name / task, settings, seed=seed, device="cpu", init_from=run)
        run = out / name / task / "ridge"
    if run is None:
        raise SystemExit("networks: expected at least one training of each")
    write_package(run, out / "package" / name)
    return out / "package" / name


def measure(packages: Sequence[Path]) -> None:
    """Print the figures of the mean of some networks on their held-out patients."""
    rows = average_predictions(join_predictions([read_predictions(package / PREDICTIONS) for package in packages]))
    for task, unit in TASKS.items():
        known = [(row.predicted(task), row.measured(task)) for row in rows if row.measured(task) is not None]
        predicted, truth = np.array(known, float).T
        error = np.abs(predicted - truth).mean()
        print(f"{task}: {len(known)} images, PCC {pearson(predicted, truth):.3f}, MAE {error:.4g} {unit}")


def simulate_cohorts(config: WeightsConfig, maps: Sequence[Path], out: Path, n_jobs: int) -> list[Path]:
    """Pairs of each kind of patients, in folders of their own."""
    cohorts = [("built-in", replace(config.built_in, prefix="built-in-"))]
    for number, path in enumerate(maps, start=1):
        for way, pairs in enumerate(config.maps, start=1):
            name = f"map-{number}" if way == 1 else f"map-{number}-{way}"
            cohorts.append((name, replace(pairs, anatomy=path, prefix=f"{name}-")))
    for place, (name, pairs) in enumerate(cohorts):
        simulate_pairs(out / name, pairs, seed=config.seed + place, n_jobs=n_jobs)
    return [out / name for name, _ in cohorts]


def join_datasets(parts: Sequence[Path], out: Path, seed: int) -> None:
    """One dataset of the patients of several, whose names differ; the images are linked or copied."""
    rows = []
    for part in parts:
        for case in sorted((part / CASES).iterdir()):
            meta = read_meta(part, case.name)
            if meta is None:
                raise SystemExit(f"{case}: not finished")
            rows += meta.pairs
    folds = assign_folds(sorted({row.patient_id for row in rows}), seed=seed)
    for part in parts:
        for name in ("dataset_a", "dataset_b"):
            shutil.copytree(part / name, out / name, dirs_exist_ok=True)
    write_manifest(out, [ManifestRow(row, folds[row.patient_id]) for row in rows], ())
    description = json.loads((parts[0] / DESCRIPTION).read_text(encoding="utf-8"))
    parts_named = {part.name: json.loads((part / DESCRIPTION).read_text(encoding="utf-8")) for part in parts}
    configuration = {"pairs": description["configuration"]["pairs"], "parts": parts_named}
    write_json(out / DESCRIPTION, description | {"configuration": configuration})


def write_package(run: Path, out: Path) -> None:
    """What is needed of a run to predict with it: weights in half precision, no predictions of training patients."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, RUN, PLAUSIBILITY, METRICS):
        shutil.copyfile(run / name, out / name)
    write_bytes(out / GENERATOR, save(halved(read_weights(run / GENERATOR))))
    write_predictions(out / PREDICTIONS, [row for row in read_predictions(run / PREDICTIONS) if row.split == "test"])


def main(words: Sequence[str] | None = None) -> None:
    """Simulate, join, train, and write the package's files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--maps", type=Path, nargs="*", default=[], help="label maps to draw patients from, too")
    parser.add_argument("--datasets", type=Path, nargs="*", default=[], help="simulated pairs in place of new ones")
    parser.add_argument("--init-from", type=Path, help="networks to go on from, with the last training alone")
    parser.add_argument("--n-jobs", type=int, default=1, help="patients, then networks, that are made at once")
    args = parser.parse_args(words)
    config, recipes = load(WeightsConfig, recipe=args.recipe), args.recipe.parent
    data = args.out / "data"
    if not (data / DESCRIPTION).exists():
        parts = args.datasets or simulate_cohorts(config, args.maps, args.out / "cohorts", args.n_jobs)
        join_datasets(parts, data, config.seed)
    calls = []
    for number, trainings in enumerate(read_trainings(config, recipes), start=1):
        name = name_network(number)
        seed = config.seed if number == 1 else config.seed + number
        chosen = trainings[-1:] if args.init_from else trainings
        start = args.init_from / name if args.init_from else None
        calls.append((args.out, name, chosen, recipes / config.regression, seed, start))
    packages = list(run_in_pool(make_network, calls, args.n_jobs))
    measure(packages)
    size = sum(path.stat().st_size for path in (args.out / "package").rglob("*") if path.is_file()) / 2**20
    print(f"{args.out / 'package'}: {size:.1f} MiB")


if __name__ == "__main__":
    main()
