"""What one radiograph of a case gives: the poses of the bones, and the training pairs of its hips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.pose_json import RecordedPoses
from bmdkit.core.radiograph import Radiograph
from bmdkit.dataset.commit import PAIR_FOLDERS
from bmdkit.dataset.ct_stage import MeasuredCt, Problem
from bmdkit.dataset.pairs import PairWindow, pair_window
from bmdkit.dataset.settings import BuildConfig
from bmdkit.dataset.targets import Region, cut_region, mean_where_projected, project_region
from bmdkit.io.images import write_tiff
from bmdkit.io.results import sha256_of, write_json

_ORDER = ("accept", "review", "reject")


@dataclass(frozen=True, eq=False)
class Registered:
    """A registration as its file tells it, whether it was made now or taken over.

    Attributes:
        camera: Of the radiograph.
        poses: camera_from_ct by body.
        similarity, verdict: By body; no similarity where the poses are known and not found.
        mirrored: Whether the mirrored radiograph fits better.
    """

    camera: ProjectionGeometry
    poses: Mapping[str, RigidTransform]
    similarity: Mapping[str, float | None]
    verdict: Mapping[str, str]
    mirrored: bool = False

    @classmethod
    def from_poses(cls, recorded: RecordedPoses) -> Registered:
        """From a registration's file.

        Raises:
            GeometryError: The file gives no camera.
        """
        bodies = recorded.bodies
        return cls(
            recorded.require_camera(),
            {name: body.camera_from_ct for name, body in bodies.items()},
            {name: body.similarity for name, body in bodies.items()},
            {name: body.verdict or "reject" for name, body in bodies.items()},
            any(body.mirrored for body in bodies.values()),
        )


class Regions:
    """The regions of one CT that are projected, each cut once for all radiographs."""

    def __init__(self, ct: MeasuredCt) -> None:
        self._ct = ct
        self._cut: dict[str, Region] = {}

    def __getitem__(self, name: str) -> Region:
        """Of a structure, or of `proximal_femur_<side>`."""
        if name not in self._cut:
            hip = self._ct.hips.get(name[-1]) if name.startswith("proximal_femur_") else None
            mask = self._ct.labels.mask(name) if hip is None else hip.region
            self._cut[name] = cut_region(self._ct.density, mask, self._ct.labels.grid, name)
        return self._cut[name]


def make_pairs(
    staged: Path,
    pair: str,
    side: Side,
    radiograph: Radiograph,
    registered: Registered,
    ct: MeasuredCt,
    regions: Regions,
    config: BuildConfig,
    facts: Mapping[str, Any],
    device: str,
) -> list[dict[str, Any]]:
    """Write the pairs of one radiograph and hip, one per dataset, and return their rows of the manifest.

    Args:
        staged: The case's staging folder.
        pair: Identifier of the pair.
        side: The target hip.
        radiograph, registered: The image, and where the bones are in it.
        ct, regions: The CT.
        config: Of the build.
        facts: What is known of the row already (patient, pose, BMD, calibration ...).
        device: Of the renderer.
    """
    window = pair_window(*radiograph.shape, side, config.pairs)
    image, coverage = window.carry_inside(radiograph.pixels, radiograph.mask)
    shown = _Shown(side, registered, window, regions, config, device)
    rows = []
    for dataset in config.datasets:
        row = {**facts, "dataset": dataset, **shown.trust(dataset)}
        problem = ct.hips[side].problem or shown.refuse(dataset)
        if problem is None:
            try:
                pages, mean = shown.targets(dataset)
                row["pf_drr_mean_g_cm2"] = mean
            except GeometryError as error:
                problem = Problem("BMD-PAIR-002", str(error))
        if problem is not None:
            rows.append({**row, "status": "quarantined", "code": problem.code, "reason": problem.reason})
            continue
        folder = Path(PAIR_FOLDERS[dataset]) / pair
        write_tiff(staged / folder / "xray.tif", np.clip(image, 0, 1))
        write_tiff(staged / folder / "drr.tif", pages)
        write_tiff(staged / folder / "mask.tif", ((coverage >= config.pairs.mask_coverage) * 255).astype(np.uint8))
        for name in ("xray", "drr", "mask"):
            row[name] = (folder / f"{name}.tif").as_posix()
            row[f"{name}_sha256"] = sha256_of(staged / folder / f"{name}.tif")
        row["status"] = "ok"
        write_json(
            staged / folder / "meta.json",
            _pair_meta(row, window, registered, shown.bodies(dataset), ct.hips[side].landmarks),
        )
        rows.append(row)
    return rows


@dataclass(frozen=True, eq=False)
class _Shown:
    """What the pairs of one radiograph and hip show."""

    side: Side
    registered: Registered
    window: PairWindow
    regions: Regions
    config: BuildConfig
    device: str

    def bodies(self, dataset: Literal["A", "B"]) -> tuple[str, ...]:
        """Bones by which a dataset's target is made, in the order of its pages."""
        femur = f"femur_{self.side}"
        return ("pelvis", femur) if dataset == "A" else (femur,)

    def trust(self, dataset: Literal["A", "B"]) -> dict[str, Any]:
        """The least similarity and the worst verdict of the bones that a pair shows."""
        known = [name for name in self.bodies(dataset) if name in self.registered.poses]
        if not known:
            return {"registration_similarity": None, "verdict": "reject"}
        scores = [score for name in known if (score := self.registered.similarity[name]) is not None]
        return {
            "registration_similarity": min(scores, default=None),
            "verdict": max((self.registered.verdict[name] for name in known), key=_ORDER.index),
        }

    def refuse(self, dataset: Literal["A", "B"]) -> Problem | None:
        """Why there is no such pair, as far as it is known before it is rendered."""
        missing = [name for name in self.bodies(dataset) if name not in self.registered.poses]
        if missing:
            return Problem("BMD-LBL-002", f"no pose of {', '.join(missing)}")
        rejected = [name for name in self.bodies(dataset) if self.registered.verdict[name] == "reject"]
        if rejected and not self.config.pairs.keep_rejected:
            scores = ", ".join(f"{name} {self.registered.similarity[name]:.3f}" for name in rejected)
            if self.registered.mirrored:
                return Problem("BMD-XR-022", f"the mirrored image fits better; as it is, similarity {scores}")
            return Problem("BMD-PAIR-001", f"similarity {scores}")
        return None

    def targets(self, dataset: Literal["A", "B"]) -> tuple[np.ndarray, float]:
        """The pages of drr.tif, and the mean of the full-resolution projection of the proximal femur.

        Raises:
            GeometryError: The hip does not project into its half, or lies behind the source.
        """
        page, mean, inside = self._proximal_femur
        if inside < self.config.pairs.least_inside:
            raise GeometryError(
                f"{100 * inside:.0f} % of the proximal femur projects into its half of the radiograph, "
                f"required {100 * self.config.pairs.least_inside:.0f} %"
            )
        if dataset == "B":
            return page[None], mean
        return np.stack([self.window.carry(self._project(name, name)) for name in self.bodies("A")]), mean

    @cached_property
    def _proximal_femur(self) -> tuple[np.ndarray, float, float]:
        """Its page, the mean of its full projection, and the share of that which the pair's window holds."""
        full = self._project(f"proximal_femur_{self.side}", f"femur_{self.side}")
        page = self.window.carry(full)
        held = float(page.sum(dtype=np.float64)) / self.window.scale**2
        return page, mean_where_projected(full), held / float(full.sum(dtype=np.float64))

    def _project(self, region: str, body: str) -> np.ndarray:
        pose, camera = self.registered.poses[body], self.registered.camera
        return project_region(self.regions[region], pose, camera, device=self.device)


def _pair_meta(
    row: Mapping[str, Any],
    window: PairWindow,
    registered: Registered,
    bodies: tuple[str, ...],
    landmarks: Landmarks | None,
) -> dict:
    pages = bodies if row["dataset"] == "A" else (f"proximal_femur_{row['side']}",)
    camera, femur = window.camera(registered.camera), registered.poses[bodies[-1]]
    points = {} if landmarks is None else landmarks.points_mm
    return {
        **{name: value for name, value in row.items() if name not in ("status",)},
        "units": {"xray.tif": "[0, 1], brighter = denser", "drr.tif": "g/cm2", "mask.tif": "255 = image, 0 = not"},
        "pages": list(pages),
        "window": window.to_dict(),
        "camera": camera.to_dict(),
        "landmarks_uv": {
            name: camera.project(point, camera_from_world=femur).tolist() for name, point in points.items()
        },
        "camera_from_ct": {name: registered.poses[name].matrix.tolist() for name in bodies},
    }
