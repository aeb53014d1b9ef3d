"""The images of a training pair as one picture, a data URI."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from bmdkit.report.style import REGION, drawing, png_uri


def pair_images(xray: np.ndarray, groups: Sequence[Sequence[tuple[str, np.ndarray]]], *, title: str) -> str:
    """A pair's radiograph beside its DRR pages, g/cm2; the pages of one dataset share a scale and its colour bar.

    Args:
        xray: (rows, columns), [0, 1].
        groups: Per dataset, (name, (rows, columns) in g/cm2) of each DRR page.
        title: Over the radiograph, on which pages whose name starts with B are outlined.
    """
    rows, columns = xray.shape
    total, gap, bar, after, top = 6.25, 0.06, 0.09, 0.42, 0.25  # inches
    panels = 1 + sum(map(len, groups))
    width = (total - gap * panels - (bar + after) * len(groups)) / panels
    height = width * rows / columns
    with drawing():
        figure = Figure(figsize=(total, height + top))

        def axes_at(left: float, across: float, name: str = "") -> Axes:
            axes = figure.add_axes((left / total, 0, across / total, height / (height + top)))
            axes.set_title(name, fontsize=8.5)
            return axes

        def panel(left: float, name: str, image: np.ndarray, **look) -> AxesImage:
            axes = axes_at(left, width, name)
            axes.axis("off")
            return axes.imshow(image, **look)

        shown = panel(0, title, xray, cmap="gray", vmin=0, vmax=1)
        left = width + gap
        for group in groups:
            peak = max(float(max(page.max() for _, page in group)), 1e-3)
            for name, page in group:
                picture = panel(left, name, page, cmap="inferno", vmin=0, vmax=peak)
                left += width + gap
                if name.startswith("B") and page.max() > 0:
                    shown.axes.contour(page > 0, levels=[0.5], colors=[REGION], linewidths=0.9)
            colours = figure.colorbar(picture, cax=axes_at(left - gap / 2, bar))
            colours.outline.set_visible(False)
            colours.ax.tick_params(labelsize=7.5, length=2)
            colours.ax.set_title("g/cm²", fontsize=7.5, fontweight="normal", loc="left", pad=4)
            left += bar + after
        return png_uri(figure, dpi=150)
