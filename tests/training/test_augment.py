import math
from dataclasses import fields, replace

import pytest
import torch

from bmdkit.training.augment import REACH, AugmentConfig, augment, bend_tones, draw_openings, sharpen

NONE = AugmentConfig(**{field.name: 0.0 for field in fields(AugmentConfig) if field.name != "fill"})


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


def test_the_edge_of_a_cut_out_picture_goes_on():
    """A picture of one value stays what it is wherever it is moved; filled with black it does not."""
    given = batch(8)
    given["xray"] = torch.full_like(given["xray"], 0.3)
    far = replace(NONE, shift=0.5, rotation_deg=30.0)
    assert torch.allclose(augment(given, replace(far, fill="edge"), rng(1))["xray"], given["xray"], atol=1e-5)
    assert (augment(given, far, rng(1))["xray"] == -1.0).any()


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


BLADES = replace(NONE, collimation=1.0)


def test_blades_cover_the_radiograph_and_its_mask_alike_and_the_projection_not():
    given = batch(32, 64, 32)
    made = augment(given, BLADES, rng())
    assert torch.allclose(made["drr"], given["drr"], atol=1e-5)
    covered = made["mask"] == 0
    assert covered.flatten(1).any(1).all()
    assert torch.allclose(made["xray"][covered], torch.tensor(-1.0), atol=1e-5)
    assert torch.allclose(made["xray"][~covered], given["xray"][~covered], atol=1e-5)


def test_blades_are_straight_and_lie_at_any_angle_away_from_the_middle():
    """One blade alone covers a half plane: no open pixel lies on the covered side of its edge, whatever its angle."""
    is_open = draw_openings(400, (48, 48), 1.0, rng(3))[:, 0]
    v, u = torch.meshgrid(torch.arange(48.0) - 23.5, torch.arange(48.0) - 23.5, indexing="ij")
    assert is_open[:, torch.hypot(u, v) < REACH[0] * 24].all()
    angles = torch.arange(0, 2 * math.pi, math.radians(1))
    along = torch.cos(angles)[:, None, None] * u + torch.sin(angles)[:, None, None] * v
    found = []
    for image in is_open:
        nearest = torch.where(image, torch.inf, along).flatten(1).amin(1)
        farthest = torch.where(image, along, -torch.inf).flatten(1).amax(1)
        gap, best = (nearest - farthest).max(0)
        if gap > -0.5:  # pixels: a straight edge at one of the angles; more blades than one have none
            found.append(angles[best])
    assert len(found) >= 60  # a quarter has one blade, within what 400 draws and steps of a degree leave
    quarters = torch.histc(torch.stack(found), 4, 0, 2 * math.pi)
    assert quarters.min() >= 8


def test_the_share_of_radiographs_with_blades_is_the_one_asked_for():
    is_covered = ~draw_openings(2000, (32, 16), 0.3, rng()).flatten(1).all(1)
    assert is_covered.float().mean() == pytest.approx(0.3, abs=0.04)  # four standard deviations


def test_a_sample_is_covered_the_same_way_in_a_part_of_its_batch():
    given = batch(6)
    whole = augment(given, BLADES, rng())
    places = torch.tensor([1, 4])
    part = {name: image[places] for name, image in given.items()} | {"places": places, "of": torch.tensor(6)}
    made = augment(part, BLADES, rng())
    assert torch.equal(made["mask"], whole["mask"][places])
    assert torch.equal(made["xray"], whole["xray"][places])


def test_without_blades_nothing_else_is_drawn():
    """A run without them is the same as before there were any."""
    before, after = rng(), rng()
    augment(batch(), AugmentConfig(), before)
    augment(batch(), AugmentConfig(collimation=0.0), after)
    assert torch.equal(before.get_state(), after.get_state())
    augment(batch(), AugmentConfig(collimation=1e-9), after)
    assert not torch.equal(before.get_state(), after.get_state())


def test_a_tone_curve_rises_keeps_black_and_white_and_spares_what_is_no_image():
    ramp = torch.linspace(-1, 1, 64).expand(200, 1, 1, 64)
    given = {"xray": ramp, "drr": torch.zeros(200, 1, 1, 64), "mask": torch.ones(200, 1, 1, 64)}
    given["mask"][..., 20:24] = 0
    made = augment(given, replace(NONE, tone=1.0), rng())
    inside = given["mask"][0, 0, 0] > 0
    assert torch.allclose(made["xray"][..., ~inside], ramp[..., ~inside], atol=1e-5)
    curves = made["xray"][:, 0, 0, inside]
    assert (curves.diff(dim=1) >= -1e-6).all()
    assert torch.allclose(curves[:, [0, -1]], torch.tensor([-1.0, 1.0]), atol=1e-5)
    assert torch.allclose(made["drr"], given["drr"], atol=1e-5)
    middle = 0.5 * (curves[:, 30] + 1)
    assert middle.min() < 0.3 < 0.7 < middle.max()


def test_a_tone_curve_is_its_exponent_and_its_weight():
    xray = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).expand(2, 1, 1, 5)
    made = bend_tones(xray, torch.ones_like(xray), torch.tensor([2.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert torch.allclose(0.5 * (made[0, 0, 0] + 1), torch.tensor([0, 0.0625, 0.25, 0.5625, 1]))
    straight = torch.tensor([0, 0.25, 0.5, 0.75, 1])
    assert torch.allclose(0.5 * (made[1, 0, 0] + 1), 3 * straight**2 - 2 * straight**3)


def test_without_a_tone_curve_nothing_else_is_drawn():
    before, after = rng(), rng()
    augment(batch(), AugmentConfig(), before)
    augment(batch(), AugmentConfig(tone=0.0), after)
    assert torch.equal(before.get_state(), after.get_state())


def test_tissue_is_a_smooth_field_on_the_radiograph_alone():
    """Neighbours change alike, projections do not, nor what is no image; and nothing leaves the range."""
    given = batch(16, 64, 32)
    given["xray"].mul_(0.2)
    given["mask"][:, :, :, :4] = 0.0
    made = augment(given, replace(NONE, tissue=0.15), rng())
    assert torch.allclose(made["drr"], given["drr"], atol=1e-5)
    assert torch.allclose(made["xray"][..., :4], given["xray"][..., :4], atol=1e-5)
    field = (made["xray"] - given["xray"])[..., 5:] / 2.0
    assert 0.03 < float(field.square().mean().sqrt()) < 0.15
    assert float(field.diff(dim=-1).abs().max()) < 0.1
    assert float(field.diff(dim=-2).abs().max()) < 0.1
    assert float(made["xray"].abs().max()) <= 1.0 + 1e-5


def test_sharpness_changes_what_is_fine_alone() -> None:
    """By hand: a line of one pixel loses half of its height to its neighbours; a slope and the borders stay."""
    xray = (torch.linspace(-0.5, 0.5, 16)[None, None, None, :] * torch.ones(3, 1, 12, 16)).contiguous()
    line = xray.clone()
    line[..., 6] += 0.2
    mask = torch.ones_like(xray)
    mask[..., 12:] = 0
    weights = torch.tensor([-1.0, 0.0, 1.0])
    slope = sharpen(xray, mask, weights)
    assert torch.allclose(slope[..., 1:-1], xray[..., 1:-1], atol=1e-6)
    found = sharpen(line, mask, weights) - xray
    assert torch.allclose(found[0, 0, :, 5:8], torch.tensor([0.05, 0.10, 0.05]).expand(12, 3), atol=1e-6)
    assert torch.allclose(found[1], line[1] - xray[1], atol=1e-6)
    assert torch.allclose(found[2, 0, :, 5:8], torch.tensor([-0.05, 0.30, -0.05]).expand(12, 3), atol=1e-6)
    assert torch.equal(sharpen(line, mask, weights)[..., 12:], line[..., 12:])


def test_sharpness_is_drawn_for_each_radiograph_and_leaves_its_target() -> None:
    given = batch(16)
    made = augment(given, replace(NONE, sharpness=0.8), rng())
    assert torch.allclose(made["drr"], given["drr"], atol=1e-5)
    fine = (made["xray"] - given["xray"])[..., 8:-8, 4:-4].abs().mean((1, 2, 3))
    assert fine.std() > 0.2 * fine.mean() > 0
    assert made["xray"].min() >= -1.0 - 1e-5
    assert made["xray"].max() <= 1.0 + 1e-5
