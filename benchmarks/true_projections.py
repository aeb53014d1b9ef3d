"""What a proximal femur projects to in a radiograph where pose, density and camera are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.volume import Volume
from bmdkit.drr.targets import Region, cut_region, project_region
from bmdkit.evaluation.registration_error import true_camera
from bmdkit.io.volumes import read_array


def read_truth(cohort: Path, patient: str) -> dict[str, Any]:
    """What truth.json says of a patient."""
    return dict(json.loads((cohort / "truth" / patient / "truth.json").read_text(encoding="utf-8")))


def cut_true_regions(cohort: Path, patient: str) -> dict[Side, Region]:
    """The true density within the true region of either proximal femur."""
    folder = cohort / "truth" / patient
    values, grid, _ = read_array(folder / "density.nii.gz")
    density = Volume(values.astype(np.float32), grid, "density_mg_cm3")
    found: dict[Side, Region] = {}
    for side in SIDES:
        mask, mask_grid, _ = read_array(folder / f"proximal_femur_{side}.nii.gz")
        found[side] = cut_region(density, mask > 0, mask_grid, f"proximal_femur_{side}")
    return found


def project_truth(region: Region, radiograph: dict[str, Any], side: Side) -> np.ndarray:
    """Areal density of a region on the whole radiograph, g/cm2, as truth.json tells of its poses and camera."""
    pose = RigidTransform(np.array(radiograph["ct_to_camera"][f"femur_{side}"]))
    return project_region(region, pose, true_camera(radiograph["camera"]))
