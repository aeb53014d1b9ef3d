"""Polyenergetic exposure of water and bone mineral, with scatter, blur and quantum noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from bmdkit.core.grid import frozen

ENERGIES_KEV = frozen(np.array([20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0]))

ATTENUATION_CM2_G = {
    "H": frozen(np.array([0.3695, 0.3570, 0.3458, 0.3355, 0.3260, 0.3091, 0.2944, 0.2651])),
    "O": frozen(np.array([0.8651, 0.3779, 0.2585, 0.2132, 0.1907, 0.1678, 0.1551, 0.1361])),
    "Al": frozen(np.array([3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378])),
    "P": frozen(np.array([5.352, 1.700, 0.8096, 0.4916, 0.3494, 0.2324, 0.1865, 0.1432])),
    "Ca": frozen(np.array([13.06, 4.080, 1.830, 1.019, 0.6578, 0.3656, 0.2571, 0.1674])),
}
"""Mass attenuation coefficients at `ENERGIES_KEV`. Source: Hubbell and Seltzer, NISTIR 5632 (NIST, 2004)."""

MASS_FRACTIONS = {
    "water": {"H": 0.1119, "O": 0.8881},
    "hydroxyapatite": {"H": 0.0020, "O": 0.4141, "P": 0.1850, "Ca": 0.3989},
    "aluminium": {"Al": 1.0},
}
_ALUMINIUM_G_CM3 = 2.699
_COUNTED_PIXEL_MM = 0.5


@dataclass(frozen=True)
class ExposureSettings:
    """Tube, grid and detector.

    Attributes:
        kvp: Tube voltage.
        filter_mm_al: Filtration of the beam, mm of aluminium.
        scatter_to_primary: Scatter behind the anti-scatter grid, as a share of the mean signal.
        scatter_mm: Width (standard deviation) of the scatter's blur at the detector.
        blur_mm: Blur by focus and detector, standard deviation.
        photons: Mean count of an unattenuated pixel of 0.5 mm, that of others is as their area; 0 for no noise.
    """

    kvp: float = 80.0
    filter_mm_al: float = 3.5
    scatter_to_primary: float = 0.25
    scatter_mm: float = 35.0
    blur_mm: float = 0.25
    photons: float = 4e5

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 40 <= self.kvp <= 150:
            raise ValueError(f"kvp: expected 40 to 150, got {self.kvp}")
        for name in ("filter_mm_al", "scatter_to_primary", "blur_mm", "photons"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected no negative value, got {getattr(self, name)}")

    def count(self, pixel_mm: float) -> float:
        """Mean number of photons of an unattenuated pixel."""
        return self.photons * (pixel_mm / _COUNTED_PIXEL_MM) ** 2


def attenuation(material: str, energy_kev: np.ndarray | float) -> np.ndarray:
    """Mass attenuation coefficient of a material of `MASS_FRACTIONS`, cm2/g, log-log interpolated."""
    energy = np.log(np.asarray(energy_kev, float))
    total = np.zeros(energy.shape)
    for element, fraction in MASS_FRACTIONS[material].items():
        total += fraction * np.exp(np.interp(energy, np.log(ENERGIES_KEV), np.log(ATTENUATION_CM2_G[element])))
    return total


@lru_cache(maxsize=32)
def spectrum(kvp: float, filter_mm_al: float = 3.5) -> tuple[np.ndarray, np.ndarray]:
    """Energies (keV) and their share of the signal of an energy-integrating detector without a patient.

    Source: Kramers 1923, doi 10.1080/14786442308565244, behind an aluminium filter.
    """
    edges = np.arange(20.0, kvp + 1e-9, 5.0) if kvp % 5 == 0 else np.linspace(20.0, kvp, int((kvp - 20) / 5) + 2)
    energy = 0.5 * (edges[1:] + edges[:-1])
    filtered = np.exp(-attenuation("aluminium", energy) * _ALUMINIUM_G_CM3 * filter_mm_al / 10)
    share = (kvp - energy) * filtered
    return frozen(energy), frozen(share / share.sum())


def primary_signal(soft_g_cm2: np.ndarray, bone_g_cm2: np.ndarray, kvp: float, filter_mm_al: float = 3.5) -> np.ndarray:
    """Detector signal without scatter, 1 where there is no patient.

    Args:
        soft_g_cm2: Areal density of water-like tissue, any shape.
        bone_g_cm2: Areal density of hydroxyapatite, the same shape.
        kvp: Tube voltage.
        filter_mm_al: Filtration of the beam, mm of aluminium.
    """
    energies, shares = spectrum(float(kvp), float(filter_mm_al))
    water = attenuation("water", energies).astype(np.float32)
    mineral = attenuation("hydroxyapatite", energies).astype(np.float32)
    soft, bone = np.asarray(soft_g_cm2, np.float32), np.asarray(bone_g_cm2, np.float32)
    total = np.zeros(np.broadcast_shapes(soft.shape, bone.shape), np.float32)
    for share, w, m in zip(shares, water, mineral, strict=True):
        total += np.float32(share) * np.exp(-w * soft - m * bone)
    return total


def expose(
    soft_g_cm2: np.ndarray,
    bone_g_cm2: np.ndarray,
    pixel_mm: float,
    settings: ExposureSettings,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Detector signal of one radiograph, 1 where there is no patient and no scatter.

    Args:
        soft_g_cm2: (rows, columns), areal density of water-like tissue along each ray.
        bone_g_cm2: (rows, columns), areal density of hydroxyapatite.
        pixel_mm: Pixel size at the detector.
        settings: Settings of tube and detector.
        rng: Random generator of the noise; without one there is none.

    Returns:
        (rows, columns), float32, proportional to the dose at the detector; darker film means more.
    """
    primary = primary_signal(soft_g_cm2, bone_g_cm2, settings.kvp, settings.filter_mm_al)
    signal = (
        ndimage.gaussian_filter(primary, settings.blur_mm / pixel_mm, mode="nearest") if settings.blur_mm else primary
    )
    if settings.scatter_to_primary:
        signal = signal + settings.scatter_to_primary * _wide_blur(primary, settings.scatter_mm / pixel_mm)
    if rng is not None and settings.photons:
        count = settings.count(pixel_mm)
        signal = rng.poisson(signal * count) / count
    return signal.astype(np.float32)


def _wide_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur so wide that it is computed on blocks of pixels."""
    factor = max(int(sigma / 8), 1)
    if factor == 1:
        return ndimage.gaussian_filter(image, sigma, mode="nearest")
    rows, columns = image.shape
    padded = np.pad(image, ((0, -rows % factor), (0, -columns % factor)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor).mean(axis=(1, 3))
    blurred = ndimage.gaussian_filter(blocks, sigma / factor, mode="nearest")
    offset = -(factor - 1) / 2 / factor
    return ndimage.affine_transform(
        blurred, np.full(2, 1 / factor), offset=offset, output_shape=image.shape, order=1, mode="nearest"
    )
