"""Learning to segment tiny CTs: it learns, can be stopped and gone on with, and its run is of use."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from click.testing import CliRunner
from dicom_validity import list_errors
from labelled_ct import labelled_ct, write_cohort, write_pairs
from safetensors.torch import load_file

from bmdkit.cli.main import group
from bmdkit.config import load
from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.volume import LabelMap
from bmdkit.errors import CaseError, PreflightError
from bmdkit.io.label_maps import read_labels, write_labels
from bmdkit.io.nifti import read_nifti
from bmdkit.io.volumes import write_volume
from bmdkit.segmentation.body import body_box
from bmdkit.segmentation.model import CLASSES, load_model
from bmdkit.simulation.simulated_cohort import SimulateConfig, simulate_cohort
from bmdkit.training.augment import AugmentConfig
from bmdkit.training.labelled_slices import SliceStore, class_map, find_labelled, split_labelled
from bmdkit.training.loop import Loop
from bmdkit.training.segmentation import augment_slices, smooth_displacement, train_segmentation
from bmdkit.training.segmentation_settings import SegmentationTrainingConfig

RECIPE = Path(__file__).parents[2] / "pipelines/train/segmentation-test.yaml"


def config(*overrides: str) -> SegmentationTrainingConfig:
    return load(SegmentationTrainingConfig, recipe=RECIPE, overrides=overrides)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Five CTs of three patients."""
    return write_pairs(tmp_path_factory.mktemp("pairs"), 5)


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "bones"
    train_segmentation(pairs, out, config(), device="cpu")
    return out


def test_it_learns_and_says_how_well_on_who_was_held_out(trained, pairs, tmp_path):
    metrics = json.loads((trained / "metrics.json").read_text())
    before = train_segmentation(pairs, tmp_path / "run", config("loop.epochs=1", "optimiser.lr=1e-9"), device="cpu")
    assert metrics["split"] == before["split"] == "test"
    for name in CLASSES[1:]:
        assert metrics["structures"][name]["dice"] > before["structures"][name]["dice"] + 0.2
        assert metrics["structures"][name]["dice"] > 0.7
        assert metrics["structures"][name]["assd_mm"] < 6.0  # voxels of 5 x 5 x 6 mm
    rows = list(csv.DictReader((trained / "structures.csv").open()))
    assert {row["structure"] for row in rows} == set(CLASSES[1:])
    assert all(float(row["uncertainty"]) > 0 for row in rows)
    assert (trained / "uncertainty_dice.png").stat().st_size > 1000
    assert not (trained / "slices").exists()


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(pairs, tmp_path, monkeypatch):
    short = config("loop.epochs=2", "loop.checkpoint_epochs=1")
    train_segmentation(pairs, tmp_path / "whole", short, device="cpu")
    end_epoch = Loop._end_epoch

    def stop(self, *arguments):
        row = end_epoch(self, *arguments)
        if self.epoch == 2:
            raise KeyboardInterrupt
        return row

    monkeypatch.setattr(Loop, "_end_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        train_segmentation(pairs, tmp_path / "broken", short, device="cpu")
    monkeypatch.undo()
    assert not (tmp_path / "broken/metrics.json").exists()
    train_segmentation(pairs, tmp_path / "broken", short, device="cpu")
    one, other = (load_file(tmp_path / name / "segmentation.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_fine_tuning_starts_from_the_weights_of_a_run(trained, pairs, tmp_path):
    still = config("loop.epochs=1", "optimiser.lr=1e-12", "fold=all")
    metrics = train_segmentation(pairs, tmp_path / "run", still, device="cpu", init_from=trained)
    assert metrics["split"] == "train"
    assert metrics["structures"]["femur"]["dice"] > 0.7
    with pytest.raises(PreflightError, match="BMD-TRN-006"):
        train_segmentation(pairs, tmp_path / "other", config("network.filters=4"), device="cpu", init_from=trained)


def test_patients_never_lie_on_both_sides(pairs):
    found = find_labelled(pairs, seed=0)
    assert [ct.patient_id for ct in found] == ["p0", "p0", "p1", "p1", "p2"]
    for fold in {ct.fold for ct in found}:
        train, test = split_labelled(found, fold)
        assert not {ct.patient_id for ct in train} & {ct.patient_id for ct in test}
    with pytest.raises(PreflightError, match="BMD-TRN-004"):
        split_labelled(found, 9)


def test_a_cohort_is_read_too(tmp_path):
    found = find_labelled(write_cohort(tmp_path, 2), seed=0)
    assert [(ct.name, ct.labels.name) for ct in found] == [("p0", "p0.nii.gz"), ("p1", "p1.nii.gz")]


def test_what_cannot_be_learnt_from_is_refused(tmp_path):
    with pytest.raises(PreflightError, match="BMD-TRN-020"):
        train_segmentation(tmp_path, tmp_path / "run", config(), device="cpu")
    write_pairs(tmp_path / "odd", 1)
    (tmp_path / "odd/labels/p0__a.nii.gz").rename(tmp_path / "odd/labels/p9.nii.gz")
    with pytest.raises(PreflightError, match=r"BMD-TRN-020.*p0__a"):
        find_labelled(tmp_path / "odd", seed=0)


def test_labels_beside_the_ct_are_refused(tmp_path):
    volume, labels = labelled_ct()
    empty = LabelMap(np.zeros_like(labels.array), labels.grid, LABEL_VALUES)
    write_volume(tmp_path / "images/a.nii.gz", volume)
    write_labels(tmp_path / "labels/a.nii.gz", empty)
    with pytest.raises(PreflightError, match="BMD-TRN-021"):
        train_segmentation(tmp_path, tmp_path / "run", config("fold=all"), device="cpu")


def test_slices_on_disk_are_those_of_the_ct(pairs, tmp_path):
    (first, *_) = find_labelled(pairs, seed=0)
    volume, labels = first.read()
    box = body_box(volume)
    store = SliceStore([first], tmp_path, pixel_mm=None, window_hu=(-150.0, 350.0))
    assert len(store) == box[0].stop - box[0].start
    batch = store.take(torch.tensor([2, 10]), torch.device("cpu"))
    assert tuple(batch["image"].shape[2:]) == store.shape
    shape = [s.stop - s.start for s in box[1:]]
    assert all(n % 16 == 0 and n - m < 16 for n, m in zip(store.shape, shape, strict=True))
    middle = (slice(None), *(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(store.shape, shape, strict=True)))
    classes = class_map(labels)[box][[2, 10]]
    for value, share in enumerate(batch["shares"].movedim(1, 0).numpy(), start=1):
        np.testing.assert_array_equal(share[middle], classes == value)
    expected = np.clip((volume.array[box][[2, 10]] + 150) / 500, 0, 1)
    np.testing.assert_allclose(batch["image"][:, 0].numpy()[middle], expected, atol=0.5 / 255 + 1e-6)
    assert batch["image"].sum() == batch["image"][:, 0][middle].sum()


def test_a_bone_keeps_its_area_on_coarser_pixels(pairs, tmp_path):
    (first, *_) = find_labelled(pairs, seed=0)
    volume, _ = first.read()
    own = float(volume.grid.spacing_mm[0])
    stores = [SliceStore([first], tmp_path / str(k), pixel_mm=k * own, window_hu=(-150.0, 350.0)) for k in (1, 2)]
    fine, coarse = (store.take(torch.arange(len(store)), torch.device("cpu"))["shares"] for store in stores)
    areas = [k**2 * one.sum((0, 2, 3)) for k, one in zip((1, 2), (fine, coarse), strict=True)]
    torch.testing.assert_close(areas[1], areas[0], rtol=0.02, atol=0.0)
    assert float(((coarse > 0.05) & (coarse < 0.95)).float().sum()) > 0  # pixels at the edge


@pytest.mark.parametrize("warp", [0.0, 0.03])
def test_slices_and_labels_are_moved_alike(warp):
    rng = torch.Generator().manual_seed(0)
    shares = torch.zeros(6, 3, 64, 64)
    shares[:, 2, 20:40, 24:50] = 1.0
    image = shares[:, 2:].clone()
    still = AugmentConfig(brightness=0.0, contrast=0.0)
    moved = augment_slices({"image": image, "shares": shares}, still, 0.0, rng, warp=warp)
    assert not torch.equal(moved["shares"], shares)
    torch.testing.assert_close(moved["shares"][:, 2:], moved["image"], atol=1e-6, rtol=0.0)
    assert not moved["shares"][:, :2].any()


def test_a_warp_bends_smoothly_and_as_far_as_asked():
    moved = smooth_displacement(200, (60, 80), 0.03, torch.Generator().manual_seed(0))
    assert moved.shape == (200, 60, 80, 2)
    corners = moved[:, [0, 0, -1, -1], [0, -1, 0, -1]]  # drawn themselves; half a side is 1
    assert abs(float(corners.std()) - 0.06) < 0.006
    assert float(moved.diff(dim=2).abs().max()) < 0.03  # a pixel is 0.025: neighbours hardly ever change places
    assert float((moved.diff(dim=2)[..., 0] < -0.025).float().mean()) < 1e-3


def test_segment_on_the_command_line(trained, tmp_path):
    volume, truth = labelled_ct(11)
    write_volume(tmp_path / "ct.nii.gz", volume)
    arguments = ["segment", tmp_path / "ct.nii.gz", "--device", "cpu", "-q"]

    def run(*extra) -> int:
        result = CliRunner().invoke(group, [str(a) for a in (*arguments, *extra)])
        return getattr(result.exception, "exit_code", result.exit_code)

    assert run("--out", tmp_path / "out", "--model", trained, "--entropy") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"labels.nii.gz", "labels.json", "uncertainty.nii.gz", "uncertainty.json", "entropy.nii.gz"}
    labels = read_labels(tmp_path / "out/labels.nii.gz")
    assert json.loads((tmp_path / "out/labels.json").read_text()) == LABEL_VALUES
    assert labels.grid.spacing_mm.max() <= 1.5 * 1.2
    coarse = labels.resample(truth.grid)
    for name in LABEL_VALUES:  # each femur under its own name
        one, other = coarse.mask(name), truth.mask(name)
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.7
    variance, grid, _ = read_nifti(tmp_path / "out/uncertainty.nii.gz")
    assert grid.is_near(volume.grid)
    assert 0 < variance.max() <= 0.25
    uncertainty = json.loads((tmp_path / "out/uncertainty.json").read_text())
    assert set(uncertainty) == set(LABEL_VALUES)
    assert run("--out", tmp_path / "again", "--set", f"segmentation.model={trained}") == 0
    for name in ("labels.nii.gz", "uncertainty.nii.gz"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert run("--out", tmp_path / "none", "--model", tmp_path) == 4  # no run
    assert run("--out", tmp_path / "none", "--model", trained, "--totalsegmentator") == 2


def test_without_a_model_the_network_that_comes_with_bmdkit_labels_a_hip(tmp_path):
    hip = SimulateConfig(patients=1, poses=("standing",), sides=("L",), slice_mm=6.0, pixel_mm=1.5, grid_mm=3.0)
    simulate_cohort(tmp_path / "hips", hip, seed=1)
    arguments = [
        "segment",
        tmp_path / "hips/ct/sim000",
        "--device",
        "cpu",
        "-q",
        "--passes",
        "1",
        "--dicom",
        "--slicer",
        "--out",
        tmp_path / "out",
    ]
    result = CliRunner().invoke(group, [str(a) for a in arguments])
    assert getattr(result.exception, "exit_code", result.exit_code) == 0
    truth = read_labels(next((tmp_path / "hips").rglob("*labels*.nii.gz")))
    labels = read_labels(tmp_path / "out/labels.nii.gz").resample(truth.grid)
    for name in ("pelvis", "femur_L", "femur_R"):
        one, other = labels.mask(name), truth.mask(name)
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.8, name
    joined, ct = pydicom.dcmread(tmp_path / "out/labels.dcm"), tmp_path / "hips/ct/sim000"
    slices = [pydicom.dcmread(path, stop_before_pixels=True) for path in ct.glob("*.dcm")]
    assert joined.StudyInstanceUID == slices[0].StudyInstanceUID
    named = {item.ReferencedSOPInstanceUID for item in joined.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == {piece.SOPInstanceUID for piece in slices}
    found = [str(item.SegmentLabel) for item in joined.SegmentSequence]
    assert set(labels.present()) < set(found)
    assert set(found) - set(labels.present()) <= {"proximal_femur_L", "proximal_femur_R"}
    dicom = read_labels(tmp_path / "out/labels.dcm")
    fine = read_labels(tmp_path / "out/labels.nii.gz")
    for name in fine.present():
        assert dicom.mask(name).sum() == fine.mask(name).sum()
    np.testing.assert_array_equal(read_labels(tmp_path / "out/labels.seg.nrrd").array, fine.array)
    if shutil.which("dciodvfy"):
        assert list_errors(tmp_path / "out/labels.dcm") == []


def test_a_segmentation_as_dicom_needs_a_dicom_ct(tmp_path):
    write_volume(tmp_path / "ct.nii.gz", labelled_ct(11)[0])
    words = ["segment", str(tmp_path / "ct.nii.gz"), "--out", str(tmp_path / "out"), "--device", "cpu", "-q", "--dicom"]
    told = CliRunner().invoke(group, words)
    assert isinstance(told.exception, CaseError)
    assert told.exception.code == "BMD-DCM-001"
    assert not (tmp_path / "out").exists()


def test_a_model_survives_its_files(trained):
    model = load_model(trained)
    assert (model.pixel_mm, model.window_hu) == (None, (-150.0, 350.0))
    assert model.network.config.filters == 8
    (trained / "copy").mkdir()
    (trained / "copy/run.json").write_text('{"kind": "decomposition"}')
    with pytest.raises(PreflightError, match="BMD-TRN-009"):
        load_model(trained / "copy")


def test_train_on_the_command_line(pairs, tmp_path):
    arguments = ["train", "segmentation", pairs, "--out", tmp_path / "run", "--recipe", RECIPE, "--device", "cpu"]
    result = CliRunner().invoke(group, [str(a) for a in (*arguments, "-q", "--fold", "all", "--set", "loop.epochs=1")])
    assert result.exit_code == 0, result.output
    assert "nobody is held out" in result.output
    assert "femur" in result.output


def test_a_ct_has_no_collimator() -> None:
    with pytest.raises(ValueError, match=r"augment\.collimation"):
        SegmentationTrainingConfig(augment=AugmentConfig(collimation=0.1))
