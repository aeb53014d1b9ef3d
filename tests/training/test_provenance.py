"""Nobody who is held out was learnt from before."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path

import pytest

from bmdkit.config import load
from bmdkit.dataset.samples import read_pairs
from bmdkit.errors import PreflightError
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.key_points import KeyPointConfig, train_key_points
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.settings import DecompositionConfig

RECIPES = Path(__file__).parents[2] / "pipelines/train"


def decomposition(*overrides):
    return load(DecompositionConfig, recipe=RECIPES / "test.yaml", overrides=["loop.epochs=1", *overrides])


@pytest.fixture(scope="module")
def stage_one(hips, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    train_decomposition(hips, out, decomposition(), device="cpu")
    return out


@pytest.fixture(scope="module")
def stage_two(hips, stage_one, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "b"
    train_decomposition(hips, out, decomposition("dataset=B"), device="cpu", init_from=stage_one)
    return out


def test_a_run_knows_what_it_comes_from(stage_one, stage_two):
    before = json.loads((stage_two / "config.json").read_text())["lineage"]
    own = json.loads((stage_one / "config.json").read_text())
    assert own["lineage"] == []
    assert [(one["dataset"], one["fold"]) for one in before] == [("A", 0)]
    assert before[0]["data_sha256"] == own["data_sha256"]


@pytest.mark.parametrize("fold", [1, 4])
def test_a_start_that_held_out_others_is_refused(hips, stage_one, stage_two, tmp_path, fold):
    with pytest.raises(PreflightError, match=rf"BMD-TRN-014.*fold 0 was held out there, fold {fold} is here"):
        train_decomposition(
            hips, tmp_path / "b", decomposition("dataset=B", f"fold={fold}"), device="cpu", init_from=stage_one
        )
    for train, kind, recipe in (
        (train_regression, RegressionConfig, "regression-test.yaml"),
        (train_key_points, KeyPointConfig, "key-points-test.yaml"),
    ):
        config = load(kind, recipe=RECIPES / recipe, overrides=[f"fold={fold}"])
        with pytest.raises(PreflightError, match="BMD-TRN-014"):
            train(hips, tmp_path / "run", config, device="cpu", init_from=stage_two)
    assert not list(tmp_path.iterdir())


def test_so_is_one_whose_own_start_did(hips, stage_two, tmp_path):
    """Stage two holds out what is held out here; what it started from did not."""
    shutil.copytree(stage_two, tmp_path / "b")
    identity = json.loads((tmp_path / "b/config.json").read_text())
    identity["lineage"][0]["fold"] = "all"
    (tmp_path / "b/config.json").write_text(json.dumps(identity))
    config = load(RegressionConfig, recipe=RECIPES / "regression-test.yaml")
    with pytest.raises(PreflightError, match=r"BMD-TRN-014.*fold all was held out there"):
        train_regression(hips, tmp_path / "run", config, device="cpu", init_from=tmp_path / "b")


def test_to_train_on_everybody_any_start_will_do(hips, stage_one, tmp_path):
    settings = decomposition("dataset=B", "fold=all")
    assert train_decomposition(hips, tmp_path / "b", settings, device="cpu", init_from=stage_one) is not None


def test_another_dataset_may_come_first_but_its_names_are_compared(own_hips, stage_one, tmp_path, caplog):
    with (own_hips / "manifest.csv").open("a") as handle:
        handle.write("\n")
    settings = decomposition("dataset=B", "fold=1")
    with caplog.at_level(logging.WARNING, logger="bmdkit"):
        train_decomposition(own_hips, tmp_path / "b", settings, device="cpu", init_from=stage_one)
    assert "1 held-out patients have names of patients that a learnt from on another dataset (p1)" in caplog.text


def test_a_patient_in_other_folds_of_the_other_dataset_is_refused(own_hips):
    with (own_hips / "manifest.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        if row["dataset"] == "A" and row["patient_id"] == "p2":
            row["fold"] = "3"
    with (own_hips / "manifest.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(PreflightError, match="BMD-TRN-003"):
        read_pairs(own_hips, "B")
