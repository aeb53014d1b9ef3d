import math
from dataclasses import fields, replace

import pytest
import torch

from bmdkit.training.augment import AugmentConfig, augment

NONE = AugmentConfig(**{field.name: 0.0 for field in fields(AugmentConfig)})


def batch(n=4, rows=32, columns=16):
    rng = torch.Generator().manual_seed(0)
    return {
        "xray": 2 * torch.rand(n, 1, rows, columns, generator=rng) - 1,
        "drr": 2 * torch.rand(n, 2, rows, columns, generator=rng) - 1,
        "mask": torch.ones(n, 1, rows, columns),
    }


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nothing_is_changed_when_all_is_off():
    given = batch()
    made = augment(given, NONE, rng())
    for name in ("xray", "drr", "mask"):
        assert torch.allclose(made[name], given[name], atol=1e-5)


def test_radiograph_and_projection_move_together():
    given = batch()
    given["drr"] = given["xray"].repeat(1, 2, 1, 1)
    made = augment(given, replace(AugmentConfig(), brightness=0.0, contrast=0.0), rng())
    assert torch.allclose(made["drr"], made["xray"].expand_as(made["drr"]), atol=1e-5)
    assert not torch.allclose(made["drr"], given["drr"], atol=0.1)


def test_flips_are_exact():
    given = batch()
    made = augment(given, replace(NONE, flip_horizontal=1.0), rng())
    assert torch.allclose(made["drr"], given["drr"].flip(-1), atol=1e-5)
    made = augment(given, replace(NONE, flip_vertical=1.0), rng())
    assert torch.allclose(made["xray"], given["xray"].flip(-2), atol=1e-5)


def test_rotation_keeps_lengths_in_an_image_that_is_not_square():
    """A point at the end of a vertical line turns by the angle, at the same distance in pixels."""
    given = batch(64, 129, 65)
    given["drr"].fill_(-1.0)
    given["drr"][:, :, 36:41, 30:35] = 1.0  # centred 26 pixels above the middle
    made = augment(given, replace(NONE, rotation_deg=60.0), rng())
    weight = made["drr"][:, 0] + 1
    v, u = torch.meshgrid(torch.arange(129.0) - 64, torch.arange(65.0) - 32, indexing="ij")
    total = weight.sum((1, 2))
    at = torch.stack([(weight * u).sum((1, 2)) / total, (weight * v).sum((1, 2)) / total], -1)
    assert torch.allclose(at.norm(dim=-1), torch.full((64,), 26.0), atol=0.3)
    angles = torch.rad2deg(torch.atan2(at[:, 0], -at[:, 1]))
    assert angles.abs().max() <= 60.5
    assert angles.std() == pytest.approx(60 / math.sqrt(3), rel=0.3)


def test_what_comes_from_outside_is_black_empty_and_counted():
    given = batch(8)
    made = augment(given, replace(NONE, shift=0.5), rng(1))
    outside = made["xray"] == -1.0
    assert outside.any()
    assert (made["drr"][outside.expand_as(made["drr"])] <= -1 + 1e-5).all()
    assert made["mask"].all()


def test_what_was_masked_stays_masked():
    given = batch()
    given["mask"][..., :8] = 0
    made = augment(given, replace(NONE, flip_horizontal=1.0), rng())
    assert not made["mask"][..., 8:].any()
    assert made["mask"][..., :8].all()


def test_exposure_changes_the_radiograph_alone_and_keeps_its_range():
    given = batch()
    made = augment(given, replace(NONE, brightness=0.5, contrast=0.5), rng())
    assert torch.allclose(made["drr"], given["drr"], atol=1e-5)
    assert not torch.allclose(made["xray"], given["xray"], atol=0.05)
    assert made["xray"].min() >= -1
    assert made["xray"].max() <= 1 + 1e-6


@pytest.mark.parametrize("wrong", [{"scale": 1.0}, {"shift": -0.1}, {"shear_deg": 90.0}, {"flip_vertical": 2.0}])
def test_ranges_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AugmentConfig(**wrong)


def test_exposure_leaves_alone_what_is_no_image():
    """Collimated borders are -1 before and after, and how large they are changes nothing inside."""
    given = batch()
    given["mask"][..., :5] = 0
    given["xray"] = torch.where(given["mask"] > 0, given["xray"], -1.0)
    made = augment(given, replace(NONE, brightness=0.5, contrast=0.5), rng())
    assert torch.allclose(made["xray"][..., :5], torch.tensor(-1.0))
    cut = {name: image[..., 5:] for name, image in given.items()}
    alone = augment(cut, replace(NONE, brightness=0.5, contrast=0.5), rng())
    assert torch.allclose(made["xray"][..., 5:], alone["xray"], atol=1e-5)
    assert not torch.allclose(alone["xray"], cut["xray"], atol=0.1)
