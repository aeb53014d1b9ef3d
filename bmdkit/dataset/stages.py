"""The stages of one hip scan, composed once: for the command line, for callers of the library, and for a build.

Each function takes and gives nouns of `bmdkit.core`; none of them knows a cohort or writes a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bmdkit.calibration.line import Calibration, read_calibration
from bmdkit.calibration.modes import CalibrationConfig, calibrate
from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.arguments import require_type
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import LabelMap, Volume, bounding_box
from bmdkit.errors import CaseError
from bmdkit.io.label_maps import read_labels
from bmdkit.regions import DetectedLandmarks, Flag, check_hip, find_landmarks
from bmdkit.registration.bodies import Body, prepare_bodies
from bmdkit.registration.initialisation import find_start_from_points, make_default_start
from bmdkit.registration.register_bodies import register_bodies
from bmdkit.registration.result import RegistrationResult
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.segmentation.labels import LabelConfig, prepare_labels

_MARGIN_MM = 25.0  # of density kept around the bones
_STRUCTURE_MARGIN_MM = 10.0


@dataclass(frozen=True)
class PointPairs:
    """Points that are known in the CT and in the radiograph: where a search for the pose may begin.

    Attributes:
        points_mm: Name -> (3,), LPS, mm.
        pixels_uv: Name -> (2,), pixel (column, row) of the radiograph.
    """

    points_mm: Mapping[str, np.ndarray]
    pixels_uv: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        """Check that there are enough pairs."""
        names = [name for name in self.points_mm if name in self.pixels_uv]
        if len(names) < 3:
            raise ValueError(f"points_mm, pixels_uv: expected at least three names in both, got {names}")


@dataclass(frozen=True, eq=False)
class LocatedHip:
    """The landmarks of one hip, and what speaks against measuring it.

    Attributes:
        side: The hip.
        landmarks: Landmarks, given or found; None where there are none.
        detected: What the search found; None where the landmarks were given, or none were found.
        error: Why there are no landmarks.
        flags: What speaks against measuring the hip.
    """

    side: Side
    landmarks: Landmarks | None
    detected: DetectedLandmarks | None = None
    error: CaseError | None = None
    flags: tuple[Flag, ...] = ()


def calibrate_ct(ct: Volume, given: Path | None = None, config: CalibrationConfig | None = None) -> Calibration:
    """Read the calibration line that is given, or find one in the CT.

    Args:
        ct: CT in HU.
        given: calibration.json.
        config: Settings of the calibration, if no line is given.

    Raises:
        CaseError: There is no line, or it is unfit.
    """
    return calibrate(ct, config) if given is None else read_calibration(given)


def read_bones(path: Path, ct: Volume, config: LabelConfig | None = None, *, case: str | None = None) -> LabelMap:
    """Read the label map of a CT and make it fit for use.

    Args:
        path: Label map, or folder of masks.
        ct: CT in HU, on whose bones the labels have to lie.
        config: What labels have to satisfy.
        case: Case for the message of an error.

    Raises:
        CaseError: The labels cannot be read, or are unfit.
    """
    return prepare_labels(read_labels(path, case=case), ct, config)


def measure_density(ct: Volume, calibration: Calibration, labels: LabelMap) -> Volume:
    """Apply a calibration to the part of a CT around the bones.

    Args:
        ct: CT in HU.
        calibration: Its line.
        labels: Its structures.

    Returns:
        Density, mg/cm3.

    Raises:
        CaseError: The labels are empty, or lie outside the CT (BMD-LBL-002).
    """
    return calibration.apply(crop_to_bones(ct, labels))


def crop_to_bones(ct: Volume, labels: LabelMap) -> Volume:
    """Cut out the part of a CT around the bones.

    Args:
        ct: CT in HU.
        labels: Its structures.

    Raises:
        CaseError: The labels are empty, or lie outside the CT (BMD-LBL-002).
    """
    return ct.crop(_box_around_bones(labels, ct.grid))


def locate_hip(ct: Volume, labels: LabelMap, side: Side, landmarks: Landmarks | None = None) -> LocatedHip:
    """Find the landmarks of one hip, unless they are given, and what speaks against measuring it.

    Args:
        ct: CT in HU.
        labels: Its structures, fit for use.
        side: The hip.
        landmarks: Landmarks of that hip, if they are known.
    """
    detected, error = None, None
    if landmarks is None:
        try:
            detected = find_landmarks(labels, side)
            landmarks = detected.landmarks
        except CaseError as found:
            error = found
    return LocatedHip(side, landmarks, detected, error, check_hip(ct, labels, side, landmarks))


def prepare_bones(
    ct: Volume,
    labels: LabelMap,
    calibration: Calibration | None = None,
    *,
    landmarks: Mapping[Side, Landmarks] | None = None,
    sides: Sequence[Side] = SIDES,
    config: RegistrationConfig | None = None,
) -> tuple[Body, ...]:
    """Prepare the bones of one CT, once for all of its radiographs.

    Args:
        ct: CT in HU, or its density in mg/cm3.
        labels: Its structures, fit for use.
        calibration: Line of a CT in HU; looked for in the CT if not given.
        landmarks: Landmarks by side; the centre of a head that none are given for is found in the labels.
        sides: Femurs that are wanted; the pelvis is always prepared.
        config: Settings of the registration.

    Raises:
        CaseError: The CT has no calibration, or the labels lie outside it.
    """
    if ct.quantity == "density_mg_cm3":
        if calibration is not None:
            raise ValueError("calibration: expected none, as ct is a density already")
        density = ct
    else:
        density = measure_density(ct, calibration or calibrate(ct), labels)
    bodies = prepare_bodies(density, labels, landmarks, config)
    return tuple(body for body in bodies if body.name == "pelvis" or body.name[-1] in sides)


def prepare_structures(
    ct: Volume,
    labels: LabelMap,
    calibration: Calibration | None = None,
    *,
    config: RegistrationConfig | None = None,
) -> tuple[Body, ...]:
    """Prepare any structures of one CT, each as a body that moves for itself, once for all of its radiographs.

    Args:
        ct: CT in HU, or its density in mg/cm3.
        labels: The structures; the first is searched for, the others about it.
        calibration: Line of a CT in HU; looked for in the CT if not given.
        config: Settings of the registration, of the size of hips.

    Raises:
        CaseError: The CT has no calibration, or the labels lie outside it.
    """
    density = ct if ct.quantity == "density_mg_cm3" else measure_density(ct, calibration or calibrate(ct), labels)
    margin = int(np.ceil(_STRUCTURE_MARGIN_MM / labels.grid.spacing_mm.min()))
    bodies = []
    for name in labels.values:
        cut = labels.crop(bounding_box(labels.mask(name), margin))
        bodies.append(Body.from_mask(density.resample(cut.grid), cut.mask(name), name, config=config))
    return tuple(bodies)


def find_start(
    start: RigidTransform | PointPairs | None,
    bones: Sequence[Body],
    camera: ProjectionGeometry,
    config: RegistrationConfig | None = None,
) -> RigidTransform | None:
    """Find the pose that a search begins with: the one given, or that of pairs of points.

    Raises:
        ValueError: Fewer than three points are paired.
    """
    if not isinstance(start, PointPairs):
        return start
    return find_start_from_points(start.points_mm, start.pixels_uv, camera, make_default_start(bones, camera, config))


def register_bones(
    bones: Sequence[Body],
    radiograph: Radiograph,
    *,
    geometry: ProjectionGeometry | None = None,
    start: RigidTransform | PointPairs | None = None,
    config: RegistrationConfig | None = None,
    seed: int | np.random.Generator = 0,
    device: str = "cpu",
    on_generation: Callable[[str, int, float], None] | None = None,
) -> RegistrationResult:
    """Find the poses of prepared bones in one radiograph.

    Args:
        bones: Bones from `prepare_bones`.
        radiograph: Image with its pixel spacing and source distance, unless `geometry` is given.
        geometry: Camera of the radiograph's own pixels.
        start: camera_from_ct, or pairs of points, to search from; an AP view of the hips if not given.
        config: Settings of the registration.
        seed: Seed of all random draws, or their generator.
        device: "cpu" or "cuda[:N]".
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.

    Raises:
        ValueError: No bone is given, a distance of the camera is not known, or fewer than three points are paired.
    """
    if isinstance(start, PointPairs):
        start = find_start(start, bones, geometry or radiograph.geometry(), config)
    return register_bodies(
        bones,
        radiograph,
        geometry=geometry,
        start=start,
        config=config,
        rng=np.random.default_rng(seed),
        on_generation=on_generation,
        device=device,
    )


def register(
    ct: Volume,
    radiograph: Radiograph,
    *,
    labels: LabelMap,
    calibration: Calibration | None = None,
    landmarks: Mapping[Side, Landmarks] | None = None,
    sides: Sequence[Side] = SIDES,
    geometry: ProjectionGeometry | None = None,
    start: RigidTransform | PointPairs | None = None,
    config: RegistrationConfig | None = None,
    seed: int = 0,
    device: str = "cpu",
    on_generation: Callable[[str, int, float], None] | None = None,
) -> RegistrationResult:
    """Find the poses of pelvis and femurs of one CT in one radiograph.

    Args:
        ct: CT in HU, or its density in mg/cm3.
        radiograph: Image with its pixel spacing and source distance, unless `geometry` is given.
        labels: Structures of the CT: pelvis and femurs; they are made fit for use.
        calibration: Line of a CT in HU; looked for in the CT if not given.
        landmarks: Landmarks by side, if they are known.
        sides: Femurs that are wanted.
        geometry: Camera of the radiograph's own pixels.
        start: camera_from_ct, or pairs of points, to search from; an AP view of the hips if not given.
        config: Settings of the registration.
        seed: Seed of all random draws.
        device: "cpu" or "cuda[:N]".
        on_generation: Function that is called with the stage, the generation's number and the best cost so far.

    Returns:
        The poses found, each with its quality; a poor one is marked, never raised.

    Raises:
        CaseError: The labels are unfit, or the CT has no calibration.
        ValueError: A distance of the camera is not known.

    Example:
        >>> result = register(ct, radiograph, labels=labels)  # doctest: +SKIP
        >>> result.bodies["femur_L"].camera_from_ct  # doctest: +SKIP
    """
    require_type("ct", ct, Volume)
    require_type("labels", labels, LabelMap)
    require_type("radiograph", radiograph, Radiograph)
    bones = prepare_labels(labels, ct if ct.quantity == "hu" else None)
    bodies = prepare_bones(ct, bones, calibration, landmarks=landmarks, sides=sides, config=config)
    result = register_bones(
        bodies,
        radiograph,
        geometry=geometry,
        start=start,
        config=config,
        seed=seed,
        device=device,
        on_generation=on_generation,
    )
    wanted = [f"femur_{side}" for side in sides if f"femur_{side}" in bones.present()]
    missing = [name for name in wanted if name not in result.bodies]
    notes = tuple(f"{name} is left out: no femoral head was found" for name in missing)
    return replace(result, warnings=(*result.warnings, *notes))


def _box_around_bones(labels: LabelMap, grid: Grid) -> tuple[slice, slice, slice]:
    """The box of a CT's voxels around all structures of a label map, with a margin."""
    if not labels.array.any():
        raise CaseError("BMD-LBL-002", "the label map is empty.")
    corners = labels.grid.crop(bounding_box(labels.array > 0)).corners()
    index = grid.indices(corners)
    reach = _MARGIN_MM / grid.spacing_mm[::-1]
    first = np.clip(np.floor(index.min(axis=0) - reach), 0, grid.shape).astype(int)
    last = np.clip(np.ceil(index.max(axis=0) + reach) + 1, 0, grid.shape).astype(int)
    if (last - first < 2).any():
        raise CaseError("BMD-LBL-002", "the labels lie outside the CT.")
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return i, j, k
