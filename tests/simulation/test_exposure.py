"""The exposure against Beer's law and tabulated coefficients."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.simulation.exposure import ENERGIES_KEV, ExposureSettings, attenuation, expose, primary_signal, spectrum

QUIET = ExposureSettings(scatter_to_primary=0.0, blur_mm=0.0, photons=0.0)


def test_mixtures_follow_the_elements_of_the_table() -> None:
    """Water at 30 and 60 keV: 0.3756 and 0.2059 cm2/g. Source: Hubbell and Seltzer, NISTIR 5632."""
    np.testing.assert_allclose(attenuation("water", np.array([30.0, 60.0])), [0.3756, 0.2059], rtol=2e-3)
    assert (np.diff(attenuation("hydroxyapatite", ENERGIES_KEV)) < 0).all()


def test_spectrum_is_normalised_and_below_the_tube_voltage() -> None:
    for kvp in (70.0, 83.0, 120.0):
        energies, shares = spectrum(kvp)
        assert shares.sum() == pytest.approx(1)
        assert energies.max() < kvp
    soft, hard = (energies @ shares for energies, shares in (spectrum(60.0), spectrum(120.0)))
    assert hard > soft + 10


def test_no_patient_is_one_and_beer_law_holds_for_each_energy() -> None:
    nothing = np.zeros((3, 4))
    np.testing.assert_allclose(primary_signal(nothing, nothing, 80), 1, rtol=1e-6)
    energies, shares = spectrum(80.0)
    expected = (
        shares * np.exp(-20 * attenuation("water", energies) - 1.5 * attenuation("hydroxyapatite", energies))
    ).sum()
    np.testing.assert_allclose(primary_signal(20.0, 1.5, 80), expected, rtol=1e-5)


def test_the_beam_hardens() -> None:
    first, second = -np.log(primary_signal(np.array([10.0, 20.0]), 0.0, 80))
    assert second < 2 * first


@pytest.mark.parametrize("pixel_mm", [0.5, 1.5])
def test_noise_has_the_variance_of_its_photons(pixel_mm: float) -> None:
    """A larger pixel catches more of them."""
    soft = np.full((200, 200), 15.0)
    settings = ExposureSettings(scatter_to_primary=0.0, blur_mm=0.0, photons=1e4)
    noisy = expose(soft, 0 * soft, pixel_mm, settings, np.random.default_rng(0))
    clean = expose(soft, 0 * soft, pixel_mm, QUIET)
    variance_error = 4 / np.sqrt(soft.size)  # four standard errors of a variance, relative
    assert noisy.mean() == pytest.approx(clean.mean(), rel=0.01)
    assert noisy.var() == pytest.approx(clean.mean() / (1e4 * (pixel_mm / 0.5) ** 2), rel=variance_error)


def test_scatter_is_the_share_of_the_mean_and_smooth() -> None:
    soft = np.full((300, 300), 20.0)
    soft[:, 150:] = 10.0
    settings = ExposureSettings(scatter_to_primary=0.3, blur_mm=0.0, photons=0.0)
    scatter = expose(soft, 0 * soft, 0.5, settings) - expose(soft, 0 * soft, 0.5, QUIET)
    assert scatter.sum() == pytest.approx(0.3 * primary_signal(soft, 0 * soft, 80).sum(), rel=0.02)
    assert np.abs(np.diff(scatter, axis=1)).max() < 0.01 * np.ptp(scatter) + 1e-4


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="kvp"):
        ExposureSettings(kvp=10)
    with pytest.raises(ValueError, match="photons"):
        ExposureSettings(photons=-1)
