import contextlib
import csv
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bmdkit.cli.main import main
from bmdkit.config import ConfigError, load
from bmdkit.dataset.samples import read_pairs, split_pairs
from bmdkit.errors import LockedError, PreflightError
from bmdkit.io.images import read_tiff, write_tiff
from bmdkit.training.augment import AugmentConfig
from bmdkit.training.decomposition import DecompositionLearner, train_decomposition
from bmdkit.training.engine import Engine
from bmdkit.training.loop import Loop, TrainingError
from bmdkit.training.metrics import fit_lines, inside_mask
from bmdkit.training.pair_batches import load_pairs
from bmdkit.training.run import estimate_bmd, load_run, predict_pf_drr
from bmdkit.training.settings import DecompositionConfig

RECIPE = Path(__file__).parents[2] / "pipelines/train/test.yaml"


def config(*overrides):
    return load(DecompositionConfig, recipe=RECIPE, overrides=overrides)


def weights(folder):
    return load_file(folder / "generator.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def stage_one(hips, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    train_decomposition(hips, out, config(), device="cpu")
    return out


def test_a_run_holds_what_is_needed_to_use_it(stage_one):
    names = {path.name for path in stage_one.iterdir()}
    assert names >= {"config.json", "run.json", "log.csv", "metrics.json", "montage.png", "predictions.csv"}
    assert names >= {"generator.safetensors", "checkpoints"}
    metrics = json.loads((stage_one / "metrics.json").read_text())
    assert (metrics["train"]["patients"], metrics["train"]["images"]) == (4, 8)
    assert (metrics["test"]["patients"], metrics["test"]["images"]) == (1, 2)
    assert metrics["test"]["pf_drr_mean_pcc"] is None  # two images always lie on a line
    rows = list(csv.DictReader((stage_one / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    held_out = {
        row["patient_id"] for row in csv.DictReader((stage_one / "predictions.csv").open()) if row["split"] == "test"
    }
    assert held_out == {"p0"}


@pytest.mark.gpu
def test_losses_on_a_gpu_are_those_of_the_cpu(stage_one, hips, tmp_path, network_device):
    train_decomposition(hips, tmp_path / "there", config(), device=network_device)
    here, there = (
        [float(row["generator"]) for row in csv.DictReader((folder / "log.csv").open())]
        for folder in (stage_one, tmp_path / "there")
    )
    assert there == pytest.approx(here, rel=0.02)  # two epochs of steps whose sums are in another order


def test_scale_is_the_largest_value_of_the_training_patients(stage_one, hips):
    largest = max(read_tiff(path).max() for path in hips.glob("dataset_a/p[1-4]*/drr.tif"))
    assert load_run(stage_one).scale_g_cm2 == pytest.approx(float(largest))


def test_stage_two_starts_from_stage_one(stage_one, hips, tmp_path):
    frozen = config("dataset=B", "optimiser.lr=1e-30", "optimiser.weight_decay=0", "loop.epochs=1")
    train_decomposition(hips, tmp_path / "b", frozen, device="cpu", init_from=stage_one)
    before, after = weights(stage_one), weights(tmp_path / "b")
    for name, value in before.items():
        expected = value[1:] if name.startswith("decoder.last") else value  # the femur's filter
        assert torch.equal(after[name], expected), name
    fresh = replace(frozen, last_layer="fresh")
    train_decomposition(hips, tmp_path / "fresh", fresh, device="cpu", init_from=stage_one)
    after = weights(tmp_path / "fresh")
    assert torch.equal(after["encoder.body.0.weight"], before["encoder.body.0.weight"])
    assert not torch.equal(after["decoder.last.weight"], before["decoder.last.weight"][1:])


def test_a_killed_run_ends_with_the_same_weights(hips, tmp_path):
    """Stopped in the middle of an epoch, between two checkpoints, twice."""
    settings = config("loop.epochs=4", "loop.checkpoint_steps=3", "loop.checkpoint_epochs=2", "loop.batch_size=2")
    train_decomposition(hips, tmp_path / "whole", settings, device="cpu", seed=3)
    for last in (5, 11):
        with pytest.raises(KilledError), killing_at(last):
            train_decomposition(hips, tmp_path / "killed", settings, device="cpu", seed=3)
    assert len(list((tmp_path / "killed/checkpoints").iterdir())) == 2
    train_decomposition(hips, tmp_path / "killed", settings, device="cpu", seed=3)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    logs = [list(csv.DictReader((tmp_path / name / "log.csv").open())) for name in ("whole", "killed")]
    for one, other in zip(*logs, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


class KilledError(Exception):
    """Stands for a signal."""


@contextlib.contextmanager
def killing_at(step):
    """Fails when a loop has done that many steps."""
    original = Loop._average

    def average(loop):
        if loop.steps == step:
            raise KilledError
        original(loop)

    Loop._average = average
    try:
        yield
    finally:
        Loop._average = original


def test_a_budget_that_is_used_up_stays_used_up(hips, tmp_path):
    settings = config("loop.epochs=5", "loop.budget_minutes=1e-9")
    for _ in range(2):
        train_decomposition(hips, tmp_path / "run", settings, device="cpu")
        assert (tmp_path / "run/log.csv").read_text().count("\n") == 2  # the header, one epoch
    train_decomposition(hips, tmp_path / "run", config("loop.epochs=5"), device="cpu")
    assert (tmp_path / "run/log.csv").read_text().count("\n") == 6


def test_the_line_to_bmd_does_not_look_outside_the_mask(own_hips, tmp_path):
    """What a network paints over a collimator is its own affair: nobody taught it, nobody counts it."""
    for path in own_hips.glob("dataset_b/*/mask.tif"):
        mask = read_tiff(path)[0]
        mask[:8] = 0
        write_tiff(path, mask.astype(np.uint8))
    run = train_decomposition(own_hips, tmp_path / "run", config("dataset=B", "loop.epochs=1"), device="cpu").run
    train, _ = split_pairs(read_pairs(own_hips, "B"), 0)
    data = load_pairs(train, (64, 32))
    painted = np.full((len(train), 1, 64, 32), 0.5, np.float32) * np.linspace(1, 2, len(train))[:, None, None, None]
    lines = []
    for value in (0.0, 50.0):
        images = torch.from_numpy(painted.astype(np.float32)).clone()
        images[:, :, :8] = value
        lines.append(fit_lines(run, {"train": data}, *({"train": inside_mask(x, data)} for x in (data.drr, images))))
    assert lines[0] == lines[1]
    assert inside_mask(images, data)[:, :, :8].max() == 0


@pytest.mark.slow
def test_twenty_kills_change_nothing(hips, tmp_path, figure):
    """SIGKILL after every one of the first twenty steps."""
    command = [sys.executable, "-m", "bmdkit.cli.main", "train", "decomposition", str(hips), "--device", "cpu"]
    command += ["--recipe", str(RECIPE), "--set", "loop.epochs=6", "--set", "loop.checkpoint_steps=1"]
    command += ["--set", "loop.batch_size=2", "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    command += [str(tmp_path / "killed")]
    for step in range(1, 21):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and last_step(tmp_path / "killed") < step:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert last_step(tmp_path / "killed") >= step
    subprocess.run(command, check=True, capture_output=True)  # as many threads as those killed, which bits depend on
    equal = same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    figure("training: killed at steps", 20)
    figure("training: weights bit-equal afterwards", equal)
    assert equal
    assert not list((tmp_path / "killed").rglob(".part-*"))


def last_step(run):
    return max((int(path.stem.removeprefix("step_")) for path in run.glob("checkpoints/step_*.pt")), default=0)


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(hips, tmp_path):
    settings = config("loop.epochs=3", "loop.checkpoint_epochs=1")
    train_decomposition(hips, tmp_path / "run", settings, device="cpu")
    whole = weights(tmp_path / "run")
    last = max((tmp_path / "run/checkpoints").iterdir())
    last.write_bytes(last.read_bytes()[:1000])
    train_decomposition(hips, tmp_path / "run", settings, device="cpu")
    assert same(weights(tmp_path / "run"), whole)


def test_pickled_checkpoints_are_not_opened(hips, tmp_path):
    train_decomposition(hips, tmp_path / "run", config(), device="cpu")
    for path in (tmp_path / "run/checkpoints").iterdir():
        torch.save({"format": 1, "model": Path("x")}, path)
    with pytest.raises(PreflightError, match="BMD-TRN-009"):
        train_decomposition(hips, tmp_path / "run", config("loop.epochs=3"), device="cpu")


def test_it_learns(hips, tmp_path):
    still = [f"augment.{name}=0" for name in ("rotation_deg", "shear_deg", "shift", "scale", "flip_horizontal")]
    still += ["augment.flip_vertical=0", "augment.brightness=0", "augment.contrast=0"]
    settings = config("dataset=B", "loop.epochs=40", "optimiser.lr=2e-3", "optimiser.first_cycle_epochs=40", *still)
    trained = train_decomposition(hips, tmp_path / "run", settings, device="cpu")
    rows = list(csv.DictReader((tmp_path / "run/log.csv").open()))
    assert float(rows[-1]["l1"]) < 0.3 * float(rows[0]["l1"])
    assert trained.metrics["test"]["l1_g_cm2"] < 0.1  # the region's mean is about 0.8 over a quarter of the image
    assert set(trained.run.lines) == {"dxa", "qct"}


def test_predicting_from_a_radiograph_is_what_the_run_reported(hips, tmp_path):
    train_decomposition(hips, tmp_path / "run", config("dataset=B"), device="cpu")
    run = load_run(tmp_path / "run")
    xray = read_tiff(hips / "dataset_b/p0__supine__L/xray.tif")[0]
    predicted = predict_pf_drr(run, xray)
    assert predicted.shape == (64, 32)
    rows = {row["pair_id"]: row for row in csv.DictReader((tmp_path / "run/predictions.csv").open())}
    for task, column in (("dxa", "predicted_dxa_bmd_g_cm2"), ("qct", "predicted_qct_bmd_mg_cm3")):
        assert estimate_bmd(run, predicted, xray)[task] == pytest.approx(float(rows["p0__supine__L"][column]), rel=1e-5)


def test_mixed_precision_trains(hips, tmp_path):
    settings = config("loop.precision=bf16", "loop.epochs=1", "dataset=B", "losses.form=log")
    trained = train_decomposition(hips, tmp_path / "run", settings, device="cpu")
    assert np.isfinite(trained.metrics["test"]["l1_g_cm2"])


def test_tensorboard_that_is_missing_is_named(hips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PreflightError, match="BMD-TRN-011"):
        train_decomposition(hips, tmp_path / "run", config("loop.tensorboard=true"), device="cpu")


def test_fold_all_holds_nobody_out(hips, tmp_path):
    trained = train_decomposition(hips, tmp_path / "run", config("fold=all", "loop.epochs=1"), device="cpu")
    assert trained.metrics["train"]["patients"] == 5
    assert "test" not in trained.metrics


def test_without_judges_there_is_no_discriminator(hips, tmp_path):
    settings = config("losses.adversarial=0", "losses.feature_matching=0", "loop.epochs=1")
    train_decomposition(hips, tmp_path / "run", settings, device="cpu")
    (row,) = csv.DictReader((tmp_path / "run/log.csv").open())
    assert "discriminator" not in row
    assert "adversarial" not in row


def test_a_loss_that_is_not_finite_stops_with_a_reason(hips, tmp_path):
    with pytest.raises(TrainingError, match=r"BMD-TRN-007.*l1.*epoch 1"):
        train_decomposition(hips, tmp_path / "run", config("optimiser.lr=1e30"), device="cpu")
    assert not (tmp_path / "run/generator.safetensors").exists()


def test_images_that_are_not_finite_are_found_before_the_first_step(own_hips, tmp_path):
    path = own_hips / "dataset_a/p3__supine__L/drr.tif"
    image = read_tiff(path)
    image[1, 5, 5] = np.nan
    write_tiff(path, image)
    with pytest.raises(PreflightError, match=r"BMD-TRN-005: p3__supine__L drr.tif: 1 values are not finite"):
        train_decomposition(own_hips, tmp_path / "run", config(), device="cpu")
    assert not (tmp_path / "run").exists()


def test_another_architecture_is_refused(stage_one, hips, tmp_path):
    with pytest.raises(PreflightError, match=r"BMD-TRN-006.*generator.filters is 8 there and 12 here"):
        train_decomposition(
            hips, tmp_path / "run", config("dataset=B", "generator.filters=12"), device="cpu", init_from=stage_one
        )


def test_another_run_is_not_overwritten_unasked(hips, tmp_path):
    train_decomposition(hips, tmp_path / "run", config("loop.epochs=1"), device="cpu")
    with pytest.raises(PreflightError, match=r"BMD-TRN-008.*settings.optimiser.lr differ"):
        train_decomposition(hips, tmp_path / "run", config("optimiser.lr=1e-5"), device="cpu")
    trained = train_decomposition(hips, tmp_path / "run", config("optimiser.lr=1e-5"), device="cpu", overwrite=True)
    assert trained.metrics["epochs"] == 2


def test_files_that_are_no_run_are_never_dropped(hips, tmp_path):
    (tmp_path / "letter.txt").write_text("keep me")
    for overwrite in (False, True):
        with pytest.raises(PreflightError, match="BMD-TRN-008"):
            train_decomposition(hips, tmp_path, config(), device="cpu", overwrite=overwrite)
    assert (tmp_path / "letter.txt").exists()


def test_a_run_can_be_made_longer(hips, tmp_path):
    train_decomposition(hips, tmp_path / "run", config("loop.epochs=1"), device="cpu")
    train_decomposition(hips, tmp_path / "run", config("loop.epochs=2"), device="cpu")
    train_decomposition(hips, tmp_path / "whole", config("loop.epochs=2"), device="cpu")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_two_trainings_do_not_share_a_folder(hips, tmp_path):
    from bmdkit.jobs.lock import hold

    (tmp_path / "run").mkdir()
    with hold(tmp_path / "run"), pytest.raises(LockedError):
        train_decomposition(hips, tmp_path / "run", config(), device="cpu")


def test_command_line(hips, tmp_path, capsys):
    arguments = ["train", "decomposition", str(hips), "--recipe", str(RECIPE), "--device", "cpu", "-q"]
    main([*arguments, "--out", str(tmp_path / "run"), "--dataset", "B", "--fold", "2"])
    assert "held out (fold 2)" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="4"):
        main([*arguments, "--out", str(tmp_path / "run"), "--dataset", "B", "--fold", "9"])
    assert "BMD-TRN-004" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--out", str(tmp_path / "run"), "--set", "loop.epoch=1"])
    assert "loop.epoch: unknown setting" in capsys.readouterr().err


def test_unpaired_never_sees_which_projection_belongs_to_a_radiograph(hips, stage_one, tmp_path):
    """Held to what stage one sees, and judged by the projections of other radiographs alone."""
    unpaired = config(
        "dataset=B", "pairing=unpaired", "losses.feature_matching=0", "losses.l1=10", "optimiser.lr=2e-3",
        "loop.epochs=2", "augment.flip_horizontal=0"
    )  # fmt: skip
    with pytest.raises(PreflightError) as caught:
        train_decomposition(hips, tmp_path / "none", unpaired, device="cpu")
    assert caught.value.code == "BMD-TRN-012"
    learner = DecompositionLearner(unpaired, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert learner.discriminator.judges[0].steps[0][0].in_channels == 1  # no radiograph
    train_decomposition(hips, tmp_path / "run", unpaired, device="cpu", init_from=stage_one)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert "feature_matching" not in rows[0]
    assert float(rows[0]["l1"]) > 0
    assert not same(weights(tmp_path / "run"), weights(stage_one))


def test_an_unpaired_step_is_the_same_whatever_the_own_projection_is(hips):
    """With one projection for all radiographs of a batch, or the same ones dealt out otherwise."""
    settings = config("dataset=B", "pairing=unpaired", "losses.feature_matching=0")
    losses = []
    for dealt in ([0, 1], [1, 0]):
        learner = DecompositionLearner(settings, torch.device("cpu"), torch.Generator().manual_seed(0))
        learner.reference = lambda xray: torch.zeros_like(xray)
        rng = torch.Generator().manual_seed(1)
        rows, columns = settings.image_size
        batch = {
            "xray": torch.rand(2, 1, rows, columns, generator=rng),
            "drr": torch.rand(2, 1, rows, columns, generator=rng)[dealt],
            "mask": torch.ones(2, 1, rows, columns),
        }
        still = replace(settings, augment=AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0))
        learner.config = still
        losses.append(learner.step(batch, Engine(torch.device("cpu")), torch.Generator().manual_seed(2)))
    for name in losses[0]:
        assert losses[0][name] == pytest.approx(float(losses[1][name]), rel=1e-5), name


@pytest.mark.parametrize("bad", ["losses.feature_matching=10", "losses.adversarial=0", "loop.batch_size=1"])
def test_unpaired_settings_that_cannot_be(bad):
    with pytest.raises(ConfigError, match="pairing"):
        config("pairing=unpaired", *(["losses.feature_matching=0"] if "feature" not in bad else []), bad)
