"""A digital patient is the same whatever voxels his anatomy is drawn on."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bmdkit.core.anatomy import BODIES, LABEL_VALUES, SIDES, Side
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.pairs import PairConfig
from bmdkit.dataset.samples import PairDataset, read_pairs
from bmdkit.dataset.simulated_pairs import simulate_pairs
from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig
from bmdkit.io.results import read_csv
from bmdkit.regions.areal import areal_bmd, weigh_areal
from bmdkit.regions.volumetric import proximal_femur, volumetric_bmd
from bmdkit.simulation.finer_voxels import average_parts, refine_depth
from bmdkit.simulation.population import Person
from bmdkit.simulation.procedural_anatomy import Anatomy, draw_anatomy
from bmdkit.simulation.radiography import areal_densities, draw_geometry, draw_poses, mineral_channels, soft_channels
from bmdkit.simulation.settings import SimulateConfig
from bmdkit.simulation.simulated_cohort import simulate_cohort
from bmdkit.simulation.tissue import Tissue, fill_tissue
from bmdkit.simulation.true_bmd import FineFemur

PIXEL_MM = 1.5
FACTOR = 0.9


@dataclass(frozen=True, eq=False)
class Drawn:
    anatomy: Anatomy
    tissue: Tissue
    soft_g_cm2: np.ndarray
    bones_g_cm2: dict[str, np.ndarray]


def draw(grid_mm: float) -> Drawn:
    anatomy = draw_anatomy(np.random.default_rng([1, 1]), grid_mm)
    tissue = fill_tissue(anatomy, np.random.default_rng([1, 2]), FACTOR)
    rng = np.random.default_rng([1, 3])
    geometry = draw_geometry(rng, PIXEL_MM)
    poses = draw_poses(anatomy, "standing", geometry, rng)
    soft, bones = areal_densities(soft_channels(anatomy, tissue, rng), mineral_channels(tissue), poses, geometry)
    return Drawn(anatomy, tissue, soft, bones)


@pytest.fixture(scope="module")
def by_grid() -> dict[float, Drawn]:
    return {grid_mm: draw(grid_mm) for grid_mm in (1.5, 3.0)}


@pytest.mark.parametrize("side", SIDES)
def test_bmd_is_the_same(by_grid: dict[float, Drawn], side: Side) -> None:
    """Within 1 %; measured in the crisp masks of these grids, areal BMD differs by 5 % and density by 4 %."""
    fine, coarse = (drawn.tissue.measure_bmd(drawn.anatomy, side) for drawn in by_grid.values())
    np.testing.assert_allclose(coarse, fine, rtol=0.01)


@pytest.mark.parametrize("body", BODIES)
def test_radiographs_show_the_same_bones_as_sharply(by_grid: dict[float, Drawn], body: str) -> None:
    """As much mineral, the same picture, and as much of it that is fine: a blurred cortex looks like more bone."""
    fine, coarse = (drawn.bones_g_cm2[body] for drawn in by_grid.values())
    assert coarse.sum() == pytest.approx(fine.sum(), rel=0.02)
    shown = ndimage.binary_erosion(fine > 0.2, iterations=2)
    assert np.abs(coarse - fine)[shown].mean() < 0.05 * fine[shown].mean()
    edges = [(image - ndimage.gaussian_filter(image, 2.0))[shown].std() for image in (fine, coarse)]
    assert edges[1] == pytest.approx(edges[0], rel=0.06)


def test_radiographs_show_the_same_soft_tissue(by_grid: dict[float, Drawn]) -> None:
    fine, coarse = (ndimage.gaussian_filter(drawn.soft_g_cm2, 3.0) for drawn in by_grid.values())
    assert np.abs(coarse - fine)[fine > 5].mean() < 0.02 * fine[fine > 5].mean()


def test_a_population_has_the_bmd_that_is_asked_for_on_any_grid(by_grid: dict[float, Drawn]) -> None:
    factors = {}
    for grid_mm, drawn in by_grid.items():
        tissue = fill_tissue(drawn.anatomy, np.random.default_rng([1, 2]), person=Person(bmd_g_cm2=0.8))
        found = [tissue.measure_bmd(drawn.anatomy, side)[0] for side in SIDES]
        assert np.mean(found) == pytest.approx(0.8, rel=1e-3)
        factors[grid_mm] = tissue.mineral_factor
    assert factors[3.0] == pytest.approx(factors[1.5], rel=0.02)


def make_even(density: float, anatomy: Anatomy, side: Side) -> np.ndarray:
    """Mineral of a femur of one density throughout, in the voxels of its box."""
    box = FineFemur(anatomy, side).box
    parts = 8
    depth, _ = refine_depth(anatomy.depths[f"femur_{side}"][box], anatomy.grid.crop(box), parts)
    return density * average_parts((depth > 0).astype(np.float32), parts)


def test_the_density_of_an_even_bone_is_found_whatever_its_surface_cuts(by_grid: dict[float, Drawn]) -> None:
    anatomy = by_grid[3.0].anatomy
    hip, mineral = FineFemur(anatomy, "L"), make_even(400.0, anatomy, "L")
    assert hip.measure_volumetric(mineral) == pytest.approx(400, rel=0.005)
    assert hip.measure_volumetric(0 * mineral) == hip.measure_areal(0 * mineral) == 0


def test_both_measures_are_those_of_the_regions_on_fine_voxels(by_grid: dict[float, Drawn]) -> None:
    """On 0.75 mm voxels, cut again here: the areal BMD and the mean density of the public functions."""
    anatomy, tissue = by_grid[3.0].anatomy, by_grid[3.0].tissue
    depth, grid = refine_depth(anatomy.depths["femur_R"], anatomy.grid, 4)
    inside = depth > 0
    share = average_parts(inside.astype(np.float32), 4)
    held = np.divide(tissue.mineral["femur_R"], share, out=np.zeros_like(share), where=share > 0)
    for axis in range(3):
        held = np.repeat(held, 4, axis)
    density = Volume(np.where(inside, held, 0).astype(np.float32), grid, "density_mg_cm3")
    labels = LabelMap(inside * np.uint8(LABEL_VALUES["femur_R"]), grid, LABEL_VALUES)
    areal = areal_bmd(density, labels, anatomy.landmarks["R"]).abmd_g_cm2
    volumetric = volumetric_bmd(density, proximal_femur(labels, anatomy.landmarks["R"]))
    np.testing.assert_allclose(tissue.measure_bmd(anatomy, "R"), (areal, volumetric), rtol=0.003)


def test_the_weights_of_areal_bmd_sum_to_it(by_grid: dict[float, Drawn]) -> None:
    anatomy = by_grid[3.0].anatomy
    mask = anatomy.labels().mask("femur_L")
    values = np.random.default_rng(0).uniform(100, 900, mask.shape).astype(np.float32)
    expected = areal_bmd(Volume(values, anatomy.grid, "density_mg_cm3"), mask, anatomy.landmarks["L"]).abmd_g_cm2
    weights = weigh_areal(mask, anatomy.grid, anatomy.landmarks["L"])
    assert (weights * values[mask]).sum() == pytest.approx(expected, rel=1e-6)


def test_voxels_hold_the_mean_of_their_parts_and_parts_the_depth_between() -> None:
    grid = Grid((3, 4, 5), np.full(3, 3.0), np.array([1.0, 2.0, 3.0]), np.eye(3))
    where = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    plane = (grid.points(where) @ [1.0, -2.0, 0.5]).astype(np.float32)
    fine, fine_grid = refine_depth(plane, grid, 2)
    where = np.stack(np.meshgrid(*[np.arange(n) for n in fine_grid.shape], indexing="ij"), axis=-1)
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(fine[inner], (fine_grid.points(where) @ [1.0, -2.0, 0.5])[inner], atol=1e-4)
    np.testing.assert_allclose(average_parts(fine, 2)[inner], plane[inner], atol=1e-4)
    np.testing.assert_array_equal(average_parts(fine, 1), fine)


def test_pairs_and_a_cohort_of_one_seed_are_of_the_same_patient(tmp_path: Path) -> None:
    """The same BMD and DXA value, and the same radiograph, on whatever grid each was drawn."""
    shared = {"poses": ("standing",), "pixel_mm": 2.0}
    simulate_cohort(tmp_path / "cohort", SimulateConfig(patients=1, slice_mm=6.0, grid_mm=2.0, **shared), seed=4)
    pairs = SimulatePairsConfig(count=2, grid_mm=3.0, pairs=PairConfig(rows=96, columns=48), **shared)
    simulate_pairs(tmp_path / "pairs", pairs, seed=4)
    with (tmp_path / "pairs" / "manifest.csv").open(newline="") as handle:
        told = {row["side"]: float(row["dxa_bmd_g_cm2"]) for row in csv.DictReader(handle) if row["dataset"] == "B"}
    for row in read_csv(tmp_path / "cohort" / "cohort.csv"):
        assert told[row["side"]] == pytest.approx(float(row["dxa_bmd"]), rel=0.01)
    assert len(PairDataset.from_pairs(read_pairs(tmp_path / "pairs", "B"))) == 2


def test_targets_show_all_mineral_of_the_proximal_femur(by_grid: dict[float, Drawn]) -> None:
    """Voxels at the surface are part of the region, which is cut by the same planes."""
    anatomy, tissue = by_grid[3.0].anatomy, by_grid[3.0].tissue
    whole = proximal_femur(tissue.held_labels(anatomy.grid), anatomy.landmarks["L"])
    crisp = proximal_femur(anatomy.labels(), anatomy.landmarks["L"])
    mineral = tissue.mineral["femur_L"]
    _, volumetric = tissue.measure_bmd(anatomy, "L")
    volume = tissue.bone_share["femur_L"][whole].sum()
    assert mineral[whole].sum() / volume == pytest.approx(volumetric, rel=0.01)
    assert mineral[crisp].sum() < 0.92 * mineral[whole].sum()
