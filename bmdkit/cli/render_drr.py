"""`bmdkit render-drr`: digitally reconstructed radiographs of one CT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bmdkit.cli import options

if TYPE_CHECKING:
    from bmdkit.core.pose import View

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SIZE = click.IntRange(1, 20000)
_LENGTH = click.FloatRange(0, min_open=True)


@click.command("render-drr")
@click.argument("ct", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out",
    "outs",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    multiple=True,
    help="Image to write: .tif (values), .png (for the eye) or .dcm (secondary capture). Repeatable.",
)
@click.option("--pose", type=_FILE, help="JSON file with camera_from_ct, a list of them, or a registration.")
@click.option("--ap", "view", flag_value="ap", help="Antero-posterior view (the default).")
@click.option("--pa", "view", flag_value="pa", help="Postero-anterior view.")
@click.option(
    "--lateral", "view", flag_value="lateral_right", help="Lateral view with the patient's left side at the detector."
)
@click.option(
    "--lateral-right",
    "view",
    flag_value="lateral_left",
    help="Lateral view with the patient's right side at the detector.",
)
@click.option(
    "--angles",
    type=float,
    nargs=3,
    default=(0.0, 0.0, 0.0),
    help="Angles that turn the body about the camera's x, y and z, degrees.",
)
@click.option(
    "--object-to-detector-mm",
    type=_LENGTH,
    default=150.0,
    show_default=True,
    help="Distance from the middle of the body to the detector.",
)
@click.option("--labels", type=click.Path(exists=True, path_type=Path), help="Label map, or folder of masks.")
@click.option(
    "--structure",
    "structures",
    multiple=True,
    help="Structure of the label map, one page each; join names with +. Repeatable.",
)
@click.option("--calibration", type=_FILE, help="File calibration.json; calibrated density is then projected.")
@click.option(
    "--quantity",
    type=click.Choice(["density", "hu", "attenuation"]),
    help="Quantity to project: density (by --calibration), hu (HU in its place) or attenuation (as water); g/cm2.",
)
@click.option(
    "--spectrum",
    type=click.FloatRange(40, 150),
    metavar="KVP",
    help="Tube voltage; simulates the exposure of a whole body.",
)
@click.option("--rows", type=_SIZE, help="Rows of the image; fitted to the body if not given.")
@click.option("--columns", type=_SIZE, help="Columns of the image; fitted to the body if not given.")
@click.option("--pixel-mm", type=_LENGTH, help="Size of a pixel at the detector.  [default: 1]")
@click.option("--sdd-mm", type=_LENGTH, help="Distance from source to detector.  [default: 1200]")
@click.option(
    "--supersample", type=click.IntRange(1, 4), default=1, show_default=True, help="Number of rays per pixel and axis."
)
@click.option("--series-uid", help="UID of the DICOM series to take.")
@options.device
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise of --spectrum.")
@options.logging_options
def command(
    ct: Path,
    outs: tuple[Path, ...],
    pose: Path | None,
    view: View | None,
    angles: tuple[float, float, float],
    object_to_detector_mm: float,
    labels: Path | None,
    structures: tuple[str, ...],
    calibration: Path | None,
    quantity: str | None,
    spectrum: float | None,
    rows: int | None,
    columns: int | None,
    pixel_mm: float | None,
    sdd_mm: float | None,
    supersample: int,
    series_uid: str | None,
    device: str,
    seed: int,
) -> None:
    """Project CT (a DICOM folder, or NIfTI, MetaImage or NRRD in HU) to images; NAME.json beside them says how."""
    unknown = [str(out) for out in outs if out.suffix.lower() not in (".tif", ".tiff", ".png", ".dcm")]
    if unknown:
        raise click.UsageError(f"--out: expected .tif, .png or .dcm, got {', '.join(unknown)}")

    from bmdkit.cli.drr_rendering import Request, render_pages, write_pages
    from bmdkit.jobs.machine import MachineNeeds, check_machine

    for out in outs:
        device = check_machine(MachineNeeds(device=device, renders=True, out=out.parent))
    request = Request(
        ct=ct,
        pose=pose,
        view=view,
        angles=angles,
        object_to_detector_mm=object_to_detector_mm,
        labels=labels,
        structures=structures,
        calibration=calibration,
        quantity=quantity,
        spectrum=spectrum,
        rows=rows,
        columns=columns,
        pixel_mm=pixel_mm,
        sdd_mm=sdd_mm,
        supersample=supersample,
        series_uid=series_uid,
        device=device,
        seed=seed,
    )
    pages = render_pages(request)
    for out in outs:
        write_pages(out, pages)
