"""Keep the tables and figures of a finished study, and write the page that shows them beside the paper's numbers.

    python benchmarks/paper_study.py STUDY/results [--json FILE]

STUDY is the --out of `bmdkit study pipelines/study/paper-tables.yaml`. Tables (CSV, Markdown, LaTeX) and figures (PNG
and the numbers behind them) go to benchmarks/results/study/, the page to docs/study.md; the page is made of nothing but
what is kept there, machine.json (what it cost, written by hand) among it. Without STUDY the page is written again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figure_files import write_figures

from bmdkit.evaluation.agreement import bland_altman, pearson
from bmdkit.io.results import read_csv, write_csv, write_text
from bmdkit.study.figure_book import CAPTIONS, FIGURES
from bmdkit.study.method_metrics import MEAN
from bmdkit.training.bone_density import TASKS

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "results" / "study"
INTERVALS = "intervals.csv"
PAGE = ROOT / "docs" / "study.md"
LONG_NUMBER = re.compile(r"-?\b\d+\.\d{6,}(?:e[-+]\d+)?")
LARGEST_MIB = 6.0
"""What may be kept, tables and figures together."""

FOUR, TWO = "Standing, Supine, Abduction, Adduction", "Standing, Supine"
STEPS = ("+Regression (freeze M_E)", "+Regression (tune R)")
METRICS = ("PCC", "ICC", "MAE", "SEE", "RMS-CV")

# Gu et al. 2023, doi 10.1016/j.media.2023.102970, as the deposited text has them; None: not legible there.
PAPER_1 = {
    "Number of X-ray images": ("525", "1204"),
    "Number of patients": ("275", "305"),
    "Female, n (%)": ("236 (85.8)", "250 (82.0)"),
    "Mean age (sd), years": ("58.6 (14.3)", "57.6 (14.9)"),
    "Mean BMI (sd), kg/m²": ("23.1 (3.8)", "23.5 (4.0)"),
    "Mean DXA-BMD (sd), g/cm²": ("n/a", "0.759 (0.151)"),
    "Median T-score (IQR)": ("n/a", "-1.2 (-2.1, 0.4)"),
    "Osteoporosis w.r.t. DXA-BMD, n (%)": ("n/a", "50 (16.4)"),
    "Mean CT-BMD (sd), mg/cm³": ("n/a", "290 (57)"),
}
PAPER_2: dict[tuple[str, str, str], tuple[Sequence[float | None], Sequence[float | None]]] = {
    (FOUR, "", "Conventional Regression"): ((0.667, 0.609, 0.091, 0.117, 6.02), (0.764, 0.730, 30.3, 38.6, 5.99)),
    (FOUR, "QCT", "Decomposition using QCT"): ((0.864, 0.841, 0.058, 0.077, 3.27), (0.861, 0.847, 23.1, 29.3, 3.79)),
    (FOUR, "QCT", STEPS[0]): ((0.874, 0.837, 0.057, 0.076, 3.40), (0.914, 0.904, 18.4, 23.6, 3.61)),
    (FOUR, "QCT", STEPS[1]): ((0.880, 0.848, 0.055, 0.074, 3.35), (0.920, 0.909, 17.9, 22.9, 3.36)),
    (FOUR, "CT", "Decomposition using CT"): ((0.836, 0.814, 0.062, 0.083, 3.53), (0.871, 0.852, 22.2, 28.4, 3.78)),
    (FOUR, "CT", STEPS[0]): ((0.864, 0.829, 0.057, 0.078, 3.54), (0.915, 0.905, 18.1, 23.4, 3.73)),
    (FOUR, "CT", STEPS[1]): ((0.872, 0.838, 0.056, 0.076, 3.46), (0.922, 0.910, 17.6, 22.7, 3.54)),
    (FOUR, "QCT", "GT-PF-DRR from QCT"): ((0.930, 0.928, 0.040, 0.055, 1.39), (0.883, 0.877, 20.8, 27.0, 1.24)),
    (FOUR, "CT", "GT-PF-DRR from CT"): ((None, 0.918, 0.044, 0.059, 1.49), (0.893, 0.888, 19.9, 25.8, 1.36)),
    (TWO, "QCT", "Decomposition using QCT"): ((0.855, 0.837, 0.059, 0.079, 3.72), (0.851, 0.833, 23.8, 30.3, 3.77)),
    (TWO, "QCT", STEPS[0]): ((0.862, 0.835, 0.058, 0.078, 4.02), (0.909, 0.897, 18.9, 24.3, 3.99)),
    (TWO, "QCT", STEPS[1]): ((0.866, 0.840, 0.057, 0.076, 3.93), (0.913, 0.900, 18.6, 23.8, 3.85)),
    (TWO, "CT", "Decomposition using CT"): ((0.833, 0.803, 0.063, 0.084, 3.60), (0.848, 0.832, 24.0, 30.5, 4.49)),
    (TWO, "CT", STEPS[0]): ((0.833, 0.808, 0.063, 0.084, 4.18), (0.898, 0.888, 19.9, 25.7, 4.19)),
    (TWO, "CT", STEPS[1]): ((0.847, 0.823, 0.061, 0.081, 4.28), (0.903, 0.893, 19.4, 25.0, 4.12)),
}
PAPER_3: dict[tuple[str, str], Sequence[float | None]] = {
    ("ResNet", ""): (30.688, 0.658, -0.278, 0.006, 0.117, 0.157, -0.024, -0.208, -0.130),
    ("ResNet", "+ HL"): (39.105, 0.952, 0.866, 0.894, 0.057, 0.074, 0.872, 0.879, 0.818),
    ("DAFormer", ""): (36.874, 0.926, 0.538, 0.671, 0.085, 0.114, 0.639, 0.680, 0.632),
    ("DAFormer", "+ HL"): (37.994, 0.945, 0.853, 0.875, 0.057, 0.078, 0.856, 0.865, 0.799),
    ("HRNet", ""): (36.996, 0.931, 0.369, 0.650, 0.097, 0.127, 0.537, 0.581, 0.640),
    ("HRNet", "+ HL"): (39.971, 0.958, 0.883, 0.920, 0.057, 0.074, 0.870, 0.878, 0.843),
    ("HRFormer", ""): (36.594, 0.927, 0.255, 0.495, 0.109, 0.143, 0.313, 0.400, 0.498),
    ("HRFormer", "+ HL"): (40.168, 0.961, 0.910, 0.927, 0.053, 0.071, 0.853, 0.882, 0.888),
    ("Conventional Regression", ""): (None, None, None, None, None, None, None, 0.361, 0.447),
}
DIGITS_2 = {"DXA": (3, 3, 3, 3, 2), "QCT": (3, 3, 1, 1, 2)}
DIGITS_3 = (1, 3, 3, 3, 3, 3, 3, 3, 3)
PAPER_FIGURES = {
    1: "The paper: no correlation of the radiograph's intensity with BMD, a high one of the predicted projection's.",
    2: "The paper shows FullGrad; what stands for it here is said in the caption.",
    4: "The paper chooses the threshold in the same way, and gives no numbers.",
    5: "The paper: 1204 radiographs of 305 patients.",
    6: "The paper: PCC and ICC as in Table 2, conventional, decomposition and tuned regression of four poses from QCT.",
    7: "The paper: PCC of seen and unseen poses, trained on four and on two: DXA-BMD 0.882 to 0.873 and 0.879 to "
    "0.862, QCT-BMD 0.919 to 0.916 and 0.922 to 0.912; every two poses above 0.9.",
    8: "The paper: PCC of DXA-BMD 0.880, 0.877 at JPEG 50 and 0.790 at JPEG 10; of QCT-BMD 0.920, 0.918 and 0.783.",
    9: "The paper: 57 of 1204 images outside the limits for DXA-BMD, 68 for QCT-BMD; four patients with all of theirs.",
    10: "The paper: 3.93 % of images are outliers at usual and 22.41 % at unusual flexion; 4.18 and 11.11 % of "
    "abduction.",
    11: "The paper: severe osteoarthritis; a femur without a neck.",
    12: "The paper: PSNR and Dice as in Table 3; with HL the training converges within few epochs.",
    13: "The paper: PCC of DXA-BMD 0.361 (conventional) and 0.882, of QCT-BMD 0.447 and 0.888.",
}


_INTRODUCTION = """\
# The paper's tables and figures, on simulated patients

Tables 1 to 3 and Figures 1, 2 and 4 to 13 of Gu et al. 2023 (doi 10.1016/j.media.2023.102970), made by one command:

<!-- not run: it takes about an hour and a half -->
```console
bmdkit study pipelines/study/paper-tables.yaml --out studies/paper-tables --n-jobs 2
python benchmarks/paper_study.py studies/paper-tables/results
```

**All patients are simulated** (the built-in hip of `bmdkit simulate` at one site, with the mean and the spread of the
paper's BMD), and the networks are small: a U-Net that sees 128 × 64 pixels, trained for minutes. The paper's numbers,
in brackets, are of 305 clinical patients, HRFormer-B at 512 × 256 pixels and 630 epochs: they stand beside ours for the
layout, and ours are no repetition of them. What larger and longer trainings reach is in
[Measured](measured/training.md).

{what} {cost}

The files are in `benchmarks/results/study/`: tables as CSV, Markdown and LaTeX, figures as PNG, the numbers behind each
as CSV. `benchmarks/paper_study.py` has written this page from them.

## Table 1
"""


def keep_study(results: Path) -> None:
    """Copy the tables, the numbered figures and the numbers behind them in place of what was kept before.

    Args:
        results: Folder of a study's results.

    Raises:
        SystemExit: A table is missing, or all together are larger than `LARGEST_MIB`.
    """
    names = [f"table_{n}.{suffix}" for n in (1, 2, 3) for suffix in ("csv", "md", "tex")]
    names += ["significance.csv", "significance_pairs.csv", "error_sources.csv"]
    files = [results / name for name in names]
    figures = [p for p in sorted((results / FIGURES).glob("figure_[01][0-9]_*")) if p.suffix in (".png", ".csv")]
    missing = [path.name for path in files if not path.is_file()]
    if missing or not figures:
        raise SystemExit(f"{results}: no {', '.join(missing) or 'figures'}")
    files += [*figures, results / FIGURES / CAPTIONS]
    texts = {path.name: shorten(path.read_text(encoding="utf-8")) for path in files if path.suffix == ".csv"}
    size = sum(len(texts[p.name].encode()) if p.name in texts else p.stat().st_size for p in files) / 2**20
    if size > LARGEST_MIB:
        raise SystemExit(f"{size:.1f} MiB are more than {LARGEST_MIB:g}")
    KEPT.mkdir(parents=True, exist_ok=True)
    for old in {*KEPT.glob("table_*"), *KEPT.glob("figure_*"), *KEPT.glob("*.csv")}:
        old.unlink()
    for path in files:
        if path.name in texts:
            write_text(KEPT / path.name, texts[path.name])
        else:
            shutil.copyfile(path, KEPT / path.name)
    methods = json.loads((results / "metrics.json").read_text(encoding="utf-8"))["methods"]
    write_csv(KEPT / INTERVALS, list_intervals(methods), ("method", "task", "pcc", "pcc_low", "pcc_high"))


def shorten(text: str) -> str:
    """A table with its long numbers in six significant digits.

    >>> shorten("a,0.6930466269560529,12.5,-1.234567891e-17")
    'a,0.693047,12.5,-1.23457e-17'
    """
    return LONG_NUMBER.sub(lambda found: f"{float(found[0]):.6g}", text)


def list_intervals(methods: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each method and task: PCC with its interval over patients."""
    for name, method in methods.items():
        for task, found in method["tasks"].items():
            of_seed = found["by_seed"][0] if "by_seed" in found else found
            low, high = of_seed["pcc_interval"] or (None, None)
            yield {"method": name, "task": task, "pcc": of_seed["pcc"], "pcc_low": low, "pcc_high": high}


def show(here: str, paper: float | None, digits: int) -> str:
    """One cell: the number of here, and the paper's in brackets.

    >>> show("0.12345", 0.5, 3), show("-1e-9", -0.2, 1), show("", None, 1)
    ('0.123 (0.500)', '0.0 (−0.2)', '– (–)')
    """
    try:
        own = f"{round(float(here), digits) + 0.0:.{digits}f}"
    except ValueError:
        own = here.replace("<", "&lt;") or "–"
    return f"{own} ({'–' if paper is None else f'{paper:.{digits}f}'})".replace("-", "−")


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, numbers to the right."""
    line = "|".join(["---"] + ["--:"] * (len(header) - 1))
    cells = [" | ".join(cell.replace("|", "/").replace("_", r"\_") for cell in row) for row in rows]
    return [f"| {' | '.join(header)} |", f"|{line}|", *(f"| {row} |" for row in cells), ""]


def write_cohort(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Table 1 beside the paper's."""
    found = []
    for row in rows:
        paper = PAPER_1.get(row["Item"], ("–", "–"))
        found.append([row["Item"], row["Dataset A"], paper[0], row["Dataset B"], paper[1]])
    return write_table(("", "A, here", "A, paper", "B, here", "B, paper"), found)


def write_bmd(rows: Sequence[Mapping[str, str]], task: str) -> list[str]:
    """Table 2 of one task beside the paper's, row by row."""
    found = []
    for row in rows:
        key = (row["pose in training dataset"], row["DRR"], row["method"])
        paper = PAPER_2.get(key, ((None,) * 5, (None,) * 5))[("DXA", "QCT").index(task)]
        own = [row[next(name for name in row if name.startswith(f"{task} {metric}"))] for metric in METRICS]
        cells = [show(*one) for one in zip(own, paper, DIGITS_2[task], strict=True)]
        trained = ", ".join(filter(None, [{FOUR: "four", TWO: "two"}.get(key[0], key[0]), key[1]]))
        found.append([key[2], trained, *cells])
    units = ("", "", "g/cm²" if task == "DXA" else "mg/cm³", "g/cm²" if task == "DXA" else "mg/cm³", "%")
    titles = [f"{m}, {unit}" if unit else m for m, unit in zip(METRICS, units, strict=True)]
    return write_table(("method", "poses, CT", *titles), found)


def is_in_first_block(method: str) -> bool:
    """Whether a method has learnt from all poses and, as far as it needs any, from calibrated CTs.

    >>> is_in_first_block("direct regression"), is_in_first_block("direct regression, trained on standing")
    (True, False)
    """
    return "trained on" not in method and "uncalibrated" not in method


def write_intervals() -> list[str]:
    """PCC of the methods that have learnt from all poses and calibrated CTs, with intervals over patients."""
    known = [row for row in read_csv(KEPT / INTERVALS) if row["pcc_low"] and is_in_first_block(row["method"])]
    rows = [row for row in known if row["method"] != MEAN]  # a constant has no correlation
    cells = {
        (row["method"], row["task"]): "{:.3f} ({:.3f} to {:.3f})".format(
            *(float(row[name]) for name in ("pcc", "pcc_low", "pcc_high"))
        )
        for row in rows
    }
    found = [[name, *(cells.get((name, task), "–") for task in TASKS)] for name in dict.fromkeys(n for n, _ in cells)]
    return write_table(("method", "DXA-BMD: PCC", "QCT-BMD: PCC"), found)


def write_pairs() -> list[str]:
    """Differences of the absolute error of every two of the same methods."""
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in read_csv(KEPT / "significance_pairs.csv"):
        pair = row["first"], row["second"]
        chosen = row["family"] == "methods" and row["quantity"] == "absolute error"
        if chosen and all(map(is_in_first_block, pair)):
            digits = DIGITS_2[row["task"].upper()][2]
            numbers = [f"{float(row[name]):.{digits}f}" for name in ("difference", "lower", "upper") if row[name]]
            interval = f" ({numbers[1]} to {numbers[2]})" if len(numbers) == 3 else ""
            found[pair][row["task"]] = f"{numbers[0]}{interval}, p {show_p(row['p'])}".replace("-", "−")
    cells = [[*pair, *(of_pair.get(task, "–") for task in TASKS)] for pair, of_pair in found.items()]
    return write_table(("first", "second", "DXA-BMD, g/cm²", "QCT-BMD, mg/cm³"), cells)


def show_p(text: str) -> str:
    """A probability.

    >>> show_p("0.0312"), show_p("1e-5"), show_p("")
    ('0.031', '< 0.001', '–')
    """
    if not text:
        return "–"
    return f"{float(text):.3f}" if float(text) >= 0.001 else "< 0.001"


def write_ablation(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Table 3 beside the paper's."""
    names = [name for name in rows[0] if name not in ("method", "learning")]
    found = []
    for row in rows:
        paper = PAPER_3.get((row["method"], row["learning"]), (None,) * len(names))
        cells = [show(row[n], p, d) for n, p, d in zip(names, paper, DIGITS_3, strict=True)]
        found.append([f"{row['method']} {row['learning']}".strip(), *cells])
    return write_table(("method", *names), found)


def measure_figures() -> dict[str, float]:
    """The numbers of the kept figures that the paper states of its own, by name."""
    found: dict[str, float] = {}
    for quantity in ("DXA-BMD", "QCT-BMD"):
        rows = [r for r in read_csv(KEPT / "figure_07_poses.csv") if r["quantity"] == quantity]
        for training in dict.fromkeys(row["method"] for row in rows):
            for name, poses in (("seen", ("standing", "supine")), ("unseen", ("abduction", "adduction"))):
                own = [r for r in rows if r["method"] == training and r["pose"] in poses]
                values = [[float(r[key]) for r in own] for key in ("predicted", "measured")]
                found[f"figure 7, {quantity}, {training}, {name} poses, PCC"] = pearson(*values)
        rows = [r for r in read_csv(KEPT / "figure_09_bland_altman.csv") if r["quantity"] == quantity]
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [r for r in rows if r["method"] == method]
            values = [[float(r[key]) for r in own] for key in ("predicted", "measured")]
            found[f"figure 9, {quantity}, {method}, images outside, %"] = 100 * float(
                np.mean(bland_altman(*values).outliers)
            )
    for row in read_csv(KEPT / "figure_08_compression.csv"):
        if (row["change"], row["level"]) in (("as it is", ""), ("jpeg", "50"), ("jpeg", "10")):
            name = f"{row['change']} {row['level']}".strip()
            found[f"figure 8, {row['task'].upper()}-BMD, {row['method']}, {name}, PCC"] = float(row["pcc"])
    return found


def write_page() -> str:
    """The page, from what is kept."""
    about = json.loads((KEPT / "machine.json").read_text(encoding="utf-8"))
    captions = json.loads((KEPT / CAPTIONS).read_text(encoding="utf-8"))
    shown = (KEPT / "table_2.md").read_text(encoding="utf-8").rstrip().splitlines()[-1]
    table_2 = read_csv(KEPT / "table_2.csv")
    lines = [
        *_INTRODUCTION.format(**about).splitlines(),
        "",
        *write_cohort(read_csv(KEPT / "table_1.csv")),
        "Simulated patients have no sex, age or BMI. T-scores need a reference (`--reference`).",
        "",
        "## Table 2",
        "",
        "Ours (the paper's). DXA-BMD:",
        "",
        *write_bmd(table_2, "DXA"),
        "QCT-BMD:",
        "",
        *write_bmd(table_2, "QCT"),
        f"{shown} A method that predicts nearly the same for everybody has a small RMS-CV: look at the ICC first.",
        "",
        "### Who differs",
        "",
        "Methods that have learnt from all poses and calibrated CTs. PCC, intervals of patients drawn anew:",
        "",
        *write_intervals(),
        "Mean absolute error of the first less that of the second (simultaneous 95 % interval), and p over all pairs;",
        "repeated measures with the patient as the block:",
        "",
        *write_pairs(),
        "## Table 3",
        "",
        "Ours (the paper's):",
        "",
        *write_ablation(read_csv(KEPT / "table_3.csv")),
        (KEPT / "table_3.md").read_text(encoding="utf-8").rstrip().splitlines()[-1],
        "",
        "## Figures",
        "",
    ]
    told: set[int] = set()
    for name, figure in captions.items():
        number = int(name.split("_")[1])
        lines += [f"### Figure {number}. {figure['title']}", ""]
        if "left_out" in figure:
            lines += [f"Left out: {figure['left_out']}", ""]
            continue
        lines += [f"![{figure['title']}](../benchmarks/results/study/{name}.png)", ""]
        lines += [f"{figure['caption']} {figure['shown']}.", ""]
        if number not in told:
            lines += [PAPER_FIGURES[number], ""]
        told.add(number)
    lines += ["## The same numbers as the paper's text has", ""]
    found = measure_figures()
    lines += write_table(("quantity", "here"), [[name, f"{value:.3g}"] for name, value in found.items()])
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Keep a study, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.results is not None:
        keep_study(options.results)
    PAGE.write_text(write_page(), encoding="utf-8")
    figures = measure_figures()
    for name, value in figures.items():
        print(f"{name:90s} {value:.3g}")
    if options.json is not None:
        write_figures(options.json, figures, "cpu")


if __name__ == "__main__":
    main()
