"""BMD of new radiographs."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result
from dicom_samples import write_dx
from dicom_validity import list_errors
from drawn_hips import write_dataset

from bmdkit.cli.main import group
from bmdkit.config import load
from bmdkit.core.radiograph import Radiograph, SingleHip
from bmdkit.dataset.pairs import cut_hip
from bmdkit.errors import CaseError, PreflightError
from bmdkit.evaluation.conformal import conformal_half_width
from bmdkit.evaluation.disagreement import Disagreement
from bmdkit.evaluation.image_metrics import mean_above
from bmdkit.evaluation.plausibility import Plausibility
from bmdkit.inference import prediction
from bmdkit.inference.hip_prediction import choose_hips, measure_cut, predict_hip
from bmdkit.inference.overlay import draw_overlay, resize_bilinear
from bmdkit.inference.predictor import USE, Predictor, load_predictor, make_spread
from bmdkit.inference.radiograph_prediction import predict
from bmdkit.io.images import read_tiff, write_png
from bmdkit.io.xray import read_radiograph
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run_layout import PairPrediction, read_predictions
from bmdkit.training.settings import DecompositionConfig
from bmdkit.training.shipped import SIMULATED_USE

RECIPE = Path(__file__).parents[2] / "pipelines/train/test.yaml"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A run on each dataset, of patients enough for an interval."""
    root = tmp_path_factory.mktemp("runs")
    hips = write_dataset(root / "hips", patients=10)
    for dataset in ("A", "B"):
        config = load(DecompositionConfig, recipe=RECIPE, flags={"dataset": dataset, "fold": "all"})
        train_decomposition(hips, root / dataset, config, device="cpu")
    return {dataset: root / dataset for dataset in ("A", "B")}


def both_hips(hips: Path, patient: str = "p1") -> np.ndarray:
    """A radiograph of the pelvis: a fixture's hip on the right of the image, and its mirror image."""
    left = read_tiff(hips / "dataset_b" / f"{patient}__standing__L" / "xray.tif")[0]
    return np.hstack([left[:, ::-1], left])


def run_predict(*paths: Path, out: Path, run: Path | None = None, more: Sequence[str] = ()) -> Result:
    """The command, with --run where a run is given."""
    words = ["predict", *map(str, paths), *(["--run", str(run)] if run else []), "--out", str(out), "-q", *more]
    return CliRunner().invoke(group, words)


def code_of(told: Result) -> str:
    """The code of the error that ended the command."""
    assert isinstance(told.exception, PreflightError), told.output
    return told.exception.code


def outputs(out: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and time of change of every file."""
    return {str(p.relative_to(out)): (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob("*") if p.is_file()}


def blob(row: float, column: float, high: float = 0.15, wide: float = 0.2, density: float = 1.0) -> np.ndarray:
    """An ellipse of even density in 64 x 32 pixels; places and half axes as parts of the image."""
    v, u = np.mgrid[:64, :32]
    inside = (((v + 0.5) / 64 - row) / high) ** 2 + (((u + 0.5) / 32 - column) / wide) ** 2 < 1
    return density * inside.astype(np.float32)


TRAINING = Plausibility.of(
    np.array([blob(0.5 + d, 0.6 + d, density=1 + 10 * d) for d in (-0.02, -0.01, 0.0, 0.01, 0.02)]), ["L"] * 5, 0.3
)


@pytest.mark.parametrize(
    ("drr", "side", "quality", "named"),
    [
        (blob(0.51, 0.59), "L", "accept", ""),
        (blob(0.51, 0.41), "R", "accept", ""),  # a right hip is a mirrored left one
        (blob(0.51, 0.41), "L", "review", "column"),
        (blob(0.51, 0.6, density=3.0), "L", "review", "density"),
        (blob(0.85, 0.3), "L", "reject", "row"),
        (blob(0.5, 0.6, high=0.02, wide=0.03), "L", "reject", "area"),
        (blob(0.5, 0.6, density=0.1), "L", "reject", "no pixel"),
    ],
)
def test_what_is_unlike_the_training_set_is_flagged(drr, side, quality, named) -> None:
    found, reasons = TRAINING.check(drr, side)
    assert found == quality
    assert named in "; ".join(reasons)


def test_the_training_set_is_known_again_after_being_stored() -> None:
    assert Plausibility.from_dict(json.loads(json.dumps(TRAINING.to_dict()))) == TRAINING


def predicted(errors: np.ndarray, split: str) -> list[PairPrediction]:
    """Rows of patients (n, images each) whose predictions are off by known errors."""
    return [
        PairPrediction(
            f"{p}{k}", f"p{p}", "L", "standing", 0, split, dxa_bmd_g_cm2=1.0, predicted_dxa_bmd_g_cm2=1.0 + e
        )
        for p, own in enumerate(errors)
        for k, e in enumerate(own)
    ]


def test_the_interval_is_that_of_evaluate_and_covers_what_it_says() -> None:
    """Eight images of each of fourteen patients, whose errors are alike, tried on a fifteenth: at least 90 %."""
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 0.05, (1500, 15, 1)) + rng.normal(0, 0.01, (1500, 15, 8))
    found = [make_spread(predicted(one[:14], "test"), "dxa") for one in errors]
    known = errors[0, :14]
    names = [f"p{p}" for p in range(14) for _ in range(8)]
    assert found[0].half_width == pytest.approx(conformal_half_width(known.ravel(), names), rel=1e-12)
    assert (found[0].level, found[0].patients, found[0].n, found[0].split) == (0.9, 14, 112, "test")
    inside = [low <= e[14, 0] <= high for (low, high), e in zip((s.interval(0.0) for s in found), errors, strict=True)]
    assert 0.90 - 0.02 < np.mean(inside) < 0.97  # fourteen patients give steps of one in fifteen


def test_of_too_few_patients_there_is_no_interval() -> None:
    errors = np.full((9, 1), 0.1)
    assert make_spread(predicted(errors[:8], "test"), "dxa") is None
    assert make_spread(predicted(errors, "test"), "dxa").split == "test"
    both = [*predicted(errors[:8], "test"), *predicted(errors / 10, "train")]
    assert make_spread(both, "dxa").split == "train"
    assert make_spread(both, "qct") is None


def test_radiographs_are_cut_as_the_dataset_was(hips, own_hips, runs) -> None:
    description = json.loads((own_hips / "dataset.json").read_text())
    description["configuration"] = {"pairs": {"rows": 256, "columns": 256}, "xray": {"lossy": "warn"}}
    (own_hips / "dataset.json").write_text(json.dumps(description))
    config = load(DecompositionConfig, recipe=RECIPE, flags={"dataset": "B"}, overrides=["loop.epochs=1"])
    train_decomposition(own_hips, own_hips.parent / "run", config, device="cpu")
    predictor = load_predictor(own_hips.parent / "run")
    assert predictor.run.xray.lossy == "warn"
    pixels = both_hips(hips)
    window = predict_hip(predictor, Radiograph(pixels, np.ones(pixels.shape, bool)), "L").window
    assert (window.rows, window.columns) == (256, 256)
    assert load_predictor(runs["B"]).run.pairs.rows == 512


def test_colour_is_laid_only_where_something_projects() -> None:
    xray = np.full((8, 6), 0.5)
    drr = np.zeros((8, 6))
    drr[2, 3] = 1.0
    picture = draw_overlay(xray, drr, 1.0)
    assert (picture[0, 0] == 128).all()
    assert len(set(picture[2, 3].tolist())) > 1


def test_both_hips_of_a_radiograph_are_predicted(runs, hips, tmp_path) -> None:
    file = write_dx(tmp_path / "new film.dcm", both_hips(hips))
    out = tmp_path / "out"
    told = CliRunner().invoke(group, ["predict", str(file), "--run", str(runs["B"]), "--out", str(out), "-q"])
    assert told.exit_code == 0, told.output
    with (out / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["name"], row["side"]) for row in rows] == [("new_film_L", "L"), ("new_film_R", "R")]
    line = load_predictor(runs["B"]).run.lines["dxa"]
    for row in rows:
        drr = read_tiff(out / row["pf_drr"])[0]
        assert drr.shape == (64, 32)
        assert (out / row["overlay"]).exists()
        assert float(row["dxa_bmd_g_cm2"]) == pytest.approx(line.bmd(mean_above(drr, line.threshold_g_cm2)))
        assert float(row["dxa_bmd_g_cm2_low"]) < float(row["dxa_bmd_g_cm2"]) < float(row["dxa_bmd_g_cm2_high"])
    record = json.loads((out / "predictions.json").read_text())
    assert record["spread"]["dxa"]["split"] == "train"  # nobody was held out, and it says so
    assert "Not for diagnosis" in record["intended_use"]


def test_t_scores_need_a_reference(runs, hips, tmp_path) -> None:
    file, table, out = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "young.yaml", tmp_path / "out"
    table.write_text("{name: young women of somewhere, mean_g_cm2: 0.94, sd_g_cm2: 0.12}", encoding="utf-8")
    words = ["predict", str(file), "--run", str(runs["B"]), "--side", "L", "--out", str(out), "-q"]
    told = CliRunner().invoke(group, [*words, "--reference", str(table)])
    assert told.exit_code == 0, told.output
    with (out / "predictions.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert float(row["t_score"]) == pytest.approx((float(row["dxa_bmd_g_cm2"]) - 0.94) / 0.12)
    assert f"T-score {float(row['t_score']):+.1f}" in told.output
    record = json.loads((out / "predictions.json").read_text())
    assert record["t_score_reference"]["name"] == "young women of somewhere"
    table.write_text("{name: nobody, mean_g_cm2: 0.94, sd_g_cm2: -1}", encoding="utf-8")
    assert CliRunner().invoke(group, [*words, "--reference", str(table)]).exit_code == 2


def read_row(out: Path) -> dict[str, str]:
    """The only row of predictions.csv."""
    with (out / "predictions.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    return row


@pytest.mark.parametrize("hidden", [False, True], ids=["named", "pseudonym"])
def test_results_join_the_study_as_dicom(runs, hips, tmp_path, hidden) -> None:
    file, out = write_dx(tmp_path / "Sample.dcm", both_hips(hips)), tmp_path / "out"
    more = ["--side", "L", "--dicom", *(["--pseudonymise"] if hidden else [])]
    told = run_predict(file, run=runs["B"], out=out, more=more)
    assert told.exit_code == 0, told.output
    row, study = read_row(out), pydicom.dcmread(file)
    objects = {Path(name).stem.rpartition("_")[2]: out / name for name in row["dicom"].split(";")}
    assert set(objects) == {"drr", "overlay", "bmd"}
    drr = read_tiff(out / row["pf_drr"])[0]
    shown = pydicom.dcmread(objects["drr"])
    np.testing.assert_array_equal(shown.pixel_array, drr)
    spacing = shown.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    half = both_hips(hips).shape[0] * 0.5  # mm of the radiograph's rows, which a pair shows whole
    assert float(spacing[0]) * drr.shape[0] == pytest.approx(half)
    report = highdicom.sr.srread(objects["bmd"])
    (group,) = report.content.get_image_measurement_groups()
    values = {one.name.value: float(one.value) for one in group.get_measurements()}
    assert values["dxa-bmd"] == pytest.approx(float(row["dxa_bmd_g_cm2"]))
    assert values["dxa-low"] == pytest.approx(float(row["dxa_bmd_g_cm2_low"]))
    if shutil.which("dciodvfy"):
        assert {name: list_errors(path) for name, path in objects.items()} == {key: [] for key in objects}
    for path in objects.values():
        data = pydicom.dcmread(path)
        assert (data.StudyInstanceUID == study.StudyInstanceUID) is not hidden
        assert (data.PatientID == study.PatientID) is not hidden
        assert (b"Sample" in path.read_bytes() or "Sample" in path.name) is not hidden
    keys = out.with_name("out.keys.csv")
    assert keys.exists() is hidden
    if hidden:
        name = pydicom.dcmread(objects["bmd"]).PatientID
        assert keys.read_text() == f"case,patient_id\n{name},sample\n"
        assert keys.stat().st_mode & 0o777 == out.with_name("out.keys.secret").stat().st_mode & 0o777 == 0o600
    assert run_predict(file, run=runs["B"], out=out, more=["--side", "L", "--overwrite"]).exit_code == 0
    assert list(out.glob("*.dcm")) == []


def test_a_picture_without_a_study_is_predicted_and_has_no_dicom(runs, hips, tmp_path) -> None:
    file, out = tmp_path / "a.png", tmp_path / "out"
    write_png(file, np.rint(both_hips(hips) * 65535).astype(np.uint16))
    file.with_suffix(".json").write_text('{"sdd_mm": 1100, "pixel_mm": 0.5, "brighter_is_denser": true}')
    words = ["predict", str(file), "--run", str(runs["B"]), "--out", str(out), "--side", "L", "--dicom"]
    told = CliRunner().invoke(group, words)
    assert told.exit_code == 0, told.output
    assert "BMD-DCM-001" in told.output + (told.stderr or "")
    assert read_row(out)["dicom"] == ""


def test_objects_that_name_the_patient_stay_out_of_datasets(runs, hips, tmp_path) -> None:
    file, out = write_dx(tmp_path / "a.dcm", both_hips(hips)), hips / "predicted"
    told = run_predict(file, run=runs["B"], out=out, more=["--dicom"])
    assert code_of(told) == "BMD-DCM-002"
    assert not out.exists()
    told = run_predict(file, run=runs["B"], out=tmp_path / "out", more=["--pseudonymise"])
    assert told.exit_code == 2


def test_a_file_that_cannot_be_read_is_named_and_the_rest_predicted(runs, hips, tmp_path) -> None:
    good, bad = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "b.dcm"
    bad.write_bytes(b"no image")
    told = run_predict(bad, good, run=runs["B"], out=tmp_path / "out", more=["--side", "L"])
    assert told.exit_code == 3
    assert "b: BMD-XR-" in told.output
    assert "a_L: DXA-BMD" in told.output


def test_a_radiograph_without_image_is_rejected(runs) -> None:
    pixels, mask = np.full((128, 128), 0.5), np.zeros((128, 128), bool)
    mask[:10] = True
    found = predict_hip(load_predictor(runs["B"]), Radiograph(pixels, mask), "L")
    assert found.quality == "reject"
    assert "of the hip's half is image" in found.reasons[0]


def test_what_a_blade_cuts_is_measured_and_the_border_of_the_picture_is_no_blade() -> None:
    drr = np.zeros((40, 20), np.float32)
    drr[10:20, :12] = 1.0  # begins at the border: its outline is 12 + 12 + 8 pixels
    seen = np.ones(drr.shape, bool)
    assert measure_cut(drr, seen, 0.5) == 0
    seen[:, 13:] = False  # two pixels beyond the right side
    assert measure_cut(drr, seen, 0.5) == pytest.approx(10 / 32)
    seen[:, 13] = True
    assert measure_cut(drr, seen, 0.5) == 0
    assert measure_cut(0 * drr, seen, 0.5) == 0


def test_a_hip_that_a_blade_cuts_is_rejected(hips, runs, monkeypatch) -> None:
    predictor = load_predictor(runs["B"])
    look = Predictor.look

    def see_a_hip(self, xray, seen, side):
        drr = np.zeros(self.run.config.image_size, np.float32)
        drr[20:40, 10:20] = 10.0
        return replace(look(self, xray, seen, side), pf_drr_g_cm2=drr, quality="accept", reasons=())

    monkeypatch.setattr(Predictor, "look", see_a_hip)
    pixels = both_hips(hips)
    whole = predict_hip(predictor, Radiograph(pixels, np.ones(pixels.shape, bool)), "R")
    assert (whole.quality, whole.reasons) == ("accept", ())
    columns = predictor.run.config.image_size[1]
    first = whole.window.first_column + 15 / columns * whole.window.columns / whole.window.scale
    mask = np.ones(pixels.shape, bool)
    mask[:, : int(first)] = False  # a blade through the middle of what is seen
    cut = predict_hip(predictor, Radiograph(pixels, mask), "R")
    assert cut.quality == "reject"
    assert cut.reasons[0].endswith("of the outline lies at the edge of the image")
    assert set(cut.bmd) == set(whole.bmd)  # the number is told all the same


def test_only_a_run_that_knows_bmd_predicts(runs, tmp_path) -> None:
    with pytest.raises(PreflightError, match="BMD-PRE-001"):
        load_predictor(runs["A"])
    with pytest.raises(PreflightError, match="BMD-TRN-009"):
        load_predictor(tmp_path)


def test_the_old_order_still_works_and_warns(runs, hips, tmp_path) -> None:
    file = write_dx(tmp_path / "a.dcm", both_hips(hips))
    old = run_predict(runs["B"], file, out=tmp_path / "old")
    assert old.exit_code == 0, old.output
    assert "old order" in old.output
    new = run_predict(file, run=runs["B"], out=tmp_path / "new")
    assert new.exit_code == 0, new.output
    assert "old order" not in new.output
    assert {n: data for n, (data, _) in outputs(tmp_path / "old").items()} == {
        n: data for n, (data, _) in outputs(tmp_path / "new").items()
    }


def test_the_old_order_without_a_radiograph_is_wrong(runs, tmp_path) -> None:
    told = run_predict(runs["B"], out=tmp_path / "out")
    assert told.exit_code == 2
    assert "XRAY" in told.output


BROKEN = {
    "settings lost": lambda run: (run / "config.json").unlink(),
    "settings cut off": lambda run: (run / "config.json").write_text('{"kind": "decom'),
    "description lost": lambda run: (run / "run.json").unlink(),
    "weights lost": lambda run: (run / "generator.safetensors").unlink(),
    "weights cut off": lambda run: (run / "generator.safetensors").write_bytes(b"abc"),
    "unfinished": lambda run: [(run / n).unlink() for n in ("run.json", "generator.safetensors", "metrics.json")],
    "predictions lost": lambda run: (run / "predictions.csv").unlink(),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("order", ["old", "old, no radiograph", "new"])
def test_a_broken_run_is_an_error_and_no_folder_of_radiographs(runs, hips, tmp_path, how, order) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["B"], run)
    BROKEN[how](run)
    file, out = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "out"
    match order:
        case "old":
            told = run_predict(run, file, out=out)
        case "new":
            told = run_predict(file, run=run, out=out)
        case _:
            told = run_predict(run, out=out)
    assert code_of(told) in ("BMD-TRN-009", "BMD-PRE-001")
    assert told.exception.exit_code == 4
    assert not out.exists()


def test_a_run_where_a_radiograph_belongs_is_an_error(runs, hips, tmp_path) -> None:
    file = write_dx(tmp_path / "a.dcm", both_hips(hips))
    assert code_of(run_predict(file, runs["A"], run=runs["B"], out=tmp_path / "out")) == "BMD-PRE-003"
    assert not (tmp_path / "out").exists()


def test_a_folder_is_a_folder_of_radiographs(runs, hips, tmp_path, ct_folder, caplog) -> None:
    """Its radiographs at any depth, once each; what is none is left out and named; outputs are no input."""
    folder = tmp_path / "exported"
    for name in ("a.dcm", "deep/a.dcm", "deep/IM0001"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_dx(folder / name, both_hips(hips))
    (folder / "readme.txt").write_text("nothing")
    (folder / "notes").write_text("nothing")
    shutil.copytree(ct_folder, folder / "ct")
    shutil.copytree(runs["A"], folder / "training")
    out = folder / "out"
    told = run_predict(folder, folder / "a.dcm", run=runs["B"], out=out, more=["--side", "L"])
    assert told.exit_code == 0, told.output
    with (out / "predictions.csv").open(newline="") as handle:
        assert [row["name"] for row in csv.DictReader(handle)] == ["a_L", "IM0001_L", "a-2_L"]
    before = outputs(out)
    again = run_predict(folder, folder / "a.dcm", run=runs["B"], out=out, more=["--side", "L"])
    assert again.exit_code == 0, again.output
    assert outputs(out) == before


def test_a_folder_without_radiographs_is_an_error(runs, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("nothing")
    for name in ("empty", "texts"):
        assert code_of(run_predict(tmp_path / name, run=runs["B"], out=tmp_path / "out")) == "BMD-PRE-003"
    assert not (tmp_path / "out").exists()


def test_a_damaged_radiograph_in_a_folder_is_named(runs, hips, tmp_path) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    write_dx(folder / "a.dcm", both_hips(hips))
    (folder / "b.dcm").write_bytes(b"no image")
    told = run_predict(folder, run=runs["B"], out=tmp_path / "out")
    assert told.exit_code == 3
    assert "b: BMD-XR-002" in told.output


class KilledError(Exception):
    """Stands for a kill in the middle."""


@pytest.mark.parametrize("step", ["predict_hip", "write_png"])
def test_an_interrupted_prediction_goes_on(runs, hips, tmp_path, monkeypatch, step) -> None:
    """Each radiograph is predicted once, and the result is that of an uninterrupted prediction."""
    images = [both_hips(hips, patient) for patient in ("p1", "p2", "p3")]
    files = [write_dx(tmp_path / f"{n}.dcm", image) for n, image in enumerate(images)]
    whole, out, calls = tmp_path / "whole", tmp_path / "out", []
    assert run_predict(*files, run=runs["B"], out=whole, more=["--side", "L"]).exit_code == 0

    real = getattr(prediction, step)

    def breaking(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KilledError
        return real(*args)

    monkeypatch.setattr(prediction, step, breaking)
    assert isinstance(run_predict(*files, run=runs["B"], out=out, more=["--side", "L"]).exception, KilledError)
    assert not (out / "predictions.json").exists()
    assert run_predict(*files, run=runs["B"], out=out, more=["--side", "L"]).exit_code == 0
    assert len(calls) == 4  # the second was begun twice, the first and the third once
    assert {n: data for n, (data, _) in outputs(out).items()} == {n: data for n, (data, _) in outputs(whole).items()}


def test_an_interrupted_prediction_of_something_else_is_in_the_way(runs, hips, tmp_path, monkeypatch) -> None:
    a, b = (write_dx(tmp_path / f"{p}.dcm", both_hips(hips, p)) for p in ("p1", "p2"))
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(prediction, "predict_hip", lambda *args: (_ for _ in ()).throw(KilledError))
        run_predict(a, run=runs["B"], out=out)
    assert code_of(run_predict(b, run=runs["B"], out=out)) == "BMD-PRE-002"
    assert run_predict(b, run=runs["B"], out=out, more=["--overwrite"]).exit_code == 0
    assert run_predict(b, run=runs["B"], out=out).exit_code == 0


def test_a_finished_prediction_is_kept(runs, hips, tmp_path, monkeypatch) -> None:
    """Nothing is predicted or written, wherever the run and the files stand by now."""
    file, out = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "out"
    first = run_predict(file, run=runs["B"], out=out)
    before = outputs(out)
    monkeypatch.setattr(prediction, "predict_hip", None)
    (tmp_path / "moved").mkdir()
    shutil.copytree(runs["B"], tmp_path / "moved" / "run")
    shutil.copy(file, tmp_path / "moved" / "a.dcm")
    again = run_predict(tmp_path / "moved" / "a.dcm", run=tmp_path / "moved" / "run", out=out)
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert outputs(out) == before


def test_a_kept_prediction_with_a_failed_file_still_ends_with_3(runs, hips, tmp_path) -> None:
    good, bad, out = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "b.dcm", tmp_path / "out"
    bad.write_bytes(b"no image")
    assert [run_predict(good, bad, run=runs["B"], out=out).exit_code for _ in range(2)] == [3, 3]


def test_a_file_missing_from_a_finished_prediction_is_made_again(runs, hips, tmp_path) -> None:
    file, out = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "out"
    run_predict(file, run=runs["B"], out=out)
    before = {name: data for name, (data, _) in outputs(out).items()}
    (out / "a_L_pf_drr.tif").unlink()
    assert run_predict(file, run=runs["B"], out=out).exit_code == 0
    assert {name: data for name, (data, _) in outputs(out).items()} == before


@pytest.mark.parametrize(
    "what", ["another file", "one more file", "another side", "a reference", "dicom", "another run"]
)
def test_anything_else_in_out_needs_overwrite(runs, hips, tmp_path, what) -> None:
    a, b = (write_dx(tmp_path / f"{p}.dcm", both_hips(hips, p)) for p in ("p1", "p2"))
    out, table, run = tmp_path / "out", tmp_path / "young.yaml", tmp_path / "run"
    table.write_text("{name: young women of somewhere, mean_g_cm2: 0.94, sd_g_cm2: 0.12}", encoding="utf-8")
    shutil.copytree(runs["B"], run)
    description = json.loads((run / "run.json").read_text())
    description["bmd"]["dxa"]["intercept"] += 0.1
    (run / "run.json").write_text(json.dumps(description))
    assert run_predict(a, run=runs["B"], out=out).exit_code == 0
    (out / "mine.txt").write_text("kept")
    before = outputs(out)
    files, more, given = {
        "another file": ([b], [], runs["B"]),
        "one more file": ([a, b], [], runs["B"]),
        "another side": ([a], ["--side", "L"], runs["B"]),
        "a reference": ([a], ["--reference", str(table)], runs["B"]),
        "dicom": ([a], ["--dicom"], runs["B"]),
        "another run": ([a], [], run),
    }[what]
    told = run_predict(*files, run=given, out=out, more=more)
    assert code_of(told) == "BMD-PRE-002"
    assert outputs(out) == before
    fresh = tmp_path / "fresh"
    assert run_predict(*files, run=given, out=fresh, more=more).exit_code == 0
    assert run_predict(*files, run=given, out=out, more=[*more, "--overwrite"]).exit_code == 0
    assert (out / "mine.txt").read_text() == "kept"
    (out / "mine.txt").unlink()
    names = [{name: data for name, (data, _) in outputs(folder).items()} for folder in (out, fresh)]
    records = [json.loads(found.pop("predictions.json")) for found in names]
    assert names[0] == names[1]
    assert records[0] == records[1]


def test_files_that_are_no_prediction_are_in_the_way(runs, hips, tmp_path) -> None:
    file, out = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "out"
    out.mkdir()
    (out / "thesis.doc").write_text("mine")
    assert code_of(run_predict(file, run=runs["B"], out=out)) == "BMD-PRE-002"
    assert [path.name for path in out.iterdir()] == ["thesis.doc"]
    assert run_predict(file, run=runs["B"], out=out, more=["--overwrite"]).exit_code == 0
    assert (out / "thesis.doc").read_text() == "mine"


def test_a_device_that_is_not_there_is_told_before_anything_starts(runs, hips, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    file, out = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "out"
    told = run_predict(file, run=runs["B"], out=out, more=["--device", "cuda"])
    assert code_of(told) == "BMD-TRN-010"
    assert not out.exists()


def test_an_output_that_cannot_be_written_to_is_told_before_anything_starts(runs, hips, tmp_path) -> None:
    file, above = write_dx(tmp_path / "a.dcm", both_hips(hips)), tmp_path / "above"
    above.write_text("a file")
    assert code_of(run_predict(file, run=runs["B"], out=above / "out")) == "BMD-RUN-030"
    assert above.read_text() == "a file"


def test_one_call_predicts_what_the_command_writes(hips, runs, tmp_path) -> None:
    """The same BMD and interval from a radiograph, from its file, and from the command."""
    file = write_dx(tmp_path / "pelvis.dcm", both_hips(hips))
    assert run_predict(file, run=runs["B"], out=tmp_path / "out").exit_code == 0
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as handle:
        written = {row["side"]: row for row in csv.DictReader(handle)}
    from_file = predict(file, runs["B"], device="cpu")
    assert set(from_file) == set(written) == {"L", "R"}
    predictor = load_predictor(runs["B"])
    radiograph = read_radiograph(file, config=predictor.run.xray)
    for side, row in written.items():
        hip = predict(radiograph, predictor, side=side)[side]
        assert float(row["dxa_bmd_g_cm2"]) == from_file[side].bmd["dxa"] == hip.bmd["dxa"]
        low, high = hip.intervals["dxa"]
        assert (float(row["dxa_bmd_g_cm2_low"]), float(row["dxa_bmd_g_cm2_high"])) == (low, high)


def test_one_call_refuses_the_side_that_the_file_does_not_show(runs) -> None:
    radiograph = Radiograph(np.zeros((64, 64)), np.ones((64, 64), bool), laterality="L")
    with pytest.raises(CaseError, match="the file says L, asked for was R") as caught:
        predict(radiograph, runs["B"], side="R", device="cpu")
    assert caught.value.code == "BMD-XR-020"


def shows(hip: SingleHip | None = None, named: str | None = None) -> Radiograph:
    """A radiograph that shows these hips."""
    return Radiograph(np.zeros((64, 64)), np.ones((64, 64), bool), laterality=named, single_hip=hip)


@pytest.mark.parametrize(
    ("radiograph", "side", "expected"),
    [
        (shows(), None, ("L", "R")),
        (shows(named="B"), None, ("L", "R")),
        (shows(), "R", ("R",)),
        (shows(SingleHip(0.0, 40.0, None)), None, "BMD-XR-025"),
        (shows(SingleHip(0.0, 40.0, "L")), None, "BMD-XR-025"),
        (shows(SingleHip(0.0, 40.0, "L"), "B"), None, "BMD-XR-025"),
        (shows(SingleHip(0.0, 40.0, None)), "R", ("R",)),
        (shows(SingleHip(0.0, 40.0, "L")), "L", ("L",)),
        (shows(SingleHip(0.0, 40.0, "L")), "R", "BMD-XR-020"),
        (shows(SingleHip(0.0, 40.0, "L"), "L"), None, ("L",)),
        (shows(SingleHip(0.0, 40.0, "L"), "R"), None, "BMD-XR-020"),
    ],
)
def test_one_hip_alone_is_never_two(radiograph, side, expected) -> None:
    if isinstance(expected, tuple):
        assert choose_hips(radiograph, side) == expected
    else:
        with pytest.raises(CaseError) as caught:
            choose_hips(radiograph, side)
        assert caught.value.code == expected


def test_one_call_refuses_a_hip_alone_whose_side_nothing_names(runs) -> None:
    with pytest.raises(CaseError, match="BMD-XR-025"):
        predict(shows(SingleHip(0.0, 40.0, None)), runs["B"], device="cpu")


@pytest.mark.parametrize("side", [None, "L", "R"])
def test_the_real_hip_goes_through_the_command(runs, tmp_path, shared, side) -> None:
    """A collimated CR of a left hip whose tags name no side: refused, or its only hip, masked, and not accepted."""
    file = shared / "data" / "real-radiograph" / "hip-cr.dcm"
    if not file.is_file():
        pytest.skip("no real radiograph in ../shared")
    told = run_predict(file, run=runs["B"], out=tmp_path / "out", more=["--side", side] if side else [])
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as handle:
        (row,) = csv.DictReader(handle)
    if side == "L":
        assert told.exit_code == 0, told.output
        assert (row["name"], row["side"], row["status"]) == ("hip-cr_L", "L", "ok")
        assert row["quality"] in ("review", "reject")
        assert 0.6 < read_radiograph(file).mask.mean() < 0.8  # 29 % lie behind the blades
    else:
        assert told.exit_code == 3
        assert (row["status"], row["code"]) == ("failed", "BMD-XR-020" if side else "BMD-XR-025")


@pytest.fixture(scope="module")
def regression(runs, tmp_path_factory) -> Path:
    """A regression of DXA-BMD on the decomposition of dataset B."""
    folder = tmp_path_factory.mktemp("regression") / "dxa"
    settings = load(RegressionConfig, recipe=RECIPE.with_name("regression-test.yaml"), flags={"fold": "all"})
    train_regression(runs["B"].parent / "hips", folder, settings, device="cpu", init_from=runs["B"])
    return folder


def test_a_regression_predicts_alone_with_interval_and_quality(regression, hips, tmp_path) -> None:
    pixels = both_hips(hips)
    found = predict_hip(load_predictor(regression), Radiograph(pixels, np.ones(pixels.shape, bool)), "L")
    assert found.pf_drr_g_cm2 is None
    assert set(found.bmd) == set(found.intervals) == {"dxa"}
    assert found.quality == "accept"
    noise = np.random.default_rng(0).random(pixels.shape)
    strange = predict_hip(load_predictor(regression), Radiograph(noise, np.ones(noise.shape, bool)), "L")
    assert strange.strangeness > max(found.strangeness, 1)
    assert strange.quality != "accept"
    file, out = write_dx(tmp_path / "a.dcm", pixels), tmp_path / "out"
    told = run_predict(file, out=out, run=regression, more=("--side", "L", "--dicom"))
    assert told.exit_code == 0, told.output
    with (out / "predictions.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert row["pf_drr"] == row["qct_bmd_mg_cm3"] == ""
    assert float(row["dxa_bmd_g_cm2_low"]) < float(row["dxa_bmd_g_cm2"]) < float(row["dxa_bmd_g_cm2_high"])
    suffixes = sorted(path.suffix for path in out.iterdir() if not path.name.startswith("."))
    assert suffixes == [".csv", ".dcm", ".dcm", ".json", ".png"]
    assert "pf_drr" not in row["dicom"]  # a picture and a report, and no parametric map
    assert "pf_drr" not in json.loads((out / "predictions.json").read_text())["units"]


def test_with_both_bmd_is_the_regressions_and_the_projection_the_decompositions(runs, regression, hips) -> None:
    pixels = both_hips(hips)
    shown = Radiograph(pixels, np.ones(pixels.shape, bool))
    alone, other = (predict_hip(load_predictor(run), shown, "R") for run in (runs["B"], regression))
    both = predict_hip(load_predictor([runs["B"], regression]), shown, "R")
    assert np.array_equal(both.pf_drr_g_cm2, alone.pf_drr_g_cm2)
    assert both.bmd == {"dxa": other.bmd["dxa"], "qct": alone.bmd["qct"]}
    assert both.intervals == {"dxa": other.intervals["dxa"], "qct": alone.intervals["qct"]}
    assert both.quality == alone.quality


@pytest.fixture(scope="module")
def two_runs(runs, tmp_path_factory) -> tuple[Path, Path]:
    """Two decompositions of the same patients, which hold out the same ones."""
    root = tmp_path_factory.mktemp("two")
    hips = write_dataset(root / "hips", patients=10)
    for seed in (0, 1):
        config = load(DecompositionConfig, recipe=RECIPE, flags={"dataset": "B"})
        train_decomposition(hips, root / f"seed-{seed}", config, seed=seed, device="cpu")
    return root / "seed-0", root / "seed-1"


def test_of_several_decompositions_the_mean_is_told(two_runs, hips) -> None:
    pixels = both_hips(hips)
    shown = Radiograph(pixels, np.ones(pixels.shape, bool))
    one, other, both = (predict_hip(load_predictor(run), shown, "L") for run in (*two_runs, list(two_runs)))
    assert one.bmd["dxa"] != other.bmd["dxa"]
    for task in ("dxa", "qct"):
        assert both.bmd[task] == pytest.approx((one.bmd[task] + other.bmd[task]) / 2, rel=1e-6)
    assert np.allclose(both.pf_drr_g_cm2, (one.pf_drr_g_cm2 + other.pf_drr_g_cm2) / 2, atol=1e-5)
    joint = load_predictor(list(two_runs))
    assert joint.name == "seed-0 + seed-1"
    rows = [read_predictions(run / "predictions.csv") for run in two_runs]
    held_out = [(a, b) for a, b in zip(*rows, strict=True) if a.split == "test"]
    apart = [abs(a.predicted_dxa_bmd_g_cm2 - b.predicted_dxa_bmd_g_cm2) / 2 for a, b in held_out]
    assert joint.usual["dxa"].limit == pytest.approx(np.quantile(apart, 0.98), rel=1e-6)


def test_decompositions_of_other_sizes_are_told_together(two_runs, tmp_path, hips) -> None:
    """Each sees the image in its own pixels; the projection has those of the first, the cut those of the finest."""
    fine = tmp_path / "fine"
    shutil.copytree(two_runs[1], fine)
    coarse = load_predictor(two_runs[0])
    rows, columns = coarse.run.config.image_size
    config, described = (json.loads((fine / name).read_text()) for name in ("config.json", "run.json"))
    config["settings"]["image_size"] = [2 * rows, 2 * columns]
    (fine / "config.json").write_text(json.dumps(config))
    cut = {"rows": 2 * coarse.pairs.rows, "columns": 2 * coarse.pairs.columns}
    pairs = described.get("pairs", {}) | cut
    (fine / "run.json").write_text(json.dumps(described | {"image_size": [2 * rows, 2 * columns], "pairs": pairs}))
    pixels = both_hips(hips)
    shown = Radiograph(pixels, np.ones(pixels.shape, bool))
    joint = load_predictor([two_runs[0], fine])
    assert (joint.pairs.rows, joint.pairs.columns) == (cut["rows"], cut["columns"])
    found = predict_hip(joint, shown, "L")
    assert found.pf_drr_g_cm2.shape == (rows, columns)
    _, image, coverage = cut_hip(shown, "L", joint.pairs)
    seen = coverage >= joint.pairs.mask_coverage
    told = [load_predictor(run).look(image, seen, "L") for run in (two_runs[0], fine)]
    assert found.bmd["dxa"] == pytest.approx(np.mean([one.bmd["dxa"] for one in told]), rel=1e-6)
    halved = resize_bilinear(told[1].pf_drr_g_cm2, (rows, columns))
    np.testing.assert_allclose(found.pf_drr_g_cm2, (told[0].pf_drr_g_cm2 + halved) / 2, atol=1e-5)


@pytest.mark.parametrize("simulated", [0, 1])
def test_a_network_of_simulated_patients_among_others_is_told_of(two_runs, tmp_path, simulated) -> None:
    """Patients' data are no safer for what a network of simulated images adds to them."""
    folders = [tmp_path / "one", tmp_path / "other"]
    for number, (source, folder) in enumerate(zip(two_runs, folders, strict=True)):
        shutil.copytree(source, folder)
        described = json.loads((folder / "run.json").read_text())
        kind = "simulated" if number == simulated else "clinical"
        (folder / "run.json").write_text(json.dumps(described | {"data": kind}))
    assert load_predictor(folders).intended_use == SIMULATED_USE
    assert load_predictor(folders[1 - simulated]).intended_use == USE


def test_networks_that_disagree_are_flagged(two_runs, hips) -> None:
    pixels = both_hips(hips)
    shown = Radiograph(pixels, np.ones(pixels.shape, bool))
    joint = load_predictor(list(two_runs))
    strict = replace(joint, usual={"dxa": Disagreement(1e-6)})
    found = predict_hip(strict, shown, "L")
    assert found.quality == "reject"
    assert any("disagree" in reason for reason in found.reasons)
    lenient = replace(joint, usual={"dxa": Disagreement(10.0)}, plausibility=None, familiarity=None)
    assert not any("disagree" in reason for reason in predict_hip(lenient, shown, "L").reasons)


def test_runs_that_do_not_go_together_are_refused(runs, regression, tmp_path) -> None:
    for pair in ([regression, regression], [runs["B"], runs["B"]]):
        with pytest.raises(PreflightError, match="BMD-PRE-004"):
            load_predictor(pair)
    other = tmp_path / "other"
    shutil.copytree(regression, other)
    described = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(described | {"pairs": {"rows": 256, "columns": 256}}))
    with pytest.raises(PreflightError, match="BMD-PRE-004"):
        load_predictor([runs["B"], other])
