"""Dataset B of the true projections of cohorts, to train on what another simulator shows and knows.

    python benchmarks/true_pairs.py COHORT ... --out PAIRS [--learnt N] [--rows 128 --columns 64]

Each COHORT has truth/. The first N patients of each are learnt from (a negative N: all but the last), all others are
held out (fold 0). Of several cohorts, the patients have the name of the cohort's folder before their own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from true_projections import read_true_ct, read_true_poses, read_truth

from bmdkit.core.anatomy import Side
from bmdkit.dataset.assemble import KIND, list_units
from bmdkit.dataset.layout import DESCRIPTION
from bmdkit.dataset.manifest import ManifestRow, PairRow, write_manifest
from bmdkit.dataset.names import pair_id
from bmdkit.dataset.pairs import PairConfig
from bmdkit.dataset.radiograph_stage import HipView, Regions, make_pair
from bmdkit.dataset.settings import BuildConfig
from bmdkit.io.results import read_csv, write_json
from bmdkit.io.xray import read_radiograph

HELD_OUT, LEARNT = 0, 1
"""Folds of the patients."""


def write_true_pairs(cohorts: Sequence[Path], out: Path, learnt: int, config: PairConfig) -> None:
    """Write a dataset; patients [:learnt] of each cohort are in one fold, all others in another."""
    rows: list[ManifestRow] = []
    for cohort in cohorts:
        prefix = f"{cohort.name}-" if len(cohorts) > 1 else ""
        table = read_csv(cohort / "cohort.csv")
        patients = list(dict.fromkeys(line["patient_id"] for line in table))
        for patient in patients:
            lines = [line for line in table if line["patient_id"] == patient]
            fold = LEARNT if patient in patients[:learnt] else HELD_OUT
            rows += [ManifestRow(pair, fold, {}) for pair in make_patient_pairs(cohort, lines, prefix, out, config)]
    write_manifest(out, rows, ())
    description = {"kind": KIND, "format": 1, "data": "simulated", "units": list_units("density")}
    write_json(out / DESCRIPTION, description | {"configuration": {"pairs": asdict(config)}})


def make_patient_pairs(
    cohort: Path, lines: Sequence[dict[str, str]], prefix: str, out: Path, config: PairConfig
) -> list[PairRow]:
    """Pairs of all radiographs and hips of one patient, given his lines of the cohort's table."""
    patient, build = lines[0]["patient_id"], BuildConfig(dataset="B", pairs=config)
    truth, ct = read_truth(cohort, patient), read_true_ct(cohort, patient)
    regions, made = Regions(ct), list[PairRow]()
    for line in lines:
        side: Side = "L" if line["side"] == "L" else "R"
        radiograph = read_radiograph(cohort / line["xray"])
        poses = read_true_poses(truth["radiographs"][line["pose"]])
        row = PairRow(
            pair_id(prefix + patient, line["pose"], side),
            prefix + patient,
            side,
            line["pose"],
            dxa_bmd_g_cm2=float(line["dxa_bmd"]),
            qct_bmd_mg_cm3=truth["proximal_femur"][side]["physical_bmd_mg_cm3"],
            dataset="B",
        )
        made.append(make_pair(HipView(ct.hips[side], radiograph, poses, regions, build), row, out))
    return made


def main() -> None:
    """Read the arguments and write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--learnt", type=int, default=0, help="patients of each that are learnt from")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--columns", type=int, default=64)
    args = parser.parse_args()
    config = PairConfig(rows=args.rows, columns=args.columns, outward=1.0)
    write_true_pairs(args.cohorts, args.out, args.learnt, config)


if __name__ == "__main__":
    main()
