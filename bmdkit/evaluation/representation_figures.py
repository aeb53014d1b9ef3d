"""Pictures of what a network sees: images in a plane, attention over radiographs, error against joint angles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from bmdkit.evaluation.figure_style import CONTRAST, INK, MUTED, SERIES
from bmdkit.evaluation.figures import Shown, new_figure, write_beneath
from bmdkit.evaluation.joint_angle_errors import AngleFit

_BMD_MAP, _COMPONENT_MAP, _ATTENTION_MAP = "viridis", "viridis", "inferno"
_MARKERS = ("o", "s", "^", "D", "v", "P")
_HELD_OUT = {"test": INK, "train": "none"}
_WORDS = {"test": "held out", "train": "training"}


def image_plane(
    points,
    values,
    *,
    poses: Sequence[str],
    splits: Sequence[str],
    axes_names: tuple[str, str],
    title: str,
    quantity: str,
    shown: Shown,
    caption: str,
) -> Figure:
    """Images as points of a plane: the colour is the BMD, the shape the pose, and those held out have a dark edge.

    Args:
        points: (n, 2).
        values: (n,), of `quantity`; those that are not finite are grey.
        poses: (n,).
        splits: (n,), test or train.
        axes_names: Names of x and y.
        title: Title in words.
        quantity: Quantity of the values, with its unit.
        shown: What the figure shows, written beneath.
        caption: Caption, written beneath.
    """
    xy, colours = np.asarray(points, float), np.asarray(values, float)
    if xy.shape != (len(colours), 2):
        raise ValueError(f"points: expected shape ({len(colours)}, 2), got {xy.shape}")
    figure, axes = new_figure(shown, caption, size_inch=(5.6, 5.2))
    names, parts = np.asarray([str(pose) for pose in poses]), np.asarray(splits)
    known = np.isfinite(colours)
    limits = (colours[known].min(), colours[known].max()) if known.any() else (0.0, 1.0)
    colours = np.where(known, colours, np.nan)
    handles, drawn = [], None
    for marker, name in zip(_cycled(_MARKERS, len(set(names))), sorted(set(names)), strict=True):
        for split in ("train", "test"):
            mine = (names == name) & (parts == split)
            style: dict[str, Any] = {"marker": marker, "s": 26, "linewidths": 0.9, "edgecolors": _HELD_OUT[split]}
            grey = mine & ~known
            if grey.any():
                axes.scatter(*xy[grey].T, color="#c3cad4", **style)
            if (mine & known).any():
                drawn = axes.scatter(
                    xy[mine & known, 0],
                    xy[mine & known, 1],
                    c=colours[mine & known],
                    cmap=_BMD_MAP,
                    vmin=limits[0],
                    vmax=limits[1],
                    alpha=1.0 if split == "test" else 0.65,
                    **style,
                )
        handles.append(Line2D([], [], ls="none", marker=marker, ms=5, mfc="#c3cad4", mec="none", label=name))
    handles += [
        Line2D([], [], ls="none", marker="o", ms=5, mfc="#c3cad4", mec=_HELD_OUT[split], label=_WORDS[split])
        for split in (("train", "test") if len(set(splits)) > 1 else ())
    ]
    if drawn is not None:
        solids = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02, label=quantity).solids
        if solids is not None:
            solids.set_alpha(1)
    axes.margins(0.06)
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.set_title(title)
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), columnspacing=1.2, handletextpad=0.2)
    return figure


@dataclass(frozen=True, eq=False)
class Example:
    """One radiograph, and what a network makes of it; all of one size.

    Attributes:
        label: Above the column.
        xray: (rows, columns), [0, 1].
        component: (rows, columns), the first principal component of the fused map.
        attention: (rows, columns), 0 or more, or None.
    """

    label: str
    xray: np.ndarray
    component: np.ndarray
    attention: np.ndarray | None = None


def attention_panels(images: Sequence[Example], *, title: str, shown: Shown, caption: str) -> Figure:
    """Radiographs, beneath each the first component of its fused map, and the attention laid over it.

    Args:
        images: One or more examples; each attention is scaled to its own largest value, the component is common to all.
        title: Title in words.
        shown: What the figure shows, written beneath.
        caption: Caption, written beneath.
    """
    if not images:
        raise ValueError("images: expected at least one")
    lines = ["radiograph", "first component"] + ["attention"] * (images[0].attention is not None)
    height, width = images[0].xray.shape
    wide = 1.15
    high = min(wide * height / width, 2.3)
    figure = Figure(
        figsize=(max(0.5 + len(images) * wide, 5.6), 1.1 + len(lines) * (high + 0.05)),
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02),
    )
    table = figure.subplots(len(lines), len(images), squeeze=False)
    low, top = _common(np.concatenate([image.component.ravel() for image in images]))
    for column, image in zip(table.T, images, strict=True):
        column[0].imshow(image.xray, cmap="gray", vmin=0, vmax=1)
        column[0].set_title(image.label, fontsize=7.5, fontweight="normal", loc="center")
        column[1].imshow(image.component, cmap=_COMPONENT_MAP, vmin=low, vmax=top)
        if image.attention is not None:
            share = np.clip(image.attention / (float(image.attention.max()) or 1.0), 0, 1)
            column[2].imshow(image.xray, cmap="gray", vmin=0, vmax=1)
            column[2].imshow(share, cmap=_ATTENTION_MAP, vmin=0, vmax=1, alpha=0.8 * np.sqrt(share))
    for line, name in zip(table, lines, strict=True):
        line[0].set_ylabel(name, fontsize=8)
    for axes in table.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=9.5, fontweight="bold", x=0.01, ha="left")
    write_beneath(figure, shown, caption)
    return figure


def error_against_angle(
    angles_deg,
    errors,
    fit: AngleFit,
    *,
    angle: str,
    quantity: str,
    unit: str,
    poses: Sequence[str],
    shown: Shown,
    caption: str,
) -> Figure:
    """Errors against a joint angle with the fitted line and the limits of both.

    Args:
        angles_deg: (n,).
        errors: (n,), in `unit`.
        fit: Fit of the errors.
        angle: Angle in words, such as flexion.
        quantity: Quantity in words, such as DXA-BMD.
        unit: Unit of the errors, such as g/cm².
        poses: (n,), which colour the points.
        shown: What the figure shows, written beneath.
        caption: Caption, written beneath.
    """
    x, y = np.asarray(angles_deg, float), np.asarray(errors, float)
    figure, axes = new_figure(shown, caption, size_inch=(5.2, 5.2))
    axes.axhline(0, color=MUTED, lw=0.8)
    limit: dict[str, Any] = {"lw": 1, "ls": (0, (4, 3))}
    for level in fit.error_limits:
        axes.axhline(level, color=CONTRAST, **limit)
    for level in fit.angle_limits:
        axes.axvline(level, color=MUTED, **limit)
    names = np.asarray([str(pose) for pose in poses])
    for colour, name in zip(_cycled(SERIES, len(set(names))), sorted(set(names)), strict=True):
        mine = names == name
        axes.plot(x[mine], y[mine], ls="none", marker="o", ms=4.5, mew=0, alpha=0.7, color=colour, label=name)
    text = "no line: the angle is the same everywhere"
    if np.isfinite(fit.slope_per_deg):
        ends = np.array([x.min(), x.max()])
        axes.plot(ends, fit.intercept + fit.slope_per_deg * ends, color=INK, lw=1.4)
        chance = ", p < 0.001" if fit.p < 0.001 else f", p = {fit.p:.3f}" if np.isfinite(fit.p) else ""
        text = f"slope {fit.slope_per_deg:+.2g} {unit} per degree{chance}".replace("-", "−")
    handles = [
        *axes.get_legend_handles_labels()[0],
        Line2D([], [], color=CONTRAST, label="error, mean ± 1.96 SD", **limit),
    ]
    handles.append(Line2D([], [], color=MUTED, label="angle, mean ± 1.96 SD", **limit))
    axes.margins(0.08)
    axes.set_xlabel(f"{angle}, degrees")
    axes.set_ylabel(f"{quantity}: predicted minus measured, {unit}")
    axes.set_title(text)
    figure.legend(handles=handles, loc="outside upper left", ncols=2, columnspacing=1.2, handletextpad=0.4)
    return figure


def _common(values: np.ndarray) -> tuple[float, float]:
    """Limits that leave out the utmost percent."""
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    return (low, high) if high > low else (low, low + 1.0)


def _cycled(items: Sequence[str], count: int) -> list[str]:
    return [items[n % len(items)] for n in range(count)]
