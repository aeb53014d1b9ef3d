"""Bone between thick slices: nearer to what was scanned than interpolation is, and the scan's own mass."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.registration.slice_sharpening import sharpen_slices

FINE, RATIO = 1.5, 4


@pytest.fixture(scope="module")
def scanned() -> tuple[Volume, Volume, LabelMap]:
    """The true density, a scan of it in slices of 6 mm, and labels as fine as the truth."""
    grid = Grid((80, 48, 48), [FINE] * 3, [-30, -40, 100], np.eye(3))
    z, y, x = np.indices(grid.shape)
    mask = (y - 24) ** 2 + (x - 20 - z / 10) ** 2 + ((z - 41) / 2.3) ** 2 < 14**2
    rng = np.random.default_rng(3)
    texture = ndimage.gaussian_filter(rng.normal(size=grid.shape), 1.5)
    true = np.where(mask, 300 + 100 * texture / texture.std() * (ndimage.binary_erosion(mask)), 0)
    true[mask & ~ndimage.binary_erosion(mask)] = 900
    seen = np.where(mask, true, 35.0)
    seen = ndimage.gaussian_filter(seen, (0, 0.4, 0.4)).reshape(-1, RATIO, 48, 48).mean(1)
    thick = [FINE, FINE, FINE * RATIO]
    origin = grid.origin_mm + np.array([0, 0, FINE * (RATIO - 1) / 2])
    scan = Volume(seen.astype(np.float32), Grid(seen.shape, thick, origin, np.eye(3)), "density_mg_cm3")
    labels = LabelMap(mask.astype(np.uint8), grid, {"pelvis": 1})
    return Volume(true.astype(np.float32), grid, "density_mg_cm3"), scan, labels


def rmse(found: Volume, true: Volume, labels: LabelMap) -> float:
    where = labels.resample(found.grid).array > 0
    return float(np.sqrt(((found.array - true.resample(found.grid).array)[where] ** 2).mean()))


def test_nearer_to_the_truth_than_interpolation(scanned):
    true, scan, labels = scanned
    sharp = sharpen_slices(scan, labels)
    plain = scan.resample(sharp.grid)
    assert rmse(sharp, true, labels) < 0.85 * rmse(plain, true, labels)
    where = labels.resample(sharp.grid).array > 0
    mass, old, expected = (float(v.array[where].sum()) for v in (sharp, plain, true.resample(sharp.grid)))
    assert abs(mass / expected - 1) < 0.6 * abs(old / expected - 1)


def test_bone_fades_less_beyond_its_labels(scanned):
    _, scan, labels = scanned
    sharp = sharpen_slices(scan, labels)
    beside = labels.resample(sharp.grid).array == 0
    plain = scan.resample(sharp.grid).array
    excess = (np.maximum(v - 40, 0)[beside].sum() for v in (sharp.array, plain))
    assert next(excess) < 0.55 * next(excess)


def test_labels_that_end_within_the_bone_are_not_trusted(scanned):
    _, scan, labels = scanned
    small = ndimage.binary_erosion(labels.array > 0).astype(np.uint8)
    assert sharpen_slices(scan, LabelMap(small, labels.grid, labels.values)) is scan


def test_labels_of_nothing_or_of_less_than_a_slice_stay_as_they_are(scanned):
    _, scan, labels = scanned
    nothing = LabelMap(np.zeros_like(labels.array), labels.grid, labels.values)
    assert sharpen_slices(scan, nothing) is scan
    low = labels.crop((slice(40, 43), slice(None), slice(None)))
    assert sharpen_slices(scan, low) is scan


def test_thin_slices_and_turned_labels_stay_as_they_are(scanned):
    true, scan, labels = scanned
    assert sharpen_slices(true, labels) is true
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = LabelMap(labels.array, Grid(labels.grid.shape, [FINE] * 3, labels.grid.origin_mm, turn), labels.values)
    assert sharpen_slices(scan, turned) is scan
