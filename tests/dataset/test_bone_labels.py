"""Labels of a case from the cohort, a network or nowhere; and what a build says about a network's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from labelled_ct import labelled_ct, write_cohort

from bmdkit.cli.main import group
from bmdkit.config import build
from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.case import Case, CohortRow
from bmdkit.dataset.bone_labels import check_sources, choose_label_source, hash_model, make_labels
from bmdkit.dataset.build import CaseWork, build_case
from bmdkit.dataset.case_meta import read_meta
from bmdkit.dataset.context import BuildContext
from bmdkit.dataset.manifest import LeftOut, PairRow
from bmdkit.dataset.settings import BuildConfig
from bmdkit.errors import CaseError, PreflightError
from bmdkit.io.cohort import read_cohort
from bmdkit.io.ct import CtScan, read_ct
from bmdkit.io.nifti import read_nifti
from bmdkit.models.bayesian_unet import BayesianUNet, UNetConfig
from bmdkit.segmentation import dropout_prediction
from bmdkit.segmentation import model as model_module
from bmdkit.segmentation.model import CLASSES, WEIGHTS, SegmentationModel
from bmdkit.training.checkpoint import save_weights

LEVELS = (0.38, 0.88, 0.70, 0.98)  # of tissue, pelvis, axial and femur of the drawn CTs, in the window


class ByDensity(torch.nn.Module):
    """Knows the bones of the drawn CTs by their HU; its draws differ by some noise."""

    def first(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def above(self, x: torch.Tensor, rngs) -> torch.Tensor:
        noise = torch.stack([torch.randn(x.shape[1:], generator=rng) for rng in rngs])
        levels = torch.tensor(LEVELS).view(1, -1, 1, 1)
        return -((torch.where(x < 0.5, 0.38, x + 0.02 * noise) - levels).abs()) / 0.02


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run's folder, in which `load_model` finds the network above."""
    folder = tmp_path / "bones"
    window, device = (-150.0, 350.0), torch.device("cpu")
    network = BayesianUNet(len(CLASSES), UNetConfig(filters=2))
    SegmentationModel(network, None, window, device).save(folder, epochs=1, trained_on={})
    save_weights(folder / WEIGHTS, network)
    knows = SegmentationModel(ByDensity(), None, window, device)
    monkeypatch.setattr(model_module, "load_model", lambda folder, device="cpu": knows)
    monkeypatch.setattr(dropout_prediction, "drawing_network", lambda model, precision: model.network)
    return folder


def settings(source: str = "auto", model: Path | None = None, **more) -> BuildConfig:
    values = {"source": source, "predict": {"passes": 3}, "refine_mm": 3.0, **more}
    chosen = {"segmentation": values | ({} if model is None else {"model": str(model)})}
    return build(BuildConfig, chosen | {"calibration": {"mode": "none"}})


@pytest.fixture
def cases(tmp_path) -> dict[str, Case]:
    """One with labels and one without."""
    (given,) = read_cohort(write_cohort(tmp_path / "cohort", 1)).cases
    row = given.rows[0]
    return {"given": given, "bare": Case("p0", (CohortRow("p0", row.ct, row.xray, "L"),))}


@pytest.mark.parametrize(
    ("source", "model", "given", "bare"),
    [
        ("auto", None, "labels", "model"),
        ("auto", Path("run"), "labels", "model"),
        ("labels", Path("run"), "labels", "none"),
        ("model", Path("run"), "model", "model"),
        ("totalsegmentator", None, "totalsegmentator", "totalsegmentator"),
    ],
)
def test_what_makes_the_labels(cases, source, model, given, bare):
    config = settings(source, model)
    assert choose_label_source(cases["given"], config) == given
    assert choose_label_source(cases["bare"], config) == bare


def test_labels_that_are_wanted_and_not_there_have_a_code_of_their_own(cases):
    with pytest.raises(CaseError, match="BMD-LBL-005"):
        make_labels(cases["bare"], CtScan(labelled_ct()[0], None), settings("labels"))


def test_what_is_missing_is_said_before_anything_starts(cases, tmp_path):
    everyone = list(cases.values())
    check_sources(everyone, settings(predict={}))
    check_sources(everyone, settings("model", predict={}))
    with pytest.raises(PreflightError, match="BMD-TRN-009"):
        check_sources(everyone, settings("auto", tmp_path / "nowhere"))
    check_sources([cases["given"]], settings("auto", tmp_path / "nowhere"))
    absent = settings("totalsegmentator", totalsegmentator={"executable": "no-such-program-here"})
    with pytest.raises(PreflightError, match="BMD-SEG-002"):
        check_sources(everyone, absent)
    cohort = next(path.parent for path in tmp_path.rglob("cohort.csv"))
    wanted = ["--segmentation", "model", "--set", "segmentation.model=nowhere"]
    arguments = ["build-dataset", str(cohort), "--out", str(tmp_path / "out"), *wanted]
    error = CliRunner().invoke(group, arguments).exception
    assert error.exit_code == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("predict", [{"passes": 2}, {"passes": 1}, {"pixel_mm": 3.0}])
def test_a_build_whose_labels_could_not_be_judged_is_refused(cases, predict):
    """The shipped network's largest uncertainty was measured at ten draws and pixels of 1.5 mm."""
    with pytest.raises(PreflightError, match="BMD-SEG-005"):
        check_sources([cases["bare"]], settings("model", predict=predict))
    check_sources([cases["given"]], settings("auto", predict=predict))
    if predict != {"passes": 1}:
        check_sources([cases["bare"]], settings("model", predict=predict, most_uncertainty=0.004))


def test_a_precision_that_the_device_lacks_is_refused_before_a_build(cases):
    half = settings("model", predict={"precision": "bf16"})
    with pytest.raises(PreflightError, match="BMD-SEG-006"):
        check_sources([cases["bare"]], half, "cuda:0")
    check_sources([cases["given"]], settings("auto", predict={"precision": "bf16"}), "cuda:0")
    check_sources([cases["bare"]], half)  # on other machines, which have to see for themselves


def test_a_networks_labels_are_sided_cleaned_and_refined(cases, run):
    found = make_labels(cases["bare"], read_ct(cases["bare"].ct), settings("auto", run))
    truth = labelled_ct(0)[1]
    assert found.labels.grid.spacing_mm.max() <= 3.0
    coarse = found.labels.resample(truth.grid)
    for name in LABEL_VALUES:
        one, other = coarse.mask(name), truth.mask(name)
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.85  # noise, and voxels of 5 mm refined and back
        assert 0 < found.uncertainty[name] < 0.25 * 3 / 2
    assert found.variance.grid.is_near(truth.grid)


def measured(work: CaseWork) -> list[PairRow]:
    """The CT's side of a case only."""
    ct = work._measure_ct(read_ct(work.case.ct))
    row = work._add_measurements(work.case.rows[0], ct)
    return work._leave_out(row, ct.hips["L"].problem or LeftOut("BMD-PAIR-001", "no radiograph"))


def context(tmp_path: Path, config: BuildConfig) -> BuildContext:
    return BuildContext(tmp_path / "out", tmp_path / "staging", config)


def test_a_build_keeps_the_uncertainty_of_a_network(cases, run, tmp_path):
    result = build_case(cases["bare"], context(tmp_path, settings("model", run)), measured)
    folder = result.staged / "cases/p0"
    uncertainty = json.loads((folder / "uncertainty.json").read_text())
    variance, grid, _ = read_nifti(folder / "uncertainty.nii.gz")
    assert grid.is_near(labelled_ct(0)[0].grid)
    assert 0 < variance.max() <= 0.25 * 3 / 2
    meta = read_meta(result.staged, "p0")
    for row in meta.pairs:
        assert row.segmentation_uncertainty == max(uncertainty["pelvis"], uncertainty["femur_L"])
    assert meta.inputs["model"] == hash_model(cases["bare"], settings("model", run))


def test_given_labels_have_no_uncertainty(cases, run, tmp_path):
    result = build_case(cases["given"], context(tmp_path, settings("auto", run)), measured)
    assert not (result.staged / "cases/p0/uncertainty.nii.gz").exists()
    meta = read_meta(result.staged, "p0")
    assert {row.segmentation_uncertainty for row in meta.pairs} == {None}
    assert "model" not in meta.inputs


def test_a_hip_that_is_too_uncertain_is_left_out(cases, run, tmp_path, monkeypatch):
    for module in ("ct_stage", "stages"):  # drawn femurs have no head
        monkeypatch.setattr(f"bmdkit.dataset.{module}.check_hip", lambda *_: ())
    strict = settings("model", run, most_uncertainty=1e-6)
    result = build_case(cases["bare"], context(tmp_path, strict), measured)
    assert {code for _, code, _ in result.problems} == {"BMD-SEG-004"}
    assert "allowed 1e-06" in result.problems[0][2]


def test_another_network_makes_another_case(cases, run, tmp_path):
    config = settings("model", run)
    first = CaseWork(cases["bare"], context(tmp_path, config)).fingerprint
    weights = bytearray((run / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (run / WEIGHTS).write_bytes(bytes(weights))
    other = CaseWork(cases["bare"], context(tmp_path, config)).fingerprint
    assert first.key != other.key
    assert first.registrations != other.registrations
