"""A study from finished runs; most runs here are written by hand, so that what must come out is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from drawn_hips import write_dataset
from drawn_runs import write_run

from bmdkit.cli.main import group
from bmdkit.config import load
from bmdkit.errors import PreflightError
from bmdkit.evaluation.agreement import pearson
from bmdkit.io.results import sha256_of, write_csv
from bmdkit.study.comparison import CEILING, MEAN, evaluate_runs
from bmdkit.study.finished_runs import read_results
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.run_layout import PREDICTION_COLUMNS as COLUMNS
from bmdkit.training.run_layout import read_predictions
from bmdkit.training.settings import DecompositionConfig

RECIPE = Path(__file__).parents[2] / "pipelines/train/test.yaml"


@pytest.fixture(scope="module")
def hips(tmp_path_factory):
    """Fifteen patients, two radiographs each: enough for correlations."""
    return write_dataset(tmp_path_factory.mktemp("fifteen_hips"), patients=15)


@pytest.fixture
def own_hips(tmp_path):
    """The same, to be changed."""
    return write_dataset(tmp_path / "hips", patients=15)


@pytest.fixture(scope="module")
def folds(hips, tmp_path_factory):
    """One method over all five folds."""
    root = tmp_path_factory.mktemp("folds")
    return [write_run(root / f"f{fold}", hips, fold=fold, hierarchical=True) for fold in range(5)]


@pytest.fixture(scope="module")
def study(hips, folds, tmp_path_factory):
    """What they come to: the folder and the metrics."""
    out = tmp_path_factory.mktemp("study") / "out"
    return out, evaluate_runs(folds, hips, out, kind="simulated")


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as handle:
        return {row["method"] + row.get("learning", ""): row for row in csv.DictReader(handle)}


def test_folds_are_pooled(study):
    out, metrics = study
    with (out / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 30  # fifteen patients, two poses
    assert {row["split"] for row in rows} == {"test"}
    pairs = [(float(r["predicted_dxa_bmd_g_cm2"]), float(r["dxa_bmd_g_cm2"])) for r in rows]
    (name,) = set(metrics["methods"]) - {CEILING, MEAN}
    assert name == "decomposition (resnet)"
    found = metrics["methods"][name]["tasks"]["dxa"]
    assert found["by_seed"][0]["pcc"] == pytest.approx(pearson(*zip(*pairs, strict=True)))
    assert (found["by_seed"][0]["n"], found["by_seed"][0]["patients"]) == (30, 15)
    assert found["poses"]["hips"] == 15
    assert found["poses"]["poses"] == ["standing", "supine"]
    assert float(table(out / "table_2.csv")["Decomposition using QCT"]["DXA PCC"]) == found["by_seed"][0]["pcc"]


def test_the_reference_rows_need_no_network(folds, study):
    """BMD is linear in these targets, so the ceiling is 1; a constant of each fold knows nothing."""
    metrics = study[1]["methods"]
    ceiling, mean = (metrics[name]["tasks"]["dxa"] for name in (CEILING, MEAN))
    assert ceiling["pcc"] == pytest.approx(1)
    assert ceiling["mae"] == pytest.approx(0, abs=1e-9)
    with (folds[0] / "predictions.csv").open(newline="") as handle:
        known = {row["patient_id"]: float(row["dxa_bmd_g_cm2"]) for row in csv.DictReader(handle)}
    values, folds_of = np.array([known[f"p{n}"] for n in range(15)]), np.arange(15) % 5
    others = np.array([values[folds_of != fold].mean() for fold in folds_of])
    assert mean["mae"] == pytest.approx(np.abs(values - others).mean())
    assert mean["pcc"] < 0  # the mean of the others is lower for whoever is higher


def test_seeds_give_mean_and_spread(hips, tmp_path):
    runs = [write_run(tmp_path / f"s{seed}", hips, seed=seed) for seed in (0, 1)]
    metrics = evaluate_runs(runs, hips, tmp_path / "study", kind="simulated")["methods"]
    name = "decomposition without hierarchical learning (resnet)"
    errors = [one["mae"] for one in metrics[name]["tasks"]["dxa"]["by_seed"]]
    row = table(tmp_path / "study" / "table_2.csv")[name]
    assert float(row["DXA MAE, g/cm²"]) == pytest.approx(np.mean(errors))
    assert float(row["DXA MAE, g/cm² (spread)"]) == pytest.approx(np.std(errors, ddof=1))
    assert "30.500 ± 0.707" in (tmp_path / "study" / "table_3.md").read_text()


def test_the_mean_of_the_seeds_is_a_row_of_its_own(hips, tmp_path):
    """Its error is that of the mean prediction, image by image, and not the mean of the errors."""
    runs = [write_run(tmp_path / f"s{seed}", hips, seed=seed) for seed in (0, 1)]
    metrics = evaluate_runs(runs, hips, tmp_path / "study", kind="simulated")["methods"]
    name = "decomposition without hierarchical learning (resnet)"
    rows = [[row for row in read_predictions(run / "predictions.csv") if row.split == "test"] for run in runs]
    errors = [
        abs((a.predicted_dxa_bmd_g_cm2 + b.predicted_dxa_bmd_g_cm2) / 2 - a.dxa_bmd_g_cm2)
        for a, b in zip(*rows, strict=True)
    ]
    assert metrics[name]["tasks"]["dxa"]["mean_of_seeds"]["mae"] == pytest.approx(np.mean(errors))
    row = table(tmp_path / "study" / "table_2.csv")[f"{name}, mean of 2 seeds"]
    assert float(row["DXA MAE, g/cm²"]) == pytest.approx(np.mean(errors))
    alone = evaluate_runs(runs[:1], hips, tmp_path / "alone", kind="simulated")["methods"]
    assert "mean_of_seeds" not in alone[name]["tasks"]["dxa"]


def test_the_ablation_is_a_row_with_and_without_hierarchical_learning(hips, tmp_path):
    runs = [
        write_run(tmp_path / f"{b}{h}", hips, hierarchical=h, backbone=b) for b in ("a", "b") for h in (True, False)
    ]
    runs.append(write_run(tmp_path / "unpaired", hips, hierarchical=True, backbone="b", pairing="unpaired"))
    evaluate_runs(runs, hips, tmp_path / "study", kind="simulated")
    rows = table(tmp_path / "study" / "table_3.csv")
    assert list(rows) == ["a", "a+ HL", "b", "b+ HL", "b+ HL, unpaired"]
    assert "decomposition from unpaired data (b)" in table(tmp_path / "study" / "table_2.csv")
    assert list(rows["a"])[2:6] == ["Mean PSNR, dB", "Mean DC", "ICC", "PCC"]


def test_every_figure_and_caption_says_what_it_shows(study):
    out, _ = study
    names = {path.name for path in (out / "figures").iterdir()}
    stems = ("figure_04_threshold", "figure_06_scatter", "figure_07_poses", "figure_09_bland_altman")
    assert names == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "pdf", "csv")} | {"captions.json"}
    words = "30 images of 15 patients, held-out patients of folds 0, 1, 2, 3, 4, simulated data"
    assert words in (out / "table_2.md").read_text()
    assert words in (out / "table_2.tex").read_text()
    page = (out / "index.html").read_text()
    assert all(f"figures/{stem}.png" in page for stem in stems)
    whose = words.removesuffix(", simulated data")
    assert page.count(whose) >= 5  # tables 2 and 3, and all figures but that of the training images


def test_the_same_runs_make_the_same_bytes_whatever_their_order(hips, folds, study, tmp_path):
    evaluate_runs(folds[::-1], hips, tmp_path / "again", kind="simulated")
    assert sha256_of(tmp_path / "again" / "metrics.json") == sha256_of(study[0] / "metrics.json")
    assert sha256_of(tmp_path / "again" / "figures") == sha256_of(study[0] / "figures")


def code_of_refusal(runs, data, out, **options) -> str:
    """The code of the error that ends an evaluation before anything is written."""
    with pytest.raises(PreflightError) as caught:
        evaluate_runs(runs, data, out, **options)
    assert not out.exists()
    return caught.value.code


def test_runs_that_cannot_be_compared_are_refused(hips, own_hips, folds, tmp_path):
    out = tmp_path / "study"
    assert code_of_refusal([tmp_path], hips, out, kind="simulated") == "BMD-EVA-001"
    twin = write_run(tmp_path / "twin", hips, hierarchical=True)
    assert code_of_refusal([folds[0], twin], hips, out, kind="simulated") == "BMD-EVA-003"
    everybody = write_run(tmp_path / "all", hips, fold="all")
    assert code_of_refusal([everybody], hips, out, kind="simulated") == "BMD-EVA-004"
    assert code_of_refusal(folds, hips, out) == "BMD-EVA-005"
    (own_hips / "manifest.csv").write_text((own_hips / "manifest.csv").read_text() + "\n")
    assert code_of_refusal(folds, own_hips, out, kind="simulated") == "BMD-EVA-002"


def test_the_kind_of_data_comes_from_the_dataset(hips, own_hips, tmp_path):
    description = json.loads((own_hips / "dataset.json").read_text())
    (own_hips / "dataset.json").write_text(json.dumps(description | {"data": "simulated"}))
    run = write_run(tmp_path / "run", own_hips)
    assert evaluate_runs([run], own_hips, tmp_path / "study")["data"] == "simulated"


def test_predictions_of_pairs_that_a_reader_rated_bad_are_left_out(own_hips, tmp_path):
    run = write_run(tmp_path / "run", own_hips)
    (before,) = read_results(run, own_hips)
    rows = before.of("test")
    bad, doubtful = rows[0].pair_id, rows[1].pair_id
    (own_hips / "ratings.csv").write_text(f"pair_id,rating\n{bad},bad\n{doubtful},review\n")
    (after,) = read_results(run, own_hips)
    assert [row.pair_id for row in after.of("test")] == [row.pair_id for row in rows if row.pair_id != bad]
    (own_hips / "ratings.csv").write_text("pair_id,rating\nx,awful\n")
    with pytest.raises(PreflightError, match="BMD-RAT-001"):
        read_results(run, own_hips)


def test_a_run_that_was_trained_is_read_on_the_command_line(hips, tmp_path):
    train_decomposition(
        hips, tmp_path / "run", load(DecompositionConfig, recipe=RECIPE, flags={"dataset": "B"}), device="cpu"
    )
    (result,) = read_results(tmp_path / "run", hips)
    assert (result.phase, result.dataset, result.fold, result.hierarchical) == ("decomposition", "B", 0, False)
    arguments = ["evaluate", str(tmp_path / "run"), "--data", str(hips), "--out", str(tmp_path / "study"), "-q"]
    told = CliRunner().invoke(group, [*arguments, "--kind", "simulated"])
    assert told.exit_code == 0, told.output
    assert "decomposition without hierarchical learning" in told.output


def test_what_a_run_started_from_tells_methods_apart(hips, tmp_path):
    """Folds apart, of course: the same dataset, dataset A first or not, another dataset first."""
    here = sha256_of(hips / "manifest.csv")
    a, b, other = (
        {"kind": "decomposition", "dataset": dataset, "fold": 0, "data_sha256": data, "settings": "s"}
        for dataset, data in (("A", here), ("B", here), ("B", "cd"))
    )
    runs = [
        write_run(tmp_path / f"{name}{seed}", hips, seed=seed, before=before)
        for seed in (0, 1)
        for name, before in (("hl", [a]), ("again", [b]), ("pre", [other]))
    ]
    runs.append(write_run(tmp_path / "two", hips, before=[a], train_poses=["standing"]))
    metrics = evaluate_runs(runs, hips, tmp_path / "study", kind="simulated")["methods"]
    plain = "decomposition without hierarchical learning"
    poses = "decomposition, trained on standing"
    names = {f"{name} (resnet)" for name in ("decomposition", plain, f"{plain}, pre-trained", poses)}
    assert set(metrics) - {CEILING, MEAN} == names
    assert [one.split("/")[1] for one in metrics["decomposition (resnet)"]["runs"]] == ["hl0", "hl1"]
    assert [one.split("/")[1] for one in metrics[f"{plain} (resnet)"]["runs"]] == ["again0", "again1"]


def test_methods_of_other_settings_are_numbered_by_their_names(hips, tmp_path):
    runs = [write_run(tmp_path / name, hips, image_size=[n, n]) for n, name in ((1, "b"), (2, "a"), (3, "c"))]
    metrics = evaluate_runs(runs, hips, tmp_path / "study", kind="simulated")["methods"]
    found = {name[-2:]: entry["runs"][0][-1] for name, entry in metrics.items() if "runs" in entry}
    assert found == {"t)": "a", "#2": "b", "#3": "c"}


def test_a_hip_in_which_nothing_is_seen_costs_the_precision_alone(hips, tmp_path):
    run = write_run(tmp_path / "run", hips, noise=0)
    text = (run / "predictions.csv").read_text().splitlines()
    place = text[0].split(",").index("predicted_dxa_bmd_g_cm2")
    lines = [line.split(",") for line in text]
    for line in lines[1:]:
        if line[1] == "p0":
            line[place] = "-0.1"
    (run / "predictions.csv").write_text("\n".join(",".join(line) for line in lines) + "\n")
    found = evaluate_runs([run], hips, tmp_path / "study", kind="simulated")["methods"]
    (one,) = found["decomposition without hierarchical learning (resnet)"]["tasks"]["dxa"]["by_seed"]
    assert one["rms_cv_pct"] is None
    assert one["mae"] > 0.2  # one of three patients, by its BMD and 0.1


def test_each_task_has_its_own_ceiling(hips, tmp_path):
    """The mean over the threshold of QCT follows QCT where that over the threshold of DXA does not."""
    run = write_run(tmp_path / "run", hips)
    with (run / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for number, row in enumerate(rows):
        row |= {"target_mean_dxa_g_cm2": row["dxa_bmd_g_cm2"], "target_mean_qct_g_cm2": row["qct_bmd_mg_cm3"]}
        row["target_mean_g_cm2"] = 1 + number % 3
    write_csv(run / "predictions.csv", rows, COLUMNS)
    ceiling = evaluate_runs([run], hips, tmp_path / "study", kind="simulated")["methods"][CEILING]["tasks"]
    assert ceiling["dxa"]["mae"] == pytest.approx(0, abs=1e-9)
    assert ceiling["qct"]["mae"] == pytest.approx(0, abs=1e-6)


def test_rows_of_other_images_are_not_ranked(hips, folds, tmp_path):
    short = write_run(tmp_path / "short", hips, hierarchical=True, backbone="hrnet_w18", noise=0.001)
    evaluate_runs([*folds, short], hips, tmp_path / "study", kind="simulated")
    for name in ("table_2", "table_3"):
        text = (tmp_path / "study" / f"{name}.md").read_text()
        assert "(decomposition (hrnet_w18): 6; decomposition (resnet): 30) and cannot be ranked" in text
        assert "**" not in text
    others = [
        write_run(tmp_path / f"h{n}", hips, fold=n, hierarchical=True, backbone="hrnet_w18", noise=0.001)
        for n in range(1, 5)
    ]
    evaluate_runs([*folds, short, *others], hips, tmp_path / "same", kind="simulated")
    assert "**" in (tmp_path / "same" / "table_2.md").read_text()


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_below_ten_patients_nothing_is_claimed(tmp_path):
    """No correlation, interval, probability or best: the cells say so, and the command ends well."""
    few = write_dataset(tmp_path / "few", patients=5)
    runs = [
        write_run(tmp_path / f"{b}{f}", few, fold=f, backbone=b, noise=noise)
        for f in range(5)
        for b, noise in (("a", 0.01), ("b", 0.1))
    ]
    words = ["evaluate", *map(str, runs), "--data", str(few), "--out", str(tmp_path / "out"), "--kind", "simulated"]
    told = CliRunner().invoke(group, [*words, "-q"])
    assert told.exit_code == 0, told.output
    row = table(tmp_path / "out" / "table_2.csv")["decomposition without hierarchical learning (a)"]
    assert (row["DXA PCC"], row["DXA ICC"]) == ("n < 10", "n < 10")
    assert float(row["DXA MAE, g/cm²"]) > 0
    text = (tmp_path / "out" / "table_2.md").read_text()
    assert "**" not in text
    assert "Below 10 patients" in text
    assert "n < 10" in (tmp_path / "out" / "table_3.md").read_text()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    (one,) = metrics["methods"]["decomposition without hierarchical learning (a)"]["tasks"]["dxa"]["by_seed"]
    assert [one[name] for name in ("pcc", "icc", "icc_fisher", "pcc_interval")] == [None, None, None, [None, None]]
    tests = read_table(tmp_path / "out" / "significance.csv")
    assert {(test["p"], test["note"]) for test in tests} == {("", "fewer than 10 patients")}
    assert read_table(tmp_path / "out" / "significance_pairs.csv") == []


def shift_predictions(run: Path, by: float, pose: str | None = None) -> Path:
    """Add to the predicted DXA-BMD of a run, or of one pose."""
    rows = read_table(run / "predictions.csv")
    for row in rows:
        if pose in (None, row["pose"]):
            row["predicted_dxa_bmd_g_cm2"] = str(float(row["predicted_dxa_bmd_g_cm2"]) + by)
    write_csv(run / "predictions.csv", rows, COLUMNS)
    return run


def significance(out: Path, **wanted: str) -> dict[str, str]:
    (row,) = [
        row
        for row in read_table(out / "significance.csv")
        if row["task"] == "dxa" and all(row[name] == value for name, value in wanted.items())
    ]
    return row


def test_methods_trainings_and_poses_are_each_compared_on_the_same_images(hips, tmp_path):
    """A second method without a difference, a training with a bias, a bias of one pose: each is found where it is."""
    full = [write_run(tmp_path / f"full{n}", hips, fold=n, backbone="a") for n in range(5)]
    again = [write_run(tmp_path / f"again{n}", hips, fold=n, backbone="b", seed=9) for n in range(5)]
    limited = [
        shift_predictions(write_run(tmp_path / f"one{n}", hips, fold=n, backbone="a", train_poses=["standing"]), 0.05)
        for n in range(5)
    ]
    tilted = [
        shift_predictions(write_run(tmp_path / f"tilt{n}", hips, fold=n, backbone="c"), 0.05, "supine")
        for n in range(5)
    ]
    out = tmp_path / "out"
    evaluate_runs([*full, *again, *limited, *tilted], hips, out, kind="simulated")
    plain = "decomposition without hierarchical learning"
    methods = significance(out, family="methods", quantity="error")
    assert methods["conditions"] == f"{plain} (a) | {plain} (b) | {plain} (c)"
    assert [methods[n] for n in ("images", "patients", "df_conditions", "df_error")] == ["30", "15", "2", "28"]
    pairs = {
        frozenset((row["first"][-2], row["second"][-2])): row
        for row in read_table(out / "significance_pairs.csv")
        if (row["family"], row["task"], row["quantity"]) == ("methods", "dxa", "error")
    }
    assert float(pairs[frozenset("ab")]["p"]) > 0.05 > float(pairs[frozenset("ac")]["p"])
    for pose in ("standing", "supine"):
        training = significance(out, family="trainings", quantity="error", within=pose)
        assert (training["images"], training["patients"]) == ("15", "15")
        assert float(training["p"]) < 1e-4
        assert 0 < float(training["detectable_difference"]) < 0.05
    assert float(significance(out, family="poses", quantity="error", within=f"{plain} (c)")["p"]) < 1e-4
    assert float(significance(out, family="poses", quantity="error", within=f"{plain} (a)")["p"]) > 0.05


def test_both_hips_of_a_patient_are_one_block(hips, tmp_path):
    """Patients, not hips or images, are counted: the same values twice do not make a test surer."""
    runs = [
        write_run(tmp_path / f"{b}{n}", hips, fold=n, backbone=b, seed=s)
        for n in range(5)
        for b, s in (("a", 0), ("b", 1))
    ]
    evaluate_runs(runs, hips, tmp_path / "once", kind="simulated")
    for run in runs:
        rows = read_table(run / "predictions.csv")
        twins = [row | {"side": "R", "pair_id": row["pair_id"].replace("__L", "__R")} for row in rows]
        write_csv(run / "predictions.csv", [*rows, *twins], COLUMNS)
    evaluate_runs(runs, hips, tmp_path / "twice", kind="simulated")
    once, twice = (significance(tmp_path / n, family="methods", quantity="error") for n in ("once", "twice"))
    assert (once["images"], twice["images"]) == ("30", "60")
    assert once["patients"] == twice["patients"] == "15"
    assert float(once["p"]) == pytest.approx(float(twice["p"]), rel=1e-9)


def test_outliers_are_counted_by_pose(study):
    found = study[1]["methods"]["decomposition (resnet)"]["tasks"]["dxa"]
    assert set(found["bland_altman"]["images_outside_by_pose"]) == {"standing", "supine"}
    assert found["precision"]["hips"] == 15
    assert found["precision"]["lsc"] == pytest.approx(2.77 * found["precision"]["rms_sd"])


def test_what_reviewers_ask_is_in_the_metrics(hips, own_hips, tmp_path):
    """Calibration, subgroups by the cohort's own columns, and screening against the reference that was named."""
    with (own_hips / "manifest.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        number = int(row["patient_id"][1:])
        row |= {"sex": "FM"[number % 2], "age": 50 + 2 * number, "comment": f"words of {row['pair_id']}"}
    write_csv(own_hips / "manifest.csv", rows, list(rows[0]))
    runs = [write_run(tmp_path / f"f{fold}", own_hips, fold=fold) for fold in range(5)]
    (tmp_path / "young.yaml").write_text("{name: young women of somewhere, mean_g_cm2: 1.1, sd_g_cm2: 0.12}")
    words = ["evaluate", *map(str, runs), "--data", str(own_hips), "--out", str(tmp_path / "out"), "-q"]
    words += ["--kind", "simulated", "--reference", str(tmp_path / "young.yaml")]
    told = CliRunner().invoke(group, words)
    assert told.exit_code == 0, told.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    tasks = metrics["methods"]["decomposition without hierarchical learning (resnet)"]["tasks"]
    assert tasks["dxa"]["calibration"]["slope"] == pytest.approx(1, abs=0.1)
    assert "prediction_interval" not in tasks["dxa"]  # twenty patients are needed, ten for each half
    assert "screening" not in tasks["qct"]
    found = {one["condition"]: one for one in tasks["dxa"]["screening"]["conditions"]}
    measured = np.array([float(row["dxa_bmd_g_cm2"]) for row in rows if row["dataset"] == "B"])
    assert found["osteoporosis"]["with_condition"] == int((measured <= 1.1 - 2.5 * 0.12).sum())
    assert found["osteoporosis"]["auroc"] > 0.95
    groups = read_table(tmp_path / "out" / "subgroups.csv")
    assert {row["column"] for row in groups} == {"pose", "side", "sex", "age"}
    counts = {row["group"]: row for row in groups if row["task"] == "dxa" and row["column"] == "sex"}
    assert {name: (row["images"], row["patients"]) for name, row in counts.items()} == {
        "F": ("16", "8"),
        "M": ("14", "7"),
    }
    assert counts["F"]["bias_low"] == ""  # eight patients have no interval
    assert len({row["group"] for row in groups if row["column"] == "age"}) == 3
