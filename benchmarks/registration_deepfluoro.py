"""The public DeepFluoro data: cadaver pelves, their CTs and fluoroscopies with known poses, in one HDF5 file.

Layout: Grupp et al. 2020, doi 10.1007/s11548-020-02162-7, and the readme of its labelling code. There the camera's z
axis points towards the source and images are seen from the detector; here they are mirrored into this package's
camera (z away from the source), and turned by 180 degrees where the file says that the patient is upside down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import LabelMap, Volume

if TYPE_CHECKING:
    import argparse

    import h5py

_POSES = {
    "pelvis": "cam-to-pelvis-vol",
    "femur_L": "cam-to-left-femur-vol",
    "femur_R": "cam-to-right-femur-vol",
}
_BORDER = 50  # pixels at the edge of the fluoroscopies that hold no image


@dataclass(frozen=True, eq=False)
class Specimen:
    """One cadaver: density (HU clipped at 0, not calibrated), labels, and the names of its projections."""

    name: str
    density: Volume
    labels: LabelMap
    projections: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Projection:
    """One fluoroscopy: the image, its camera, and camera_from_ct of the bones whose pose is valid."""

    radiograph: Radiograph
    camera: ProjectionGeometry
    poses: dict[str, RigidTransform]


def open_file(path: Path) -> h5py.File:
    """The HDF5 file.

    Raises:
        ImportError: h5py is not installed.
    """
    import h5py

    return h5py.File(path, "r")


def specimens(file: h5py.File) -> Iterator[Specimen]:
    """Every cadaver of the file, one at a time."""
    for name in file:
        if name == "proj-params":
            continue
        group = file[name]
        hu, grid = _image(group["vol"])
        codes, label_grid = _image(group["vol-seg/image"])
        array = np.zeros(codes.shape, np.uint8)
        for value, text in group["vol-seg/labels-def"].items():
            structure = _structure(_text(text[()]))
            if structure:
                array[codes == int(value)] = LABEL_VALUES[structure]
        yield Specimen(
            name,
            Volume(np.maximum(hu, 0).astype(np.float32), grid, "density_mg_cm3"),
            LabelMap(array, label_grid, LABEL_VALUES),
            tuple(group["projections"]),
        )


def projection(file: h5py.File, specimen: str, name: str) -> Projection:
    """One fluoroscopy, turned upright, denser = brighter."""
    shared, group = file["proj-params"], file[f"{specimen}/projections/{name}"]
    intrinsic, extrinsic = np.asarray(shared["intrinsic"], float), np.asarray(shared["extrinsic"], float)
    column_mm, row_mm = (float(shared[f"pixel-{axis}-spacing"][()]) for axis in ("col", "row"))
    counts = np.asarray(group["image/pixels"], np.float64)
    rows, columns = counts.shape
    attenuation = np.log(max(counts.max(), 0) + 1) - np.log(np.maximum(counts, 0) + 1)
    border = min(_BORDER, rows // 8, columns // 8)
    mask = np.zeros(counts.shape, bool)
    mask[border : rows - border, border : columns - border] = True
    low, high = np.percentile(attenuation[mask], (0.5, 99.5))
    pixels = np.clip((attenuation - low) / max(high - low, 1e-9), 0, 1)
    cu, cv = intrinsic[:2, 2]
    upside_down = bool(group["rot-180-for-up"][()])
    if upside_down:  # mirrored and turned: rows reversed
        turn, point, pixels, mask = np.diag([1.0, -1, -1, 1]), (cu, rows - 1 - cv), pixels[::-1], mask[::-1]
    else:
        turn, point = np.diag([-1.0, 1, -1, 1]), (columns - 1 - cu, cv)
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    sdd = (abs(intrinsic[0, 0]) * column_mm + abs(intrinsic[1, 1]) * row_mm) / 2
    camera = ProjectionGeometry(sdd, column_mm, row_mm, columns, rows, np.array(point))
    poses = {}
    for body, key in _POSES.items():
        side = {"femur_L": "left", "femur_R": "right"}.get(body)
        if side is None or bool(group[f"gt-poses/{side}-femur-good-fov"][()]):
            ct_from_world = np.asarray(group[f"gt-poses/{key}"], float)
            poses[body] = RigidTransform(turn @ extrinsic @ np.linalg.inv(ct_from_world))
    image = Radiograph(np.ascontiguousarray(pixels, np.float32), mask.copy(), column_mm, row_mm, sdd)
    return Projection(image, camera, poses)


def run_deepfluoro(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every method on every projection, from one random start about the known pose each; one row per bone."""
    from registration_methods import METHODS, Task

    from bmdkit.evaluation.registration_error import pose_error
    from bmdkit.registration.bodies import prepare_bodies
    from bmdkit.registration.pose_parameters import UNIT, PoseParameters
    from bmdkit.registration.settings import CameraConfig, RegistrationConfig

    rows, config = [], RegistrationConfig(camera=CameraConfig(principal_point_mm=0))  # calibrated
    reach = np.concatenate([np.radians([10, 10, 10]), [20, 20, 50]]) / UNIT
    with open_file(args.deepfluoro) as file:
        for count, specimen in enumerate(specimens(file)):
            if args.patients is not None and count >= args.patients:
                break
            bodies = prepare_bodies(specimen.density, specimen.labels, None, config)
            for name in specimen.projections:
                shot = projection(file, specimen.name, name)
                seen = tuple(body for body in bodies if body.name in shot.poses)
                seeds = [args.seed, *(ord(c) for c in specimen.name + name)]
                parameters = PoseParameters(shot.poses["pelvis"], bodies[0].centre_mm)
                start = parameters.pose(np.random.default_rng(seeds).uniform(-1, 1, 6) * reach)
                for method in args.methods:
                    rng = np.random.default_rng([*seeds, 1])
                    outcome = METHODS[method](Task(seen, shot.radiograph, shot.camera, start, rng, config, args.device))
                    for body in seen:
                        error = pose_error(
                            outcome.poses[body.name],
                            shot.poses[body.name],
                            body.points_mm,
                            found_camera=shot.camera,
                            true_camera=shot.camera,
                        )
                        rows.append(
                            {
                                "cohort": "deepfluoro",
                                "patient": specimen.name,
                                "labels": "exact",
                                "xray": name,
                                "start": "random",
                                "method": method,
                                "body": body.name,
                                **asdict(error),
                                "region_error_pct": np.nan,
                                "evaluations": outcome.evaluations,
                                "seconds": outcome.seconds,
                                "verdict": outcome.verdicts.get(body.name, ""),
                                **outcome.facts.get(body.name, {}),
                            }
                        )
    return rows


def _image(group: h5py.Group) -> tuple[np.ndarray, Grid]:
    pixels = np.asarray(group["pixels"])
    spacing, origin = (np.asarray(group[key], float).ravel() for key in ("spacing", "origin"))
    direction = np.asarray(group["dir-mat"], float)
    return pixels, Grid(pixels.shape, spacing, origin, direction)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _structure(name: str) -> str | None:
    """Bmdkit's word for a label of the file."""
    name = name.lower()
    if "femur" in name:
        return "femur_L" if "left" in name else "femur_R"
    if "hemipelvis" in name:
        return "pelvis"
    return "axial" if "sacrum" in name or "vertebra" in name else None
