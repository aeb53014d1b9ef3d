"""CTs with their true labels to teach a segmentation network: many anatomies, slices and postures.

    python examples/make_labelled_cts.py OUT --count 24 [--maps LABEL_MAP ...] [--seed 0] [--prefix sim]

Every CT is of another patient: the built-in anatomy, or warps of the label maps in turn if any are named. OUT gets
images/ and labels/, which `bmdkit train segmentation OUT` and benchmarks/segmentation.py read. Slices are 1 to 5 mm
thick, patients lie on their back or belly, every third CT has no phantom, and fields of view and matrices differ.
Running it again with another prefix or seed adds CTs; those that are there are kept.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from bmdkit.core.volume import LabelMap
from bmdkit.io.label_maps import write_labels
from bmdkit.io.volumes import write_volume
from bmdkit.simulation.label_anatomy import draw_from_shapes, read_shapes
from bmdkit.simulation.patient import Draw
from bmdkit.simulation.procedural_anatomy import draw_anatomy
from bmdkit.simulation.scan import ScanSettings, scan_patient
from bmdkit.simulation.tissue import fill_tissue

SLICES_MM = (1.0, 2.0, 3.0, 4.0, 5.0)
WARP_MM = (2.0, 6.0)
"""Least and largest standard deviation of the deformation of a label map."""


def make_settings(number: int, rng: np.random.Generator) -> ScanSettings:
    """The scan of one CT: slices and posture in turn, so that every combination comes up; the rest by chance."""
    return ScanSettings(
        slice_mm=SLICES_MM[number % len(SLICES_MM)],
        matrix=512 if rng.random() < 0.25 else 256,
        field_mm=float(rng.uniform(380, 500)),
        prone=bool(number // len(SLICES_MM) % 2),
        phantom=number % 3 != 2,
    )


def make_ct(out: Path, name: str, number: int, draw: Draw, rng: np.random.Generator) -> None:
    """Draw a patient, scan it, and write the CT and the labels on the CT's own grid."""
    anatomy = draw(rng)
    tissue = fill_tissue(anatomy, rng, None)
    scan = scan_patient(anatomy, tissue, make_settings(number, rng), rng)
    labels: LabelMap = anatomy.labels().resample(scan.hu.grid)
    write_labels(out / "labels" / f"{name}.nii.gz", labels)
    write_volume(out / "images" / f"{name}.nii.gz", scan.hu)


def main() -> None:
    """Make the CTs that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="number of the first patient")
    parser.add_argument("--maps", type=Path, nargs="*", default=[], help="label maps in place of the built-in anatomy")
    parser.add_argument("--grid-mm", type=float, default=1.5, help="voxels of the anatomy")
    parser.add_argument("--prefix", default="sim")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shapes = [read_shapes(path, (), args.grid_mm) for path in args.maps]
    for number in range(args.first, args.first + args.count):
        name = f"{args.prefix}{number:03d}"
        if (args.out / "images" / f"{name}.nii.gz").exists():
            continue
        rng = np.random.default_rng([args.seed, number])
        draw: Draw = partial(draw_anatomy, grid_mm=args.grid_mm)
        if shapes:
            draw = partial(draw_from_shapes, shapes[number % len(shapes)], warp_mm=float(rng.uniform(*WARP_MM)))
        make_ct(args.out, name, number, draw, rng)
        print(name, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
