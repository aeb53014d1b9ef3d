"""The figures of Gu et al. 2023 that show single cases: 1, 2, 11 and 12. They need images and networks."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bmdkit.dataset.samples import Pair, PairDataset, read_images, read_pairs
from bmdkit.evaluation.agreement import FEWEST_PATIENTS, bland_altman, pearson
from bmdkit.evaluation.case_panels import (
    Cell,
    Intensities,
    Kind,
    Progress,
    ablation_figure,
    crop_to_region,
    grid_figure,
    intensity_figure,
)
from bmdkit.evaluation.embedding import principal_components
from bmdkit.evaluation.image_metrics import dice
from bmdkit.evaluation.repeatability import case_outliers
from bmdkit.models.generators import Generator
from bmdkit.study.attention import attention_maps, fused_maps
from bmdkit.study.finished_runs import Method, Result
from bmdkit.study.method_metrics import measure_images, number
from bmdkit.study.paper_figures import Cast, Scene
from bmdkit.study.paper_tables import WITH_HL, name_backbone, place_backbone
from bmdkit.study.task_values import UNITS, TaskValues
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.case_snapshots import read_snapshots
from bmdkit.training.run import load_run, predict_pf_drr
from bmdkit.training.run_layout import LOG, PairPrediction

ROIS, STAGE_CASES, OUTLIER_IMAGES = 5, 3, 4
_EVERY = ("accept", "review", "reject")


@dataclass(frozen=True, eq=False)
class PairImages:
    """A pair as it is on disk, and what a decomposition sees in it.

    Attributes:
        pair: The pair.
        xray, target, mask: (rows, columns), as on disk.
        predicted: (rows, columns) of the run's image size.
    """

    pair: Pair
    xray: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    predicted: np.ndarray | None = None

    @classmethod
    def read(cls, pair: Pair) -> PairImages:
        """Read the images of a pair of dataset B."""
        xray, drr, mask = (image[0].numpy() for image in read_images(pair))
        return cls(pair, xray, drr, mask)


def _pairs_by_name(result: Result) -> dict[str, Pair]:
    return {pair.pair_id: pair for pair in read_pairs(result.data, "B", verdicts=_EVERY)}


def _run_of(method: Method, row: PairPrediction) -> Result:
    """The result of the first seed that holds the image of a row."""
    return next(r for r in method.seeds[method.first_seed] if any(one.pair_id == row.pair_id for one in r.rows
                if one.split == row.split))  # fmt: skip


def _predict(method: Method, row: PairPrediction, images: PairImages) -> np.ndarray:
    """What the decomposition of the row's fold sees, at the size of the image on disk, g/cm2."""
    run = load_run(_run_of(method, row).folder)
    seen = torch.from_numpy(predict_pf_drr(run, images.xray, images.mask))[None, None]
    return nn.functional.interpolate(seen, images.xray.shape, mode="bilinear")[0, 0].numpy()


def draw_intensities(scene: Scene, method: Method) -> None:
    """Figure 1: mean intensity of the proximal femur in radiograph, true and predicted projection against BMD.

    Of several folds the first: the mean of a projection is above a threshold that each chooses.
    """
    method = method.first_fold()
    rows = [row for row in method.rows(method.first_seed, scene.split) if row.target_mean_g_cm2 is not None]
    pairs = _pairs_by_name(method.first)
    images = [PairImages.read(pairs[row.pair_id]) for row in rows]
    if len(rows) < ROIS:
        return
    inside = [(one.target > 0) & (one.mask > 0) for one in images]
    unit = method.first.unit.replace("cm2", "cm²")
    means = {
        "radiograph, [0, 1]": np.array(
            [float(o.xray[i].mean()) if i.any() else math.nan for o, i in zip(images, inside, strict=True)]
        ),
        f"true projection, {unit}": np.array([number(row.target_mean_g_cm2) for row in rows]),
        f"predicted projection, {unit}": np.array([number(row.predicted_mean_g_cm2) for row in rows]),
    }
    bmd = {
        f"{task.upper()}-BMD, {UNITS[task]}": np.array([number(row.measured(task)) for row in rows]) for task in TASKS
    }
    bmd = {name: values for name, values in bmd.items() if np.isfinite(values).any()}
    many = len({row.patient_id for row in rows}) >= FEWEST_PATIENTS
    pcc = {(k, q): _correlate(mean, values) if many else None for k, mean in means.items() for q, values in bmd.items()}
    chosen = choose_examples(means["radiograph, [0, 1]"], next(iter(bmd.values())))
    grid: list[list[Cell | None]] = [[], [], []]
    kinds: tuple[Kind, ...] = ("radiograph", "projection", "projection")
    for place, number_of in enumerate(chosen, start=1):
        one = images[number_of]
        box = crop_to_region(one.target)
        for line, image, kind in zip(
            grid,
            (one.xray, one.target, _predict(method, rows[number_of], one)),
            kinds,
            strict=True,
        ):
            line.append(Cell(image[box], kind, f"#{place}" if kind == "radiograph" else ""))
    shown = scene.shown([method], rows)
    caption = "#1 and #2 have like intensities and other BMD, #3 and #4 like BMD and other intensities."
    figure = intensity_figure(
        Intensities(means, bmd, pcc, chosen), grid, ("radiograph", "true", "predicted"), shown=shown, caption=caption
    )
    points = [
        {"pair_id": row.pair_id, "patient_id": row.patient_id, "pose": row.pose}
        | {name: float(values[n]) for name, values in {**means, **bmd}.items()}
        | {"example": chosen.index(n) + 1 if n in chosen else ""}
        for n, row in enumerate(rows)
    ]
    title = "Intensity of the proximal femur against BMD"
    scene.book.add(1, "intensity", figure, points, title=title, caption=caption, shown=shown)


def _correlate(a: np.ndarray, b: np.ndarray) -> float | None:
    known = np.isfinite(a) & np.isfinite(b)
    value = pearson(a[known], b[known])
    return value if math.isfinite(value) else None


def choose_examples(intensity: np.ndarray, bmd: np.ndarray) -> list[int]:
    """Five images: two of like intensity and other BMD, two of like BMD and other intensity, and one in the middle.

    Args:
        intensity: (n,), mean intensity of each radiograph.
        bmd: (n,), measured; NaN where not known.
    """
    known = np.flatnonzero(np.isfinite(bmd) & np.isfinite(intensity))
    x, y = (_standardise(values[known]) for values in (intensity, bmd))
    dx, dy = np.abs(x[:, None] - x), np.abs(y[:, None] - y)
    first = _find_largest(dy - 4 * dx)
    taken = set(first)
    score = dx - 4 * dy
    score[list(taken)] = score[:, list(taken)] = -np.inf
    second = _find_largest(score)
    taken |= set(second)
    middle = np.hypot(x - np.median(x), y - np.median(y))
    middle[list(taken)] = np.inf
    return [int(known[n]) for n in (*first, *second, int(np.argmin(middle)))]


def _find_largest(table: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(np.argmax(table), table.shape)
    return int(row), int(column)


def _standardise(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() or 1.0)


class MeanProjection(nn.Module):
    """The mean of what a generator draws from a fused map: what stands for the BMD of a decomposition.

    Args:
        generator: Generator whose decoder is used.
    """

    def __init__(self, generator: Generator) -> None:
        """Keep the decoder."""
        super().__init__()
        self.decoder = generator.decoder

    def forward(self, fused: Tensor) -> Tensor:
        """(B, C, h, w) to (B,)."""
        image: Tensor = self.decoder(fused)
        return image.mean((1, 2, 3))


@dataclass(frozen=True, eq=False)
class Stage:
    """A network of one stage.

    Attributes:
        name: Name of the stage.
        encoder: Network up to the fused map.
        head: Network from there to one number; None where the decoder needs more than that map.
        image_size: (rows, columns) of its images.
    """

    name: str
    encoder: nn.Module
    head: nn.Module | None
    image_size: tuple[int, int]


def draw_stages(scene: Scene, stages: Sequence[Stage], rows: Sequence[PairPrediction], result: Result) -> None:
    """Figure 2: the representation, and where the network looks, stage by stage.

    Args:
        scene: What all figures have in common.
        stages: Networks, in the order of training.
        rows: Images that were held out of all of them, of which some are shown.
        result: A result of dataset B, for the images.
    """
    if not stages or not rows:
        return
    pairs = _pairs_by_name(result)
    places = np.unique(np.linspace(0, len(rows) - 1, min(STAGE_CASES, len(rows))).round().astype(int))
    chosen = [rows[n] for n in places]
    grid: list[list[Cell | None]] = [[] for _ in chosen]
    points: list[dict[str, object]] = []
    for stage in stages:
        dataset = PairDataset.from_pairs([pairs[row.pair_id] for row in chosen], image_size=stage.image_size)
        xrays = torch.stack([dataset[n]["xray"] for n in range(len(dataset))])
        fused = fused_maps(stage.encoder, xrays)
        n, channels, high, wide = fused.shape
        component = principal_components(fused.permute(0, 2, 3, 1).reshape(-1, channels).numpy(), 1)
        scores = component.scores.reshape(n, high, wide)
        attention = None if stage.head is None else attention_maps(stage.head, fused, stage.image_size).numpy()
        points.append(
            {"stage": stage.name, "channels": channels, "first_component_share": float(component.explained[0])}
        )
        for k, line in enumerate(grid):
            radiograph = (xrays[k, 0].numpy() + 1) / 2
            if not line:
                line.append(Cell(radiograph, "radiograph", "radiograph"))
            line.append(Cell(scores[k], "component", f"{stage.name}\nfirst component"))
            if attention is not None:
                line.append(Cell(attention[k], "attention", f"{stage.name}\nattention", radiograph))
    shown = scene.describe(chosen, [result])
    caption = "First principal component of the fused map over all places of these images"
    if blind := [stage.name for stage in stages if stage.head is None]:
        caption += f" (no attention in {' and '.join(blind)}, whose decoder takes more than that map)"
    if len(blind) < len(stages):
        caption += (
            ", and |gradient × activation| of it (HiResCAM, a stand-in for FullGrad): "
            "of the mean projection in stages one and two, of BMD in stage three"
        )
    caption += "."
    figure = grid_figure(grid, [f"{row.patient_id}\n{row.pose}" for row in chosen], title="Representation by stage",
                         shown=shown, caption=caption)  # fmt: skip
    scene.book.add(
        2, "stages", figure, points, title="Representation and attention by stage", caption=caption, shown=shown
    )


def draw_outliers(scene: Scene, cast: Cast) -> None:
    """Figure 11: of each task the patient all of whose images lie outside the limits, or whose error is the largest."""
    if cast.best is None or cast.decomposition is None:
        return
    grid: list[list[Cell | None]] = [[], [], []]
    points: list[dict[str, object]] = []
    shown_rows: list[PairPrediction] = []
    words = []
    pairs = _pairs_by_name(cast.decomposition.first)
    known = {row.pair_id: row for row in cast.decomposition.rows(cast.decomposition.first_seed, scene.split)}
    for task in TASKS:
        found = _worst_patient(scene, cast.best, task)
        if found is None:
            continue
        patient, outside, rows = found
        why = "all images outside the limits" if outside else "the largest mean error; nobody has all images outside"
        words.append(f"{task.upper()}-BMD: {patient}, {why}.")
        for row in rows[:OUTLIER_IMAGES]:
            if row.pair_id not in known:
                continue
            images = PairImages.read(pairs[row.pair_id])
            predicted = _predict(cast.decomposition, known[row.pair_id], images)
            box = crop_to_region(images.target)
            error = number(row.predicted(task)) - number(row.measured(task))
            title = f"{task.upper()} {row.side} {row.pose}\n{error:+.3g} {UNITS[task]}".replace("-", "−")
            grid[0].append(Cell(images.xray, "radiograph", title))
            grid[1].append(Cell(images.target[box], "projection"))
            grid[2].append(Cell(predicted[box], "projection"))
            points.append({"quantity": f"{task.upper()}-BMD", "unit": UNITS[task], "pair_id": row.pair_id,
                           "patient_id": patient, "all_outside": outside, "error": error,
                           "dice_of_silhouettes": dice(predicted > 0.05, images.target > 0.05)})  # fmt: skip
            shown_rows.append(row)
    if not points:
        return
    shown = scene.shown([cast.best], shown_rows)
    caption = " ".join([*words, "Above each: predicted less measured BMD."])
    names = ("radiograph", "true", "predicted")
    figure = grid_figure(grid, names, title="Cases of large error", shown=shown, caption=caption)
    scene.book.add(11, "outliers", figure, points, title="Cases of large error", caption=caption, shown=shown)


def _worst_patient(scene: Scene, method: Method, task: Task) -> tuple[str, bool, list[PairPrediction]] | None:
    values = TaskValues.of(method.rows(method.first_seed, scene.split, task), task)
    if len(values) < 3:
        return None
    outliers = case_outliers(bland_altman(values.predicted, values.measured), values.patients)
    means = {
        name: abs(float(np.mean(values.errors[[p == name for p in values.patients]])))
        for name in (outliers or sorted(set(values.patients)))
    }
    worst = max(means, key=lambda name: means[name])
    return worst, bool(outliers), [row for row in values.rows if row.patient_id == worst]


def draw_ablation(scene: Scene, methods: Sequence[Method]) -> None:
    """Figure 12: hierarchical learning as bars, by epoch where it was watched, and one case over the epochs.

    Args:
        scene: What all figures have in common.
        methods: Decompositions of Table 3.
    """
    chosen = [
        m for m in methods if m.first.phase == "decomposition" and m.first.dataset == "B" and not m.first.unpaired
    ]
    chosen.sort(key=lambda m: (*place_backbone(m), m.first.hierarchical))
    if not chosen:
        return
    bars: dict[str, tuple[float, float]] = {}
    curves: dict[str, Progress] = {}
    points: list[dict[str, object]] = []
    rows: list[PairPrediction] = []
    for method in chosen:
        label = name_backbone(method) + (f" {WITH_HL}" if method.first.hierarchical else "")
        if label in bars:
            continue
        rows += method.rows(method.first_seed, scene.split)
        found = measure_images(method.rows_by_fold(method.first_seed, scene.split))
        bars[label] = (found.psnr_db, found.dice)
        points.append({"method": label, "epoch": "last", "psnr_db": found.psnr_db, "dice": found.dice})
        progress = read_progress(method.first.folder)
        if progress is not None:
            curves[label] = progress
            points += [
                {"method": label, "epoch": int(e), "psnr_db": p, "dice": d}
                for e, p, d in zip(progress.epochs, progress.psnr_db, progress.dice, strict=True)
            ]
    grid, names = read_case_over_epochs(chosen)
    shown = scene.shown(chosen, rows)
    caption = "Bars: held-out patients at the end."
    if curves:
        caption += " By epoch: patients that were not learnt from."
    if grid:
        caption += " Below: one of them after some epochs, without and with HL, beside its true projection."
    figure = ablation_figure(bars, curves, grid, names, shown=shown, caption=caption)
    title = "Hierarchical learning (HL): projections, convergence, one case"
    scene.book.add(12, "hierarchical_learning", figure, points, title=title, caption=caption, shown=shown)


def read_progress(folder: Path) -> Progress | None:
    """PSNR and Dice after each epoch, from the log of a run that was watched; None of another."""
    try:
        with (folder / LOG).open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        values = [(float(r["epoch"]), float(r["tune_psnr_db"]), float(r.get("tune_dice") or math.nan)) for r in rows]
    except (OSError, KeyError, ValueError):
        return None
    return Progress(*(list(column) for column in zip(*values, strict=True))) if values else None


def read_case_over_epochs(methods: Sequence[Method]) -> tuple[list[list[Cell | None]], list[str]]:
    """The case that trainings kept pictures of: a row for each backbone, without and then with hierarchical learning.

    Args:
        methods: Decompositions of Table 3.

    Returns:
        The grid, and the names of its rows; empty where no training kept any.
    """
    kept = {
        (name_backbone(m), m.first.hierarchical): found
        for m in methods
        if (found := read_snapshots(m.first.folder)) is not None
    }
    epochs = {
        learnt: sorted({epoch for (_, hl), found in kept.items() if hl == learnt for epoch in found.pages})
        for learnt in (False, True)
    }
    names = list(dict.fromkeys(name for name, _ in kept))
    grid: list[list[Cell | None]] = []
    for name in names:
        any_of = next(found for (one, _), found in kept.items() if one == name)
        line: list[Cell | None] = [Cell(any_of.xray, "radiograph", "radiograph")]
        for learnt, title in ((False, "without HL\nepoch {}"), (True, "with HL\nepoch {}")):
            pages = kept[name, learnt].pages if (name, learnt) in kept else {}
            line += [
                Cell(pages[epoch], "projection", title.format(epoch)) if epoch in pages else None
                for epoch in epochs[learnt]
            ]
        grid.append([*line, Cell(any_of.target, "projection", "true")])
    return grid, names
