"""Sites: alike within, unlike between; the patient himself does not depend on where he is examined."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from bmdkit.simulation.exposure_site import Site, draw_site, find_site
from bmdkit.simulation.presentation import Processing, present
from bmdkit.simulation.procedural_anatomy import Anatomy
from bmdkit.simulation.radiography import RadiographSettings, mineral_channels, take_stored
from bmdkit.simulation.tissue import Tissue

PIXEL_MM = 8.0


def numbers(site: Site) -> np.ndarray:
    return np.array([site.sdd_mm, *astuple(site.exposure), *astuple(site.processing)], float)


def test_a_numbered_site_is_the_same_for_every_cohort_and_patient() -> None:
    assert find_site(3, seed=1, patient=5) == find_site(3, seed=2, patient=0) == find_site("3", 0, 0)
    assert find_site(3, 0, 0) != find_site(4, 0, 0)


def test_mixed_gives_each_patient_one_site_of_his_own() -> None:
    assert find_site("mixed", 1, 5) == find_site("mixed", 1, 5)
    sites = [find_site("mixed", 1, n) for n in range(20)]
    assert len({s.processing.gamma for s in sites if s}) == 20


def test_a_range_deals_patients_out_to_its_sites_alone() -> None:
    few = {n: find_site(n, 0, 0) for n in (2, 3, 4)}
    drawn = [find_site("2-4", 7, n) for n in range(40)]
    assert all(any(site == one for one in few.values()) for site in drawn)
    assert all(any(site == one for site in drawn) for one in few.values())


@pytest.mark.parametrize("choice", ["", "all", "3-", "4-2", "1.5", -1])
def test_other_choices_are_refused(choice) -> None:
    with pytest.raises(ValueError, match="site"):
        find_site(choice, 0, 0)


def test_a_site_is_alike_within_and_unlike_between() -> None:
    """Every number that varies within a site varies at least eight times as much (variance) between sites."""
    rng = np.random.default_rng(0)
    sites = [draw_site(rng) for _ in range(200)]
    within = []
    for site in sites:
        one = [
            numbers(replace(site, exposure=site.vary_exposure(rng), processing=site.processing.vary(rng)))
            for _ in range(10)
        ]
        within.append(np.var(one, axis=0))
    inner, outer = np.mean(within, axis=0), np.var([numbers(site) for site in sites], axis=0)
    assert (outer > 0).sum() >= 13
    assert (inner <= outer / 8).all()
    assert (inner > 1e-6 * outer).sum() == 5


@pytest.fixture(scope="module")
def bones(anatomy: Anatomy, tissue: Tissue):
    return mineral_channels(tissue)


def take(anatomy: Anatomy, tissue: Tissue, bones, settings: RadiographSettings, seed: int = 1):
    return take_stored(anatomy, tissue, bones, "standing", np.random.default_rng(seed), settings)


def test_the_patient_stands_alike_at_every_site(anatomy: Anatomy, tissue: Tissue, bones) -> None:
    exposed = [take(anatomy, tissue, bones, RadiographSettings(PIXEL_MM, find_site(n, 0, 0)))[0] for n in (0, 1)]
    one, other = ({k: p.rotation for k, p in e.camera_from_ct.items()} for e in exposed)
    for body, rotation in one.items():
        np.testing.assert_allclose(rotation, other[body], atol=1e-12)
    assert exposed[0].geometry.sdd_mm == find_site(0, 0, 0).sdd_mm
    assert exposed[0].kvp == find_site(0, 0, 0).exposure.kvp


def test_no_spread_of_the_pose_is_the_pose_itself(anatomy: Anatomy, tissue: Tissue, bones) -> None:
    exposed, _ = take(anatomy, tissue, bones, RadiographSettings(PIXEL_MM, pose_spread=0.0))
    poses = exposed.camera_from_ct
    np.testing.assert_allclose(poses["femur_L"].rotation, poses["pelvis"].rotation, atol=1e-12)


def test_a_difficulty_comes_as_often_as_its_probability(anatomy: Anatomy, tissue: Tissue, bones) -> None:
    settings = RadiographSettings(12.0, stress=("blades",), stress_probability=0.5)
    found = [take(anatomy, tissue, bones, settings, seed)[0].field is not None for seed in range(8)]
    assert 0 < sum(found) < 8  # the seeds are fixed; beyond it: one in 128
    never = replace(settings, stress_probability=0.0)
    assert take(anatomy, tissue, bones, never)[0].field is None


def test_a_tone_curve_keeps_the_order_of_tones_and_sharpening_the_mean() -> None:
    rng = np.random.default_rng(0)
    signal = np.exp(-np.linspace(0, 3, 64 * 64)).reshape(64, 64).astype(np.float32)
    plain = Processing(compression=0.0, gamma=1.0, low_percentile=0.0, high_percentile=100.0)
    straight = present(signal, 1.0, rng, processing=plain).astype(float)
    curved = present(signal, 1.0, rng, processing=replace(plain, toe=0.6)).astype(float)
    assert (np.diff(curved.ravel()) >= 0).all()
    middle = straight.ravel() / 4095  # closed form: a mixture of a straight line and 3 x^2 - 2 x^3
    expected = 4095 * (0.4 * middle + 0.6 * middle**2 * (3 - 2 * middle))
    np.testing.assert_allclose(curved.ravel(), expected, atol=2)
    edge = np.full((64, 64), 0.5, np.float32)
    edge[:, 32:] = 0.1
    sharp = present(edge, 1.0, rng, processing=replace(plain, sharpening=0.8)).astype(float)
    flat = present(edge, 1.0, rng, processing=plain).astype(float)
    step = lambda image: image[32, 33] - image[32, 60]  # noqa: E731
    assert step(sharp) > step(flat) + 100


def test_some_rooms_leave_the_dynamic_range_as_it_is() -> None:
    rng = np.random.default_rng(0)
    plain = np.mean([draw_site(rng).processing.compression == 0 for _ in range(400)])
    assert 0.12 < plain < 0.32
