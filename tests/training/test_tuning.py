"""The patients on whom choices are made: apart from those learnt from and measured with, and used for every choice."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_hips import write_dataset
from torch import nn

from bmdkit.cli.main import main
from bmdkit.config import ConfigError, build, load
from bmdkit.dataset.samples import read_pairs, split_pairs
from bmdkit.dataset.splits import choose_tune_patients
from bmdkit.errors import PreflightError
from bmdkit.io.images import read_tiff
from bmdkit.models.generators import GeneratorConfig, make_generator
from bmdkit.training.bone_density import BmdConfig
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.engine import Engine
from bmdkit.training.loop import Loop
from bmdkit.training.loop_settings import LoopConfig
from bmdkit.training.optimiser import OptimiserConfig
from bmdkit.training.pair_batches import load_pairs
from bmdkit.training.regression import train_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.ridge import FRACTIONS, STRENGTHS, Readable, RidgeReadout, fit_ridge, read_features
from bmdkit.training.run import estimate_bmd, load_run, predict_pf_drr
from bmdkit.training.session import select_pairs
from bmdkit.training.settings import DecompositionConfig
from bmdkit.training.single_network import BatchLoss, SingleNetworkLearner
from bmdkit.training.tune_figures import watch_projections

RECIPES = Path(__file__).parents[2] / "pipelines/train"
TUNED = ["dataset=B", "tune_share=0.25", "bmd.threshold_on=predictions", "loop.keep=best"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Fifteen patients, three in each fold: twelve outside fold 0, of whom a quarter tunes."""
    return write_dataset(tmp_path_factory.mktemp("many"), patients=15)


@pytest.fixture(scope="module")
def tuned_run(many, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "b"
    return train_decomposition(many, out, decomposition(), device="cpu")


def decomposition(*overrides) -> DecompositionConfig:
    return load(DecompositionConfig, recipe=RECIPES / "test.yaml", overrides=[*TUNED, *overrides])


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 2), (0.01, 1), (0.5, 10)])
def test_a_share_of_the_patients_tunes_whatever_their_order(share, count):
    names = [f"p{n}" for n in range(20)]
    chosen = choose_tune_patients(names, share)
    assert len(chosen) == count
    assert chosen == choose_tune_patients(reversed(names), share)


def test_no_patient_is_in_two_splits_and_both_datasets_agree(many):
    splits = {name: select_pairs(many, name, decomposition(), None, tune_share=0.25) for name in ("A", "B")}
    patients = {
        name: [{pair.patient_id for pair in part} for part in (split.train, split.tune, split.test)]
        for name, split in splits.items()
    }
    assert patients["A"] == patients["B"]
    train, tune, test = patients["B"]
    assert (len(train), len(tune), len(test)) == (9, 3, 3)
    assert not train & tune | train & test | tune & test
    assert splits["B"].test == split_pairs(read_pairs(many, "B"), 0)[1]


def test_a_share_that_leaves_nobody_to_learn_from_is_refused(many):
    with pytest.raises(PreflightError, match=r"BMD-TRN-004: tune_share 0\.99 leaves 0 pairs"):
        select_pairs(many, "B", decomposition(), None, tune_share=0.99)


@pytest.mark.parametrize("given", [{"loop": {"keep": "best"}}, {"loop": {"stop_early": 3}}, {"tune_share": 1.0}])
def test_a_choice_without_patients_to_make_it_on_is_refused(given):
    with pytest.raises(ConfigError, match="tune_share"):
        build(DecompositionConfig, given)


class Slope(nn.Module):
    """A number that every step makes larger by one."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))


class Nothing:
    def __len__(self) -> int:
        return 1

    def take(self, indices, device):
        return {"x": torch.ones(1)}


def run_loop(folder, losses, config):
    """A training whose loss on the tune patients is `losses`, by the number of steps done."""
    folder.mkdir(exist_ok=True)

    def compute_loss(network, batch, engine, rng):
        return BatchLoss(-network.slope.sum(), {"loss": network.slope.sum()})

    network = Slope()
    learner = SingleNetworkLearner("slope", network, OptimiserConfig(lr=1.0, schedule="one_cycle"), compute_loss)
    learner.schedules["slope"].set_rate = lambda step, steps: None
    learner.optimisers["slope"] = torch.optim.SGD(network.parameters(), lr=1.0)
    learner.optimisers = {"slope": learner.optimisers["slope"]}

    def measure(network):
        return {"tune_loss": losses[round(network.slope.item()) - 1]}

    loop = Loop(learner, Nothing(), config, Engine(torch.device("cpu")), folder=folder, seed=0, measure=measure)
    loop.run()
    return loop


LOSSES = [5.0, 3.0, 2.0, 4.0, 2.5, 6.0, 7.0]


def test_the_best_epoch_is_kept_and_the_last_one_is_told_from_it(tmp_path):
    best = run_loop(tmp_path / "best", LOSSES, LoopConfig(epochs=7, batch_size=1, keep="best"))
    assert (best.kept_epoch, best.epoch, best.trained.slope.item(), best.latest.slope.item()) == (3, 7, 3.0, 7.0)
    last = run_loop(tmp_path / "last", LOSSES, LoopConfig(epochs=7, batch_size=1))
    assert (last.kept_epoch, last.trained.slope.item()) == (7, 7.0)
    rows = list(csv.DictReader((tmp_path / "best/log.csv").open()))
    assert [float(row["tune_loss"]) for row in rows] == LOSSES


def test_a_training_stops_when_the_tune_patients_gain_nothing_more_and_stays_stopped(tmp_path):
    config = LoopConfig(epochs=7, batch_size=1, keep="best", stop_early=2)
    for _ in range(2):
        loop = run_loop(tmp_path, LOSSES, config)
        assert (loop.epoch, loop.kept_epoch, loop.trained.slope.item()) == (5, 3, 3.0)


def test_the_best_epoch_outlives_an_interruption(tmp_path):
    config = LoopConfig(epochs=7, batch_size=1, keep="best", checkpoint_epochs=1)
    run_loop(tmp_path, LOSSES, replace(config, epochs=4))
    again = run_loop(tmp_path, LOSSES, config)
    assert (again.steps_before, again.kept_epoch, again.trained.slope.item()) == (4, 3, 3.0)


def test_figures_on_the_tune_patients_are_those_of_their_projections(many):
    config = decomposition()
    tune = load_pairs(select_pairs(many, "B", config, None, tune_share=0.25).tune, config.image_size, scale_g_cm2=2.0)

    class Perfect(nn.Module):
        """Gives the true projection of whichever radiograph it is shown."""

        def forward(self, xray):
            found = [int(torch.nonzero((tune.xray == one).all((1, 2, 3)))[0]) for one in xray]
            return tune.drr[found] - 1.0

    figures = watch_projections(tune, config, torch.device("cpu"))(Perfect())
    assert figures["tune_l1"] == pytest.approx(0.0, abs=1e-6)
    assert figures["tune_loss"] == pytest.approx(0.0, abs=1e-2)
    assert figures["tune_mean_pcc"] == pytest.approx(1.0)
    assert figures["tune_dxa_pcc"] > 0.9


def test_a_run_shows_what_it_does_for_the_tune_patients(tuned_run, many):
    folder, metrics = tuned_run.folder, tuned_run.metrics
    assert metrics["tune"]["patients"] == 3
    assert 1 <= metrics["kept_epoch"] <= metrics["epochs"] == 2
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert {"l1", "tune_l1", "tune_psnr_db", "tune_mean_pcc", "tune_dxa_pcc", "tune_qct_pcc"} <= set(rows[0])
    assert (folder / "progress.png").read_bytes().startswith(b"\x89PNG")
    splits = {row["split"] for row in csv.DictReader((folder / "predictions.csv").open())}
    assert splits == {"train", "tune", "test"}


def test_the_threshold_is_that_of_the_tune_patients(tuned_run, many):
    """What the training patients would choose does not matter: BMD that is spoilt for them changes no threshold."""
    line = tuned_run.run.lines["dxa"]
    assert line.patients == 9
    assert line.pcc == max(pcc for _, pcc in line.sweep if pcc is not None)
    assert tuned_run.run.config.bmd == BmdConfig(threshold_on="predictions")


def readable(features: np.ndarray, bmd: np.ndarray, images: int = 1) -> Readable:
    """So many images of each patient."""
    return Readable(features, bmd, [f"p{n // images}" for n in range(len(bmd))])


def test_ridge_is_least_squares_with_a_penalty_and_its_strength_the_strongest_that_loses_nothing_sure():
    rng = np.random.default_rng(4)
    weights = rng.normal(size=6)
    x, tune_x = rng.normal(size=(40, 6)), rng.normal(size=(15, 6))
    x[:, 5] = tune_x[:, 5] = 3.0  # a constant feature
    y, tune_y = 0.8 + x @ weights + rng.normal(size=40), 0.8 + tune_x @ weights + rng.normal(size=15)
    no_bone = np.zeros((40, len(FRACTIONS)))  # the means of the projection say nothing here
    found = fit_ridge("dxa", readable(np.hstack([no_bone, x]), y), readable(np.hstack([no_bone[:15], tune_x]), tune_y))
    scaled, wanted = (x[:, :5] - x[:, :5].mean(0)) / x[:, :5].std(0), {}
    limited = np.clip(tune_x[:, :5], x[:, :5].min(0), x[:, :5].max(0))
    for strength in STRENGTHS:
        solved = np.linalg.solve(scaled.T @ scaled + 40 * strength * np.eye(5), scaled.T @ (y - y.mean()))
        guess = y.mean() + (limited - x[:, :5].mean(0)) / x[:, :5].std(0) @ solved
        wanted[strength] = ((guess - tune_y) ** 2, solved)
    best = min((squares for squares, _ in wanted.values()), key=np.mean)
    losses = {strength: squares - best for strength, (squares, _) in wanted.items()}  # one image of each patient
    chosen = max(one for one, loss in losses.items() if loss.mean() <= loss.std(ddof=1) / np.sqrt(15))
    assert found.strength == chosen
    assert losses[chosen].mean() > 0
    np.testing.assert_allclose(found.weights[len(FRACTIONS) : -1], wanted[chosen][1], rtol=1e-8)
    assert found.weights[-1] == 0.0
    assert RidgeReadout.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def draw_hips(patients: int, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Two images of each patient: means of the projection that tell BMD, and 100 features that tell nothing."""
    rng = np.random.default_rng(seed)
    bmd = np.repeat(rng.normal(0.8, 0.15, patients), 2)
    means = bmd[:, None] * np.linspace(0.9, 1.1, len(FRACTIONS)) + rng.normal(0, noise, (2 * patients, 1))
    return np.hstack([means, np.repeat(rng.normal(size=(patients, 100)), 2, axis=0)]), bmd


@pytest.mark.parametrize("seed", range(3))
def test_of_few_patients_no_more_is_learnt_than_a_line(seed):
    """Two tune patients say nothing of a strength; what the penalty takes away ends at the line, not at a constant."""
    x, y = draw_hips(16, seed, 0.02)
    found = fit_ridge("dxa", readable(x[:-4], y[:-4], 2), readable(x[-4:], y[-4:], 2))
    new_x, new_y = draw_hips(200, seed + 100, 0.02)
    line = np.polyfit(x[:, 0], y, 1)
    error = np.abs(found.bmd(new_x) - new_y).mean()
    assert error < 1.3 * np.abs(np.polyval(line, new_x[:, 0]) - new_y).mean()
    assert error < 0.5 * np.abs(y.mean() - new_y).mean()
    assert RidgeReadout.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_of_few_patients_bmd_goes_beyond_what_was_learnt_and_other_features_do_not():
    x, y = draw_hips(8, 0, 0.01)
    found = fit_ridge("dxa", readable(x[:-2], y[:-2], 2), readable(x[-2:], y[-2:], 2))
    denser, strange = x[:1].copy(), x[:1].copy()
    denser[0, : len(FRACTIONS)] *= 2
    strange[0, len(FRACTIONS) :] += 1e6
    assert found.bmd(denser)[0] > 1.5 * y.max()
    assert abs(found.bmd(strange)[0] - y[0]) < 0.2


def test_of_many_patients_too_what_was_not_learnt_from_is_no_reason_for_any_number():
    """One radiograph, badly drawn, had features far beyond the others', and 0.05 g/cm2."""
    x, y = draw_hips(40, 0, 0.05)
    x[:, 20] += 3 * (y - y.mean())
    found = fit_ridge("dxa", readable(x[:-30], y[:-30], 2), readable(x[-30:], y[-30:], 2))
    denser, strange, farthest = (x[:1].copy() for _ in range(3))
    denser[0, : len(FRACTIONS)] *= 3
    strange[0, len(FRACTIONS) :] -= 1e6
    farthest[0, len(FRACTIONS) :] = x[:-30, len(FRACTIONS) :].min(0)
    assert found.bmd(denser)[0] > 1.2 * y.max()
    assert found.bmd(strange)[0] == found.bmd(farthest)[0]


def test_the_tune_patients_of_few_take_part_and_what_is_chosen_does_not_depend_on_their_order():
    x, y = draw_hips(12, 0, 0.1)
    x[:, 20] += 3 * (y - y.mean())  # something to learn beside the line
    whole = fit_ridge(
        "dxa", readable(x[:18], y[:18], 2), Readable(x[18:], y[18:], ["q0", "q0", "q1", "q1", "q2", "q2"])
    )
    turned = np.arange(18)[::-1]
    names = [f"p{n // 2}" for n in turned]
    again = fit_ridge(
        "dxa", Readable(x[turned], y[turned], names), Readable(x[18:], y[18:], ["q0", "q0", "q1", "q1", "q2", "q2"])
    )
    assert again.strength == whole.strength
    np.testing.assert_allclose(again.weights, whole.weights, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(whole.means, x.mean(0))


def test_one_patient_gives_a_line():
    x, y = draw_hips(1, 0, 0.01)
    y = y + np.array([0.0, 0.1])
    found = fit_ridge("dxa", readable(x, y, 2), Readable(x[:0], y[:0], []))
    assert found.strength == STRENGTHS[-1]
    assert np.isfinite(found.bmd(x)).all()


def test_a_readout_of_an_earlier_version_reads_the_fused_map():
    found = RidgeReadout("dxa", 0.8, (1.0,), (0.0,), (1.0,), 0.1, "levels")
    stored = found.to_dict()
    assert RidgeReadout.from_dict(stored) == found
    for name in ("reads", "lows", "highs"):
        del stored[name]
    read = RidgeReadout.from_dict(stored)
    assert read.reads == "fused"
    assert read.bmd(np.array([[1e6]]))[0] == pytest.approx(0.8 + 1e6)  # nothing is limited


@pytest.mark.parametrize(("reads", "places"), [("levels", [2]), ("moved", [0, 2, 4])])
@pytest.mark.parametrize(
    ("backbone", "norm", "further"), [("unet", "batch", 4 * (1 + 2 + 4 + 6 + 8 + 6 + 4)), ("resnet", "group", 0)]
)
def test_features_of_all_levels_are_those_of_the_mirrored_and_the_moved_radiograph(
    backbone, norm, further, reads, places
):
    config = GeneratorConfig(backbone=backbone, filters=4, norm=norm, standardise=True, downsamplings=2, blocks=1)
    rng = torch.Generator().manual_seed(3)
    generator = make_generator(config, outputs=1, rng=rng).eval()
    xray, mask = torch.rand(3, 1, 64, 32, generator=rng) * 2 - 1, torch.ones(3, 1, 64, 32)
    mask[:, :, :, :5] = mask[:, :, 50:] = 0
    read = partial(read_features, generator, scale_g_cm2=2.0)
    fused, found = read(xray, mask), read(xray, mask, reads=reads)
    np.testing.assert_allclose(read(xray.flip(-1), mask.flip(-1), reads=reads), found, rtol=1e-4, atol=1e-5)
    assert np.abs(read(xray.flip(-1), mask.flip(-1)) - fused).max() > 1e-3
    assert found.shape[1] - fused.shape[1] == 2 * further  # mean and spread of each channel
    if not further:  # nothing is read but the fused map: features are the mean of what is read of each view
        moved = [nn.functional.pad(image, (0, 0, 2, 2), mode="replicate") for image in (xray, mask)]
        views = [[image[:, :, first : first + 64] for image in moved] for first in places]
        both = [*views, *([image.flip(-1) for image in view] for view in views)]
        np.testing.assert_allclose(np.mean([read(*view) for view in both], axis=0), found, rtol=1e-4, atol=1e-5)


def test_images_of_one_patient_choose_a_strength_together():
    """One patient with many images has one voice: what his images alone favour is not chosen by their number."""
    rng = np.random.default_rng(2)
    x, tune_x = rng.normal(size=(60, 20)), rng.normal(size=(12, 20))
    weights = rng.normal(size=20)
    y, tune_y = x @ weights + rng.normal(size=60), tune_x @ weights + rng.normal(size=12)
    no_bone = np.zeros((200, len(FRACTIONS)))
    train = readable(np.hstack([no_bone[:60], x]), y)
    names = [f"q{n}" for n in range(12)]
    once = fit_ridge("dxa", train, Readable(np.hstack([no_bone[:12], tune_x]), tune_y, names))
    again = np.array([*range(12), *[11] * 100])
    more = Readable(np.hstack([no_bone[:112], tune_x[again]]), tune_y[again], [names[n] for n in again])
    assert fit_ridge("dxa", train, more).strength == once.strength


def ridge(*overrides) -> RegressionConfig:
    return build(RegressionConfig, {"head": {"kind": "ridge"}, "tune_share": 0.25, **dict(overrides)})


def test_a_ridge_regression_predicts_by_itself_what_it_reported(tuned_run, many, tmp_path):
    """Of one task after the other: the second keeps what the first has learnt."""
    start = tuned_run.folder
    for task in ("dxa", "qct"):
        out = tmp_path / task
        figures = train_regression(many, out, ridge(("task", task)), device="cpu", init_from=start)
        assert list(figures) == ["ridge"]
        assert figures["ridge"]["train"]["pcc"] > 0.85
        assert "tune" not in figures["ridge"]  # three patients choose nothing, and are learnt from
        told = json.loads((out / "config.json").read_text())["settings"]
        assert told["generator"] == json.loads((tuned_run.folder / "config.json").read_text())["settings"]["generator"]
        start = out / "ridge"
    run = load_run(start)
    assert set(run.readouts) == {"dxa", "qct"}
    rows = {row["pair_id"]: row for row in csv.DictReader((start / "predictions.csv").open())}
    assert {row["split"] for row in rows.values()} == {"train", "test"}
    assert figures["ridge"]["train"]["n"] == sum(row["split"] == "train" for row in rows.values())
    pair = select_pairs(many, "B", decomposition(), None, tune_share=0.25).test[0]
    xray = read_tiff(pair.xray)[0]
    bmd = estimate_bmd(run, predict_pf_drr(run, xray), xray)
    for task, column in (("dxa", "predicted_dxa_bmd_g_cm2"), ("qct", "predicted_qct_bmd_mg_cm3")):
        assert bmd[task] == pytest.approx(float(rows[pair.pair_id][column]), rel=1e-4)


def test_a_ridge_regression_is_done_again_to_the_same_bytes(tuned_run, many, tmp_path):
    for _ in range(2):
        train_regression(many, tmp_path / "run", ridge(), device="cpu", init_from=tuned_run.folder)
        files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*") if path.is_file()}
    train_regression(many, tmp_path / "run", ridge(), device="cpu", init_from=tuned_run.folder)
    assert {path: path.read_bytes() for path in files} == files


def test_a_ridge_regression_needs_a_run_and_tune_patients(many, tmp_path):
    with pytest.raises(PreflightError, match="BMD-TRN-012"):
        train_regression(many, tmp_path / "run", ridge(), device="cpu")
    with pytest.raises(ConfigError, match="tune_share"):
        build(RegressionConfig, {"head": {"kind": "ridge"}})


def test_a_regression_is_tuned_too(tuned_run, many, tmp_path):
    recipe = str(RECIPES / "regression-test.yaml")
    out = tmp_path / "run"
    command = ["train", "regression", str(many), "--out", str(out), "--init-from", str(tuned_run.folder), "-q"]
    main([*command, "--recipe", recipe, "--device", "cpu", "--set", "tune_share=0.25", "--set", "loop.keep=best"])
    metrics = json.loads((out / "tuned/metrics.json").read_text())
    assert metrics["tune"]["patients"] == 3
    assert "tune_mae" in (out / "tuned/log.csv").read_text().splitlines()[0]


@pytest.fixture(scope="module")
def unlearnable(tmp_path_factory):
    """Sixty patients, twelve of them held out, whose BMD has nothing to do with what is seen."""
    root = write_dataset(tmp_path_factory.mktemp("unlearnable"), patients=60, poses=("standing",), shape=(32, 32))
    rows = list(csv.DictReader((root / "manifest.csv").open()))
    rng = np.random.default_rng(0)
    bmd = {row["patient_id"]: float(rng.uniform(0.5, 1.2)) for row in rows}
    with (root / "manifest.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"dxa_bmd_g_cm2": bmd[row["patient_id"]]} for row in rows)
    return root


@pytest.mark.parametrize(("judge", "status"), [("true", 3), ("false", 0)])
def test_a_failed_training_ends_with_status_3_unless_it_is_not_judged(unlearnable, tmp_path, capsys, judge, status):
    command = ["train", "baseline", str(unlearnable), "--out", str(tmp_path / "run"), "--device", "cpu", "-q"]
    command += ["--recipe", str(RECIPES / "regression-test.yaml"), "--set", "image_size=[32,32]"]
    command += ["--set", f"loop.judge={judge}", "--set", "loop.epochs=1"]
    if status:
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == status
    else:
        main(command)
    assert "BMD-TRN-02" in capsys.readouterr().err
    weaknesses = json.loads((tmp_path / "run/baseline/metrics.json").read_text())["weaknesses"]
    assert {one["patients"] for one in weaknesses} == {12}
