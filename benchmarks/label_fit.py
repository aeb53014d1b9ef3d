"""How well wrong label maps are told from right ones by their outline: AUROC, false alarms, time.

    python benchmarks/label_fit.py CT_WITH_LABELS ... [--predicted N] [--seed S] [--n-jobs N] [--json FILE]

Each CT_WITH_LABELS is a cohort with truth/<patient>/labels.nii.gz, as `bmdkit simulate` makes one. Every map is taken
as it is, shifted by 5, 10 and 20 mm in a random direction, mirrored left to right in its array, and exchanged for
another patient's of the same folder, where it lies and moved onto this patient's middle; and, for false alarms, eroded
and dilated by 1.5 and 3 mm. `--predicted N` lets the network that comes with the package segment the first N of each.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figure_files import write_figures
from scipy import ndimage

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.case import Case
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume, bounding_box
from bmdkit.evaluation.segmentation_metrics import auroc
from bmdkit.io.cohort import read_cohort
from bmdkit.io.ct import read_ct
from bmdkit.io.volumes import read_array
from bmdkit.jobs.local_pool import run_in_pool
from bmdkit.segmentation.edge_agreement import measure_edge_agreement
from bmdkit.segmentation.labels import LabelConfig

RIGHT = ("true", "eroded 1.5 mm", "dilated 1.5 mm", "eroded 3 mm", "dilated 3 mm", "predicted")
"""Kinds of map that lie on their bones."""

SHIFTS_MM = (5, 10, 20)
MORPHED_MM = (1.5, 3.0)


def moved(labels: LabelMap, by_mm: np.ndarray) -> LabelMap:
    """The same labels, moved by a vector (LPS, mm)."""
    grid = labels.grid
    return LabelMap(
        labels.array, Grid(grid.shape, grid.spacing_mm, grid.origin_mm + by_mm, grid.direction), labels.values
    )


def mirrored(labels: LabelMap) -> LabelMap:
    """The array flipped along its rows, which run from right to left, on the same grid."""
    return LabelMap(labels.array[:, :, ::-1], labels.grid, labels.values)


def morphed(labels: LabelMap) -> Iterator[tuple[str, LabelMap]]:
    """All bones together smaller and larger by each of the margins; the measure takes all structures as one."""
    box = bounding_box(labels.array > 0, 4)
    bone, spacing = labels.array[box] > 0, labels.grid.spacing_mm[::-1]
    depth = ndimage.distance_transform_edt(bone, sampling=spacing)
    away = ndimage.distance_transform_edt(~bone, sampling=spacing)
    for size in MORPHED_MM:
        yield f"eroded {size:g} mm", LabelMap(depth > size, labels.grid.crop(box), labels.values)
        yield f"dilated {size:g} mm", LabelMap(away <= size, labels.grid.crop(box), labels.values)


def middle(labels: LabelMap) -> np.ndarray:
    """Centre of the labelled voxels, LPS, mm."""
    return labels.grid.points(np.argwhere(labels.array)[::50]).mean(axis=0)


def versions(labels: LabelMap, other: LabelMap, rng: np.random.Generator) -> Iterator[tuple[str, LabelMap]]:
    """Name and labels of every version that is tried."""
    yield "true", labels
    for size in SHIFTS_MM:
        way = rng.normal(size=3)
        yield f"shifted {size} mm", moved(labels, size * way / np.linalg.norm(way))
    yield "mirrored", mirrored(labels)
    yield "exchanged", other
    yield "exchanged, on the middle", moved(other, middle(labels) - middle(other))
    yield from morphed(labels)


def predicted(ct: Volume) -> LabelMap:
    """The labels of the network that comes with the package, not held against the CT."""
    from bmdkit.segmentation.dropout_prediction import predict
    from bmdkit.segmentation.failures import SHIPPED
    from bmdkit.segmentation.labels import prepare_labels, rejoin_pieces
    from bmdkit.segmentation.model import load_model
    from bmdkit.segmentation.settings import PredictConfig

    found = predict(ct, load_model(SHIPPED), PredictConfig(passes=2, slice_stride=3), seed=0)
    return prepare_labels(rejoin_pieces(found.labels))


def read_truth(folder: Path, case: Case) -> LabelMap:
    """The true labels of a simulated case, under the values of both simulators."""
    array, grid, _ = read_array(folder / "truth" / case.patient_id / "labels.nii.gz")
    return LabelMap(array, grid, LABEL_VALUES)


def measure_case(folder: Path, number: int, seed: int, with_predicted: bool) -> tuple[str, dict[str, float], float]:
    """Name of one case of a folder, the agreement of each kind of map, and seconds of CPU of one measurement."""
    cases = read_cohort(folder).cases
    case, following = cases[number], cases[(number + 1) % len(cases)]
    ct, labels, other = read_ct(case.ct).volume, read_truth(folder, case), read_truth(folder, following)
    kinds = dict(versions(labels, other, np.random.default_rng([seed, number])))
    if with_predicted:
        kinds["predicted"] = predicted(ct)
    start = time.process_time()
    found = {kind: measure_edge_agreement(shown, ct) or 0.0 for kind, shown in kinds.items()}
    return f"{folder.name}/{case.patient_id}", found, (time.process_time() - start) / len(kinds)


def summarise(scores: dict[str, list[float]], least: float) -> dict[str, float]:
    """What tells wrong maps from right ones, and what does not."""
    figures = {}
    right = [score for kind in RIGHT for score in scores.get(kind, [])]
    for kind, found in scores.items():
        figures[f"{kind}: maps"] = float(len(found))
        figures[f"{kind}: agreement, least"] = min(found)
        figures[f"{kind}: agreement, median"] = float(np.median(found))
        figures[f"{kind}: agreement, most"] = max(found)
        figures[f"{kind}: refused, percent"] = 100 * float(np.mean(np.array(found) < least))
        if kind not in RIGHT:
            for against, of in (("true maps", scores["true"]), ("all right maps", right)):
                values = -np.array([*found, *of])
                wrong = np.r_[np.ones(len(found), bool), np.zeros(len(of), bool)]
                figures[f"{kind}: AUROC against {against}"] = auroc(values, wrong)
    return figures


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--predicted", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of no effect: the measure runs on the CPU")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    jobs = [
        (folder, number, options.seed, number < options.predicted)
        for folder in options.folders
        for number in range(len(read_cohort(folder).cases))
    ]
    scores: dict[str, list[float]] = defaultdict(list)
    seconds = []
    for name, found, cost in run_in_pool(measure_case, jobs, options.n_jobs):
        seconds.append(cost)
        for kind, agreement in found.items():
            scores[kind].append(agreement)
        print(name, " ".join(f"{kind} {agreement:.2f};" for kind, agreement in found.items()), flush=True)
    least = LabelConfig().least_edge_agreement
    figures = {"least agreement": least, "CPU seconds of a measurement": float(np.median(seconds))}
    figures |= summarise(scores, least)
    for name, value in figures.items():
        print(f"{name:56s} {value:10.4g}")
    if options.json:
        write_figures(options.json, figures, "cpu", seed=options.seed, folders=[f.name for f in options.folders])


if __name__ == "__main__":
    main()
