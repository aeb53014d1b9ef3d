"""A picture of a training: its losses and its figures on the tune patients, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bmdkit.evaluation.figure_style import CONTRAST, MUTED, SERIES, drawing
from bmdkit.io.results import open_whole_file

NO_FIGURE = ("epoch", "step", "seconds")
LINEAR = ("lr", "psnr_db", "mean_pcc", "dxa_pcc", "qct_pcc", "pcc")
"""Panels whose values are no losses; those of losses are logarithmic."""

TUNED = "tune_"
"""Beginning of the names of the figures on the tune patients; the rest of a name is that of a loss, if it has one."""


def draw_progress(path: Path, history: Sequence[Mapping[str, float]], *, kept_epoch: int) -> None:
    """Draw every column of a training's log over its epochs; a loss and that of the tune patients share a panel.

    Args:
        path: PNG to write.
        history: Rows of the log, one an epoch; nothing is drawn without any.
        kept_epoch: Epoch whose network is used, which is marked.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not history:
        return
    names = [name for name in history[0] if name not in NO_FIGURE]
    panels = list(dict.fromkeys(name.removeprefix(TUNED) for name in names))
    epochs = [row["epoch"] for row in history]
    with drawing():
        across = min(len(panels), 3)
        down = -(-len(panels) // across)
        figure = Figure(figsize=(3.4 * across, 2.3 * down), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = list(figure.subplots(down, across, squeeze=False).flat)
        for panel, axis in zip(panels, axes, strict=False):
            for colour, name in zip(SERIES, (panel, TUNED + panel), strict=False):
                if name in names:
                    label = "tune patients" if name.startswith(TUNED) else "training"
                    values = [row[name] for row in history]
                    axis.plot(epochs, values, color=colour, marker=".", label=label)
                    if min(values) > 0 and panel not in LINEAR:
                        axis.set_yscale("log")
            axis.axvline(kept_epoch, color=CONTRAST, linestyle=":", label="kept")
            axis.set_title(panel.replace("_", " "))
            axis.set_xlabel("epoch", color=MUTED)
            axis.grid(True)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        fullest = max(axes, key=lambda axis: len(axis.get_legend_handles_labels()[0]))
        figure.legend(*fullest.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        with open_whole_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
