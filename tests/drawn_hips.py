"""A built dataset of drawn hips: the contract's files, without CT or registration."""

from __future__ import annotations

import csv
import json

import numpy as np

from bmdkit.io.images import write_tiff

COLUMNS = ("pair_id", "dataset", "patient_id", "side", "pose", "xray", "drr", "mask", "dxa_bmd_g_cm2")
COLUMNS += ("qct_bmd_mg_cm3", "pf_drr_mean_g_cm2", "verdict", "status", "fold")


def ellipse(shape, row, column, high, wide):
    v, u = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return np.clip(1 - ((v / shape[0] - row) / high) ** 2 - ((u / shape[1] - column) / wide) ** 2, 0, None) ** 0.5


def draw_hip(rng, density, shape):
    """Pelvis, femur and proximal femur in g/cm2, and a radiograph of them behind soft tissue."""
    dy, dx = rng.normal(0, 0.02, 2)
    pelvis = 1.2 * density * ellipse(shape, 0.2 + dy, 0.3 + dx, 0.25, 0.35)
    head = 1.5 * density * ellipse(shape, 0.4 + dy, 0.45 + dx, 0.08, 0.16)
    neck = 1.2 * density * ellipse(shape, 0.5 + dy, 0.6 + dx, 0.14, 0.2)
    shaft = 1.4 * density * ellipse(shape, 0.85 + dy, 0.6 + dx, 0.35, 0.12)
    femur = np.maximum(np.maximum(head, neck), shaft)
    v = np.mgrid[: shape[0], : shape[1]][0] / shape[0] - dy
    region = np.where((v > 0.45) & (v < 0.75), np.maximum(neck, shaft), 0)
    soft = 1.2 * ellipse(shape, 0.5, 0.5, 0.9, 0.9)
    xray = np.clip((soft + pelvis + femur) / 5 + rng.normal(0, 0.01, shape), 0, 1)
    return pelvis, femur, region, xray


def write_dataset(root, *, patients=5, poses=("standing", "supine"), shape=(64, 32), seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for p in range(patients):
        density = rng.uniform(0.6, 1.4)
        for pose in poses:
            pelvis, femur, region, xray = draw_hip(rng, density, shape)
            for name, pages in (("A", [pelvis, femur]), ("B", [region])):
                pair = f"p{p}__{pose}__L"
                folder = root / f"dataset_{name.lower()}" / pair
                write_tiff(folder / "xray.tif", xray.astype(np.float32))
                write_tiff(folder / "drr.tif", np.array(pages, np.float32))
                write_tiff(folder / "mask.tif", np.full(shape, 255, np.uint8))
                files = {key: f"{folder.relative_to(root)}/{key}.tif" for key in ("xray", "drr", "mask")}
                who = {
                    "pair_id": pair,
                    "dataset": name,
                    "patient_id": f"p{p}",
                    "side": "L",
                    "pose": pose,
                    "fold": p % 5,
                }
                bmd = {"dxa_bmd_g_cm2": 0.9 * density, "qct_bmd_mg_cm3": 300 * density}
                bmd |= {"pf_drr_mean_g_cm2": float(region[region > 0].mean())}
                (folder / "meta.json").write_text(json.dumps(describe(pages[0], shape)))
                rows.append(who | bmd | files | {"verdict": "accept", "status": "ok"})
    write_manifest(root, rows)
    description = {"kind": "bmdkit dataset", "units": {"drr.tif": "g/cm2"}}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def describe(page, shape):
    """What key points need: the camera's pixels, and two landmarks, at the top of the first page and at its middle."""
    v, u = np.nonzero(page)
    points = {
        "head_center": [float(u[v == v.min()].mean()), float(v.min())],
        "shaft_5cm": [float(u.mean()), float(v.mean())],
    }
    return {"camera": {"rows": shape[0], "columns": shape[1], "column_spacing_mm": 2.0}, "landmarks_uv": points}


def write_manifest(root, rows):
    with (root / "manifest.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
