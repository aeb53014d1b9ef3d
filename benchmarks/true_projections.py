"""What a proximal femur projects to in a radiograph where pose, density and camera are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.ct_stage import Hip
from bmdkit.dataset.radiograph_stage import Registered
from bmdkit.evaluation.registration_error import true_camera
from bmdkit.io.volumes import read_array


@dataclass(frozen=True, eq=False)
class TrueCt:
    """True density and regions, as `radiograph_stage.ProjectedCt` has those of a measured CT.

    Attributes:
        labels: Both proximal femurs.
        projected: Density, mg/cm3.
        hips: Hips with their regions.
    """

    labels: LabelMap
    projected: Volume
    hips: Mapping[Side, Hip]


def read_truth(cohort: Path, patient: str) -> dict[str, Any]:
    """What truth.json says of a patient."""
    return dict(json.loads((cohort / "truth" / patient / "truth.json").read_text(encoding="utf-8")))


def read_true_ct(cohort: Path, patient: str) -> TrueCt:
    """Read the true density and the true region of either proximal femur."""
    folder = cohort / "truth" / patient
    density, grid, _ = read_array(folder / "density.nii.gz")
    masks = {side: read_array(folder / f"proximal_femur_{side}.nii.gz") for side in SIDES}
    values = {f"proximal_femur_{side}": number for number, side in enumerate(SIDES, start=1)}
    regions = {side: array > 0 for side, (array, _, _) in masks.items()}
    drawn = sum(values[f"proximal_femur_{side}"] * region.astype(np.uint8) for side, region in regions.items())
    labels = LabelMap(np.asarray(drawn, np.uint8), masks["L"][1], values)
    hips = {side: Hip(side, region=region) for side, region in regions.items()}
    return TrueCt(labels, Volume(density.astype(np.float32), grid, "density_mg_cm3"), hips)


def read_true_poses(radiograph: Mapping[str, Any]) -> Registered:
    """Camera and poses of a radiograph, as truth.json tells of them."""
    poses = {name: RigidTransform(np.array(matrix)) for name, matrix in radiograph["ct_to_camera"].items()}
    return Registered(true_camera(radiograph["camera"]), poses, dict.fromkeys(poses), dict.fromkeys(poses, "accept"))
