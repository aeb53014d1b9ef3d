"""Key points: where they are put, how they move with the image, and a run from pairs to figures."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bmdkit.cli.main import main
from bmdkit.config import ConfigError, load
from bmdkit.errors import PreflightError
from bmdkit.models.key_point_head import CELL, centres_of_mass, heat_map_loss, softmax_maps
from bmdkit.training.augment import AugmentConfig, augment
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.key_points import KeyPointConfig, draw_gaussians, target_maps, train_key_points
from bmdkit.training.settings import DecompositionConfig

RECIPE = Path(__file__).parents[2] / "pipelines/train/key-points-test.yaml"


def config(*overrides):
    return load(KeyPointConfig, recipe=RECIPE, overrides=overrides)


def test_the_centre_of_a_heat_map_is_its_point():
    points = torch.tensor([[[13.2, 30.7], [40.0, 55.5]]])
    target, seen = target_maps(2 * draw_gaussians(points, (96, 64), CELL * 1.0) - 1)
    assert seen.all()
    found = (centres_of_mass(target) + 0.5) * CELL - 0.5
    assert torch.allclose(found, points, atol=0.05)  # the Gaussian's ends beyond the image


def test_points_outside_and_unknown_ones_do_not_count():
    points = torch.tensor([[[-9.0, 20.0], [float("nan"), 5.0], [20.0, 20.0]]])
    _, seen = target_maps(2 * draw_gaussians(points, (64, 64), 4.0) - 1)
    assert seen.tolist() == [[False, False, True]]


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_a_point_is_in_the_image_whatever_the_size_that_it_is_scaled_to(factor):
    """One in the middle, one that the change leaves eight standard deviations outside or well inside."""
    points = torch.tensor([[[31.5, 47.5], [31.5, 4.0]]])
    maps = 2 * draw_gaussians(points, (96, 64), 4.0) - 1
    matrix = torch.tensor([[[1 / factor, 0.0, 0.0], [0.0, 1 / factor, 0.0]]])
    grid = torch.nn.functional.affine_grid(matrix, list(maps.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(maps + 1, grid, align_corners=False) - 1
    assert target_maps(moved)[1].tolist() == [[True, factor < 1]]


def test_heat_maps_move_with_the_radiograph():
    """A radiograph that is bright at the points alone: wherever it is moved, the points are there."""
    points = torch.tensor([[[30.0, 40.0]]]).repeat(16, 1, 1)
    maps = 2 * draw_gaussians(points, (96, 64), 4.0) - 1
    batch = {"xray": maps.clone(), "drr": maps, "mask": torch.ones(16, 1, 96, 64)}
    settings = AugmentConfig(rotation_deg=20, shear_deg=5, shift=0.1, scale=0.1, brightness=0, contrast=0)
    moved = augment(batch, settings, torch.Generator().manual_seed(0))
    target, seen = target_maps(moved["drr"])
    assert seen.all()
    bright = 0.5 * (moved["xray"] + 1)
    where = centres_of_mass(bright / bright.sum((-2, -1), keepdim=True))
    assert torch.allclose((centres_of_mass(target) + 0.5) * CELL - 0.5, where, atol=0.1)
    assert where.std(0).min() > 3  # they did move


def test_the_loss_is_least_and_zero_at_the_heat_map_wanted():
    target, seen = target_maps(2 * draw_gaussians(torch.tensor([[[20.0, 30.0], [9.0, 50.0]]]), (64, 64), 4.0) - 1)
    scores = target.clamp(min=1e-12).log()
    assert float(heat_map_loss(scores, target, seen)) == pytest.approx(0, abs=1e-5)
    assert float(heat_map_loss(scores.flip(-1), target, seen)) > 1
    assert float(heat_map_loss(scores.flip(-1), target, torch.zeros_like(seen))) == 0
    assert softmax_maps(scores).sum((-2, -1)).flatten().tolist() == pytest.approx([1, 1])


@pytest.fixture(scope="module")
def start(hips, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    train_decomposition(hips, out, load(DecompositionConfig, recipe=RECIPE.with_name("test.yaml")), device="cpu")
    return out


def test_a_run_holds_the_encoder_first_and_names_every_point_that_is_known(hips, start, tmp_path):
    out = tmp_path / "run"
    figures = train_key_points(hips, out, config(), device="cpu", init_from=start)
    assert list(figures) == ["frozen", "tuned"]
    before = {k: v for k, v in load_file(start / "generator.safetensors").items() if k.startswith("encoder.")}
    frozen, tuned = (load_file(out / phase / "key_points.safetensors") for phase in figures)
    assert all(torch.equal(frozen[name], weight) for name, weight in before.items())
    assert any(not torch.equal(tuned[name], weight) for name, weight in before.items())
    rows = list(csv.DictReader((out / "tuned" / "predictions.csv").open()))
    assert {row["point"] for row in rows} == {"head_center", "shaft_5cm"}
    assert len(rows) == 20
    for row in rows:
        apart = np.hypot(
            float(row["predicted_column"]) - float(row["column"]), float(row["predicted_row"]) - float(row["row"])
        )
        assert float(row["error_mm"]) == pytest.approx(2.0 * apart)
    held_out = [row for row in rows if row["split"] == "test"]
    assert {row["patient_id"] for row in held_out} == {"p0"}
    told = json.loads((out / "tuned" / "metrics.json").read_text())["test"]["head_center"]
    own = [float(row["error_mm"]) for row in held_out if row["point"] == "head_center"]
    assert told == {**told, "n": 2, "median_mm": pytest.approx(np.median(own))}


def test_it_learns_better_than_to_name_the_mean_place(hips, tmp_path):
    still = {"rotation_deg": 5, "shear_deg": 0, "shift": 0.1, "scale": 0, "flip_horizontal": 0, "flip_vertical": 0}
    settings = config(
        "loop.epochs=60", "optimiser.lr=3e-3", "fold=all", *(f"augment.{k}={v}" for k, v in still.items())
    )
    figures = train_key_points(hips, tmp_path / "run", settings, device="cpu")
    told = figures["scratch"]["train"]["all"]
    assert told["median_mm"] < 0.8 * told["median_of_mean_mm"]


def test_pairs_without_landmarks_are_refused(hips, tmp_path, capsys):
    bare = shutil.copytree(hips, tmp_path / "bare")
    for file in bare.rglob("meta.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"landmarks_uv": {}}))
    with pytest.raises(SystemExit) as caught:
        main(["train", "key-points", str(bare), "--out", str(tmp_path / "run"), "--recipe", str(RECIPE)])
    assert caught.value.code == 4
    assert "BMD-TRN-013" in capsys.readouterr().err
    next(bare.rglob("dataset_b/*/meta.json")).write_text("{")
    with pytest.raises(PreflightError, match="unreadable"):
        train_key_points(bare, tmp_path / "run", config(), device="cpu")


@pytest.mark.parametrize("bad", ["sigma_cells=0", "image_size=[64, 30]", "tuned_lr=0", "tuned_epochs=-1"])
def test_settings_that_cannot_be(bad):
    with pytest.raises(ConfigError):
        config(bad)
