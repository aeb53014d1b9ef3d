"""Find a phantom's rods in a CT, and measure them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.calibration.axial_slices import AxialStack, resample_plane
from bmdkit.calibration.discs import find_discs, make_disc_points
from bmdkit.calibration.line import Rod
from bmdkit.calibration.pattern import Pattern, identify, match_pattern
from bmdkit.calibration.phantom_models import PhantomModel
from bmdkit.calibration.rows import link_discs

_LOG = logging.getLogger(__name__)
_PIXEL_MM = 1.0
_BLOCKS_MM = (24.0, 8.0)  # the second, if the phantom reaches through too few slices for the first
_ENOUGH_BLOCKS = 3  # that agree, and the search ends
_AGREE_MM = 12.0
_SHIFT_MM = 4.0  # of the phantom from one block of slices to the next
_CORE = 0.75  # of a rod's radius: what is measured
_LEAST_SLICES = 3
_TRIM = 0.2  # of the slices, at either end
_LEAST_CONTRAST_HU = 40.0  # of a rod whose edge can be told
_SLICE_RESIDUAL = 0.08  # of the densities' span: a slice whose rods are worse does not show them all


@dataclass(frozen=True, eq=False)
class Trace:
    """The rods of one phantom through the slices of a stack.

    Attributes:
        model, rods: Phantom, and those of its rods that are in view.
        radius_mm: Radius of the rods.
        centres: (slices, n, 2), rows and columns of the stack, pixels.
    """

    model: PhantomModel
    rods: tuple[int, ...]
    radius_mm: float
    centres: np.ndarray


def find_phantom(stack: AxialStack, models: Sequence[PhantomModel]) -> Trace | None:
    """Find a phantom anywhere in a scan and follow it through its slices; None if there is none.

    Blocks of slices are searched one by one, spread over the scan, until several agree.
    """
    for thickness_mm in _BLOCKS_MM:
        blocks = stack.blocks(thickness_mm)
        best = _search(stack, blocks, models)
        if best is not None:
            number, pattern = best
            _LOG.debug("%s: rods %s in slices %d-%d", pattern.model.name, pattern.rods, *blocks[number])
            return _follow(stack, blocks, number, pattern)
    return None


def _search(
    stack: AxialStack, blocks: list[tuple[int, int]], models: Sequence[PhantomModel]
) -> tuple[int, Pattern] | None:
    """The block, and the pattern in it, that most other blocks agree with."""
    found: list[tuple[int, Pattern]] = []
    smallest, largest = min(model.diameter_mm[0] for model in models), max(model.diameter_mm[1] for model in models)
    radii = (smallest / 2 / _PIXEL_MM, largest / 2 / _PIXEL_MM)
    longest = 2 * max(model.spacing_mm[1] for model in models) / _PIXEL_MM
    best = None
    for number in _spread(len(blocks)):
        image = _plane(stack, blocks[number])
        discs = find_discs(image, radii)
        links = link_discs(image, discs, longest)
        patterns = [p for model in models if (p := match_pattern(image, discs, links, model, _PIXEL_MM)) is not None]
        if not patterns:
            continue
        found.append((number, max(patterns, key=lambda p: p.score)))
        best = max(found, key=lambda entry: (len(_agreeing(found, entry[1])), entry[1].score))
        if len(_agreeing(found, best[1])) >= _ENOUGH_BLOCKS:
            break
    return best


def measure_rods(stack: AxialStack, trace: Trace) -> tuple[Rod, ...]:
    """Measure the eroded core of every rod on the slices that show them all, robustly.

    Returns:
        In the order of the trace; empty if fewer than three slices show the rods.
    """
    spacing = np.array(stack.spacing_mm[1:])
    core = make_disc_points(_CORE * trace.radius_mm, step=float(min(spacing.min(), trace.radius_mm / 6))) / spacing
    values = np.full((len(stack.array), len(trace.rods)), np.nan)
    spread = np.full_like(values, np.inf)
    limits = np.array(stack.array.shape[1:]) - 1
    for z, centres in enumerate(trace.centres):
        points = centres[:, None, :] + core
        index = np.rint(points).astype(int)
        if (index < 0).any() or (index > limits).any():
            index = np.clip(index, 0, limits)
            outside = (np.rint(points).astype(int) != index).any(axis=(1, 2))
        else:
            outside = np.zeros(len(centres), bool)
        sample = stack.array[z][index[..., 0], index[..., 1]].astype(np.float64)
        values[z], spread[z] = sample.mean(axis=1), sample.std(axis=1)
        values[z, outside] = np.nan
    good = _slices_that_show(values, spread, trace)
    if good.sum() < _LEAST_SLICES:
        return ()
    kept = np.sort(values[good], axis=0)
    cut = int(_TRIM * len(kept))
    mean = kept[cut : len(kept) - cut].mean(axis=0)
    middle = np.flatnonzero(good)[good.sum() // 2]
    places = stack.points(np.c_[np.full(len(trace.rods), middle), trace.centres[middle]])
    return tuple(
        Rod(
            float(trace.model.densities_mg_cm3[rod]),
            float(mean[n]),
            (round(float(places[n, 0]), 3), round(float(places[n, 1]), 3), round(float(places[n, 2]), 3)),
            round(float(kept[:, n].std()), 3),
            int(good.sum()),
        )
        for n, rod in enumerate(trace.rods)
    )


def _slices_that_show(values: np.ndarray, spread: np.ndarray, trace: Trace) -> np.ndarray:
    """Slices on which the rods fit a line, its slope is that of the others and the cores are as uniform as usual."""
    nothing = (0.0, 0.0, np.inf, 0.0)
    lines = np.array([identify(row, trace.rods, trace.model) if np.isfinite(row).all() else nothing for row in values])
    fits = (lines[:, 2] <= _SLICE_RESIDUAL * trace.model.span_mg_cm3) & (lines[:, 3] > 0.9)
    if not fits.any():
        return fits
    slope, zero = np.median(lines[fits, 0]), np.median(lines[fits, 1])
    fits &= (np.abs(lines[:, 0] / slope - 1) < 0.15) & (np.abs(lines[:, 1] - zero) < 25)
    usual = np.median(spread[fits], axis=0) if fits.any() else np.zeros(spread.shape[1])
    return fits & (spread <= 2 * usual + 5).all(axis=1)


def _follow(stack: AxialStack, blocks: list[tuple[int, int]], number: int, pattern: Pattern) -> Trace:
    """Follow the pattern from block to block, both ways, and take a straight course through its shifts."""
    reach = np.arange(-_SHIFT_MM, _SHIFT_MM + 0.1, 1.0) / _PIXEL_MM
    window = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    disc = make_disc_points(0.85 * pattern.radius, step=1.5)
    allowed = max(0.5 * float(np.std(pattern.hu)), 30.0)
    found_at: dict[int, np.ndarray] = {}
    for way in (range(number, -1, -1), range(number + 1, len(blocks))):
        shift = found_at.get(number, np.zeros(2))
        for n in way:
            image = _plane(stack, blocks[n])
            points = pattern.centres[None, :, None, :] + (shift + window)[:, None, None, :] + disc
            values = ndimage.map_coordinates(image, np.moveaxis(points, -1, 0), order=1, mode="constant", cval=-1000)
            error = np.sqrt(((values - pattern.hu[None, :, None]) ** 2).mean(axis=(1, 2)))
            if error.min() < allowed:
                shift = shift + window[np.argmin(error)]
                found_at[n] = shift
    order = sorted(found_at)
    middles = np.array([(blocks[n][0] + blocks[n][1] - 1) / 2 for n in order])
    found = np.array([found_at[n] for n in order]).reshape(-1, 2)
    z = np.arange(len(stack.array))
    course = np.stack([_straight(middles, found[:, n], z) for n in (0, 1)], axis=-1)
    centres = (pattern.centres[None] + course[:, None, :]) * _PIXEL_MM / np.array(stack.spacing_mm[1:])
    radius_mm = _edge_radius(_plane(stack, blocks[number]), pattern) * _PIXEL_MM
    return Trace(pattern.model, pattern.rods, radius_mm, centres)


def _edge_radius(image: np.ndarray, pattern: Pattern) -> float:
    """The rods' radius, pixels: where the profile from core to surroundings is halfway; the median over the rods."""
    radii = np.arange(0.3, 1.6, 0.02) * pattern.radius
    angles = np.arange(72) * 2 * np.pi / 72
    ring = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    found = []
    for centre, core in zip(pattern.centres, pattern.hu, strict=True):
        points = centre + radii[:, None, None] * ring
        values = ndimage.map_coordinates(image, np.moveaxis(points, -1, 0), order=1, mode="nearest")
        profile = np.median(values, axis=1)
        around = np.median(profile[radii > 1.35 * pattern.radius])
        if abs(core - around) < _LEAST_CONTRAST_HU:
            continue
        beyond = (profile - around) / (core - around) < 0.5
        if beyond.any():
            found.append(radii[np.argmax(beyond)])
    return float(np.median(found)) if found else pattern.radius


def _straight(at: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values at other places of a robust line (Theil-Sen) through some; constant through fewer than three."""
    if len(at) == 0:
        return np.zeros(len(wanted))
    if len(at) < 3:
        return np.full(len(wanted), np.median(values))
    first, second = np.triu_indices(len(at), 1)
    slope = np.median((values[second] - values[first]) / (at[second] - at[first]))
    return np.median(values - slope * at) + slope * wanted


def _plane(stack: AxialStack, block: tuple[int, int]) -> np.ndarray:
    return resample_plane(stack.summary(*block), stack.spacing_mm[1:], _PIXEL_MM)


def _spread(count: int) -> list[int]:
    """0 .. count - 1, far from each other first."""
    order: list[int] = []
    step = 1 << max(count - 1, 1).bit_length()
    while step >= 1:
        order += [n for n in range(step // 2, count, step) if n not in order]
        step //= 2
    return order + [n for n in range(count) if n not in order]


def _agreeing(found: list[tuple[int, Pattern]], pattern: Pattern) -> list[Pattern]:
    """The patterns of the same rods near the same place."""
    return [
        other
        for _, other in found
        if other.model == pattern.model
        and other.rods == pattern.rods
        and np.abs(other.centres - pattern.centres).max() * _PIXEL_MM < _AGREE_MM
    ]
