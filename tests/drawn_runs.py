"""Runs written by hand, whose predictions are off by known noise: for tests of what is made of them."""

from __future__ import annotations

import csv
import json

import numpy as np

from bmdkit.io.results import sha256_of, write_csv, write_json
from bmdkit.training.run_layout import PREDICTION_COLUMNS as COLUMNS


def write_run(
    folder,
    data,
    *,
    fold=0,
    seed=0,
    hierarchical=False,
    noise=0.02,
    backbone="resnet",
    pairing="paired",
    before=None,
    poses=(),
    **set_,
):
    """A decomposition run on the fixture's patients p0 to p4, whose predictions are off by known noise."""
    rng = np.random.default_rng([fold if isinstance(fold, int) else 9, seed])
    rows = []
    with (data / "manifest.csv").open(newline="") as handle:
        pairs = [
            row for row in csv.DictReader(handle) if row["dataset"] == "B" and row["pose"] in (poses or [row["pose"]])
        ]
    for pair in pairs:
        dxa, qct = float(pair["dxa_bmd_g_cm2"]), float(pair["qct_bmd_mg_cm3"])
        row = {name: pair[name] for name in ("pair_id", "patient_id", "side", "pose", "fold")}
        row |= {"split": "test" if int(pair["fold"]) == fold else "train", "l1_g_cm2": 0.1, "psnr_db": 30.0 + seed}
        row |= {"dice": 0.9, "target_mean_g_cm2": 2 * dxa, "predicted_mean_g_cm2": 2 * dxa}
        row |= {"dxa_bmd_g_cm2": dxa, "predicted_dxa_bmd_g_cm2": dxa + noise * rng.normal()}
        row |= {"qct_bmd_mg_cm3": qct, "predicted_qct_bmd_mg_cm3": qct + 300 * noise * rng.normal()}
        rows.append(row)
    settings = {"dataset": "B", "fold": fold, "generator": {"backbone": backbone}, "montage_pairs": 6}
    settings |= {"pairing": pairing} | set_
    identity = {"kind": "decomposition", "settings": settings, "seed": seed}
    identity |= {"data_sha256": sha256_of(data / "manifest.csv"), "init_from_sha256": "ab" if hierarchical else None}
    if before is not None:
        identity |= {"lineage": before, "init_from_sha256": "ab"}
    folder.mkdir(parents=True)
    write_json(folder / "config.json", identity)
    lines = {task: {"sweep": [[0.01, 0.7], [0.02, 0.9], [0.03, None]]} for task in ("dxa", "qct")}
    write_json(folder / "run.json", {"kind": "decomposition", "bmd": lines})
    write_csv(folder / "predictions.csv", rows, COLUMNS)
    return folder


def write_regression(folder, data, *, kind="representation", phases=("frozen", "tuned"), task="dxa", **about):
    """A regression whose phases predict as a decomposition of `write_run` does, with ever less noise."""
    names = {"dxa": "dxa_bmd_g_cm2", "qct": "qct_bmd_mg_cm3"}
    columns = (*COLUMNS[:6], names[task], f"predicted_{names[task]}")
    for place, phase in enumerate(phases):
        made = write_run(folder / phase, data, noise=0.02 / (place + 1), **about)
        with (made / "predictions.csv").open(newline="") as handle:
            rows = [{name: row[name] for name in columns} for row in csv.DictReader(handle)]
        identity = json.loads((made / "config.json").read_text())
        for name in ("config.json", "run.json", "predictions.csv"):
            (made / name).unlink()
        write_csv(made / "predictions.csv", rows, columns)
    identity["settings"] |= {"task": task, "weighting": "common"}
    write_json(folder / "config.json", identity | {"kind": kind})
    write_json(folder / "run.json", {"kind": kind, "phases": list(phases), "task": task})
    return folder
