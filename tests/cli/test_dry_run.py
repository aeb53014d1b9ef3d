"""--dry-run of every long command: it says what would be done, refuses what the command refuses, and writes nothing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
import pytest
from labelled_ct import write_pairs

from bmdkit.cli.main import group, main
from bmdkit.core import device
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
        assert (again, real) == (code, told)
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
