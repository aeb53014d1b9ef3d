"""What `bmdkit render-drr` does: read, choose what is projected and from where, render, write."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.calibration.line import Calibration
from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.pose import View, standard_view
from bmdkit.core.pose_json import RecordedPoses, encode_pose, parse_poses
from bmdkit.core.units import MG_CM3_MM_TO_G_CM2
from bmdkit.core.volume import Volume
from bmdkit.drr.channels import Channels, prepare_channels
from bmdkit.drr.display import choose_window, fit_camera, make_contact_sheet, scale_to_grey
from bmdkit.drr.render import render
from bmdkit.io.ct import read_ct
from bmdkit.io.ct_settings import CtConfig
from bmdkit.io.images import write_png, write_tiff
from bmdkit.io.label_maps import read_labels
from bmdkit.io.results import write_json
from bmdkit.io.secondary_capture import write_secondary_capture
from bmdkit.simulation.ct_exposure import split_water_and_mineral
from bmdkit.simulation.exposure import ExposureSettings, expose

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """The options of the command, by their names."""

    ct: Path
    pose: Path | None
    view: View | None
    angles: tuple[float, float, float]
    object_to_detector_mm: float
    labels: Path | None
    structures: tuple[str, ...]
    calibration: Path | None
    quantity: str | None
    spectrum: float | None
    rows: int | None
    columns: int | None
    pixel_mm: float | None
    sdd_mm: float | None
    supersample: int
    series_uid: str | None
    device: str
    seed: int


@dataclass(frozen=True, eq=False)
class Pages:
    """Rendered images and how they came about.

    Attributes:
        images: (P, C, rows, columns), float32.
        camera: Camera of all of them.
        poses: [pose][channel] -> camera_from_ct.
        names: Names of the channels.
        quantity: Quantity of the values.
        unit: Unit of the values.
    """

    images: np.ndarray
    camera: ProjectionGeometry
    poses: list[list[RigidTransform]]
    names: tuple[str, ...]
    quantity: str
    unit: str


def render_pages(request: Request) -> Pages:
    """Render what was asked for.

    Raises:
        click.UsageError: The options do not go together, or a file of the user says what cannot be.
        BmdkitError: The CT or the label map is unfit.
    """
    try:
        return _render(request)
    except (GeometryError, MemoryError) as error:
        raise click.UsageError(str(error)) from error


def write_pages(path: Path, pages: Pages) -> None:
    """Write the images as the suffix says, and NAME.json beside them.

    TIFF: all pages, pose by pose. PNG: one sheet, a row per pose and a column per structure. DICOM: one file per image,
    numbered if there are several.
    """
    poses, channels, rows, columns = pages.images.shape
    window = choose_window(pages.images, whole_body=pages.names == ("body",))
    match path.suffix.lower():
        case ".png":
            write_png(path, make_contact_sheet(scale_to_grey(pages.images, *window)))
        case ".dcm":
            for pose in range(poses):
                for channel in range(channels):
                    number = pose * channels + channel + 1
                    file = path if poses * channels == 1 else path.with_name(f"{path.stem}_{number:03d}.dcm")
                    camera_from_ct = pages.poses[pose][channel]
                    about = {
                        **encode_pose(camera_from_ct),
                        "structure": pages.names[channel],
                        "quantity": pages.quantity,
                    }
                    image = pages.images[pose, channel]
                    write_secondary_capture(
                        file,
                        image,
                        pages.camera,
                        unit=pages.unit,
                        about=about,
                        window=window,
                        directions_lps=camera_from_ct.rotation[:2] * np.sign(pages.camera.pixel_step_mm)[:, None],
                    )
        case _:
            write_tiff(path, pages.images.reshape(-1, rows, columns))
    write_json(
        path.with_suffix(".json"),
        {
            "quantity": pages.quantity,
            "unit": pages.unit,
            "camera": pages.camera.to_dict(),
            "pages": [
                {"structure": name, **encode_pose(pose)}
                for of_pose in pages.poses
                for name, pose in zip(pages.names, of_pose, strict=True)
            ],
        },
    )
    _log.info("%s: %d x %d images of %d x %d", path, poses, channels, rows, columns)


def _render(request: Request) -> Pages:
    config = CtConfig(lossy="warn")  # a picture, not a measurement
    volume = read_ct(request.ct, series_uid=request.series_uid, config=config).volume
    if request.spectrum is not None:
        return _expose(request, volume, request.spectrum)
    quantity = request.quantity or ("density" if request.calibration else "attenuation")
    channels = _choose_channels(request, _choose_density(request, volume, quantity))
    camera, poses = _choose_views(request, channels)
    shown = _project(channels, poses, camera, request) * np.float32(MG_CM3_MM_TO_G_CM2)
    return Pages(shown, camera, poses, channels.names, quantity, "g/cm2")


def _choose_density(request: Request, ct: Volume, quantity: str) -> Volume:
    """What is projected, in mg/cm3."""
    match quantity:
        case "density":
            if request.calibration is None:
                raise click.UsageError("--quantity density needs --calibration FILE")
            return _read_calibration(request.calibration).apply(ct)
        case "hu":
            return Volume(ct.array.astype(np.float32), ct.grid, "density_mg_cm3")
    water = ct.array.astype(np.float32)
    water += 1000
    return Volume(np.maximum(water, 0, out=water), ct.grid, "density_mg_cm3")


def _read_calibration(path: Path) -> Calibration:
    return Calibration.from_dict(_read_json(path, "--calibration"), source="file")


def _read_json(path: Path, option: str):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise click.UsageError(f"{option}: {path.name} is not JSON: {error}") from error


def _choose_channels(request: Request, density: Volume) -> Channels:
    """One channel per structure, or the whole body, where what is below zero (air, fat) counts as nothing."""
    if request.labels is None:
        if request.structures:
            raise click.UsageError("--structure needs --labels FILE")
        return Channels.from_volume(Volume(np.maximum(density.array, 0), density.grid, density.quantity), "body")
    labels = read_labels(request.labels)
    groups = [name.split("+") for name in request.structures] or [[name] for name in labels.present()]
    unknown = sorted({name for group in groups for name in group} - set(labels.values))
    if unknown:
        raise click.UsageError(
            f"--structure: {', '.join(unknown)} not in the label map; it has {', '.join(labels.values)}"
        )
    try:
        return prepare_channels(density, labels, groups)
    except ValueError as error:
        raise click.UsageError(f"--structure: {error}") from error


def _choose_views(request: Request, channels: Channels) -> tuple[ProjectionGeometry, list[list[RigidTransform]]]:
    """The camera, and the pose of every channel in every view."""
    recorded = RecordedPoses() if request.pose is None else parse_poses(_read_json(request.pose, "--pose"))
    if request.pose is not None and (request.view or any(request.angles)):
        raise click.UsageError("give --pose, or a view and --angles, not both")
    sdd = request.sdd_mm or (recorded.camera.sdd_mm if recorded.camera else 1200.0)
    if request.pose is None:
        poses = [[_choose_standard_view(request, channels, sdd)] * len(channels)]
    elif recorded.poses:
        poses = [[pose] * len(channels) for pose in recorded.poses]
    else:
        poses = [[_find_pose(recorded, name) for name in channels.names]]
    if recorded.camera and not any((request.rows, request.columns, request.pixel_mm, request.sdd_mm)):
        return recorded.camera, poses
    every = [pose for of_pose in poses for pose in of_pose]
    pixel = request.pixel_mm or (recorded.camera.column_spacing_mm if recorded.camera else 1.0)
    camera = fit_camera(
        channels,
        every,
        sdd_mm=sdd,
        pixel_mm=pixel,
        rows=request.rows,
        columns=request.columns,
        reversed_columns=recorded.camera is not None and recorded.camera.reversed_columns,
    )
    return camera, poses


def _choose_standard_view(request: Request, channels: Channels, sdd_mm: float) -> RigidTransform:
    """A standard view of the middle of what is projected, turned by the angles about the camera's axes."""
    if request.object_to_detector_mm >= sdd_mm:
        raise click.UsageError("--object-to-detector-mm: expected less than --sdd-mm")
    middle = channels.grid.points(channels.box[:, ::-1].mean(axis=0))
    camera = ProjectionGeometry(sdd_mm, 1, 1, 1, 1)
    view = standard_view(request.view or "ap", middle, camera, object_to_detector_mm=request.object_to_detector_mm)
    turn = Rotation.from_euler("xyz", request.angles, degrees=True).as_matrix()
    return RigidTransform.about(view.apply(middle), turn) @ view


def _find_pose(recorded: RecordedPoses, name: str) -> RigidTransform:
    first, known = "pelvis" if name == "body" else name.split("+")[0], recorded.of_structures()
    if first not in known:
        raise click.UsageError(f"--pose: no pose of {first}; there are {', '.join(known)}")
    return known[first]


def _project(
    channels: Channels, poses: list[list[RigidTransform]], camera: ProjectionGeometry, request: Request
) -> np.ndarray:
    """(P, C, rows, columns), every channel under its own pose; one batch where all share theirs."""

    def project(some: Channels, own: list[RigidTransform]) -> np.ndarray:
        return render(some, own, camera, device=request.device, supersample=request.supersample)

    if all(pose is of_pose[0] for of_pose in poses for pose in of_pose):
        return project(channels, [of_pose[0] for of_pose in poses])
    alone = [
        project(Channels(channels.arrays[c : c + 1], channels.grid, (name,)), [of_pose[c] for of_pose in poses])
        for c, name in enumerate(channels.names)
    ]
    return np.concatenate(alone, axis=1)


def _expose(request: Request, ct: Volume, kvp: float) -> Pages:
    """Simulated radiographs: the logarithm of the signal, brighter = denser."""
    if request.labels or request.structures or request.quantity:
        raise click.UsageError("--spectrum exposes the whole body: leave out --labels, --structure and --quantity")
    density = _read_calibration(request.calibration).apply(ct) if request.calibration else None
    channels = Channels(np.stack(split_water_and_mineral(ct, density)), ct.grid, ("water", "mineral"))
    camera, poses = _choose_views(request, channels)
    paths = _project(channels, poses, camera, request) * np.float32(MG_CM3_MM_TO_G_CM2)
    settings, rng = ExposureSettings(kvp=kvp), np.random.default_rng(request.seed)
    signals = [expose(soft, bone, camera.column_spacing_mm, settings, rng) for soft, bone in paths]
    log = -np.log(np.maximum(np.stack(signals)[:, None], 1 / settings.count(camera.column_spacing_mm)))
    log -= log.min()
    return Pages(log.astype(np.float32), camera, [of_pose[:1] for of_pose in poses], ("body",), "exposure", "1")
