"""Prediction slice by slice: the same as keeping all draws, whatever is computed together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from labelled_ct import labelled_ct

from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.errors import PreflightError
from bmdkit.models.bayesian_unet import BayesianUNet, UNetConfig
from bmdkit.models.folded_unet import FoldedUNet
from bmdkit.segmentation import dropout_prediction as module
from bmdkit.segmentation.body import body_box
from bmdkit.segmentation.dropout_prediction import drawing_network, moments, predict, working_factor
from bmdkit.segmentation.model import CLASSES, SegmentationModel, computes_bfloat16, require_precision
from bmdkit.segmentation.settings import PredictConfig

ROUNDING = 1e-5  # single precision, convolutions summed in another order


def drawn_model(pixel_mm: float | None = None) -> SegmentationModel:
    torch.manual_seed(1)
    network = BayesianUNet(len(CLASSES), UNetConfig(filters=4)).eval()
    network.last.weight.data *= 20  # so that there is something to be unsure of
    return SegmentationModel(network, pixel_mm, (-150.0, 350.0), torch.device("cpu"))


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    return drawn_model()


@pytest.fixture(scope="module")
def ct() -> Volume:
    return labelled_ct(slices=5)[0]


@torch.inference_mode()
@pytest.mark.parametrize("form", [lambda network: network, FoldedUNet], ids=["network", "folded"])
def test_running_mean_and_variance_are_those_of_all_draws(model, form):
    images = torch.rand(2, 1, 32, 48)
    mean, variance = moments(form(model.network), images, [4, 9], passes=7, seed=3)
    draws = []
    for draw in range(7):
        rngs = [module._generator(3, number, draw, images.device) for number in (4, 9)]
        draws.append(torch.softmax(model.network(images, rngs), 1).double())
    draws = torch.stack(draws)
    torch.testing.assert_close(mean.double(), draws.mean(0), rtol=0, atol=ROUNDING)
    naive = draws.var(0, correction=1).mean(1, keepdim=True)
    torch.testing.assert_close(variance.double(), naive, rtol=0, atol=ROUNDING)
    assert float(naive.max()) > 0.01


def test_a_processor_draws_from_the_folded_network_and_finds_what_the_network_itself_does(model, ct, monkeypatch):
    config = PredictConfig(passes=3, entropy=True, batch_slices=2)
    assert isinstance(drawing_network(model), FoldedUNet)
    folded = predict(ct, model, config, seed=5)
    monkeypatch.setattr(module, "drawing_network", lambda model, precision: model.network)
    whole = predict(ct, model, config, seed=5)
    np.testing.assert_allclose(folded.variance.array, whole.variance.array, atol=ROUNDING)
    np.testing.assert_allclose(folded.entropy.array, whole.entropy.array, atol=10 * ROUNDING)
    assert np.mean(folded.labels.array != whole.labels.array) < 1e-3  # ties of two classes


def test_half_the_bits_are_refused_where_they_would_be_imitated(model, ct, monkeypatch):
    config = PredictConfig(passes=2, precision="bf16")
    for name in dir(torch.cpu):
        if name.startswith("_is_"):
            monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert not computes_bfloat16()
    with pytest.raises(PreflightError, match="BMD-SEG-006"):
        predict(ct, model, config)
    monkeypatch.setattr("bmdkit.segmentation.model.computes_bfloat16", lambda: True)
    found, exact = predict(ct, model, config, seed=5), predict(ct, model, PredictConfig(passes=2), seed=5)
    assert 0 < float(np.abs(found.variance.array - exact.variance.array).mean()) < 0.05 * exact.variance.array.mean()
    assert np.mean(found.labels.array != exact.labels.array) < 0.02
    with pytest.raises(PreflightError, match="BMD-SEG-006"):
        require_precision("bf16", torch.device("cuda"))  # where it has not been measured


@pytest.mark.parametrize("batch", [2, 5, 64])
def test_the_number_of_slices_computed_together_changes_nothing(model, ct, batch, monkeypatch):
    monkeypatch.setattr(module, "drawing_network", lambda model, precision: model.network)  # as on a GPU
    one = predict(ct, model, PredictConfig(passes=3, batch_slices=1, entropy=True), seed=5)
    other = predict(ct, model, PredictConfig(passes=3, batch_slices=batch, entropy=True), seed=5)
    np.testing.assert_allclose(one.variance.array, other.variance.array, atol=ROUNDING)
    np.testing.assert_allclose(one.entropy.array, other.entropy.array, atol=10 * ROUNDING)
    assert np.mean(one.labels.array != other.labels.array) < 1e-3  # ties of two classes


def test_no_more_slices_than_asked_for_are_ever_computed_together(model, ct, monkeypatch):
    monkeypatch.setattr(module, "drawing_network", lambda model, precision: model.network)  # as on a GPU
    seen = []

    def spy(network, images, slices, **rest):
        seen.append(len(images))
        return moments(network, images, slices, **rest)

    monkeypatch.setattr(module, "moments", spy)
    predict(ct, model, PredictConfig(passes=1, batch_slices=2))
    assert max(seen) == 2
    assert sum(seen) == ct.grid.shape[0]


def test_a_seed_gives_the_same_bytes_and_another_seed_others(model, ct):
    config = PredictConfig(passes=2)
    first, again, other = (predict(ct, model, config, seed=seed).variance.array for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_variance_is_that_of_probabilities_and_entropy_below_its_bound(model, ct):
    found = predict(ct, model, PredictConfig(passes=4, entropy=True))
    assert 0 <= found.variance.array.min() < found.variance.array.max() <= 0.25 * 4 / 3
    assert 0 <= found.entropy.array.min() < found.entropy.array.max() <= np.log(len(CLASSES)) + ROUNDING
    assert found.labels.grid == ct.grid
    assert found.variance.quantity == "uncertainty"


def test_one_draw_has_no_variance(model, ct):
    found = predict(ct, model, PredictConfig(passes=1))
    assert found.variance is None
    assert found.labels.array.shape == ct.array.shape


@torch.inference_mode()
@pytest.mark.parametrize("passes", [2, 3, 5])
def test_the_variance_of_few_draws_is_on_average_that_of_many(model, passes):
    """Divided by the number of draws it would be a half, two thirds, four fifths of it."""
    images = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    many = float(moments(model.network, images, [4, 9], passes=60, seed=0)[1].mean())
    few = np.mean(
        [float(moments(model.network, images, [4, 9], passes=passes, seed=seed)[1].mean()) for seed in range(1, 13)]
    )
    assert few == pytest.approx(many, rel=0.15)  # twelve estimates of 3072 pixels that share what is dropped


def test_skipped_slices_lie_between_their_neighbours(model, ct):
    every = predict(ct, model, PredictConfig(passes=2, crop_to_body=False)).variance.array
    second = predict(ct, model, PredictConfig(passes=2, slice_stride=2, crop_to_body=False)).variance.array
    np.testing.assert_allclose(second[::2], every[::2], atol=ROUNDING)
    np.testing.assert_allclose(second[1], (every[0] + every[2]) / 2, atol=ROUNDING)


def test_coarser_pixels_cover_the_whole_slice(model, ct):
    found = predict(ct, model, PredictConfig(passes=2, pixel_mm=2 * ct.grid.spacing_mm[0], crop_to_body=False))
    assert found.labels.array.shape == ct.array.shape
    assert (found.variance.array.max(axis=0) > 0).all()


def test_a_slice_that_is_not_square_keeps_its_proportions(model):
    volume, _ = labelled_ct(slices=2)
    box = (slice(0, 2), slice(8, 50), slice(0, 64))
    part = volume.crop(box)
    found = predict(part, model, PredictConfig(passes=1, crop_to_body=False))
    assert found.labels.array.shape == (2, 42, 64)


def test_only_the_body_is_segmented(model):
    volume, _ = labelled_ct(slices=3)
    wide = np.pad(volume.array, ((0, 0), (30, 30), (30, 30)), constant_values=-1000)
    grid = Grid(wide.shape, volume.grid.spacing_mm, [0, 0, 0], np.eye(3))
    found = predict(Volume(wide, grid, "hu"), model, PredictConfig(passes=2))
    assert found.variance.array[:, :20].max() == 0
    assert found.variance.array[:, 60:64, 60:64].max() > 0


def test_pixels_of_nearly_the_right_size_stay_as_they_are():
    grid = Grid((2, 4, 4), [1.5, 1.5, 3.0], [0, 0, 0], np.eye(3))
    assert [working_factor(grid, pixel) for pixel in (None, 1.5, 1.3, 1.75)] == [1.0] * 4
    assert working_factor(grid, 0.75) == 2.0


def test_the_box_holds_the_body_and_leaves_the_couch_out():
    volume, labels = labelled_ct(slices=6)
    array = np.pad(volume.array, ((0, 0), (0, 40), (30, 30)), constant_values=-1000)
    array[:, 95:97] = 100  # 10 mm thick
    ct = Volume(array, Grid(array.shape, volume.grid.spacing_mm, [0, 0, 0], np.eye(3)), "hu")
    box = body_box(ct)
    body = np.zeros(array.shape, bool)
    body[:, :64, 30:-30] = labels.array > 0
    assert body[box].sum() == body.sum()
    assert box[1].stop < 90


def test_a_ct_of_air_is_taken_whole():
    ct = Volume(np.full((2, 40, 40), -1000, np.int16), Grid((2, 40, 40), [1, 1, 1], [0, 0, 0], np.eye(3)), "hu")
    assert body_box(ct) == (slice(0, 2), slice(0, 40), slice(0, 40))


@pytest.mark.parametrize(
    "wrong", [{"passes": 0}, {"slice_stride": 0}, {"batch_slices": 0}, {"pixel_mm": 0.0}, {"precision": "half"}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PredictConfig(**wrong)
