"""CT of a digital patient: calibration phantom, couch, blur, slices, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.simulation.procedural_anatomy import Anatomy
from bmdkit.simulation.tissue import FAT_MARROW_HU, Tissue

ROD_DENSITIES_MG_CM3 = (200.0, 100.0, 0.0, 50.0, 150.0)
"""One order of the rods of a B-MAS200; the slab itself is made of the 0 mg/cm3 material."""

_ROD_SPACING_MM, _ROD_RADIUS_MM = 42.0, 9.5
_SLAB_HALF_WIDTH_MM, _SLAB_THICK_MM = 116.0, 32.0
_GAS_HU, _AIR_HU, _METAL_HU = -880.0, -1000.0, 3071.0


@dataclass(frozen=True)
class ScanSettings:
    """How the scanner is set.

    Attributes:
        slice_mm: Slice thickness and distance.
        matrix: Rows and columns.
        field_mm: Field of view; it grows when the patient and the phantom do not fit.
        prone: The patient lies on the belly, the phantom before it.
        implant: A metal stem in the patient's right hip.
        phantom: Whether the calibration phantom lies between the patient and the couch.
    """

    slice_mm: float = 3.0
    matrix: int = 256
    field_mm: float = 400.0
    prone: bool = False
    implant: bool = False
    phantom: bool = True


@dataclass(frozen=True, eq=False)
class Scan:
    """A CT and what is true of it.

    Attributes:
        hu: int16, axis-aligned with LPS.
        reference: The density that a perfect calibration of the noise-free scan shows, on the same grid.
        hu_per_mg_cm3, hu_at_zero: The true line.
        rods_xy_mm: Density of each rod as text -> its centre's x and y, LPS; the rods run along z. Empty without a
            phantom.
    """

    hu: Volume
    reference: Volume
    hu_per_mg_cm3: float
    hu_at_zero: float
    rods_xy_mm: dict[str, list[float]]


def draw_line(rng: np.random.Generator) -> tuple[float, float]:
    """HU per mg/cm3, and HU at 0 mg/cm3, of a scanner that day."""
    return float(rng.normal(1.25, 0.08)), float(rng.normal(4, 6))


def compute_tissue_hu(tissue: Tissue, slope: float, offset: float) -> np.ndarray:
    """HU of a patient on the tissue's own grid, as a scanner of that line shows them: no blur, no noise."""
    bone = np.sum(list(tissue.bone_share.values()), axis=0, dtype=np.float32)
    hu = np.where(tissue.gas, np.float32(_GAS_HU), tissue.soft_hu)
    return (1 - bone) * hu + bone * offset + slope * tissue.density() + FAT_MARROW_HU * tissue.fat_marrow


def scan_patient(anatomy: Anatomy, tissue: Tissue, settings: ScanSettings, rng: np.random.Generator) -> Scan:
    """Scan a patient on a couch, with a phantom of five rods unless the settings leave it out."""
    slope, offset = draw_line(rng)
    hu = compute_tissue_hu(tissue, slope, offset)
    grid = _make_ct_grid(anatomy, settings)
    hu = _resample(hu - _AIR_HU, anatomy.grid, grid) + _AIR_HU
    plane, cover, rods = _draw_phantom_and_couch(hu, grid, slope, offset, settings, rng)
    hu = hu * (1 - cover) + plane * cover
    if settings.implant:
        _put_implant(hu, grid, anatomy)
    hu = ndimage.gaussian_filter(hu, (0, 0.6 / grid.spacing_mm[1], 0.6 / grid.spacing_mm[0]))
    reference = Volume(((hu - offset) / slope).astype(np.float32), grid, "density_mg_cm3")
    noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), (0, 0.6, 0.6))
    hu += noise * (rng.uniform(8, 18) / noise.std())
    stored = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return Scan(Volume(stored, grid, "hu"), reference, slope, offset, rods)


def _make_ct_grid(anatomy: Anatomy, settings: ScanSettings) -> Grid:
    """Slices over the whole anatomy; in each the patient with room for the phantom and the couch."""
    body = anatomy.depths["body"] > 0
    grid = anatomy.grid
    j, i = np.flatnonzero(body.any((0, 2))), np.flatnonzero(body.any((0, 1)))
    left_right = grid.origin_mm[0] + i[[0, -1]] * grid.spacing_mm[0]
    front_back = grid.origin_mm[1] + j[[0, -1]] * grid.spacing_mm[1]
    front_back = front_back + ((-75, 8) if settings.prone else (-8, 75))
    field = max(settings.field_mm, np.ptp(left_right) + 16, np.ptp(front_back))
    step = field / settings.matrix
    extent = grid.shape[0] * grid.spacing_mm[2]
    slices = int(extent / settings.slice_mm)
    first = grid.origin_mm[2] + (extent - grid.spacing_mm[2] - (slices - 1) * settings.slice_mm) / 2
    corner = np.array([left_right.mean(), front_back.mean()]) - (settings.matrix - 1) / 2 * step
    origin = np.round([*corner, first], 3)
    return Grid(
        (slices, settings.matrix, settings.matrix), np.array([step, step, settings.slice_mm]), origin, np.eye(3)
    )


def _resample(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Values averaged over the target's slice thickness, interpolated in the plane; 0 beyond the source, float32."""
    for axis, index, width in (
        (0, 2, target.spacing_mm[2]),
        (1, 1, source.spacing_mm[1]),
        (2, 0, source.spacing_mm[0]),
    ):
        a = source.origin_mm[index] + np.arange(source.shape[axis]) * source.spacing_mm[index]
        b = target.origin_mm[index] + np.arange(target.shape[axis]) * target.spacing_mm[index]
        half = source.spacing_mm[index] / 2
        high = np.minimum(b[:, None] + width / 2, a + half)
        low = np.maximum(b[:, None] - width / 2, a - half)
        weights = (np.clip(high - low, 0, None) / width).astype(np.float32)
        if axis == 0:
            weights /= np.maximum(weights.sum(1, keepdims=True), 1e-6)  # the body goes on beyond the last slice
        values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(values)


def _draw_phantom_and_couch(hu, grid: Grid, slope: float, offset: float, settings: ScanSettings, rng):
    """HU of the phantom and the couch in every slice, the share of each pixel that they fill, and the rods' places."""
    fine = 4
    sub = (np.arange(fine) + 0.5) / fine - 0.5
    x = grid.origin_mm[0] + (np.arange(grid.shape[2])[:, None] + sub).ravel() * grid.spacing_mm[0]
    y = grid.origin_mm[1] + (np.arange(grid.shape[1])[:, None] + sub).ravel() * grid.spacing_mm[1]
    away = -1.0 if settings.prone else 1.0  # from the skin to the couch, along y
    middle = grid.centre()[0] + rng.normal(0, 10)
    bend = 1 / rng.uniform(700, 3000)  # the slab is slightly hollow, towards the patient
    rows = grid.origin_mm[1] + np.arange(grid.shape[1]) * grid.spacing_mm[1]
    columns = grid.origin_mm[0] + np.arange(grid.shape[2]) * grid.spacing_mm[0]
    solid = (hu > -300).any(axis=0)
    skin = np.where(solid, away * rows[:, None], -np.inf).max(axis=0)  # along `away`
    under = np.abs(columns - middle) < _SLAB_HALF_WIDTH_MM
    top = np.max(skin[under] + bend / 2 * (columns[under] - middle) ** 2) + rng.uniform(2, 6)
    across = x[None] - middle
    below = away * y[:, None] - top + bend / 2 * across**2  # mm into the slab
    plane = np.full(below.shape, np.nan, np.float32)
    order = ROD_DENSITIES_MG_CM3 if rng.random() < 0.5 else ROD_DENSITIES_MG_CM3[::-1]
    rods = {}
    if settings.phantom:
        plane[(np.abs(across) < _SLAB_HALF_WIDTH_MM) & (below > 0) & (below < _SLAB_THICK_MM)] = offset
        for n, density in enumerate(order):
            at = (n - 2) * _ROD_SPACING_MM
            depth = top + _SLAB_THICK_MM / 2 - bend / 2 * at**2
            plane[(across - at) ** 2 + (away * y[:, None] - depth) ** 2 < _ROD_RADIUS_MM**2] = offset + slope * density
            rods[f"{density:g}"] = [float(middle + at), float(away * depth)]
    couch = away * y[:, None] - top - (_SLAB_THICK_MM if settings.phantom else 0.0) + 0 * across
    plane[(couch > 4) & (couch < 20) & (np.abs(across) < 205)] = -880.0
    plane[(couch > 4) & (couch < 6) & (np.abs(across) < 205)] = 60.0
    blocks = plane.reshape(grid.shape[1], fine, grid.shape[2], fine)
    cover = np.isfinite(blocks).mean(axis=(1, 3)).astype(np.float32)
    total = np.nansum(blocks, axis=(1, 3)) / fine**2
    return (total / np.maximum(cover, 1e-6)).astype(np.float32), cover, rods


def _put_implant(hu: np.ndarray, grid: Grid, anatomy: Anatomy) -> None:
    """A metal head and stem in place of the right hip joint, in place."""
    head, low = anatomy.heads_mm["R"], anatomy.landmarks["R"]["shaft_2cm"]
    for place in np.linspace(0, 1, 60):
        middle = head + place * (low - head)
        radius = 13.0 if place < 0.12 else 6.5
        index = grid.indices(middle)
        reach = np.ceil(radius / grid.spacing_mm[::-1]).astype(int) + 1
        first = [max(int(c) - int(r), 0) for c, r in zip(index, reach, strict=True)]
        last = [int(c) + int(r) + 2 for c, r in zip(index, reach, strict=True)]
        box = (slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2]))
        part = hu[box]
        where = grid.crop(box).points(
            np.stack(np.meshgrid(*[np.arange(n) for n in part.shape], indexing="ij"), axis=-1)
        )
        part[np.linalg.norm(where - middle, axis=-1) < radius] = _METAL_HU
