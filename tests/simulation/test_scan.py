"""The simulated CT holds the truth that it is given."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.core.volume import Volume
from bmdkit.regions.volumetric import proximal_femur, volumetric_bmd
from bmdkit.simulation.procedural_anatomy import Anatomy
from bmdkit.simulation.scan import ROD_DENSITIES_MG_CM3, Scan, ScanSettings, scan_patient
from bmdkit.simulation.tissue import Tissue


@pytest.fixture(scope="module", params=[False, True], ids=["supine", "prone"])
def scan(request, anatomy: Anatomy, tissue: Tissue) -> Scan:
    settings = ScanSettings(slice_mm=5.0, matrix=256, prone=request.param)
    return scan_patient(anatomy, tissue, settings, np.random.default_rng(3))


def rod_means(scan: Scan) -> dict[float, float]:
    grid = scan.hu.grid
    j, i = np.meshgrid(*[np.arange(n) for n in grid.shape[1:]], indexing="ij", sparse=True)
    x, y = grid.origin_mm[0] + i * grid.spacing_mm[0], grid.origin_mm[1] + j * grid.spacing_mm[1]
    return {
        float(name): float(scan.hu.array[:, ((x - cx) ** 2 + (y - cy) ** 2 < 36)].mean())
        for name, (cx, cy) in scan.rods_xy_mm.items()
    }


def test_rods_lie_on_the_true_line(scan: Scan) -> None:
    means = rod_means(scan)
    assert sorted(means) == sorted(ROD_DENSITIES_MG_CM3)
    for density, hu in means.items():
        assert hu == pytest.approx(scan.hu_at_zero + scan.hu_per_mg_cm3 * density, abs=1.0)


def test_the_phantom_lies_under_the_patient(scan: Scan, anatomy: Anatomy, request) -> None:
    prone = request.node.callspec.params["scan"]
    y = np.mean([centre[1] for centre in scan.rods_xy_mm.values()])
    body = np.flatnonzero((anatomy.depths["body"] > 0).any((0, 2)))
    front, back = anatomy.grid.origin_mm[1] + body[[0, -1]] * anatomy.grid.spacing_mm[1]
    assert (y < front) if prone else (y > back)


def test_the_scan_is_the_anatomy_in_the_same_place(scan: Scan, anatomy: Anatomy, tissue: Tissue) -> None:
    density = Volume(tissue.density(), anatomy.grid, "density_mg_cm3").resample(scan.hu.grid)
    bone = density.array > 0
    assert np.corrcoef(density.array[bone], scan.reference.array[bone])[0, 1] > 0.9
    assert scan.hu.array[:, 0, 0] == pytest.approx(-1000, abs=90)


@pytest.mark.parametrize("side", ["L", "R"])
def test_reference_density_of_the_region_is_near_the_physical(scan: Scan, anatomy, tissue, side: str) -> None:
    labels = anatomy.labels()
    mask = proximal_femur(labels, anatomy.landmarks[side])
    physical = volumetric_bmd(Volume(tissue.density(), anatomy.grid, "density_mg_cm3"), mask, labels.grid)
    measured = volumetric_bmd(scan.reference, mask, labels.grid)
    assert 200 < physical < 450
    assert 0.75 * physical < measured < 1.02 * physical  # blur takes mineral out of the mask


def test_an_implant_is_metal_at_the_right_hip(anatomy: Anatomy, tissue: Tissue) -> None:
    settings = ScanSettings(slice_mm=5.0, matrix=256, implant=True)
    scan = scan_patient(anatomy, tissue, settings, np.random.default_rng(3))
    at = np.argwhere(scan.hu.array >= 2900)
    assert len(at) > 100
    assert np.linalg.norm(scan.hu.grid.points(at) - anatomy.heads_mm["R"], axis=1).min() < 15
