"""A tiny CT of a drawn hip with its labels: bars for femurs, a bridge for the pelvis, a rod for the spine."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.io.label_maps import write_labels
from bmdkit.io.volumes import write_volume

SPACING = (5.0, 5.0, 6.0)


def labelled_ct(seed: int = 0, *, slices: int = 14, side: int = 64) -> tuple[Volume, LabelMap]:
    """HU and labels, [slices, side, side]; bones differ in density, place and size with the seed."""
    rng = np.random.default_rng(seed)
    grid = Grid((slices, side, side), SPACING, [-SPACING[0] * side / 2, -SPACING[1] * side / 2, 100.0], np.eye(3))
    z, y, x = np.moveaxis(grid.points(np.moveaxis(np.indices(grid.shape), 0, -1)), -1, 0)[::-1]
    dx, dy = rng.uniform(-8, 8, 2)
    wide = rng.uniform(0.9, 1.1)
    middle = grid.centre()[2]
    body = ((x - dx) / (140 * wide)) ** 2 + ((y - dy) / 90) ** 2 < 1
    labels = np.zeros(grid.shape, np.uint8)
    labels[(np.abs(x - dx) < 70 * wide) & (np.abs(y - dy + 25) < 18) & (z > middle - 15)] = LABEL_VALUES["pelvis"]
    labels[((x - dx) ** 2 + (y - dy - 45) ** 2 < 20**2) & (z > middle - 15)] = LABEL_VALUES["axial"]
    for name, sign in (("femur_L", 1), ("femur_R", -1)):
        labels[(x - dx - sign * 95 * wide) ** 2 + (y - dy) ** 2 < 20**2] = LABEL_VALUES[name]
    hu = np.where(body, 40.0, -1000.0)
    for name, value in (("pelvis", 290), ("axial", 200), ("femur_L", 340), ("femur_R", 340)):
        hu[labels == LABEL_VALUES[name]] = value
    hu += rng.normal(0, 12, hu.shape)
    return Volume(np.rint(hu).astype(np.int16), grid, "hu"), LabelMap(labels, grid, LABEL_VALUES)


def write_pairs(folder: Path, count: int) -> Path:
    """A folder with images/ and labels/: p0__a, p0__b, p1__a, ..."""
    for number in range(count):
        volume, labels = labelled_ct(number)
        name = f"p{number // 2}__{'ab'[number % 2]}.nii.gz"
        write_volume(folder / "images" / name, volume)
        write_labels(folder / "labels" / name, labels)
    return folder


def write_cohort(folder: Path, count: int) -> Path:
    """A cohort of such CTs with labels; its radiographs are no images."""
    rows = []
    for number in range(count):
        volume, labels = labelled_ct(number)
        name = f"p{number}"
        write_volume(folder / "ct" / f"{name}.nii.gz", volume)
        write_labels(folder / "labels" / f"{name}.nii.gz", labels)
        (folder / f"{name}.dcm").write_text(name)
        files = {"ct": f"ct/{name}.nii.gz", "labels": f"labels/{name}.nii.gz", "xray": f"{name}.dcm"}
        rows.append({"patient_id": name, "side": "L", **files})
    with (folder / "cohort.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder
