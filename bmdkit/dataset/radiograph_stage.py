"""What one radiograph of a case gives: the poses of the bones, and the training pairs of its hips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.pose_json import RecordedBody, RecordedPoses
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.units import PROJECTION_UNITS
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.ct_stage import Hip
from bmdkit.dataset.layout import DatasetName, pair_folder, pair_image, pair_meta_file
from bmdkit.dataset.manifest import LeftOut, PairRow
from bmdkit.dataset.pairs import PairWindow, make_hip_window
from bmdkit.dataset.pose_error import estimate_region_error
from bmdkit.dataset.settings import BuildConfig
from bmdkit.drr.targets import Region, cut_region, measure_projected_mean, project_region
from bmdkit.io.images import write_tiff
from bmdkit.io.results import sha256_of, write_json

_ORDER = ("accept", "review", "reject")


@dataclass(frozen=True, eq=False)
class Registered:
    """A registration as its file tells it, whether it was made now or taken over.

    Attributes:
        camera: Camera of the radiograph.
        poses: Transform camera_from_ct of each body.
        similarity, verdict: Similarity and verdict of each body; no similarity where the poses are known and not found.
        mirrored: Whether the mirrored radiograph fits better.
        bodies: Bones as the file tells of them.
    """

    camera: ProjectionGeometry
    poses: Mapping[str, RigidTransform]
    similarity: Mapping[str, float | None]
    verdict: Mapping[str, str]
    mirrored: bool = False
    bodies: Mapping[str, RecordedBody] = field(default_factory=dict)

    @classmethod
    def from_poses(cls, recorded: RecordedPoses) -> Registered:
        """Read a registration's file.

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
            bodies,
        )


class ProjectedCt(Protocol):
    """What is read of a measured CT to project its regions."""

    @property
    def labels(self) -> LabelMap:
        """Structures, on their own grid."""

    @property
    def projected(self) -> Volume:
        """Values around the bones that the targets show: density, mg/cm3, or HU."""

    @property
    def hips(self) -> Mapping[Side, Hip]:
        """Target hips by side."""


class Regions:
    """The regions of one CT that are projected, each cut once for all radiographs.

    Args:
        ct: Measured CT.
    """

    def __init__(self, ct: ProjectedCt) -> None:
        """Keep the CT; nothing is cut yet."""
        self._ct = ct
        self._cut: dict[str, Region] = {}

    def cut_structure(self, name: str) -> Region:
        """Return the region of a structure of the label map."""
        return self._cut_once(name, lambda: self._ct.labels.mask(name))

    def cut_proximal_femur(self, side: Side) -> Region:
        """Return the region of the proximal femur of a hip that has one."""
        return self._cut_once(f"proximal_femur_{side}", lambda: self._require_region(side))

    def _require_region(self, side: Side) -> np.ndarray:
        region = self._ct.hips[side].region
        if region is None:
            raise ValueError(f"side: expected a hip with a proximal femur, got {side!r}")
        return region

    def _cut_once(self, name: str, make_mask: Callable[[], np.ndarray]) -> Region:
        if name not in self._cut:
            self._cut[name] = cut_region(self._ct.projected, make_mask(), self._ct.labels.grid, name)
        return self._cut[name]


@dataclass(frozen=True, eq=False)
class HipView:
    """One hip as one radiograph shows it.

    Attributes:
        hip: The hip as the CT shows it.
        radiograph: The radiograph.
        registered: Poses of the bones in it.
        regions: Regions of the CT.
        config: Settings of the build.
        device: Device of the renderer.
    """

    hip: Hip
    radiograph: Radiograph
    registered: Registered
    regions: Regions
    config: BuildConfig
    device: str = "cpu"

    @cached_property
    def window(self) -> PairWindow:
        """The part of the radiograph that a pair of this hip shows."""
        return make_hip_window(self.radiograph, self.hip.side, self.config.pairs)

    @cached_property
    def image(self) -> tuple[np.ndarray, np.ndarray]:
        """The radiograph in the pair's window, [0, 1], and the share of each pixel that is image."""
        average, coverage = self.window.carry_inside(self.radiograph.pixels, self.radiograph.mask)
        return np.clip(average, 0, 1), coverage

    def list_bodies(self, dataset: DatasetName) -> tuple[str, ...]:
        """List the bones that a dataset's target shows, in the order of its pages."""
        femur = f"femur_{self.hip.side}"
        return ("pelvis", femur) if dataset == "A" else (femur,)

    def rate_registration(self, dataset: DatasetName) -> tuple[float | None, str]:
        """Return the least similarity and the worst verdict of the bones that a pair shows."""
        known = [name for name in self.list_bodies(dataset) if name in self.registered.poses]
        if not known:
            return None, "reject"
        scores = [score for name in known if (score := self.registered.similarity[name]) is not None]
        return min(scores, default=None), max((self.registered.verdict[name] for name in known), key=_ORDER.index)

    def find_problem(self, dataset: DatasetName) -> LeftOut | None:
        """Find why there is no such pair, as far as it is known before it is rendered."""
        if self.hip.problem is not None:
            return self.hip.problem
        bodies = self.list_bodies(dataset)
        missing = [name for name in bodies if name not in self.registered.poses]
        if missing:
            return LeftOut("BMD-LBL-002", f"no pose of {', '.join(missing)}")
        rejected = [name for name in bodies if self.registered.verdict[name] == "reject"]
        if not rejected or self.config.pairs.keep_rejected:
            return None
        scores = ", ".join(f"{name} {self.registered.similarity[name]:.3f}" for name in rejected)
        if self.registered.mirrored:
            return LeftOut("BMD-XR-022", f"the mirrored image fits better; as it is, similarity {scores}")
        return LeftOut("BMD-PAIR-001", f"similarity {scores}")

    def render_targets(self, dataset: DatasetName) -> tuple[np.ndarray, float]:
        """Render the pages of drr.tif, and the mean of the full-resolution projection of the proximal femur.

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
        pages = [self._project(self.regions.cut_structure(name), name) for name in self.list_bodies("A")]
        return np.stack([self.window.carry(page) for page in pages]), mean

    @cached_property
    def _proximal_femur(self) -> tuple[np.ndarray, float, float]:
        """Its page, the mean of its full projection, and the share of that which the pair's window holds."""
        side = self.hip.side
        full = self._project(self.regions.cut_proximal_femur(side), f"femur_{side}")
        page = self.window.carry(full)
        held = float(page.sum(dtype=np.float64)) / self.window.scale**2
        return page, measure_projected_mean(full), held / float(full.sum(dtype=np.float64))

    @property
    def touches_border(self) -> bool:
        """Whether the proximal femur's page reaches the border of the pair: part of it may be cut off."""
        page = self._proximal_femur[0]
        return bool(max(page[0].max(), page[-1].max(), page[:, 0].max(), page[:, -1].max()) > 0)

    @cached_property
    def pf_error_pct_95(self) -> float | None:
        """Error of the mean projection of the proximal femur that its pose leaves; None where that is not known."""
        side = self.hip.side
        body = self.registered.bodies.get(f"femur_{side}")
        if body is None:
            return None
        region = self.regions.cut_proximal_femur(side)
        return estimate_region_error(region, body, self.registered.camera, device=self.device)

    def _project(self, region: Region, body: str) -> np.ndarray:
        return project_region(region, self.registered.poses[body], self.registered.camera, device=self.device)


def make_pairs(view: HipView, row: PairRow, staged: Path) -> list[PairRow]:
    """Write the pairs of one radiograph and hip, one per dataset.

    Args:
        view: The hip as the radiograph shows it.
        row: What is known of the pair already (patient, pose, BMD, calibration).
        staged: Staging folder of the case.

    Returns:
        Their rows of the manifest.
    """
    return [make_pair(view, replace(row, dataset=dataset), staged) for dataset in view.config.datasets]


def make_pair(view: HipView, row: PairRow, staged: Path) -> PairRow:
    """Write the pair of one dataset, or say why there is none.

    Args:
        view: The hip as the radiograph shows it.
        row: What is known of the pair already, and its dataset.
        staged: Staging folder of the case.

    Returns:
        Its row of the manifest.
    """
    similarity, verdict = view.rate_registration(row.dataset)
    row = replace(row, registration_similarity=similarity, verdict=verdict)
    problem = view.find_problem(row.dataset)
    if problem is not None:
        return row.leave_out(problem)
    try:
        pages, mean = view.render_targets(row.dataset)
        row = replace(row, pf_error_pct_95=view.pf_error_pct_95)
    except GeometryError as error:
        return row.leave_out(LeftOut("BMD-PAIR-002", str(error)))
    row = _write_images(view, row, pages, staged)
    if view.config.target_quantity == "density":
        row = replace(row, pf_drr_mean_g_cm2=mean)
    write_json(pair_meta_file(staged / pair_folder(row.dataset, row.pair_id)), _describe_pair(view, row, mean))
    return row


def _write_images(view: HipView, row: PairRow, pages: np.ndarray, staged: Path) -> PairRow:
    """Write radiograph, target and mask; returns the row with their paths and hashes."""
    image, coverage = view.image
    mask = ((coverage >= view.config.pairs.mask_coverage) * 255).astype(np.uint8)
    folder = pair_folder(row.dataset, row.pair_id)
    hashes: dict[str, str] = {}
    for name, content in (("xray", image), ("drr", pages), ("mask", mask)):
        write_tiff(pair_image(staged / folder, name), content)
        hashes[name] = sha256_of(pair_image(staged / folder, name))
    files = {name: pair_image(folder, name).as_posix() for name in hashes}
    return replace(
        row,
        xray=files["xray"],
        xray_sha256=hashes["xray"],
        drr=files["drr"],
        drr_sha256=hashes["drr"],
        mask=files["mask"],
        mask_sha256=hashes["mask"],
    )


def _describe_pair(view: HipView, row: PairRow, mean: float) -> dict[str, Any]:
    """Content of the meta.json beside the images: what they show, and where."""
    bodies, unit = view.list_bodies(row.dataset), PROJECTION_UNITS[view.config.target_quantity]
    pages = bodies if row.dataset == "A" else (f"proximal_femur_{row.side}",)
    poses = view.registered.poses
    camera, femur = view.window.camera(view.registered.camera), poses[bodies[-1]]
    points = {} if view.hip.landmarks is None else view.hip.landmarks.points_mm
    return {
        **{name: value for name, value in row.to_dict().items() if name != "status"},
        "units": {"xray.tif": "[0, 1], brighter = denser", "drr.tif": unit, "mask.tif": "255 = image, 0 = not"},
        **({} if row.pf_drr_mean_g_cm2 is not None else {"pf_drr_mean": {"value": mean, "unit": unit}}),
        "pages": list(pages),
        "pf_touches_border": view.touches_border,
        "window": view.window.to_dict(),
        "camera": camera.to_dict(),
        "tube": asdict(view.radiograph.tube),
        "landmarks_uv": {
            name: camera.project(point, camera_from_world=femur).tolist() for name, point in points.items()
        },
        "camera_from_ct": {name: poses[name].matrix.tolist() for name in bodies},
    }
