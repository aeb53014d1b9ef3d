"""Radiographs taken again from their layers, at every step of a training."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bmdkit.config import load
from bmdkit.dataset.integrity import check_files
from bmdkit.dataset.pairs import PairConfig
from bmdkit.dataset.samples import read_pairs
from bmdkit.dataset.simulated_pairs import simulate_pairs
from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig
from bmdkit.errors import PreflightError
from bmdkit.io.images import read_tiff, write_tiff
from bmdkit.simulation.exposure import ExposureSettings, expose
from bmdkit.training import reexposure
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.pair_batches import load_pairs
from bmdkit.training.reexposure import ReexposureConfig, SoftTissue, expose_again
from bmdkit.training.settings import DecompositionConfig

ROOT = Path(__file__).parents[2]
ALL = ReexposureConfig(share=1.0)
BODY_ALONE = replace(ALL, density=0.0, girth=0.0, tissue=0.0, mix=0.0)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=6, rows=48, columns=24):
    """Femurs of 1 g/cm2 in the middle of 20 g/cm2 of water, with air on the right."""
    layers = torch.zeros(count, 3, rows, columns)
    layers[:, 0, :, : columns - 4] = 20.0
    layers[:, 2, 10:40, 8:14] = 1.0
    drr = torch.full((count, 1, rows, columns), -1.0)
    drr[:, :, 15:30, 8:14] = 0.0  # half of the scale
    return {
        "xray": torch.zeros(count, 1, rows, columns),
        "drr": drr,
        "mask": torch.ones(count, 1, rows, columns),
        "layers": layers,
        "is_left": torch.arange(count) % 2 == 0,
    }


def others(given):
    return SoftTissue(given["layers"][:, :1], given["is_left"])


def again(given, config=ALL, seed=0):
    return expose_again(given, others(given), config, rng(seed))


def test_a_share_of_none_changes_nothing():
    given = batch()
    made = again(given, replace(ALL, share=0.0))
    assert torch.equal(made["xray"], given["xray"])
    assert torch.equal(made["drr"], given["drr"])


def test_bone_is_brighter_than_the_soft_tissue_beside_it_and_air_is_dark():
    shown = again(batch(), BODY_ALONE)["xray"]
    assert (shown[:, 0, 12:38, 8] > shown[:, 0, 12:38, 7]).all()  # on either side of the femur's edge
    assert (shown[:, 0, :, -3:].mean((1, 2)) < -0.9).all()


def test_the_beam_is_that_of_the_simulator(monkeypatch):
    """Without scatter and noise the attenuation of water, and of bone in it, is the simulator's at that voltage."""
    for name, value in (
        ("_KVP", (80.0, 80.0)),
        ("_ALUMINIUM_G_CM2", (0.945, 0.945)),
        ("SCATTER_TO_PRIMARY", (0.0, 0.0)),
    ):
        monkeypatch.setattr(reexposure, name, value)
    monkeypatch.setattr(reexposure, "_LOG10_PHOTONS", (20.0, 20.0))
    soft, bone = torch.full((1, 1, 8, 8), 20.0), torch.zeros(1, 1, 8, 8)
    bone[..., 4:] = 1.0
    draws = reexposure._Draws(1, torch.arange(1), rng(), torch.device("cpu"))
    found = -torch.log(reexposure._expose(soft, bone, draws))[0, 0, 0]
    settings = ExposureSettings(kvp=80.0, filter_mm_al=3.5, scatter_to_primary=0.0, blur_mm=0.0)
    true = -np.log(expose(soft[0, 0].numpy(), bone[0, 0].numpy(), 0.5, settings))[0]
    assert found[0] == pytest.approx(true[0], rel=0.02)  # energies 10 keV apart, in place of 5
    assert found[-1] - found[0] == pytest.approx(true[-1] - true[0], rel=0.02)


def test_the_projection_gets_the_mineral_that_the_radiograph_shows(monkeypatch):
    """As attenuation, without a window: the more mineral the target has than before, the brighter the radiograph."""
    monkeypatch.setattr(reexposure, "_present", lambda signal, draws: -torch.log(signal))
    given = batch(count=200)
    made = again(given, replace(BODY_ALONE, density=0.3))
    plain = again(given, BODY_ALONE)
    inside = given["drr"] > -1.0
    factor = (0.5 * (made["drr"] + 1.0) / 0.5)[inside].view(200, -1).mean(1)
    assert factor.log().std().item() == pytest.approx(0.3, rel=0.25)
    brighter = (made["xray"] - plain["xray"])[inside].view(200, -1).mean(1)
    assert np.corrcoef(factor.log().numpy(), brighter.numpy())[0, 1] > 0.8


def test_what_is_no_image_stays_as_it_is():
    given = batch()
    given["mask"][:, :, :8] = 0.0
    given["xray"][:, :, :8] = -1.0
    assert (again(given)["xray"][:, :, :8] == -1.0).all()


def test_soft_tissue_of_another_side_is_mirrored():
    soft = torch.arange(6.0).view(1, 1, 1, 6)
    bank = SoftTissue(soft, torch.tensor([True]))
    assert torch.equal(bank.take(torch.tensor([0]), torch.tensor([True])), soft)
    assert torch.equal(bank.take(torch.tensor([0]), torch.tensor([False])), soft.flip(-1))


def test_a_sample_is_changed_alike_whoever_computes_it():
    given = batch()
    whole = again(given)
    places = torch.tensor([1, 4])
    part = {name: values[places] for name, values in given.items()} | {"places": places, "of": torch.tensor(6)}
    made = expose_again(part, others(given), ALL, rng())
    for name in ("xray", "drr"):
        assert torch.allclose(made[name], whole[name][places], atol=1e-6)


@pytest.mark.parametrize("values", [{"share": 1.5}, {"density": -0.1}, {"mix": 2.0}, {"tissue": 9.0}])
def test_settings_are_checked(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        ReexposureConfig(**values)


def test_pairs_of_dataset_a_have_no_layers():
    with pytest.raises(ValueError, match="dataset A"):
        DecompositionConfig(dataset="A", reexposure=ALL)


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    config = SimulatePairsConfig(
        count=6,
        poses=("standing",),
        pixel_mm=3.0,
        grid_mm=4.0,
        layers=True,
        pairs=PairConfig(rows=64, columns=32, outward=1),
    )
    out = tmp_path_factory.mktemp("layered") / "data"
    simulate_pairs(out, config, seed=5)
    return out


def test_layers_of_simulated_pairs_are_what_the_targets_are_of(layered):
    """The femur's layer is the target where the region is all of the femur, and more where it is not.

    Voxels of 4 mm at the femur's surface that are less than half bone belong to the femur alone.
    """
    data = load_pairs(read_pairs(layered, "B"), (64, 32), layers=True)
    femur, target = data.layers[:, 2].float(), data.drr[:, 0]
    deep = target > 0.5 * target.amax((1, 2), keepdim=True)
    assert 1.0 <= (femur[deep] / target[deep]).median().item() < 1.2
    assert np.corrcoef(femur[deep].numpy(), target[deep].numpy())[0, 1] > 0.9
    assert (femur.sum((1, 2)) > 1.2 * target.sum((1, 2))).all()  # the head and the shaft are beyond the region
    assert check_files(layered) == []
    assert 5.0 < data.layers[:, 0].float().mean() < 40.0


def test_a_network_learns_from_them_and_says_what_is_missing(layered, hips, tmp_path):
    recipe, flags = ROOT / "pipelines/train/test.yaml", {"dataset": "B", "fold": "all"}
    config = load(
        DecompositionConfig, recipe=recipe, flags=flags, overrides=["image_size=[64,32]", "reexposure.share=1"]
    )
    train_decomposition(layered, tmp_path / "run", config, device="cpu")
    assert (tmp_path / "run" / "generator.safetensors").is_file()
    with pytest.raises(PreflightError, match="layers") as missing:
        train_decomposition(hips, tmp_path / "other", config, device="cpu")
    assert missing.value.code == "BMD-TRN-005"


@pytest.mark.parametrize("damage", ["cut off", "a page gone", "not finite"])
def test_damaged_layers_are_refused(layered, tmp_path, damage):
    root = tmp_path / "data"
    shutil.copytree(layered, root)
    file = sorted(root.glob("dataset_b/*/layers.tif"))[0]
    pages = read_tiff(file)
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:60])
    else:
        write_tiff(file, pages[:2] if damage == "a page gone" else np.where(pages > 1, np.nan, pages))
    with pytest.raises(PreflightError, match="layers") as refused:
        load_pairs(read_pairs(root, "B"), (64, 32), layers=True)
    assert refused.value.code == "BMD-TRN-005"
    assert check_files(root)
