"""Which methods play the parts of the paper's figures."""

from __future__ import annotations

import csv

from drawn_hips import write_dataset
from drawn_runs import write_run

from bmdkit.io.results import write_csv
from bmdkit.study.comparison import read_study
from bmdkit.study.paper_figures import choose_cast


def test_a_backbone_that_draws_nothing_does_not_stand_for_the_ablation(tmp_path):
    """HRFormer does where it says a BMD; where its projections are empty, another one with hierarchical learning."""
    data = write_dataset(tmp_path / "hips", patients=5, shape=(32, 32))
    runs = [
        write_run(tmp_path / name, data, hierarchical=True, backbone=name, train_poses=["standing"])
        for name in ("hrformer_t", "resnet")
    ]
    cast = choose_cast(read_study(runs, [data], "test", "simulated").methods)
    assert cast.ablation.first.backbone == "hrformer_t"
    with (runs[0] / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row |= {"predicted_dxa_bmd_g_cm2": "", "predicted_qct_bmd_mg_cm3": ""}
    write_csv(runs[0] / "predictions.csv", rows, list(rows[0]))
    cast = choose_cast(read_study(runs, [data], "test", "simulated").methods)
    assert cast.ablation.first.backbone == "resnet"
