"""Every backbone, at its smallest, can learn sixteen pairs by heart: what cannot do that can learn nothing.

    pytest -m "slow or not slow" tests/training/test_overfitting.py

runs all of them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_hips import write_dataset
from scipy import ndimage

from bmdkit.config import build
from bmdkit.dataset.samples import read_pairs
from bmdkit.io.images import read_tiff, write_tiff
from bmdkit.training.augment import AugmentConfig
from bmdkit.training.decomposition import DecompositionLearner, train_decomposition
from bmdkit.training.engine import Engine
from bmdkit.training.pair_batches import load_pairs
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.settings import DecompositionConfig

PCC, PSNR_DB = 0.99, 35.0
STILL = {"rotation_deg": 0, "shear_deg": 0, "shift": 0, "scale": 0, "flip_horizontal": 0, "flip_vertical": 0}
STILL |= {"brightness": 0, "contrast": 0}
NORMED = {"norm": "batch", "standardise": True}
EPOCH_STEPS = 10


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """Eight patients, two radiographs each; projections as smooth as those of bones are."""
    root = write_dataset(tmp_path_factory.mktemp("sixteen"), patients=8)
    for path in root.rglob("drr.tif"):
        write_tiff(path, np.stack([ndimage.gaussian_filter(page, 1.5) for page in pages_of(path)]).astype(np.float32))
    return root


def pages_of(path):
    pages = np.asarray(read_tiff(path))
    return pages[None] if pages.ndim == 2 else pages


def lengths(steps: int, lr: float) -> dict:
    optimiser = {"lr": lr, "betas": [0.9, 0.999], "schedule": "one_cycle", "warmup_steps": steps // 10, "clip": 2.0}
    loop = {"epochs": steps // EPOCH_STEPS, "batch_size": 16, "epoch_samples": 16 * EPOCH_STEPS}
    return {"optimiser": optimiser, "loop": loop | {"checkpoint_epochs": 1000}}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("generator", "steps", "lr"),
    [
        ({"backbone": "unet", "filters": 16, **NORMED}, 250, 4e-3),
        ({"backbone": "resnet", "filters": 8, "downsamplings": 2, "blocks": 1, **NORMED}, 500, 4e-3),
        pytest.param({"backbone": "resnet", "filters": 16, "downsamplings": 3, "blocks": 4}, 250, 2e-3, marks=SLOW),
        pytest.param({"backbone": "hrnet_w18", **NORMED}, 120, 1e-3, marks=SLOW),
        pytest.param({"backbone": "hrformer_t", **NORMED}, 100, 1e-3, marks=SLOW),
        pytest.param({"backbone": "daformer_b0", **NORMED}, 120, 1e-3, marks=SLOW),
    ],
    ids=lambda value: value["backbone"] + "-" + value.get("norm", "group") if isinstance(value, dict) else str(value),
)
def test_a_backbone_learns_sixteen_pairs_by_heart(sixteen, tmp_path, generator, steps, lr):
    losses = {"l1": 10, "gradient_correlation": 0.2, "adversarial": 0, "feature_matching": 0}
    given = {"dataset": "B", "fold": "all", "image_size": [64, 32], "generator": generator, "losses": losses}
    config = build(DecompositionConfig, given | {"augment": STILL, **lengths(steps, lr)})
    figures = train_decomposition(sixteen, tmp_path / "run", config, device="cpu").metrics["train"]
    assert figures["pf_drr_mean_pcc"] >= PCC
    assert figures["psnr_db"] >= PSNR_DB


@pytest.mark.slow
@pytest.mark.parametrize("network", ["representation", "baseline"])
def test_a_regression_learns_sixteen_pairs_by_heart(sixteen, tmp_path, network):
    given = {"network": network, "fold": "all", "image_size": [64, 32], "augment": STILL, "filters": 8}
    given |= {"generator": {"backbone": "unet", "filters": 16, **NORMED}, "weighting": "none"}
    given |= {"head": {"widths": [64, 128], "blocks": [1, 1]}}
    config = build(RegressionConfig, given | lengths(300, 1e-3))
    (figures,) = train_regression(sixteen, tmp_path / "run", config, device="cpu").values()
    assert figures["train"]["pcc"] >= PCC


def test_the_resnet_comes_out_of_the_dark(sixteen):
    """Dark everywhere (-3.7 before the tanh), as its first forty steps can leave it at 1e-3 without a warm-up."""
    settings = {"generator": {"backbone": "resnet", "filters": 16, "downsamplings": 3, "blocks": 4}, "dataset": "B"}
    settings |= {"losses": {"adversarial": 0, "feature_matching": 0}, "image_size": [64, 32]}
    config = build(DecompositionConfig, settings | {"optimiser": {"lr": 1e-3, "warmup_steps": 30}})
    learner = DecompositionLearner(config, torch.device("cpu"), torch.Generator().manual_seed(0))
    learner.config = build(DecompositionConfig, settings | {"augment": STILL})
    with torch.no_grad():
        learner.generator.decoder.last.bias.fill_(-3.7)
    samples = load_pairs(read_pairs(sixteen, "B"), (64, 32))
    engine, rng = Engine(torch.device("cpu")), torch.Generator().manual_seed(0)
    spreads = []
    for step in range(200):
        learner.schedules["generator"].set_rate(step, 200)
        learner.step(samples.take(torch.randint(16, (4,), generator=rng), engine.device), engine, rng)
        assert learner.spread is not None
        spreads.append(float(learner.spread))
        if np.mean(spreads[-5:]) > 0.7:
            break
    assert np.mean(spreads[:3]) < 0.05  # it was dark
    assert np.mean(spreads[-5:]) > 0.7, spreads


def test_still_means_still():
    assert build(AugmentConfig, STILL) == AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0)
