"""Pictures that need images and networks: t-SNE of radiographs, PCA of the representation, attention, joint angles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bmdkit.dataset.samples import Fold, Pair, PairDataset, read_pairs, split_pairs
from bmdkit.evaluation.embedding import has_tsne, principal_components, tsne, within_groups
from bmdkit.evaluation.figure_style import drawing, save
from bmdkit.evaluation.figures import Shown
from bmdkit.evaluation.representation_figures import Example, attention_panels, image_plane
from bmdkit.models.blocks import Decoder
from bmdkit.study.attention import attention_maps, fused_maps, mean_maps
from bmdkit.study.figure_book import FigureBook
from bmdkit.study.finished_runs import Method, Result, group_methods, read_results
from bmdkit.study.joint_angle_figures import capitalise, draw_angles
from bmdkit.study.paper_figures import ON_REQUEST, Cast, Scene, choose_cast, choose_shown
from bmdkit.study.paper_tables import choose_ablation
from bmdkit.study.picture_figures import (
    MeanProjection,
    Stage,
    draw_ablation,
    draw_intensities,
    draw_outliers,
    draw_stages,
)
from bmdkit.study.task_values import SPLITS, UNITS, Kind, Split, describe_rows, make_file_stem, measured_values
from bmdkit.training.bone_density import TASKS, Task
from bmdkit.training.engine import choose_device
from bmdkit.training.regression_run import load_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run import load_run
from bmdkit.training.run_layout import PairPrediction
from bmdkit.training.settings import DecompositionConfig

MOST_EMBEDDED, MOST_ENCODED, EXAMPLES = 2000, 400, 6
"""Images of a t-SNE, of a PCA of the representation, and those whose attention is shown."""

SMALL = (64, 32)
"""(rows, columns) of the radiographs that t-SNE compares."""

_NEEDS = {
    1: "a decomposition of dataset B, and five held-out images whose true projection is known",
    2: "a decomposition of dataset B",
    5: "scikit-learn, and four radiographs of dataset B",
    10: "a method of dataset B, and the poses of pelvis and femur in its radiographs",
    11: "a decomposition of dataset B, and three images whose BMD was both measured and predicted",
    12: "a decomposition of dataset B",
}
"""What a numbered figure cannot be drawn without."""


@dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """A trained encoder and what it was trained with.

    Attributes:
        encoder: Network up to the fused map.
        head: Network from there to BMD, or None.
        config: Settings of the training.
    """

    encoder: nn.Module
    head: nn.Module | None
    config: DecompositionConfig | RegressionConfig


def load_encoder(result: Result, *, device: torch.device) -> TrainedEncoder:
    """The encoder of a decomposition or of a phase of a regression.

    Raises:
        PreflightError: Its files cannot be used (BMD-TRN-009), or have another architecture (BMD-TRN-006).
        ValueError: A baseline, which has none.
    """
    if result.phase == "baseline":
        raise ValueError("result: expected a network with an encoder, got a baseline")
    if result.phase in ("decomposition", "ridge"):
        run = load_run(result.folder / "ridge" if result.phase == "ridge" else result.folder, device=str(device))
        return TrainedEncoder(run.generator.encoder, None, run.config)
    regression = load_regression(result.folder, phase=result.phase, device=str(device))
    return TrainedEncoder(regression.network.encoder, regression.network.head, regression.config)


def draw_pictures(
    runs: Sequence[Path], data: Path | Sequence[Path], out: Path, *, split: Split, kind: Kind, device: str = "auto"
) -> list[str]:
    """Draw what `evaluate_runs` does not: it needs images and networks.

    Args:
        runs: Folders of trainings that `evaluate_runs` has accepted.
        data: Dataset that they were trained on, or several of the same patients.
        out: Folder to which joint_angles.csv, joint_angle_fits.csv and figures/ are written.
        split: Patients whose attention and errors are shown; t-SNE and PCA show both.
        kind: Kind of the data.
        device: Device to compute on: auto, cpu or cuda[:N].

    Returns:
        What was left out and why, in sentences.

    Raises:
        PreflightError: A run or an image cannot be used.
    """
    chosen = choose_device(device)
    datasets = (data,) if isinstance(data, Path) else tuple(data)
    results = [result for run in runs for result in read_results(run, *datasets)]
    results.sort(key=lambda result: (result.order, str(result.fold), result.seed))
    methods = group_methods(results)
    scene, cast = Scene(FigureBook(out, data=datasets[0]), split, kind), choose_cast(methods)
    left_out = []
    with drawing():
        if cast.decomposition is not None:
            draw_intensities(scene, cast.decomposition)
        left_out += _draw_stages(scene, cast, results, chosen)
        left_out += _draw_tsne(results, datasets[0], scene)
        names = choose_shown(methods)
        shown = [method for method in methods if method.name in names]
        if len(shown) < len(methods):
            left_out.append(f"pictures of each of {len(methods)} methods: only of {' and of '.join(names)}.")
        left_out += _draw_methods(shown, scene.book.folder, split, kind, chosen)
        left_out += draw_angles(shown, cast, datasets[0], out, scene)
        draw_outliers(scene, cast)
        draw_ablation(scene, choose_ablation(methods))
        for number, needs in _NEEDS.items():
            scene.book.leave_out(number, ON_REQUEST[number], f"it needs {needs}.")
        scene.book.write_index(kind)
    return left_out


def _draw_methods(methods: Sequence[Method], folder: Path, split: Split, kind: Kind, device: torch.device) -> list[str]:
    """Representation and attention of each method."""
    left_out = []
    for method in methods:
        if method.first.phase == "baseline":
            left_out.append(f"{method.name}: no representation and no attention, it has no encoder.")
            continue
        trained = load_encoder(method.first, device=device)
        _draw_representation(method, trained, folder, kind)
        _draw_attention(method, trained, folder, split, kind)
    return left_out


def _draw_stages(scene: Scene, cast: Cast, results: Sequence[Result], device: torch.device) -> list[str]:
    """Networks of one fold and seed: pelvis and femur, proximal femur, BMD."""
    if cast.decomposition is None:
        return ["representation by stage: no decomposition is of dataset B."]
    second = cast.decomposition.first
    alike = [r for r in results if (r.data, r.fold, r.seed) == (second.data, second.fold, second.seed)]
    one = next(
        (r for r in alike if r.dataset == "A" and (r.backbone, r.poses) == (second.backbone, second.poses)), None
    )
    three = None if cast.regression is None else next((r for r in alike if r in cast.regression.results), None)
    stages = []
    for name, result in (("stage one", one), ("stage two", second), ("stage three", three)):
        if result is None:
            continue
        trained = load_encoder(result, device=device)
        head = trained.head
        if head is None:
            generator = load_run(result.folder, device=str(device)).generator
            head = MeanProjection(generator) if isinstance(generator.decoder, Decoder) else None
        stages.append(Stage(name, trained.encoder, head, trained.config.image_size))
    draw_stages(scene, stages, second.of("test"), second)
    missing = [name for name, result in (("one", one), ("three", three)) if result is None]
    return [f"representation by stage: no run of stage {' and '.join(missing)} was given."] if missing else []


def _draw_tsne(results: Sequence[Result], data: Path, scene: Scene) -> list[str]:
    """All radiographs of dataset B, as the first run of it splits them."""
    if not has_tsne():
        return ["t-SNE of the radiographs: scikit-learn is not installed (pip install 'bmdkit[figures]')."]
    folds = [result.fold for result in results if result.dataset == "B"]
    if not folds:
        return ["t-SNE of the radiographs: no run is of dataset B."]
    fold = folds[0]
    pairs, splits = _sample_pairs(*split_pairs(read_pairs(data, "B"), fold), MOST_EMBEDDED)
    if len(pairs) < 4:
        return [f"t-SNE of the radiographs: {len(pairs)} are too few."]
    images = _read_xrays(pairs, SMALL)[:, 0].numpy()
    images = np.stack(
        [image[:, ::-1] if pair.side == "R" else image for image, pair in zip(images, pairs, strict=True)]
    )
    values, quantity = _choose_colours(pairs, "dxa")
    points, shown = tsne(images.reshape(len(images), -1)), _describe_splits(pairs, splits, fold, scene.kind)
    caption = f"Pixels of {SMALL[0]} × {SMALL[1]}, right hips mirrored. Distances between groups mean nothing."
    figure = image_plane(
        points,
        values,
        poses=[pair.pose for pair in pairs],
        splits=splits,
        axes_names=("t-SNE, first dimension", "second dimension"),
        title="t-SNE of the radiographs",
        quantity=quantity,
        shown=shown,
        caption=caption,
    )
    rows = [
        {
            "pair_id": pair.pair_id,
            "pose": pair.pose,
            "split": part,
            quantity: float(value),
            "x": float(x),
            "y": float(y),
        }
        for pair, part, value, (x, y) in zip(pairs, splits, values, points, strict=True)
    ]
    scene.book.add(5, "tsne", figure, rows, title="t-SNE of the radiographs", caption=caption, shown=shown)
    return []


def _draw_representation(method: Method, trained: TrainedEncoder, folder: Path, kind: Kind) -> None:
    """Fused maps averaged over all places, in the plane in which they differ most."""
    first = method.first
    pairs, splits = _sample_pairs(*_pairs_of(trained, first), MOST_ENCODED)
    vectors = torch.cat(
        [
            mean_maps(trained.encoder, _read_xrays(part, trained.config.image_size))
            for part in _split_in_parts(pairs, 32)
        ]
    )
    centred, of_side = within_groups(vectors.numpy(), [pair.side for pair in pairs])
    found = principal_components(centred)
    values, quantity = _choose_colours(pairs, first.tasks[0] if first.tasks else "dxa")
    shares = [f"{100 * share:.1f} % of the variance" for share in found.explained]
    caption = f"{capitalise(method.name)}. Its fused map of {vectors.shape[1]} channels, averaged over all places"
    if len({pair.side for pair in pairs}) > 1:
        caption += f", less the mean of its side, which takes {100 * of_side:.1f} % of all variance"
    figure = image_plane(
        found.scores,
        values,
        poses=[pair.pose for pair in pairs],
        splits=splits,
        axes_names=(f"first component, {shares[0]}", f"second component, {shares[1]}"),
        title="PCA of the representation",
        quantity=quantity,
        shown=_describe_splits(pairs, splits, first.fold, kind, first.seed),
        caption=f"{caption}.",
    )
    save(figure, folder / f"representation_{make_file_stem(method.name)}")


def _draw_attention(method: Method, trained: TrainedEncoder, folder: Path, split: Split, kind: Kind) -> None:
    """Some radiographs with the first component of the fused map and, for a regression, the attention."""
    first = method.first
    train, test = _pairs_of(trained, first)
    rows = {row.pair_id: row for row in first.of(split)}
    task: Task = first.tasks[0] if first.tasks else "dxa"
    pairs = _choose_examples([pair for pair in (test if split == "test" else train) if pair.pair_id in rows], task)
    if not pairs:
        return
    size = trained.config.image_size
    xrays = _read_xrays(pairs, size)
    fused = fused_maps(trained.encoder, xrays)
    n, channels, high, wide = fused.shape
    component = principal_components(fused.permute(0, 2, 3, 1).reshape(-1, channels).numpy(), 1)
    scores = torch.from_numpy(component.scores.reshape(n, 1, high, wide))
    component_maps = nn.functional.interpolate(scores, size, mode="bilinear")[:, 0].numpy()
    attention = None if trained.head is None else attention_maps(trained.head, fused, size).numpy()
    examples = [
        Example(
            _label_example(rows[pair.pair_id], task),
            (xrays[k, 0].numpy() + 1) / 2,
            component_maps[k],
            None if attention is None else attention[k],
        )
        for k, pair in enumerate(pairs)
    ]
    caption = f"{capitalise(method.name)}. First principal component of the fused map over all places of these images: "
    caption += f"{100 * component.explained[0]:.0f} % of its variance."
    if attention is not None:
        caption += (
            " Attention: |gradient × activation| of the fused map (HiResCAM, doi 10.48550/arXiv.2011.08891), smoothed, "
            "each scaled to its own largest value; it stands in for FullGrad, which is exact only for ReLU networks."
        )
    figure = attention_panels(
        examples,
        title="Representation" if attention is None else f"Attention, {task.upper()}-BMD",
        shown=describe_rows([rows[pair.pair_id] for pair in pairs], [first], split, kind, first.seed),
        caption=caption,
    )
    save(figure, folder / f"{'places' if attention is None else 'attention'}_{make_file_stem(method.name)}")


def _pairs_of(trained: TrainedEncoder, result: Result) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    pairs = read_pairs(result.data, "A" if result.dataset == "A" else "B", verdicts=trained.config.verdicts)
    return split_pairs(pairs, trained.config.fold, train_poses=trained.config.train_poses)


def _sample_pairs(train: Sequence[Pair], test: Sequence[Pair], most: int) -> tuple[list[Pair], list[str]]:
    """At most so many of all pairs, evenly from their order, and the split of each."""
    pairs = [*((pair, "train") for pair in train), *((pair, "test") for pair in test)]
    places = np.unique(np.linspace(0, len(pairs) - 1, min(most, len(pairs))).round().astype(int))
    return [pairs[n][0] for n in places], [pairs[n][1] for n in places]


def _choose_examples(pairs: Sequence[Pair], task: Task) -> list[Pair]:
    """One pair of some patients, from the lowest BMD to the highest."""
    firsts: dict[str, Pair] = {}
    for pair in pairs:
        firsts.setdefault(pair.patient_id, pair)
    values = measured_values(list(firsts.values()), task)
    order = [list(firsts.values())[n] for n in np.argsort(values, kind="stable")]
    places = np.unique(np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).round().astype(int))
    return [order[n] for n in places]


def _split_in_parts(pairs: Sequence[Pair], size: int) -> list[Sequence[Pair]]:
    return [pairs[n : n + size] for n in range(0, len(pairs), size)]


def _read_xrays(pairs: Sequence[Pair], size: tuple[int, int]) -> Tensor:
    """(N, 1, rows, columns), [-1, 1]."""
    dataset = PairDataset.from_pairs(pairs, image_size=size)
    return torch.stack([dataset[n]["xray"] for n in range(len(dataset))])


def _choose_colours(pairs: Sequence[Pair], task: Task) -> tuple[np.ndarray, str]:
    """BMD of a task, or of the other one if nobody has that; and its name."""
    if not np.isfinite(measured_values(pairs, task)).any():
        task = next((other for other in TASKS if np.isfinite(measured_values(pairs, other)).any()), task)
    return measured_values(pairs, task), f"{task.upper()}-BMD, {UNITS[task]}"


def _describe_splits(
    pairs: Sequence[Pair], splits: Sequence[str], fold: Fold, kind: Kind, seed: int | None = None
) -> Shown:
    words = [f"{count} of {SPLITS[name]}" for name in ("test", "train") if (count := list(splits).count(name))]
    text = f"{' and '.join(words)} of fold {fold}" + ("" if seed is None else f", seed {seed}")
    return Shown(len(pairs), len({pair.patient_id for pair in pairs}), text, kind)


def _label_example(row: PairPrediction, task: Task) -> str:
    lines = [row.hip, row.pose]
    for name, value in (("measured", row.measured(task)), ("predicted", row.predicted(task))):
        if value is not None:
            lines.append(f"{name} {value:.3g}")
    return "\n".join(lines)
