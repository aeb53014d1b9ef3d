"""Settings of the registration; every default lives here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bmdkit.registration.similarity import Measure


@dataclass(frozen=True)
class SearchConfig:
    """One CMA-ES search."""

    sigma: float
    """First step, in units of 6 degrees, 10 mm in plane and 30 mm along the viewing ray."""
    population: int
    """Poses per generation, rendered in one call."""
    evaluations: int
    """Poses at most."""
    refined: int = 0
    """Further poses of the grid before it (femurs only) that are refined beside the best."""


@dataclass(frozen=True)
class PriorConfig:
    """Standard deviations of what is known before the radiograph is seen; a prior pulls, it never forbids."""

    weight: float = 0.002
    """Loss of similarity at one standard deviation while searching."""
    polish_weight: float = 0.0005
    """Loss of similarity in the refinement, where the radiograph decides whatever it shows."""
    camera_weight: float = 0.00002
    """Loss of similarity for the principal point in the last refinement: every edge shows a little of it."""
    rotation_deg: float = 12.0
    """Turn of the pelvis about the start, each axis."""
    in_plane_mm: float = 40.0
    """Shift of the pelvis along the detector, each axis."""
    depth_mm: float = 60.0
    """Shift of the pelvis along the central ray."""
    flexion_deg: float = 15.0
    """Turn of each femur about its head centre, against its posture in the CT."""
    abduction_deg: float = 15.0
    """The same, sideways."""
    axial_rotation_deg: float = 15.0
    """The same, about its long axis."""
    joint_play_mm: float = 1.0
    """Movement of a head centre against the pelvis, each axis."""


@dataclass(frozen=True)
class StartSpread:
    """How sure a start is: standard deviations of the first body's pose about it.

    Attributes:
        rotation_deg: Each axis.
        in_plane_mm: Along columns and rows, at the body.
        depth_mm: Along the viewing ray.

    Example:
        >>> StartSpread(rotation_deg=8, in_plane_mm=6, depth_mm=25).depth_mm
        25
    """

    rotation_deg: float
    in_plane_mm: float
    depth_mm: float

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("rotation_deg", "in_plane_mm", "depth_mm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class CameraConfig:
    """What is known of the camera; 0: its number is taken as it is."""

    principal_point_mm: float = 12.0
    """Standard deviation of where the central ray meets the detector, against the image's middle; one that is given is
    believed."""
    sdd_pct: float = 0.0
    """Standard deviation of the source distance, %."""
    assumed_sdd_pct: float = 3.0
    """Standard deviation of the source distance where the file does not give it, %."""


@dataclass(frozen=True)
class MarkerConfig:
    """A ball or coin of known size beside the patient."""

    diameter_mm: float | None = None
    """None: there is none."""
    shape: Literal["ball", "disc"] = "ball"
    """ball, or disc parallel to the detector."""
    column: float | None = None
    """Its centre in the image, pixels, to within its diameter; with `row`. It is looked for if not given."""
    row: float | None = None
    """The same, of its row."""
    to_detector_mm: float | None = None
    """Height of its centre above the detector, if measured: gives the source distance."""
    to_detector_sd_mm: float = 3.0
    """Standard deviation of that height."""
    hip_sd_mm: float = 20.0
    """Standard deviation of the hips' depth about the marker's."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("diameter_mm", "to_detector_mm", "to_detector_sd_mm", "hip_sd_mm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected a positive number, got {value!r}")
        if (self.column is None) != (self.row is None):
            raise ValueError("column, row: expected both or neither")


@dataclass(frozen=True)
class VerdictConfig:
    """Where accept ends and reject begins."""

    accept_over_10mm: float = 0.1
    """Largest probability of an error over 10 mm, of the hips' bones."""
    accept_over_2mm: float = 0.35
    """Largest probability of an error over 2 mm, of the hips' bones."""
    accept_visible: float = 0.5
    """Least share of the bone that lies in the image."""
    accept_spread_mm: float = 8.0
    """Largest distance between repeated refinements, of the hips' bones."""
    accept_prior: float = 3.0
    """Largest distance from what was expected, in standard deviations."""
    accept_similarity: float = 0.6
    """Least similarity near the bone, of the hips."""
    reject_over_10mm: float = 0.5
    """Probability of an error over 10 mm from which a pose of the hips' bones is rejected."""
    accept_misleading: float = 0.1
    """Largest probability that the pose of another bone misleads."""
    reject_lost: float = 0.5
    """Probability that such a pose is lost from which it is rejected."""
    reject_similarity: float = 0.35
    """Similarity below which such a pose is rejected: 9 of 37 wrong poses of drawn bones, and none of 83 right ones."""


@dataclass(frozen=True)
class RegistrationConfig:
    """How bones are registered to a radiograph."""

    similarity: Measure = "patch_gc"
    """patch_gc, gc, ncc or gradient_information."""
    patch_mm: float = 30.0
    """Side of a patch at the detector; patches overlap by half."""
    coarse_pixel_mm: float = 4.0
    """Pixel of the search, at the detector."""
    coarse_voxel_mm: float = 3.0
    """Voxel of the density that the search projects."""
    fine_pixel_mm: float = 1.0
    """Pixel of the refinement, at the detector."""
    camera_pixel_mm: float = 0.5
    """Pixel of the refinement that moves the camera too: what tells of the principal point is hardly a pixel."""
    camera_iterations: int = 1
    """Number of its iterations at most, from where the one at `fine_pixel_mm` ended: the first brings nearly all."""
    fine_voxel_mm: float = 1.5
    """Voxel of the density that the refinement projects."""
    fine_patch_mm: float = 15.0
    """Side of a patch in the last refinement, which starts close by."""
    dilate_mm: float = 3.0
    """Growth of the bone masks before the density is cut: crisp masks bias the depth."""
    object_to_detector_mm: float = 150.0
    """Distance of the hips from the detector, where no start is given."""
    pelvis: SearchConfig = field(default_factory=lambda: SearchConfig(sigma=1.0, population=24, evaluations=800))
    """Search for the pelvis."""
    femur: SearchConfig = field(
        default_factory=lambda: SearchConfig(sigma=0.35, population=12, evaluations=200, refined=4)
    )
    """Search for each femur, with the pelvis in its place."""
    mask_margin_mm: float = 10.0
    """Margin around the projected bones, at the detector, where the fine levels compare."""
    polish_iterations: int = 12
    """Number of iterations of the refinement at most."""
    restarts: int = 3
    """Number of further searches at most, from where a global search fits best, while the similarity is too low."""
    restart_below: float = 0.7
    """Similarity that ends them."""
    put_off_below: float = 0.4
    """Similarity of a pelvis found, below which the femurs are looked for only if no other search ends better."""
    check_mirror: bool = True
    """Whether the mirrored radiograph is tried as well, and a PA view where the AP one is not accepted."""
    prior: PriorConfig = field(default_factory=PriorConfig)
    """What is known of the pose before the radiograph is seen."""
    camera: CameraConfig = field(default_factory=CameraConfig)
    """What is known of the camera."""
    marker: MarkerConfig = field(default_factory=MarkerConfig)
    """A marker of known size in the image, if there is one."""
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    """Where accept ends and reject begins."""
