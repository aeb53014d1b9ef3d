"""A small built dataset in the contract's layout, written without the stages that would make it."""

import json

import numpy as np
import pytest

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import Grid, LabelMap, Volume
from bmdkit.dataset.manifest import COLUMNS, QUARANTINE_COLUMNS
from bmdkit.io.images import write_png, write_tiff
from bmdkit.io.markups import write_landmarks
from bmdkit.io.results import write_csv, write_json
from bmdkit.io.volumes import write_labels, write_volume

MARKUP = '<script>alert("x")</script>'
RODS = {0: 1.2, 50: 58.0, 100: 116.5, 150: 173.6, 200: 233.0}


def _ball(points, centre, radius):
    return np.linalg.norm(points - centre, axis=-1) < radius


def _stick(points, start, end, radius):
    axis = np.subtract(end, start)
    along = np.clip((points - start) @ axis / (axis @ axis), 0, 1)
    return np.linalg.norm(points - start - along[..., None] * axis, axis=-1) < radius


def _anatomy(spacing_mm):
    size = np.ceil(np.array([150, 120, 320]) / spacing_mm).astype(int)
    grid = Grid(tuple(size), [spacing_mm] * 3, [-160.0, -60.0, -80.0], np.eye(3))
    points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))
    labels = np.zeros(grid.shape, np.uint8)
    labels[_ball(points, (0, 20, 45), 28)] = LABEL_VALUES["axial"]
    for sign, femur in ((1, "femur_L"), (-1, "femur_R")):
        head, corner, end = (sign * 90, 0, 20), (sign * 125, 5, -10), (sign * 118, 0, -90)
        rim = _ball(points, head, 36) & ~_ball(points, head, 27) & (points[..., 2] > 12)
        wing = _stick(points, (sign * 85, 10, 50), (sign * 40, 25, 60), 16)
        labels[rim | wing] = LABEL_VALUES["pelvis"]
        bone = _ball(points, head, 23) | _stick(points, head, corner, 15) | _stick(points, corner, end, 15)
        labels[bone] = LABEL_VALUES[femur]
    body = ((points[..., 0] / 150) ** 2 + (points[..., 1] / 58) ** 2) < 1
    density = np.where(body, 20.0, -850.0) + 260.0 * (labels > 0)
    return LabelMap(labels, grid, LABEL_VALUES), Volume(density.astype(np.float32), grid, "density_mg_cm3"), points


def _pictures(labels, side):
    """Sums along the viewing direction, as (256 x 512) pages: radiograph, pelvis, femur, region."""
    half = slice(labels.grid.shape[2] // 2, None) if side == "L" else slice(0, labels.grid.shape[2] // 2)

    def page(mask):
        image = np.flipud(mask.sum(axis=1)[:, half]) * labels.grid.spacing_mm[1] * 260e-4
        rows = np.linspace(0, image.shape[0] - 1, 512).astype(int)
        columns = np.linspace(0, image.shape[1] - 1, 256).astype(int)
        return image[np.ix_(rows, columns)].astype(np.float32)

    pelvis, femur = page(labels.mask("pelvis")), page(labels.mask(f"femur_{side}"))
    xray = np.clip(0.25 + (pelvis + femur) / 3, 0, 1).astype(np.float32)
    return xray, pelvis, femur


def _write_case(root, patient, labels, density, points, rng):
    case = root / "cases" / patient
    slope, intercept = 0.857 + rng.normal(0, 0.01), -1.0
    rods = [
        {"density_mg_cm3": d, "hu": hu, "center_lps_mm": [40.0 * n - 80, 55.0, -5.0]}
        for n, (d, hu) in enumerate(RODS.items())
    ]
    calibration = {"slope_mg_cm3_per_hu": slope, "intercept_mg_cm3": intercept, "residual_mg_cm3": 0.6}
    write_json(case / "calibration.json", {**calibration, "phantom": "B-MAS200", "rods": rods, "source": "phantom"})
    write_volume(case / "density.nii.gz", density)
    write_labels(case / "labels.nii.gz", labels)
    write_png(case / "qc" / "rods.png", np.full((60, 90, 3), 70, np.uint8))
    rows = []
    for side in "LR":
        femur = labels.mask(f"femur_{side}")
        region = femur & (points[..., 2] > -60) & (np.abs(points[..., 0]) > 100)
        write_volume(
            case / f"proximal_femur_{side}.nii.gz", Volume(region.astype(np.uint8), labels.grid, "probability")
        )
        head = np.array([90.0 if side == "L" else -90.0, 0, 20])
        write_landmarks(case / f"landmarks_{side}.mrk.json", Landmarks(side, {"head_center": head}))
        areal = rng.normal(0.85, 0.1)
        for pose in ("standing", "supine"):
            xray, pelvis, femur_page = _pictures(labels, side)
            mean = 0.4 + 0.5 * areal + rng.normal(0, 0.01)
            for dataset, pages in (("A", np.stack([pelvis, femur_page])), ("B", femur_page[None])):
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
        write_png(case / "qc" / f"registration_{pose}.png", np.full((72, 86, 3), 120, np.uint8))
    write_json(case / "meta.json", {"status": "ok"})
    return rows


def write_built(root, *, patients=2, spacing_mm=6.0, seed=0):
    """A dataset with `patients` whole cases, p01 ..., and two that were not built."""
    rng = np.random.default_rng(seed)
    labels, density, points = _anatomy(spacing_mm)
    rows = []
    for number in range(1, patients + 1):
        rows += _write_case(root, f"p{number:02d}", labels, density, points, rng)
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
    about = {"kind": "bmdkit dataset", "versions": {"bmdkit": "0.1.0"}, "image_size": [512, 256]}
    (root / "dataset.json").write_text(json.dumps({**about, "configuration": {"seed": 0}, "citation": "Gu et al."}))
    return root


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Two whole cases of two radiographs and hips, one quarantined, one failed."""
    return write_built(tmp_path_factory.mktemp("built"))
