"""A small built dataset in the contract's layout, written without the stages that would make it."""

import json

import numpy as np
import pytest

from bmdkit.dataset.manifest import COLUMNS, QUARANTINE_COLUMNS
from bmdkit.io.images import write_png, write_tiff
from bmdkit.io.results import write_bytes, write_csv, write_json

MARKUP = '<script>alert("x")</script>'
RODS = {0: 1.2, 50: 58.0, 100: 116.5, 150: 173.6, 200: 233.0}


def _pages(side):
    """(512, 256) pages of a hip as plain shapes: radiograph, pelvis, femur and region, g/cm2."""
    row, column = np.mgrid[:512, :256].astype(np.float32)
    column = column if side == "L" else 255 - column

    def ball(u, v, radius):
        return np.sqrt(np.maximum(radius**2 - (column - u) ** 2 - (row - v) ** 2, 0)) / radius

    pelvis = 1.2 * ball(60, 120, 110)
    region = np.where((row > 215) & (row < 400), 1.1 * ball(150, 300, 95), 0)
    femur = np.maximum(ball(100, 205, 45), region) + 0.8 * ((np.abs(column - 150) < 30) & (row > 300))
    xray = np.clip(0.25 + (pelvis + femur) / 4, 0, 1)
    return [page.astype(np.float32) for page in (xray, pelvis, femur, region)]


def _write_case(root, patient, rng):
    case = root / "cases" / patient
    slope, intercept = 0.857 + rng.normal(0, 0.01), -1.0
    rods = [
        {"density_mg_cm3": d, "hu": hu, "center_lps_mm": [40.0 * n - 80, 55.0, -5.0]}
        for n, (d, hu) in enumerate(RODS.items())
    ]
    calibration = {"slope_mg_cm3_per_hu": slope, "intercept_mg_cm3": intercept, "residual_mg_cm3": 0.6}
    write_json(case / "calibration.json", {**calibration, "phantom": "B-MAS200", "rods": rods, "source": "phantom"})
    write_png(case / "qc" / "calibration.png", np.full((60, 90, 3), 70, np.uint8))
    rows = []
    for side in "LR":
        write_bytes(case / f"proximal_femur_{side}.nii.gz", b"")
        write_png(case / "qc" / f"labels_{side}.png", np.full((40, 110, 3), 90, np.uint8))
        areal = rng.normal(0.85, 0.1)
        for pose in ("standing", "supine"):
            xray, pelvis, femur, region = _pages(side)
            mean = 0.4 + 0.5 * areal + rng.normal(0, 0.01)
            for dataset, pages in (("A", np.stack([pelvis, femur])), ("B", region[None])):
                pair = f"{patient}__{pose}__{side}"
                folder = f"dataset_{dataset.lower()}/{pair}"
                write_tiff(root / folder / "xray.tif", xray)
                write_tiff(root / folder / "drr.tif", pages)
                write_json(root / folder / "meta.json", {"pair_id": pair})
                verdict = "review" if (patient, pose, side) == ("p01", "supine", "R") else "accept"
                rows.append(
                    {"pair_id": pair, "dataset": dataset, "patient_id": patient, "side": side, "pose": pose}
                    | {"xray": f"{folder}/xray.tif", "drr": f"{folder}/drr.tif", "mask": f"{folder}/mask.tif"}
                    | {"dxa_bmd_g_cm2": areal + rng.normal(0, 0.02), "qct_bmd_mg_cm3": 300 * areal}
                    | {"ct_abmd_g_cm2": areal, "pf_drr_mean_g_cm2": mean, "calibration": "phantom"}
                    | {"calibration_slope": slope, "calibration_intercept": intercept, "verdict": verdict}
                    | {"registration_similarity": 0.5 + rng.normal(0, 0.03), "status": "ok", "fold": 0}
                    | {"sex": "F", "comment": MARKUP}
                )
    for pose in ("standing", "supine"):
        body = {"camera_from_ct": np.eye(4).tolist(), "similarity": 0.52, "similarity_at_start": 0.31}
        bodies = {name: {**body, "spread": 0.4, "verdict": "accept"} for name in ("pelvis", "femur_L", "femur_R")}
        camera = {"sdd_mm": 1100.0, "column_spacing_mm": 0.5, "row_spacing_mm": 0.5, "columns": 860, "rows": 720}
        camera |= {"principal_point_uv": [429.5, 359.5], "sources": {"sdd_mm": "(0018,1110)"}}
        write_json(case / f"registration_{pose}.json", {"camera": camera, "bodies": bodies, "seed": 0})
        write_png(case / "qc" / f"overlay_{pose}.png", np.full((72, 86, 3), 120, np.uint8))
    write_json(case / "meta.json", {"status": "ok", "pairs": rows, "notes": ["an identical slice was dropped"]})
    return rows


def write_built(root, *, patients=2, seed=0):
    """A dataset with `patients` whole cases, p01 ..., and two that were not built."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(1, patients + 1):
        rows += _write_case(root, f"p{number:02d}", rng)
    lost = {"side": "L", "pose": "standing", "dataset": "B", "sex": "M", "comment": ""}
    rows.append(
        {"pair_id": "q1__standing__L", "patient_id": "q1", "status": "quarantined", "code": "BMD-CAL-001"}
        | {"reason": f"0 of 5 rods {MARKUP}", **lost}
    )
    rows.append(
        {"pair_id": "q2__standing__L", "patient_id": "q2", "status": "failed", "code": "BMD-RUN-002"}
        | {"reason": "it took longer than 600 s", **lost}
    )
    write_csv(root / "manifest.csv", rows, (*COLUMNS, "sex", "comment"))
    left_out = [{name: row.get(name) for name in QUARANTINE_COLUMNS} for row in rows if row["status"] != "ok"]
    write_csv(root / "quarantine.csv", left_out, QUARANTINE_COLUMNS)
    about = {"kind": "bmdkit paired hip dataset", "bmdkit": "0.1.0", "image": {"rows": 512, "columns": 256}}
    (root / "dataset.json").write_text(json.dumps({**about, "configuration": {"seed": 0}, "citation": "Gu et al."}))
    return root


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Two whole cases of two radiographs and hips, one quarantined, one failed."""
    return write_built(tmp_path_factory.mktemp("built"))


@pytest.fixture
def write():
    """`write_built`, for tests that change what they got."""
    return write_built
