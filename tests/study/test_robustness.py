"""Radiographs that are not as they should be: compressed, spoilt, and what the quality flag makes of them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bmdkit.cli.main import group
from bmdkit.config import load
from bmdkit.dataset.samples import read_images, read_pairs
from bmdkit.errors import PreflightError
from bmdkit.evaluation.plausibility import Plausibility
from bmdkit.study.image_changes import BITS, QUALITIES, SPOILT, as_bits, as_jpeg
from bmdkit.study.robustness import measure_robustness
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.settings import DecompositionConfig

RECIPE = Path(__file__).parents[2] / "pipelines/train/test.yaml"


@pytest.fixture(scope="module")
def pair(hips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(image[0].numpy() for image in read_images(read_pairs(hips, "B")[0]))


def test_jpeg_gets_smaller_and_worse(pair):
    xray, _, mask = pair
    found = [as_jpeg(quality)(xray, mask, np.random.default_rng(0)) for quality in QUALITIES]
    sizes = [size for *_, size in found]
    errors = [float(np.abs(image - xray).mean()) for image, *_ in found]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] < 0.005


def test_fewer_bits_are_smaller_and_at_most_half_a_step_off(pair):
    xray, _, mask = pair
    found = [as_bits(bits)(xray, mask, np.random.default_rng(0)) for bits in BITS]
    sizes = [size for *_, size in found]
    assert sizes == sorted(sizes, reverse=True)
    for bits, (image, *_) in zip(BITS, found, strict=True):
        assert np.abs(image - xray).max() <= 0.5 / (2**bits - 1) + 1e-6
        assert len(np.unique(image)) <= 2**bits


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_radiograph_is_still_an_image_and_another(pair, how):
    xray, _, mask = pair
    image, seen, _ = SPOILT[how](xray, mask, np.random.default_rng(0))
    assert image.shape == seen.shape == xray.shape
    assert 0 <= image.min() <= image.max() <= 1
    assert np.abs(image - xray).mean() > 0.01


def test_the_stranger_the_projection_the_higher_it_ranks(hips):
    pairs = read_pairs(hips, "B")
    drrs = np.stack([read_images(pair)[1][0].numpy() for pair in pairs])
    known = Plausibility.of(drrs, [pair.side for pair in pairs], 0.1)
    own = known.strangeness(drrs[0], pairs[0].side)
    moved = [known.strangeness(np.roll(drrs[0], rows, 0), pairs[0].side) for rows in (4, 12)]
    assert own < moved[0] < moved[1]
    assert known.strangeness(np.zeros_like(drrs[0]), "L") == math.inf
    assert known.check(drrs[0], pairs[0].side)[0] == "accept"


def test_on_the_command_line(hips, decomposition_run, tmp_path):
    places = ["evaluate", decomposition_run, "--data", hips, "--out", tmp_path]
    words = [*places, "--kind", "simulated", "--robustness", "-q"]
    result = CliRunner().invoke(group, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with (tmp_path / "robustness.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {(row["change"], row["level"]) for row in rows}
    compressed = {("jpeg", str(q)) for q in QUALITIES} | {("bits", str(bits)) for bits in BITS}
    assert kinds == {("as it is", "")} | compressed | {("spoilt", how) for how in SPOILT}
    (method,) = {row["method"] for row in rows}
    found = json.loads((tmp_path / "robustness.json").read_text())[method]["dxa"]
    plain = next(row for row in rows if row["change"] == "as it is" and row["task"] == "dxa")
    metrics = json.loads((decomposition_run / "metrics.json").read_text())
    assert float(plain["mae"]) == pytest.approx(metrics["test"]["dxa"]["mae"], rel=1e-4)
    assert found["images"] == int(plain["images"]) * (1 + len(SPOILT))
    assert set(found["jpeg_pcc_loss"]) == {str(q) for q in QUALITIES}
    assert set(found["bits_pcc_loss"]) == {str(bits) for bits in BITS}


def test_it_takes_a_run_that_predicts_bmd_for_patients_held_out(hips, tmp_path):
    config = load(DecompositionConfig, recipe=RECIPE, flags={"dataset": "A", "fold": 0})
    train_decomposition(hips, tmp_path / "A", config, device="cpu")
    with pytest.raises(PreflightError, match="BMD-EVA-004"):
        measure_robustness([tmp_path / "A"], hips, tmp_path / "out")
