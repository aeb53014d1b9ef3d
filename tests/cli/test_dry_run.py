"""--dry-run of every long command: it says what would be done, refuses what the command refuses, and writes nothing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from dicom_samples import write_dx
from drawn_runs import write_run
from labelled_ct import labelled_ct, write_pairs

from bmdkit.cli.main import group, main
from bmdkit.core import device
from bmdkit.io.images import read_tiff
from bmdkit.io.volumes import write_volume
from bmdkit.jobs import lock

PIPELINES = Path(__file__).parents[2] / "pipelines"
TRAIN = PIPELINES / "train"

LONG = (
    *("simulate", "init-cohort", "build-dataset", "register", "segment", "predict", "evaluate", "study"),
    *(f"train {kind}" for kind in ("decomposition", "regression", "baseline", "key-points", "segmentation")),
)


def find_command(name: str) -> click.Command:
    first, *rest = name.split()
    command = group.get_command(None, first)
    return command.get_command(None, rest[0]) if rest else command


@pytest.mark.parametrize("name", LONG)
def test_every_long_command_has_it_and_its_variable(name):
    (option,) = (one for one in find_command(name).params if one.name == "dry_run")
    assert option.opts == ["--dry-run"]
    assert option.envvar == "BMDKIT_DRY_RUN"


def list_files(folder: Path) -> dict[str, tuple[int, int] | None]:
    """All files below a folder with their sizes and times, and all folders."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None for name, path in found.items()
    }


@pytest.fixture
def run(tmp_path, capsys):
    """Runs a command as typed; gives its exit status, its output and its errors."""

    def call(*words: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code
        told = capsys.readouterr()
        return code, " ".join(told.out.split()), told.err

    return call


@pytest.fixture
def dry(run, tmp_path):
    """Runs a command with --dry-run, and makes sure that nothing is written."""

    def call(*words: object) -> tuple[int, str, str]:
        before = list_files(tmp_path)
        result = run(*words, "--dry-run")
        assert list_files(tmp_path) == before
        return result

    return call


@pytest.fixture
def refuse(run, dry):
    """Makes sure that a command and its dry run refuse the same with the same words; gives the status and the code."""

    def call(*words: object) -> tuple[int, str]:
        code, _, told = dry(*words)
        again, _, real = run(*words)
        assert again == code
        assert real.endswith(told)  # behind what the log says of the work
        return code, told.split(":")[0]

    return call


KINDS = {
    "decomposition": ("test", "Training: 2 epochs of 2 steps."),
    "baseline": ("regression-test", "Training baseline: 2 epochs of 2 steps."),
    "key-points": ("key-points-test", "Training scratch:"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_says_whom_it_would_learn_from_and_how_long(kind, hips, tmp_path, dry):
    recipe, length = KINDS[kind]
    words = ["train", kind, hips, "--out", tmp_path / "run", "--recipe", TRAIN / f"{recipe}.yaml", "--device", "cpu"]
    code, told, _ = dry(*words)
    assert code == 0
    assert "learn from 4 patients (8 pairs) and hold out 1 patient (2 pairs). Fold 0 is held out." in told
    assert length in told
    assert "compute on cpu" in told
    assert f"anew: {tmp_path / 'run'} holds no run yet" in told


def test_fold_all_and_tune_patients_are_told(hips, tmp_path, dry):
    words = ["train", "decomposition", hips, "--out", tmp_path / "run", "--recipe", TRAIN / "test.yaml"]
    _, told, _ = dry(*words, "--fold", "all", "--set", "tune_share=0.2", "--set", "loop.epoch_samples=40")
    assert "learn from 4 patients (8 pairs), tune with 1 patient (2 pairs) and hold out nobody." in told
    assert "2 epochs of 10 steps" in told


def test_a_segmentation_training_counts_its_cts(tmp_path, dry):
    data = write_pairs(tmp_path / "data", 5)
    words = ["train", "segmentation", data, "--out", tmp_path / "run", "--recipe", TRAIN / "segmentation-test.yaml"]
    code, told, _ = dry(*words)
    assert code == 0
    assert "CTs)" in told
    assert "known when the slices of the CTs have been made" in told
    _, told, _ = dry(*words, "--set", "loop.epoch_samples=12", "--set", "loop.batch_size=5")
    assert "of 3 steps" in told


def train_words(data: Path, out: Path, *more: object) -> list[object]:
    flags = ["--recipe", TRAIN / "test.yaml", "--dataset", "B", "--device", "cpu"]
    return ["train", "decomposition", data, "--out", out, *flags, *more]


def test_a_training_says_what_becomes_of_its_folder(hips, decomposition_run, tmp_path, dry):
    out = shutil.copytree(decomposition_run, tmp_path / "run")
    assert f"The run in {out} is finished" in dry(*train_words(hips, out))[1]
    told = dry(*train_words(hips, out, "--set", "loop.epochs=5"))[1]
    assert "5 epochs of 2 steps, 2 of them done" in told
    assert "resumed after epoch 2 of 5" in told
    assert f"all that {out} holds would be removed" in dry(*train_words(hips, out, "--overwrite", "--seed", "3"))[1]


def test_a_regression_says_its_phases_and_where_it_would_go_on(hips, decomposition_run, tmp_path, run, dry):
    words = ["train", "regression", hips, "--out", tmp_path / "run", "--recipe", TRAIN / "regression-test.yaml"]
    words += ["--init-from", decomposition_run, "--device", "cpu"]
    told = dry(*words)[1]
    assert f"start from the weights of {decomposition_run}" in told
    assert "Training frozen: 2 epochs of 2 steps. Training tuned: 1 epoch of 2 steps." in told
    assert run(*words)[0] == 0
    assert "is finished" in dry(*words)[1]
    shutil.rmtree(tmp_path / "run/tuned")
    assert "resumed after frozen" in dry(*words)[1]
    told = dry(*words, "--set", "loop.epochs=3")[1]
    assert "resumed after epoch 2 of 3 of frozen" in told


UNFIT = {
    "no dataset": (["{folder}", "{out}"], 4, "BMD-TRN-001"),
    "an unknown setting": (["{hips}", "{out}", "--set", "loop.epoch=3"], 2, None),
    "a value that cannot be": (["{hips}", "{out}", "--set", "loop.epochs=0"], 2, None),
    "a fold without patients": (["{hips}", "{out}", "--fold", "9"], 4, "BMD-TRN-004"),
    "no run to start from": (["{hips}", "{out}", "--init-from", "{folder}"], 4, "BMD-TRN-009"),
    "a folder of other files": (["{hips}", "{folder}"], 4, "BMD-TRN-008"),
    "another run": (["{hips}", "{run}", "--seed", "7"], 4, "BMD-TRN-008"),
    "a device that is not there": (["{hips}", "{out}", "--device", "cuda"], 4, "BMD-TRN-010"),
    "no place for the output": (["{hips}", "{folder}/file/below"], 4, "BMD-RUN-030"),
    "no TensorBoard": (["{hips}", "{out}", "--set", "loop.tensorboard=true"], 4, "BMD-TRN-011"),
    "a damaged image": (["{damaged}", "{out}"], 4, "BMD-TRN-005"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_training_and_its_dry_run_refuse_the_same(case, hips, decomposition_run, tmp_path, refuse, monkeypatch):
    monkeypatch.setattr(device, "count_gpus", lambda: 0)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    words, status, code = UNFIT[case]
    places = {"hips": hips, "out": tmp_path / "out", "folder": tmp_path / "folder", "run": tmp_path / "run"}
    places["damaged"] = tmp_path / "damaged"
    places["folder"].mkdir()
    (places["folder"] / "file").write_text("0")
    if "{run}" in words:
        shutil.copytree(decomposition_run, places["run"])
    if "{damaged}" in words:
        shutil.copytree(hips, places["damaged"])
        next(places["damaged"].rglob("dataset_b/*/drr.tif")).write_bytes(b"0")
    data, out, *more = (word.format(**places) for word in words)
    found = refuse(*train_words(data, out, *more))
    assert found[0] == status
    assert code is None or found[1] == code
    assert not places["out"].exists()


def test_a_training_in_a_folder_that_is_held_is_refused(hips, decomposition_run, tmp_path, refuse):
    out = shutil.copytree(decomposition_run, tmp_path / "run")
    with lock.hold(out):
        assert refuse(*train_words(hips, out)) == (5, "BMD-RUN-020")


def test_checkpoints_that_cannot_be_read_are_named(hips, decomposition_run, tmp_path, dry):
    out = shutil.copytree(decomposition_run, tmp_path / "run")
    for file in out.glob("checkpoints/*.pt"):
        file.write_bytes(b"0")
    code, _, told = dry(*train_words(hips, out))
    assert (code, told.split(":")[0]) == (4, "BMD-TRN-009")


@pytest.fixture
def ct(tmp_path) -> Path:
    """A tiny CT of a hip."""
    write_volume(tmp_path / "ct.nii.gz", labelled_ct(11)[0])
    return tmp_path / "ct.nii.gz"


def test_segment_says_what_it_would_label_and_write(ct, tmp_path, dry):
    words = ["segment", ct, "--out", tmp_path / "out", "--device", "cpu"]
    code, told, _ = dry(*words)
    assert code == 0
    assert "14 slices of 64 x 64 pixels of 5.00 x 5.00 mm, 6.00 mm apart" in told
    assert "network that comes with bmdkit would label every slice with 10 dropout draws, on cpu" in told
    assert f"{tmp_path / 'out'}: labels.nii.gz, labels.json, uncertainty.nii.gz, uncertainty.json." in told
    (tmp_path / "out").mkdir()
    (tmp_path / "out/labels.json").write_text("{}")
    told = dry(*words, "--passes", "1", "--slice-stride", "3", "--entropy", "--slicer")[1]
    assert "one slice in 3 with 1 dropout draw" in told
    assert "labels.nii.gz, labels.json, entropy.nii.gz, labels.seg.nrrd." in told
    assert "to be replaced: labels.json." in told


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        (["--set", "segmentation.predict.pass=3"], 2, None),
        (["--pseudonymise"], 2, None),
        (["--model", "{folder}"], 4, "BMD-TRN-009"),
        (["--device", "cuda"], 4, "BMD-TRN-010"),
        (
            ["--segmentation", "totalsegmentator", "--set", "segmentation.totalsegmentator.executable=none-such"],
            4,
            "BMD-SEG-002",
        ),
        (["--dicom"], 3, "BMD-DCM-001"),
        (["--series-uid", "1.2", "{dicom}"], 3, None),
    ],
)
def test_segment_and_its_dry_run_refuse_the_same(more, status, code, ct, ct_folder, tmp_path, refuse, monkeypatch):
    monkeypatch.setattr(device, "count_gpus", lambda: 0)
    (tmp_path / "folder").mkdir()
    image = ct_folder if "{dicom}" in more else ct
    words = [word.format(folder=tmp_path / "folder") for word in more if word != "{dicom}"]
    found = refuse("segment", image, "--out", tmp_path / "out", *words)
    assert found[0] == status
    assert code is None or found[1] == code
    assert not (tmp_path / "out").exists()


@pytest.fixture
def xrays(hips, tmp_path) -> Path:
    """A folder of two radiographs of a pelvis."""
    for patient in ("p1", "p2"):
        left = read_tiff(hips / "dataset_b" / f"{patient}__standing__L" / "xray.tif")[0]
        (tmp_path / "xrays").mkdir(exist_ok=True)
        write_dx(tmp_path / "xrays" / f"{patient}.dcm", np.hstack([left[:, ::-1], left]))
    return tmp_path / "xrays"


def test_predict_says_what_is_there_and_what_would_be_done(xrays, decomposition_run, tmp_path, run, dry):
    words = ["predict", xrays, "--run", decomposition_run, "--out", tmp_path / "out", "--device", "cpu"]
    code, told, _ = dry(*words)
    assert code == 0
    assert "Radiographs: 2, of which 0 were predicted earlier" in told
    assert f"The network {decomposition_run.name} would predict 2 of them, on cpu." in told
    assert "a projection, a picture." in told
    assert run(*words)[0] == 0
    assert "is finished: it would be kept as it is" in dry(*words)[1]
    told = dry(*words, "--overwrite", "--side", "L")[1]
    assert "of which 0 were" in told


def test_an_interrupted_prediction_is_told(xrays, decomposition_run, tmp_path, run, dry, monkeypatch):
    from bmdkit.inference import prediction

    words = ["predict", xrays, "--run", decomposition_run, "--out", tmp_path / "out", "--device", "cpu"]
    predict_radiograph = prediction._predict_radiograph

    def stop_at_the_second(request, name, path):
        if name == "p2":
            raise KeyboardInterrupt
        return predict_radiograph(request, name, path)

    monkeypatch.setattr(prediction, "_predict_radiograph", stop_at_the_second)
    assert run(*words)[0] == 130
    assert "Radiographs: 2, of which 1 were predicted earlier" in dry(*words)[1]


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        (["--run", "{folder}"], 4, "BMD-TRN-009"),
        (["--device", "cuda"], 4, "BMD-TRN-010"),
        (["{folder}"], 4, "BMD-PRE-003"),
        (["--out", "{xrays}"], 4, "BMD-PRE-003"),
        (["--out", "{other}"], 4, "BMD-PRE-002"),
        (["--dicom", "--out", "{hips}/below"], 4, "BMD-DCM-002"),
        (["--pseudonymise"], 2, None),
        (["--reference", "{other}/notes.txt"], 2, None),
    ],
)
def test_predict_and_its_dry_run_refuse_the_same(more, status, code, xrays, hips, tmp_path, refuse, monkeypatch):
    monkeypatch.setattr(device, "count_gpus", lambda: 0)
    places = {"folder": tmp_path / "folder", "xrays": xrays, "other": tmp_path / "other", "hips": hips}
    for name in ("folder", "other"):
        places[name].mkdir()
    (places["other"] / "notes.txt").write_text("mean: 1")
    found = refuse("predict", xrays, "--out", tmp_path / "out", *(word.format(**places) for word in more))
    assert found[0] == status
    assert code is None or found[1] == code
    assert not (tmp_path / "out").exists()


def test_a_prediction_in_a_folder_that_is_held_is_refused(xrays, tmp_path, refuse):
    (tmp_path / "out").mkdir()
    with lock.hold(tmp_path / "out"):
        assert refuse("predict", xrays, "--out", tmp_path / "out") == (5, "BMD-RUN-020")


def test_evaluate_names_methods_runs_and_patients(hips, tmp_path, dry, refuse):
    runs = [write_run(tmp_path / f"seed{seed}", hips, seed=seed) for seed in (0, 1)]
    words = ["evaluate", *runs, "--data", hips, "--out", tmp_path / "out"]
    code, told, _ = dry(*words, "--kind", "simulated", "--robustness")
    assert code == 0
    assert f"Data: {hips}, simulated." in told
    assert "fold 0 seed 0, fold 0 seed 1; 2 radiographs of 1 patients" in told
    assert f"figures to {tmp_path / 'out'}" in told
    assert "JPEGs" in told
    assert refuse(*words) == (4, "BMD-EVA-005")
    assert refuse(*words, "--kind", "simulated", "--pose", "prone") == (4, "BMD-EVA-004")
    assert refuse(*words, "--kind", "simulated", "--out", runs[0] / "config.json" / "below") == (4, "BMD-RUN-030")
    assert refuse("evaluate", hips, "--data", hips, "--out", tmp_path / "out") == (4, "BMD-EVA-005")


@pytest.fixture
def study(tmp_path) -> Path:
    """A study of a decomposition and of a regression that starts from it, with two seeds."""
    runs = [{"name": "b", "train": "decomposition", "recipe": "test.yaml", "set": ["loop.epochs=1"]}]
    more = {"set": ["loop.epochs=1"], "init_from": "b"}
    runs += [{"name": "r", "train": "regression", "recipe": "regression-test.yaml"} | more]
    for run in runs:
        run["recipe"] = str(TRAIN / run["recipe"])
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"runs": runs, "seeds": [0, 1], "simulate": {"count": 4}}))
    return path


def test_a_study_names_every_run_and_what_is_done(study, hips, tmp_path, dry, monkeypatch):
    from bmdkit.config import load
    from bmdkit.study.plan import run_study
    from bmdkit.study.plan_settings import StudyConfig

    out = tmp_path / "out"
    words = ["study", study, "--out", out, "--device", "cpu", "--data", hips, "--kind", "simulated"]
    told = dry(*words)[1]
    for name in "br":
        assert all(f"runs/{name}/seed{seed}: run {name}, fold 0, seed {seed}: to do." in told for seed in (0, 1))
    assert "4 of 4 runs are left to train, on cpu" in told
    monkeypatch.setattr("bmdkit.study.plan._compare", lambda *arguments: {})
    config = load(StudyConfig, recipe=study, overrides=["seeds=[0]"])
    run_study(config, out, recipes=study.parent, data=hips, kind="simulated", device="cpu")
    told = dry(*words)[1]
    assert "run b, fold 0, seed 0: done." in told
    assert "run r, fold 0, seed 0: done." in told
    assert "2 of 4 runs are left" in told
    (out / "runs/r/seed0/study.json").unlink()
    assert "run r, fold 0, seed 0: to go on with." in dry(*words)[1]
    (out / "runs/b/seed0/study.json").unlink()
    told = dry(*words)[1]
    assert "run b, fold 0, seed 0: to go on with." in told
    assert "run r, fold 0, seed 0: to do." in told


def test_a_study_of_its_own_data_says_how_many_patients_are_to_simulate(study, tmp_path, dry):
    code, told, _ = dry("study", study, "--out", tmp_path / "out", "--device", "cpu")
    assert code == 0
    assert "Data data: " in told
    assert "patients are to simulate" in told
    assert "4 of 4 runs are left" in told


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        (["--set", "seed=[0]"], 2, None),
        (["--set", "fold=all"], 2, None),
        (["--data-ct", "{hips}"], 2, None),
        (["--device", "cuda"], 4, "BMD-TRN-010"),
        (["--data", "{hips}"], 4, "BMD-EVA-005"),
        (["--data", "{hips}", "--kind", "simulated", "--set", "fold=9"], 4, "BMD-TRN-004"),
        (["--set", "pretrained={folder}"], 4, "BMD-TRN-009"),
        (["--out", "{other}"], 4, "BMD-SIM-001"),
    ],
)
def test_a_study_and_its_dry_run_refuse_the_same(more, status, code, study, hips, tmp_path, refuse, monkeypatch):
    monkeypatch.setattr(device, "count_gpus", lambda: 0)
    places = {"folder": tmp_path / "folder", "other": tmp_path / "other", "hips": hips}
    places["folder"].mkdir()
    (places["other"] / "data").mkdir(parents=True)
    (places["other"] / "data" / "notes.txt").write_text("0")
    found = refuse("study", study, "--out", tmp_path / "out", *(word.format(**places) for word in more))
    assert found[0] == status
    assert code is None or found[1] == code
    assert not (tmp_path / "out").exists()


def test_the_variable_makes_every_run_dry(xrays, decomposition_run, tmp_path, run, monkeypatch):
    monkeypatch.setenv("BMDKIT_DRY_RUN", "1")
    code, told, _ = run("predict", xrays, "--run", decomposition_run, "--out", tmp_path / "out", "--device", "cpu")
    assert code == 0
    assert "would predict 2 of them" in told
    assert not (tmp_path / "out").exists()
