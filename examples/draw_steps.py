"""The picture of the start page: radiograph, outlines of the bones, projection of the proximal femur, BMD.

    python examples/draw_steps.py DATASET --out docs/pictures/steps.png

DATASET is the output of `bmdkit build-dataset` on a simulated cohort, whose DXA is the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import tifffile

from bmdkit.core.anatomy import COLOURS
from bmdkit.io.results import read_csv

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def draw_steps(dataset: Path, out: Path) -> None:
    """Draw the four steps of the first pair that was accepted.

    Args:
        dataset: Built dataset.
        out: PNG to write.
    """
    rows = [row for row in read_csv(dataset / "manifest.csv") if (row["status"], row["verdict"]) == ("ok", "accept")]
    pair = next(row for row in rows if row["dataset"] == "B" and row["dxa_bmd_g_cm2"])
    xray = tifffile.imread(dataset / pair["xray"])
    bones = tifffile.imread(dataset / f"dataset_a/{pair['pair_id']}/drr.tif")
    femur = tifffile.imread(dataset / pair["drr"])
    measured = float(pair["pf_drr_mean_g_cm2"])
    # the mean over the whole region, which the picture shows as far as its frame goes
    figure, panels = plt.subplots(1, 4, figsize=(11, 4.6), layout="constrained", width_ratios=[1, 1, 1.3, 1.2])
    for panel in panels[:3]:
        panel.set_axis_off()
    panels[0].imshow(xray, cmap="gray")
    panels[0].set_title("1  Radiograph")
    panels[1].imshow(xray, cmap="gray")
    for page, name in zip(bones, ("pelvis", "femur_L"), strict=True):
        colour = tuple(part / 255 for part in COLOURS[name])
        panels[1].contour(page, levels=[0.05 * page.max()], colors=[colour], linewidths=1.3)
    panels[1].set_title("2  Bones, registered")
    shown = panels[2].imshow(femur, cmap="magma", vmin=0)
    figure.colorbar(shown, ax=panels[2], label="areal density, g/cm2", shrink=0.8)
    panels[2].set_title("3  Femur, projected")
    bars = {"projection": measured, "DXA of this\npatient": float(pair["dxa_bmd_g_cm2"])}
    panels[3].bar(list(bars), list(bars.values()), color=["#b5367a", "#8a8a8a"], width=0.6)
    for place, value in enumerate(bars.values()):
        panels[3].text(place, value + 0.02, f"{value:.2f}", ha="center")
    panels[3].set_ylim(0, 1.25 * max(bars.values()))
    panels[3].set_ylabel("BMD, g/cm2")
    panels[3].spines[["top", "right"]].set_visible(False)
    panels[3].set_title("4  BMD")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    draw_steps(chosen.dataset, chosen.out)
