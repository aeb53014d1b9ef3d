import numpy as np
import pytest

from bmdkit.evaluation.image_metrics import mean_above
from bmdkit.training.bone_density import BmdConfig, BmdLine, Projections, fit_line, means_above


def test_means_are_those_over_each_threshold():
    images = np.random.default_rng(0).random((3, 6, 5))
    thresholds = [0.0, 0.25, 0.5, images[1, 2, 2], 2.0]
    expected = [[mean_above(image, t) for t in thresholds] for image in images]
    np.testing.assert_allclose(means_above(images, thresholds), expected)


def regions(densities, noise=0.08):
    """A region of constant density in a border of half as much as it takes to disturb the mean."""
    rng = np.random.default_rng(0)
    images = np.zeros((len(densities), 20, 20))
    for image, density in zip(images, densities, strict=True):
        image[5:15, 5:15] = density
        image[0, : rng.integers(5, 20)] = noise
    return images


def projections(targets, predictions, bmd, patients=None) -> Projections:
    who = tuple(patients or (f"p{n}" for n in range(len(bmd))))
    return Projections(targets, predictions, np.asarray(bmd, float), who)


def test_the_line_is_found_and_the_threshold_keeps_the_noise_out():
    densities = np.linspace(0.5, 1.5, 8)
    images = regions(densities)
    line = fit_line("dxa", projections(images, images, 0.8 * densities + 0.1), BmdConfig(), largest_g_cm2=2.0)
    assert line.slope == pytest.approx(0.8)
    assert line.intercept == pytest.approx(0.1)
    assert line.pcc == pytest.approx(1.0)
    assert 0.08 < line.threshold_g_cm2 <= 0.5
    assert BmdLine.from_dict(line.to_dict()) == line


def test_the_line_can_be_fitted_to_predictions_or_targets():
    densities = np.linspace(0.5, 1.5, 6)
    targets, predictions = regions(densities), regions(0.5 * densities + 0.3)
    train = projections(targets, predictions, densities)
    for fit_on, slope in (("predictions", 2.0), ("targets", 1.0)):
        line = fit_line("qct", train, BmdConfig(fit_on=fit_on), largest_g_cm2=2.0)
        assert line.slope == pytest.approx(slope)


def test_the_sweep_goes_on_below_its_end_where_the_best_threshold_is_there():
    """A rim of 1 % of the largest value shrinks as the density grows: only a threshold below it sees that."""
    densities = np.linspace(0.5, 1.5, 6)
    images = np.zeros((6, 20, 20))
    images[:, 5:15, 5:15] = 0.99 + np.random.default_rng(0).uniform(0, 0.001, (6, 1, 1))
    for image, density in zip(images, densities, strict=True):
        image[0, : round(10 * (2 - density))] = 0.01
    line = fit_line("dxa", projections(images, images, densities), BmdConfig(), largest_g_cm2=1.0)
    assert 0 < line.threshold_g_cm2 <= 0.01
    assert line.pcc > 0.99
    tried = [threshold for threshold, _ in line.sweep]
    assert tried == sorted(set(tried))
    assert dict(line.sweep)[line.threshold_g_cm2] == line.pcc


def test_the_sweep_goes_on_above_its_end_where_the_best_threshold_is_there():
    """Density shows above half of the largest value alone; below it stands a bright area that varies at random."""
    rng = np.random.default_rng(0)
    densities = np.linspace(0.6, 0.9, 6)
    images = np.zeros((6, 20, 20))
    for image, density in zip(images, densities, strict=True):
        image[5:15, 5:15] = density
        image[0, : rng.integers(1, 20)] = 0.5
        image[1] = 0.45 * rng.uniform(0.9, 1.1)
    line = fit_line("dxa", projections(images, images, densities), BmdConfig(), largest_g_cm2=1.0)
    assert 0.5 < line.threshold_g_cm2 <= 0.6
    assert line.pcc == pytest.approx(1.0)
    assert line.sweep[-1][0] > line.threshold_g_cm2


def test_a_sweep_that_does_not_bind_is_that_of_the_settings():
    densities = np.linspace(0.5, 1.5, 8)
    images = regions(densities)
    line = fit_line("dxa", projections(images, images, densities), BmdConfig(), largest_g_cm2=2.0)
    np.testing.assert_allclose([threshold for threshold, _ in line.sweep], np.linspace(0.04, 0.60, 57))
    assert dict(line.sweep)[line.threshold_g_cm2] == line.pcc
    fixed = BmdConfig(lowest=0.1, highest=0.1, count=1)
    line = fit_line("dxa", projections(images, images, densities), fixed, largest_g_cm2=2.0)
    assert [threshold for threshold, _ in line.sweep] == [pytest.approx(0.2)]


def test_two_patients_give_a_line_but_choose_no_threshold():
    images = regions([0.5, 0.5, 1.0])
    line = fit_line("dxa", projections(images, images, [0.5, 0.5, 1.0], "aab"), BmdConfig(), largest_g_cm2=2.0)
    assert (line.threshold_g_cm2, line.pcc, line.patients, line.images) == (0.159, None, 2, 3)
    assert line.slope == pytest.approx(1.0)


def test_unknown_values_are_left_out_and_one_patient_gives_no_line():
    images = regions([0.5, 1.0, 1.5])
    nan = float("nan")
    config = BmdConfig()
    line = fit_line("dxa", projections(images, images, [0.5, nan, 1.5], "abc"), config, largest_g_cm2=2.0)
    assert line.images == 2
    assert fit_line("dxa", projections(images, images, [0.5, nan, 0.7], "aba"), config, largest_g_cm2=2.0) is None
    assert fit_line("dxa", projections(images, images, [nan] * 3, "abc"), config, largest_g_cm2=2.0) is None


def softened(images):
    """As a network draws them: a wide rim of little density where there is none."""
    soft = images.copy()
    rng = np.random.default_rng(1)
    for image in soft:
        image[3:17, 3:17] = np.maximum(image[3:17, 3:17], 0.2 * rng.uniform(0.5, 1.0))
    return soft


def test_the_threshold_is_chosen_on_the_tune_patients_and_the_line_is_of_the_others():
    """On true projections a low threshold is as good as any; on predicted ones it has to lie above their rims."""
    targets, tuned = regions(densities := np.linspace(0.5, 1.5, 8)), regions(others := np.linspace(0.55, 1.45, 6))
    train = projections(targets, softened(targets), 0.8 * densities + 0.1)
    tune = projections(tuned, softened(tuned), 0.5 * others)
    config = BmdConfig(threshold_on="predictions")
    line = fit_line("dxa", train, config, largest_g_cm2=2.0, tune=tune)
    assert 0.19 <= line.threshold_g_cm2 <= 0.55
    assert line.pcc == pytest.approx(1.0)
    assert line.slope == pytest.approx(0.8, rel=0.01)
    assert (line.images, line.patients) == (8, 8)
    assert line.threshold_of_targets_g_cm2 < 0.19
    assert BmdLine.from_dict(line.to_dict()) == line
    on_targets = fit_line("dxa", train, BmdConfig(), largest_g_cm2=2.0, tune=tune)
    assert on_targets.threshold_g_cm2 < 0.19
    few = projections(tuned[:2], softened(tuned)[:2], others[:2])
    assert fit_line("dxa", train, config, largest_g_cm2=2.0, tune=few).sweep != line.sweep
