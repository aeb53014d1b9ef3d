"""Populations: the BMD that is asked for is the BMD that is measured; sexes, texture and cortex apart from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmdkit.core.anatomy import SIDES
from bmdkit.simulation.bone_filling import prepare_bone
from bmdkit.simulation.population import Person, Population, draw_person
from bmdkit.simulation.procedural_anatomy import Anatomy, draw_anatomy
from bmdkit.simulation.tissue import Tissue, fill_tissue

PAPER = Population(bmd_mean_g_cm2=0.759, bmd_sd_g_cm2=0.151, female_share=0.82)


def measure(anatomy: Anatomy, tissue: Tissue) -> float:
    return float(np.mean([tissue.measure_bmd(anatomy, side)[0] for side in SIDES]))


def test_mean_and_spread_hold_for_the_whole_population() -> None:
    people = [draw_person(PAPER, seed=0, patient=n) for n in range(4000)]
    bmd = np.array([p.bmd_g_cm2 for p in people], float)
    women = np.array([p.sex == "female" for p in people])
    assert bmd.mean() == pytest.approx(0.759, abs=3 * 0.151 / np.sqrt(4000))
    assert bmd.std() == pytest.approx(0.151, abs=3 * 0.151 / np.sqrt(8000))
    assert women.mean() == pytest.approx(0.82, abs=0.02)
    assert bmd[~women].mean() - bmd[women].mean() == pytest.approx(0.11, abs=0.02)


@pytest.mark.parametrize(("bmd", "cortex"), [(0.4, 0.7), (0.76, 1.0), (1.2, 1.4)])
def test_the_bmd_asked_for_is_measured(anatomy: Anatomy, bmd: float, cortex: float) -> None:
    person = Person(bmd_g_cm2=bmd, cortex=cortex, texture=1.3)
    tissue = fill_tissue(anatomy, np.random.default_rng([5, 1]), person=person)
    assert measure(anatomy, tissue) == pytest.approx(bmd, rel=1e-3)


def test_bmd_follows_the_size_of_the_bones_where_it_is_asked_to(anatomy: Anatomy) -> None:
    """An exponent of 1: heads of 27 mm go with 27 / 24 of the BMD that those of 24 mm have."""
    assert Person(bmd_g_cm2=0.8).wanted_bmd(27.0) == 0.8
    assert Person(bmd_g_cm2=0.8, size_exponent=1.0).wanted_bmd(27.0) == pytest.approx(0.9)
    assert Person(size_exponent=1.0).wanted_bmd(27.0) is None
    person = draw_person(replace(PAPER, size_exponent=2.0), seed=0, patient=0)
    tissue = fill_tissue(anatomy, np.random.default_rng([5, 1]), person=person)
    size = np.mean(list(anatomy.head_radii_mm.values())) / 24.0
    assert measure(anatomy, tissue) == pytest.approx(person.bmd_g_cm2 * size**2, rel=1e-3)


def test_a_thicker_cortex_at_one_bmd_has_a_lighter_inside(anatomy: Anatomy) -> None:
    thin, thick = (
        fill_tissue(anatomy, np.random.default_rng([5, 1]), person=Person(bmd_g_cm2=0.8, cortex=c)) for c in (0.75, 1.3)
    )
    assert thick.mineral_factor < thin.mineral_factor


def test_texture_is_stronger_by_its_factor_and_leaves_the_mean(anatomy: Anatomy) -> None:
    inner = {}
    for texture in (0.0, 0.5, 1.5):
        bone = prepare_bone(anatomy, "femur_L", np.random.default_rng(0), Person(texture=texture))
        assert bone is not None
        inner[texture] = bone.mineral(1.0)[0][(bone.depth > 8) & (bone.shaft == 0)]
    weak, strong = inner[0.5] - inner[0.0], inner[1.5] - inner[0.0]
    is_free = inner[1.5] > 10  # where the least density of 5 does not bind
    assert is_free.mean() > 0.99
    np.testing.assert_allclose(strong[is_free], 3 * weak[is_free], atol=2.0)  # mg/cm3
    assert strong.std() > 20
    assert inner[1.5].mean() == pytest.approx(inner[0.0].mean(), rel=0.02)


def test_spongy_bone_is_uneven_by_the_patients_factor(anatomy: Anatomy) -> None:
    """A factor of 0: as dense in the trochanter as along the compressive trabeculae; of 2: twice as far apart."""
    spongy = {}
    for pattern in (0.0, 1.0, 2.0):
        bone = prepare_bone(anatomy, "femur_L", np.random.default_rng(0), Person(pattern=pattern))
        assert bone is not None
        spongy[pattern] = np.asarray(bone.spongy, float)
    assert np.ptp(spongy[0.0]) == 0
    assert np.ptp(spongy[1.0]) > 150  # mg/cm3
    dense = spongy[2.0] > 20  # the least that is left of it
    np.testing.assert_allclose((spongy[2.0] - spongy[0.0])[dense], 2 * (spongy[1.0] - spongy[0.0])[dense], atol=1e-3)


def test_the_pattern_leaves_what_else_is_drawn_of_a_patient() -> None:
    plain, spread = (draw_person(replace(PAPER, pattern_spread=p), seed=0, patient=3) for p in (0.0, 0.6))
    assert plain.pattern == 1.0
    assert spread.pattern != 1.0
    assert replace(spread, pattern=1.0) == plain


def test_a_person_without_demands_changes_nothing(anatomy: Anatomy) -> None:
    assert draw_person(Population(), 0, 0) == Person()
    plain, asked = (fill_tissue(anatomy, np.random.default_rng(2), None, *p) for p in ((), (Person(),)))
    np.testing.assert_array_equal(plain.density(), asked.density())


def test_a_man_is_larger_than_a_woman_of_the_same_draws() -> None:
    heads = [draw_anatomy(np.random.default_rng(0), 6.0, sex).head_radii_mm["L"] for sex in ("female", "male")]
    assert heads[1] > heads[0] + 1.0


@pytest.mark.parametrize(
    "values",
    [
        {"bmd_mean_g_cm2": 76.0},
        {"female_share": 1.2},
        {"cortex_spread": -0.1},
        {"pattern_spread": 1.5},
        {"size_exponent": -1.0},
        {"bmd_mean_g_cm2": 0.8, "bmd_sd_g_cm2": 0.01, "female_share": 0.5},
    ],
)
def test_settings_that_make_no_sense_are_named(values) -> None:
    with pytest.raises(ValueError, match=list(values)[-1] if len(values) == 1 else "bmd_sd_g_cm2"):
        replace(Population(), **values)
