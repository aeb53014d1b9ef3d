"""The CLAIM checklist of a study, filled in as far as its runs and data know, and what the authors have to add."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bmdkit import __version__
from bmdkit.dataset.layout import DESCRIPTION
from bmdkit.dataset.manifest import read_manifest
from bmdkit.io.results import write_text
from bmdkit.study.cohort_table import read_carried
from bmdkit.study.finished_runs import Method
from bmdkit.study.task_values import SPLITS, Kind, Split
from bmdkit.training.run_layout import CONFIG

FILE = "claim_checklist.md"
ADD = "To be added by the authors"

_ITEMS = (
    "Title or abstract: names the study as one of artificial intelligence, and the kind of method",
    "Abstract: structured summary of design, methods, results, conclusions",
    "Introduction: scientific and clinical background, intended use and role of the method",
    "Introduction: aims, objectives, hypotheses",
    "Design: prospective or retrospective",
    "Design: goal of the study",
    "Data: sources",
    "Data: who was included and excluded",
    "Data: preprocessing",
    "Data: choice of a part of the data",
    "Data: how identity was removed",
    "Data: how missing data were handled",
    "Data: protocol of the images",
    "Reference standard: how it was obtained",
    "Reference standard: why this one",
    "Reference standard: who annotated, and how they were qualified",
    "Reference standard: annotation of the test set",
    "Reference standard: variability within and between raters",
    "Partitions: how data were assigned",
    "Partitions: the level at which they are disjoint",
    "Test data: intended number, and how it was found",
    "Model: its description in full",
    "Model: software, libraries, versions",
    "Model: first values of the parameters",
    "Training: approach and settings",
    "Training: how the final model was chosen",
    "Training: ensembles",
    "Evaluation: metrics",
    "Evaluation: significance and uncertainty",
    "Evaluation: robustness",
    "Evaluation: explanations",
    "Evaluation: on internal data",
    "Evaluation: on external data",
    "Evaluation: registration of the trial",
    "Results: numbers of patients and images, and of those left out",
    "Results: demographic and clinical characteristics of each partition",
    "Results: performance with its uncertainty",
    "Results: diagnostic performance and its precision",
    "Results: analysis of failures",
    "Discussion: limitations",
    "Discussion: what it means for practice, intended use and role",
    "Other: protocol and further technical details",
    "Other: where software, trained model and data are to be had",
    "Other: funding and support",
)
"""Items of CLAIM 2024 in short words of our own."""


def write_checklist(
    methods: Sequence[Method], datasets: Sequence[Path], out: Path, *, split: Split, kind: Kind
) -> None:
    """Write claim_checklist.md: every item with what is known, or that the authors have to add it.

    Args:
        methods: Methods of the study.
        datasets: Their datasets.
        out: Folder of the study's results.
        split: Patients that were measured with.
        kind: Kind of the data.

    Source: Tejani et al. 2024, CLAIM 2024 Update, doi 10.1148/ryai.240300.
    """
    known = _known_items(methods, datasets, split, kind)
    lines = [
        "# CLAIM checklist",
        "",
        f"Filled in by bmdkit {__version__} from the runs and their data (**{kind} data**). The items are in short",
        "words of our own, after Tejani et al. 2024, doi 10.1148/ryai.240300: hold the original beside this. What the",
        "run cannot know is marked.",
        "",
        "| item | | from the run | page |",
        "|---:|---|---|---|",
    ]
    for place, text in enumerate(_ITEMS, start=1):
        found = known.get(place, f"**{ADD}**").replace("|", "\\|")
        lines.append(f"| {place} | {text} | {found} | |")
    write_text(out / FILE, "\n".join([*lines, ""]))


def _known_items(methods: Sequence[Method], datasets: Sequence[Path], split: Split, kind: Kind) -> dict[int, str]:
    description = json.loads((datasets[0] / DESCRIPTION).read_text(encoding="utf-8"))
    rows = [row for row in read_manifest(datasets[0]) if row.get("dataset") == "B"]
    usable = [row for row in rows if row.get("status") == "ok"]
    left_out = [row for row in rows if row.get("status") != "ok"]
    folds = sorted({row["fold"] for row in usable})
    settings = [_settings_of(method) for method in methods]
    patients = len({row["patient_id"] for row in usable})
    more = f" {ADD}: what the build did not see." if kind == "clinical" else ""
    carried = [what for what in ("sex", "age") if any(read_carried(row, what) for row in usable)]
    known = {
        6: "Estimation of DXA-BMD (g/cm²) and QCT-BMD (mg/cm³) of the proximal femur from a radiograph of the hip.",
        7: f"{kind.capitalize()} data.{more}",
        8: f"Left out by the build: {_count(left_out)}.{more}",
        9: f"Settings of the build: `configuration` of {DESCRIPTION}.",
        10: "Registrations of the verdicts " + ", ".join(_unique(one.get("verdicts", ()) for one in settings)) + ".",
        11: "No name, date or number of a patient is in the dataset; see its documentation.",
        12: "Images without a measured BMD are left out of the numbers of that task; nothing is imputed.",
        14: "DXA-BMD: "
        + ("simulated reading of the true areal density." if kind == "simulated" else f"{ADD}.")
        + " QCT-BMD: mean density of the proximal femur in the CT.",
        19: f"By patient at random, {len(folds)} folds ({', '.join(folds)}).",
        20: "Patient: all images of a patient, and both hips, are in one fold; a start from other folds is refused.",
        22: "Backbones: "
        + ", ".join(_unique([str(m.first.backbone)] for m in methods if m.first.backbone))
        + "; settings in "
        f"{CONFIG} of each run.",
        23: f"bmdkit {__version__}; built with {_versions(description)}.",
        24: "Drawn from the seed of the run, or taken over from a run before (`lineage` of config.json): "
        + "; ".join(f"{m.name}: {'from dataset A' if m.first.hierarchical else 'drawn'}" for m in methods[:8])
        + ".",
        25: "Settings of each run in its config.json; losses by epoch in its log.csv.",
        26: "As `loop.keep` of each run says: the last epoch, unless tune patients choose it.",
        27: "None; seeds are reported apart.",
        28: "PCC, ICC(2,1), MAE, SEE, RMS-CV, Bland-Altman limits; PSNR and multi-threshold Dice of projections.",
        29: "95 % intervals, patients resampled; repeated-measures ANOVA with the patient as the block, Tukey or Holm.",
        30: "robustness.csv: compressed and spoilt radiographs, where asked for; poses in training; uncalibrated CT.",
        31: "figure_02, and attention figures (|gradient x activation|), where pictures were asked for.",
        32: f"Yes: {SPLITS[split]} of the same source, {patients} patients in all.",
        33: f"No, unless said otherwise. {ADD}.",
        35: f"{patients} patients, {len(usable)} images; left out: {_count(left_out)}.",
        36: "table_1" + ("" if carried else f"; the cohort carries neither sex nor age. {ADD}") + ".",
        37: "table_2 and metrics.json (intervals).",
        38: "metrics.json, `screening` and decision_curve.csv, where a reference of T-scores was named.",
        39: "error_sources.csv, subgroups.csv, figures 9, 10 and 11.",
        42: "Recipes of the runs are their config.json.",
    }
    return known


def _settings_of(method: Method) -> Mapping[str, Any]:
    settings: Mapping[str, Any] = json.loads((method.first.folder / CONFIG).read_text(encoding="utf-8"))["settings"]
    return settings


def _unique(groups: Any) -> list[str]:
    return list(dict.fromkeys(str(one) for group in groups for one in group)) or ["as given"]


def _count(rows: Sequence[Mapping[str, str]]) -> str:
    codes: dict[str, int] = {}
    for row in rows:
        code = row.get("code") or "without a code"
        codes[code] = codes.get(code, 0) + 1
    return ", ".join(f"{count} x {code}" for code, count in sorted(codes.items())) or "nothing"


def _versions(description: Mapping[str, Any]) -> str:
    libraries = description.get("libraries", {})
    return (
        ", ".join(f"{name} {version}" for name, version in libraries.items())
        or f"bmdkit {description.get('bmdkit', '')}"
    )
