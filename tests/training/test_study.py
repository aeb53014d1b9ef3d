"""A study from finished runs; most runs here are written by hand, so that what must come out is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bmdkit.cli.main import group
from bmdkit.config import load
from bmdkit.errors import PreflightError
from bmdkit.evaluation.agreement import pearson
from bmdkit.io.results import sha256_of, write_csv, write_json
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.finished_runs import read_results
from bmdkit.training.outcome import COLUMNS
from bmdkit.training.settings import DecompositionConfig
from bmdkit.training.study import CEILING, MEAN, evaluate_runs

RECIPE = Path(__file__).parents[2] / "pipelines/train/test.yaml"


def write_run(folder, data, *, fold=0, seed=0, hierarchical=False, noise=0.02, backbone="resnet", pairing="paired"):
    """A decomposition run on the fixture's patients p0 to p4, whose predictions are off by known noise."""
    rng = np.random.default_rng([fold if isinstance(fold, int) else 9, seed])
    rows = []
    with (data / "manifest.csv").open(newline="") as handle:
        pairs = [row for row in csv.DictReader(handle) if row["dataset"] == "B"]
    for pair in pairs:
        dxa, qct = float(pair["dxa_bmd_g_cm2"]), float(pair["qct_bmd_mg_cm3"])
        row = {name: pair[name] for name in ("pair_id", "patient_id", "side", "pose", "fold")}
        row |= {"split": "test" if int(pair["fold"]) == fold else "train", "l1_g_cm2": 0.1, "psnr_db": 30.0 + seed}
        row |= {"dice": 0.9, "target_mean_g_cm2": 2 * dxa, "predicted_mean_g_cm2": 2 * dxa}
        row |= {"dxa_bmd_g_cm2": dxa, "predicted_dxa_bmd_g_cm2": dxa + noise * rng.normal()}
        row |= {"qct_bmd_mg_cm3": qct, "predicted_qct_bmd_mg_cm3": qct + 300 * noise * rng.normal()}
        rows.append(row)
    settings = {"dataset": "B", "fold": fold, "generator": {"backbone": backbone}, "montage_pairs": 6}
    settings |= {"pairing": pairing}
    identity = {"kind": "decomposition", "settings": settings, "seed": seed}
    identity |= {"data_sha256": sha256_of(data / "manifest.csv"), "init_from_sha256": "ab" if hierarchical else None}
    folder.mkdir(parents=True)
    write_json(folder / "config.json", identity)
    write_json(folder / "run.json", {"kind": "decomposition", "bmd": {"dxa": {}, "qct": {}}})
    write_csv(folder / "predictions.csv", rows, COLUMNS)
    return folder


@pytest.fixture(scope="module")
def folds(hips, tmp_path_factory):
    """One method over all five folds."""
    root = tmp_path_factory.mktemp("folds")
    return [write_run(root / f"f{fold}", hips, fold=fold, hierarchical=True) for fold in range(5)]


@pytest.fixture(scope="module")
def study(hips, folds, tmp_path_factory):
    """What they come to: the folder and the metrics."""
    out = tmp_path_factory.mktemp("study") / "out"
    return out, evaluate_runs(folds, hips, out, kind="simulated")


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as handle:
        return {row["method"]: row for row in csv.DictReader(handle)}


def test_folds_are_pooled(study):
    out, metrics = study
    with (out / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 10  # five patients, two poses
    assert {row["split"] for row in rows} == {"test"}
    pairs = [(float(r["predicted_dxa_bmd_g_cm2"]), float(r["dxa_bmd_g_cm2"])) for r in rows]
    (name,) = set(metrics["methods"]) - {CEILING, MEAN}
    assert name == "decomposition (resnet)"
    found = metrics["methods"][name]["tasks"]["dxa"]
    assert found["by_seed"][0]["pcc"] == pytest.approx(pearson(*zip(*pairs, strict=True)))
    assert (found["by_seed"][0]["n"], found["by_seed"][0]["patients"]) == (10, 5)
    assert found["poses"]["hips"] == 5
    assert found["poses"]["poses"] == ["standing", "supine"]
    assert float(table(out / "table2.csv")[name]["DXA PCC"]) == found["by_seed"][0]["pcc"]


def test_the_reference_rows_need_no_network(folds, study):
    """BMD is linear in these targets, so the ceiling is 1; a constant of each fold knows nothing."""
    metrics = study[1]["methods"]
    ceiling, mean = (metrics[name]["tasks"]["dxa"] for name in (CEILING, MEAN))
    assert ceiling["pcc"] == pytest.approx(1)
    assert ceiling["mae"] == pytest.approx(0, abs=1e-9)
    values = np.unique(
        np.array([float(r["dxa_bmd_g_cm2"]) for r in csv.DictReader((folds[0] / "predictions.csv").open())])
    )
    others = [np.delete(values, n).mean() for n in range(5)]
    assert mean["mae"] == pytest.approx(np.abs(values - others).mean())
    assert mean["pcc"] < 0  # the mean of the others is lower for whoever is higher


def test_seeds_give_mean_and_spread(hips, tmp_path):
    runs = [write_run(tmp_path / f"s{seed}", hips, seed=seed) for seed in (0, 1)]
    metrics = evaluate_runs(runs, hips, tmp_path / "study", kind="simulated")["methods"]
    name = "decomposition without hierarchical learning (resnet)"
    errors = [one["mae"] for one in metrics[name]["tasks"]["dxa"]["by_seed"]]
    row = table(tmp_path / "study" / "table2.csv")[name]
    assert float(row["DXA MAE, g/cm²"]) == pytest.approx(np.mean(errors))
    assert float(row["DXA MAE, g/cm² (spread)"]) == pytest.approx(np.std(errors, ddof=1))
    assert "30.50 ± 0.71" in (tmp_path / "study" / "table3.md").read_text()


def test_the_ablation_is_a_row_with_and_without_hierarchical_learning(hips, tmp_path):
    runs = [
        write_run(tmp_path / f"{b}{h}", hips, hierarchical=h, backbone=b) for b in ("a", "b") for h in (True, False)
    ]
    runs.append(write_run(tmp_path / "unpaired", hips, hierarchical=True, backbone="b", pairing="unpaired"))
    evaluate_runs(runs, hips, tmp_path / "study", kind="simulated")
    rows = table(tmp_path / "study" / "table3.csv")
    assert list(rows) == ["a", "a + HL", "b", "b + HL", "b + HL, unpaired"]
    assert "decomposition from unpaired data (b)" in table(tmp_path / "study" / "table2.csv")
    assert list(rows["a"])[1:5] == ["PSNR, dB", "Dice", "ICC", "PCC"]


def test_every_figure_and_caption_says_what_it_shows(study):
    out, _ = study
    names = {path.name for path in (out / "figures").iterdir()}
    stems = [f"{kind}_decomposition_resnet_{task}" for kind in ("scatter", "bland_altman") for task in ("dxa", "qct")]
    assert names == {f"{stem}.{suffix}" for stem in (*stems, "threshold") for suffix in ("png", "pdf")}
    words = "10 images of 5 patients, held-out patients of folds 0, 1, 2, 3, 4, simulated data"
    assert words in (out / "table2.md").read_text()
    assert words in (out / "table2.tex").read_text()


def test_the_same_runs_make_the_same_bytes_whatever_their_order(hips, folds, study, tmp_path):
    evaluate_runs(folds[::-1], hips, tmp_path / "again", kind="simulated")
    assert sha256_of(tmp_path / "again" / "metrics.json") == sha256_of(study[0] / "metrics.json")
    assert sha256_of(tmp_path / "again" / "figures") == sha256_of(study[0] / "figures")


def refused(code, runs, data, tmp_path, **options):
    with pytest.raises(PreflightError, match=code):
        evaluate_runs(runs, data, tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()


def test_runs_that_cannot_be_compared_are_refused(hips, own_hips, folds, tmp_path):
    refused("BMD-EVA-001", [tmp_path], hips, tmp_path, kind="simulated")
    twin = write_run(tmp_path / "twin", hips, hierarchical=True)
    refused("BMD-EVA-003", [folds[0], twin], hips, tmp_path, kind="simulated")
    everybody = write_run(tmp_path / "all", hips, fold="all")
    refused("BMD-EVA-004", [everybody], hips, tmp_path, kind="simulated")
    refused("BMD-EVA-005", folds, hips, tmp_path)
    (own_hips / "manifest.csv").write_text((own_hips / "manifest.csv").read_text() + "\n")
    refused("BMD-EVA-002", folds, own_hips, tmp_path, kind="simulated")


def test_the_kind_of_data_comes_from_the_dataset(hips, own_hips, tmp_path):
    description = json.loads((own_hips / "dataset.json").read_text())
    (own_hips / "dataset.json").write_text(json.dumps(description | {"data": "simulated"}))
    run = write_run(tmp_path / "run", own_hips)
    assert evaluate_runs([run], own_hips, tmp_path / "study")["data"] == "simulated"


def test_a_run_that_was_trained_is_read_on_the_command_line(hips, tmp_path):
    train_decomposition(
        hips, tmp_path / "run", load(DecompositionConfig, recipe=RECIPE, flags={"dataset": "B"}), device="cpu"
    )
    (result,) = read_results(tmp_path / "run", hips)
    assert (result.phase, result.dataset, result.fold, result.hierarchical) == ("decomposition", "B", 0, False)
    arguments = ["evaluate", str(tmp_path / "run"), "--data", str(hips), "--out", str(tmp_path / "study"), "-q"]
    told = CliRunner().invoke(group, [*arguments, "--kind", "simulated"])
    assert told.exit_code == 0, told.output
    assert "decomposition without hierarchical learning" in told.output
