"""Tables 2 and 3 of Gu et al. 2023, row by row and column by column, from the methods of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bmdkit.core.naming import make_unique_name
from bmdkit.evaluation.agreement import FEWEST_PATIENTS, Agreement
from bmdkit.evaluation.tables import (
    TOO_FEW,
    Column,
    Label,
    Value,
    agreement_cells,
    agreement_columns,
    to_csv,
    to_latex,
    to_markdown,
)
from bmdkit.io.results import write_text
from bmdkit.study.finished_runs import Method
from bmdkit.study.method_metrics import CEILING, MEAN, ImageMetrics, MethodMetrics
from bmdkit.study.task_values import UNITS
from bmdkit.training.bone_density import Task

_DIGITS: dict[Task, int] = {"dxa": 3, "qct": 1}
_CONVENTIONAL = "Conventional Regression"
_STEPS = {
    "decomposition": "Decomposition using {}",
    "frozen": "+Regression (freeze M_E)",
    "tuned": "+Regression (tune R)",
}
_SOURCES = {False: "QCT", True: "CT"}
_FAMILIES = {"resnet": "ResNet", "daformer": "DAFormer", "hrnet": "HRNet", "hrformer": "HRFormer"}
_IMAGE_COLUMNS = (
    Column("psnr_db", "Mean PSNR, dB", 3, "highest"),
    Column("dice", "Mean DC", 3, "highest"),
    Column("mean_icc", "ICC", 3, "highest"),
    Column("mean_pcc", "PCC", 3, "highest"),
)
_ABLATION_COLUMNS = (
    Column("DXA.mae", "DXA Mean AE, g/cm²", 3, "lowest"),
    Column("DXA.see", "DXA SEE, g/cm²", 3, "lowest"),
    Column("DXA.icc", "DXA ICC", 3, "highest"),
    Column("DXA.pcc", "DXA PCC", 3, "highest"),
    Column("QCT.pcc", "PCC w.r.t. QCT-BMD", 3, "highest"),
)
WITH_HL = "+ HL"
_ORDER = [
    ("", _CONVENTIONAL),
    *((source, step.format(source)) for source in _SOURCES.values() for step in _STEPS.values()),
    *((source, f"GT-PF-DRR from {source}") for source in _SOURCES.values()),
]
"""Rows of a block of the paper's Table 2."""

References = Mapping[tuple[str, bool], Mapping[Task, Agreement]]
"""Agreement of what needs no network, by its name and whether the CTs are uncalibrated, and by task."""


@dataclass(frozen=True)
class PaperTable:
    """A table with a row for each method.

    Attributes:
        rows: Values by label and column.
        columns: Columns in their order.
        heads: Heads of the leading columns.
        unranked: Rows that are never the best: they are no predictions of a network.
    """

    rows: Mapping[Label, Mapping[str, Value]]
    columns: Sequence[Column]
    heads: tuple[str, ...]
    unranked: frozenset[Label] = frozenset()

    def without_best(self) -> PaperTable:
        """The same without a best value in any column: rows that cannot be compared have none."""
        return replace(self, columns=[replace(column, best=None) for column in self.columns])

    def write(self, path: Path, caption: str) -> None:
        """Write `path`.csv, .md and .tex."""
        rows, columns = self.rows, self.columns
        texts = {
            "csv": to_csv(rows, columns, heads=self.heads),
            "md": to_markdown(rows, columns, heads=self.heads, caption=caption, unranked=self.unranked),
            "tex": to_latex(rows, columns, heads=self.heads, caption=caption, unranked=self.unranked),
        }
        for suffix, text in texts.items():
            write_text(path.with_name(f"{path.name}.{suffix}"), text)


def choose_ablation(methods: Sequence[Method]) -> list[Method]:
    """The methods of Table 3: those trained on one pose, tested on that alone, where there are any; else all."""
    return [method.with_its_pose_alone() for method in methods if _has_one_pose(method)] or list(methods)


def make_bmd_table(measured: Sequence[MethodMetrics], references: References, poses: Sequence[str]) -> PaperTable:
    """Table 2: agreement of DXA- and QCT-BMD. The rows of the paper come first, in its order, as far as they are there.

    Methods that the paper's table does not have follow by their own names, and a constant. Methods of Table 3 that were
    trained on one pose are left out, unless all were.

    Args:
        measured: The methods.
        references: Agreement of what needs no network.
        poses: Poses of the data; a method that was trained on all of them heads the table.
    """
    chosen = [one for one in measured if not _has_one_pose(one.method)] or list(measured)
    rows: dict[tuple[str, str, str], dict[str, Value]] = {}
    others: dict[tuple[str, str, str], dict[str, Value]] = {}
    blocks = sorted({one.method.first.poses for one in chosen}, key=lambda names: (bool(names), -len(names), names))
    for block in blocks:
        title = _name_poses(block or poses)
        for one in (m for m in chosen if m.method.first.poses == block):
            label = _name_row(one.method)
            if label is None or (title, *label) in rows:
                others[title, "", one.method.name] = _bmd_cells(one)
            else:
                rows[(title, *label)] = _bmd_cells(one)
            if one.mean_of_seeds:
                name = f"{one.method.name}, mean of {len(one.method.seeds)} seeds"
                others[title, "", name] = _join_cells(one.mean_of_seeds)
    title = _name_poses(blocks[0] or poses) if blocks else ""
    for uncalibrated, cells in _cells_of(references, CEILING):
        source = _SOURCES[uncalibrated]
        rows[title, source, f"GT-PF-DRR from {source}"] = cells
    for _, cells in _cells_of(references, MEAN):
        others["", "", MEAN] = _keep_errors(cells)
    titles = [_name_poses(block or poses) for block in blocks]
    ordered = sorted(rows, key=lambda label: (titles.index(label[0]), _ORDER.index(label[1:])))
    kept = [(label, cells) for label, cells in [(one, rows[one]) for one in ordered] + list(others.items()) if cells]
    unranked = frozenset(label for label, _ in kept if label[2].startswith("GT-PF-DRR") or label[2] == MEAN)
    table: dict[Label, dict[str, Value]] = dict(kept)
    columns = [c for task in _DIGITS for c in agreement_columns(task.upper(), UNITS[task], digits=_DIGITS[task])]
    return PaperTable(table, _known_columns(table, columns), ("pose in training dataset", "DRR", "method"), unranked)


def make_ablation_table(measured: Sequence[MethodMetrics]) -> PaperTable | None:
    """Table 3: each backbone without and with hierarchical learning (HL), and the conventional method below.

    Args:
        measured: The methods, from `choose_ablation`.

    Returns:
        None without a decomposition of dataset B.
    """
    chosen = [m for m in measured if m.images and m.method.first.dataset == "B" and not m.method.first.is_uncalibrated]
    if not chosen:
        return None
    rows: dict[Label, dict[str, Value]] = {}
    for one in sorted(chosen, key=lambda m: (*place_backbone(m.method), m.method.first.hierarchical)):
        first = one.method.first
        learnt = (WITH_HL if first.hierarchical else "") + (", unpaired" if first.unpaired else "")
        known = [label[1] for label in rows if label[0] == name_backbone(one.method)]
        label = (name_backbone(one.method), make_unique_name(learnt, known))
        images = {c.key: combine_seeds([_image_cell(of_seed, c.key) for of_seed in one.images]) for c in _IMAGE_COLUMNS}
        rows[label] = images | _bmd_cells(one)
    for one in measured:
        if one.method.first.phase == "baseline":
            rows.setdefault((_CONVENTIONAL, ""), _bmd_cells(one))
    return PaperTable(rows, _known_columns(rows, [*_IMAGE_COLUMNS, *_ABLATION_COLUMNS]), ("method", "learning"))


def combine_seeds(values: Sequence[Value]) -> Value:
    """The value of one seed, or mean and standard deviation over several; why there is none if one has none."""
    numbers = [value for value in values if isinstance(value, float)]
    if len(values) < 2 or len(numbers) < len(values):
        return next((value for value in values if isinstance(value, str)), values[0])
    return float(np.mean(numbers)), float(np.std(numbers, ddof=1))


def _has_one_pose(method: Method) -> bool:
    return len(method.first.poses) == 1


def _name_row(method: Method) -> tuple[str, str] | None:
    """Source of the DRR and name of the method's row in the paper's Table 2; None where it has none there."""
    first = method.first
    if first.phase == "baseline" and first.weighting in (None, "none", "common"):
        return "", _CONVENTIONAL
    plain = first.dataset == "B" and first.hierarchical and not first.pretrained and not first.unpaired
    if not plain or first.phase not in _STEPS or first.weighting not in (None, "common"):
        return None
    source = _SOURCES[first.is_uncalibrated]
    return source, _STEPS[first.phase].format(source)


def _name_poses(poses: Sequence[str]) -> str:
    usual = ("standing", "supine", "abduction", "adduction")
    ranked = sorted(poses, key=lambda pose: (usual.index(pose) if pose in usual else len(usual), pose))
    return ", ".join(pose.capitalize() for pose in ranked)


def _family(method: Method) -> str:
    return str(method.first.backbone).partition("_")[0]


def name_backbone(method: Method) -> str:
    """Name of the family, as the paper has it; that of other networks as bmdkit has it."""
    return _FAMILIES.get(_family(method), str(method.first.backbone))


def place_backbone(method: Method) -> tuple[int, str]:
    """Place of a method's backbone in the paper's order, and its name; others follow."""
    families = list(_FAMILIES)
    return families.index(_family(method)) if _family(method) in families else len(families), str(method.first.backbone)


def _cells_of(references: References, name: str) -> Iterator[tuple[bool, dict[str, Value]]]:
    for (one, uncalibrated), tasks in references.items():
        if one == name and not (name == MEAN and uncalibrated):  # a constant does not know the targets
            yield uncalibrated, _join_cells(tasks)


def _join_cells(tasks: Mapping[Task, Agreement]) -> dict[str, Value]:
    """The cells of all tasks, of what has no seeds."""
    cells = [agreement_cells(task.upper(), found) for task, found in tasks.items()]
    return {key: value for part in cells for key, value in part.items()}


def _keep_errors(cells: Mapping[str, Value]) -> dict[str, Value]:
    """A constant has no correlation and no spread."""
    return {key: value for key, value in cells.items() if key.endswith((".mae", ".see"))}


def _bmd_cells(measured: MethodMetrics) -> dict[str, Value]:
    cells: dict[str, Value] = {}
    for task, by_seed in measured.agreement.items():
        parts = [agreement_cells(task.upper(), one) for one in by_seed.values()]
        cells |= {key: combine_seeds([part[key] for part in parts]) for key in parts[0]}
    return cells


def _image_cell(metrics: ImageMetrics, name: str) -> Value:
    value: float = getattr(metrics, name)
    too_few = name in ("mean_icc", "mean_pcc") and metrics.patients < FEWEST_PATIENTS
    return TOO_FEW if too_few else value


def _known_columns(rows: Mapping[Label, Mapping[str, Value]], columns: Sequence[Column]) -> list[Column]:
    known = {key for cells in rows.values() for key in cells}
    return [column for column in columns if column.key in known]
