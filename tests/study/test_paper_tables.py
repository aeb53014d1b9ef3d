"""Tables 1 to 3 have the rows and columns of the paper, in its order, and the values of the runs in them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from drawn_hips import write_dataset
from drawn_runs import write_regression, write_run

from bmdkit.cli.main import group
from bmdkit.errors import PreflightError
from bmdkit.evaluation.agreement import agreement
from bmdkit.io.results import sha256_of, write_csv
from bmdkit.study import comparison
from bmdkit.study.comparison import evaluate_runs

POSES = ("standing", "supine", "abduction", "adduction")
FOUR, TWO = "Standing, Supine, Abduction, Adduction", "Standing, Supine"
STEPS = ("+Regression (freeze M_E)", "+Regression (tune R)")
PAPER_2 = [
    (FOUR, "", "Conventional Regression"),
    *((FOUR, "QCT", name) for name in ("Decomposition using QCT", *STEPS)),
    *((FOUR, "CT", name) for name in ("Decomposition using CT", *STEPS)),
    (FOUR, "QCT", "GT-PF-DRR from QCT"),
    (FOUR, "CT", "GT-PF-DRR from CT"),
    *((TWO, "QCT", name) for name in ("Decomposition using QCT", *STEPS)),
    *((TWO, "CT", name) for name in ("Decomposition using CT", *STEPS)),
]
PAPER_3 = [(name, learnt) for name in ("ResNet", "DAFormer", "HRNet", "HRFormer") for learnt in ("", "+ HL")]
PAPER_1 = [
    "Number of X-ray images",
    "Number of patients",
    "Female, n (%)",
    "Mean age (sd), years",
    "Mean BMI (sd), kg/m²",
    "Mean DXA-BMD (sd), g/cm²",
    "Median T-score (IQR)",
    "Osteoporosis w.r.t. DXA-BMD, n (%)",
    "Mean CT-BMD (sd), mg/cm³",
]


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def as_uncalibrated(root: Path) -> Path:
    """A dataset that says that its projections are in HU; its manifest is another one."""
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(description | {"units": {"drr.tif": "1000 HU cm"}}))
    rows = read_table(root / "manifest.csv")
    write_csv(root / "manifest.csv", [row | {"pf_drr_mean_g_cm2": ""} for row in rows], list(rows[0]))
    return root


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[Path, Path]:
    """Ten patients of four poses, from calibrated and from uncalibrated CT, with what a cohort carries."""
    root = tmp_path_factory.mktemp("cohort")
    found = []
    for name in ("qct", "ct"):
        data = write_dataset(root / name, patients=10, poses=POSES, shape=(32, 32))
        rows = read_table(data / "manifest.csv")
        for row in rows:
            number = int(row["patient_id"][1:])
            row |= {"Sex": "FM"[number % 4 == 0], "age": 50 + number, "BMI": 20 + number / 2, "device": "one"}
        write_csv(data / "manifest.csv", rows, list(rows[0]))
        found.append(data if name == "qct" else as_uncalibrated(data))
    return found[0], found[1]


@pytest.fixture(scope="module")
def study(cohort, tmp_path_factory) -> tuple[Path, dict[str, Path]]:
    """Everything that the paper's tables have, two folds of each; the ablation is of standing radiographs alone."""
    root = tmp_path_factory.mktemp("runs")
    qct, ct = cohort
    stage_one = {data: stage_one_of(data) for data in cohort}
    runs = {}
    for fold in (0, 1):
        for data, source in ((qct, "qct"), (ct, "ct")):
            for poses in ((), ("standing", "supine")):
                name = f"{source}{len(poses)}f{fold}"
                about = {"fold": fold, "before": [stage_one[data]], "train_poses": list(poses)}
                runs[name] = write_run(root / name, data, **about)
                for task in ("dxa", "qct"):
                    runs[name + task] = write_regression(root / (name + task), data, task=task, **about)
        for task in ("dxa", "qct"):
            baseline = {"kind": "baseline", "phases": ["baseline"], "task": task, "fold": fold}
            runs[f"base{task}{fold}"] = write_regression(root / f"base{task}{fold}", qct, **baseline)
        for backbone in ("hrformer_b", "resnet", "daformer_b5", "hrnet_w48"):
            for before in ([], [stage_one[qct]]):
                name = f"{backbone}{len(before)}{fold}"
                more = {"backbone": backbone, "before": before, "train_poses": ["standing"], "poses": ["standing"]}
                runs[name] = write_run(root / name, qct, fold=fold, **more)
        more = {"kind": "baseline", "phases": ["baseline"], "train_poses": ["standing"], "poses": ["standing"]}
        runs[f"hsieh{fold}"] = write_regression(root / f"hsieh{fold}", qct, task="dxa", fold=fold, **more)
    out = root / "out"
    with pytest.MonkeyPatch.context() as patch:  # the tables alone
        patch.setattr(comparison, "_draw_figures", lambda *_: None)
        evaluate_runs(list(runs.values()), cohort, out, kind="simulated")
    return out, runs


def stage_one_of(data: Path) -> dict:
    """What a lineage says of a stage one on that dataset."""
    hashed = sha256_of(data / "manifest.csv")
    return {"kind": "decomposition", "dataset": "A", "fold": 0, "data_sha256": hashed, "settings": "s"}


def test_table_2_is_the_papers(study):
    rows = read_table(study[0] / "table_2.csv")
    assert [tuple(row[n] for n in ("pose in training dataset", "DRR", "method")) for row in rows[:15]] == PAPER_2
    assert [row["method"] for row in rows[15:]] == ["mean of the training patients"]
    metrics = ("PCC", "ICC", "MAE, {}", "SEE, {}", "RMS-CV, %")
    columns = [f"{task} {m.format(unit)}" for task, unit in (("DXA", "g/cm²"), ("QCT", "mg/cm³")) for m in metrics]
    assert list(rows[0])[3:] == columns
    assert all(row[column] for row in rows[:15] for column in columns if "conventional" not in row["method"])


def test_each_cell_of_table_2_is_that_of_its_runs(study):
    out, runs = study
    row = next(r for r in read_table(out / "table_2.csv") if (r["DRR"], r["method"]) == ("CT", STEPS[1]))
    rows = [
        r for f in (0, 1) for r in read_table(runs[f"ct0f{f}dxa"] / "tuned/predictions.csv") if r["split"] == "test"
    ]
    values = [[float(r[name]) for r in rows] for name in ("predicted_dxa_bmd_g_cm2", "dxa_bmd_g_cm2")]
    who = [r["patient_id"] for r in rows]
    found = agreement(*values, patients=who, hips=[f"{p} L" for p in who], rng=np.random.default_rng(0))
    assert len(set(who)) == 4  # of two folds: no correlation is stated
    assert row["DXA PCC"] == "n < 10"
    assert float(row["DXA MAE, g/cm²"]) == pytest.approx(found.mae, rel=1e-12)
    assert float(row["DXA RMS-CV, %"]) == pytest.approx(found.rms_cv_pct, rel=1e-12)


def test_table_3_is_the_papers_with_the_conventional_method_below(study):
    rows = read_table(study[0] / "table_3.csv")
    assert [(row["method"], row["learning"]) for row in rows] == [*PAPER_3, ("Conventional Regression", "")]
    names = ("Mean PSNR, dB", "Mean DC", "ICC", "PCC", "DXA Mean AE, g/cm²", "DXA SEE, g/cm²", "DXA ICC", "DXA PCC")
    assert list(rows[0])[2:] == [*names, "PCC w.r.t. QCT-BMD"]
    caption = (study[0] / "table_3.md").read_text().splitlines()[-1]
    assert caption.startswith("Hierarchical learning (HL). 4 images of 4 patients, held-out patients of folds 0, 1")


def test_table_1_is_the_papers_with_poses_and_devices_below(study, cohort):
    rows = {row.pop("Item"): row for row in read_table(study[0] / "table_1.csv")}
    assert list(rows)[:9] == PAPER_1
    assert rows["Number of X-ray images"] == {"Dataset A": "40", "Dataset B": "40"}
    assert rows["Female, n (%)"]["Dataset B"] == "7 (70.0)"
    assert rows["Mean age (sd), years"]["Dataset B"] == "54.5 (3.0)"
    assert rows["Median T-score (IQR)"]["Dataset B"] == "n/a"  # no reference was named
    assert rows["Mean DXA-BMD (sd), g/cm²"]["Dataset A"] == "n/a"
    known = {r["patient_id"]: float(r["dxa_bmd_g_cm2"]) for r in read_table(cohort[0] / "manifest.csv")}
    mean, sd = np.mean(list(known.values())), np.std(list(known.values()), ddof=1)
    assert rows["Mean DXA-BMD (sd), g/cm²"]["Dataset B"] == f"{mean:.3f} ({sd:.3f})"
    assert list(rows)[9:] == [f"X-ray images, {name}, n (%)" for name in (*sorted(POSES), "one")]
    assert rows["X-ray images, supine, n (%)"]["Dataset B"] == "10 (25.0)"


def test_all_three_formats_are_there(study):
    for name in ("table_1", "table_2", "table_3"):
        text = (study[0] / f"{name}.tex").read_text()
        assert text.count(r"\\") == len(read_table(study[0] / f"{name}.csv")) + 1
        assert "simulated data" in text
        assert "simulated data" in (study[0] / f"{name}.md").read_text()


def test_datasets_of_other_patients_are_not_joined(cohort, tmp_path):
    qct, _ = cohort
    other = write_dataset(tmp_path / "other", patients=10, poses=POSES, shape=(32, 32), seed=1)
    runs = [write_run(tmp_path / "a", qct), write_run(tmp_path / "b", other)]
    with pytest.raises(PreflightError, match="BMD-EVA-007"):
        evaluate_runs(runs, [qct, other], tmp_path / "out", kind="simulated")
    with pytest.raises(PreflightError, match="BMD-EVA-002"):
        evaluate_runs(runs, qct, tmp_path / "out", kind="simulated")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_other_poses_than_were_taken_are_said(cohort, tmp_path):
    run = write_run(tmp_path / "a", cohort[0])
    words = [
        "evaluate",
        str(run),
        "--data",
        str(cohort[0]),
        "--out",
        str(tmp_path / "out"),
        "--kind",
        "simulated",
        "-q",
    ]
    told = CliRunner().invoke(group, [*words, "--pose", "lying"])
    assert isinstance(told.exception, PreflightError)
    assert told.exception.code == "BMD-EVA-004"
    told = CliRunner().invoke(group, [*words, "--pose", "standing"], catch_exceptions=False)
    assert told.exit_code == 0
    assert {row["pose"] for row in read_table(tmp_path / "out" / "predictions.csv")} == {"standing"}
