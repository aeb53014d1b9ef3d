"""`bmdkit segment`: labels of the bones of one CT, and how sure the network is of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bmdkit.cli import options

if TYPE_CHECKING:
    import numpy as np

    from bmdkit.core.anatomy import Side
    from bmdkit.core.volume import LabelMap
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.dicom_objects.source import SourceImages


@click.command("segment")
@click.argument("ct", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a run of `train segmentation`.  [default: the network that comes with bmdkit]",
)
@click.option(
    "--segmentation",
    type=click.Choice(["model", "totalsegmentator"]),
    help="Where labels come from: the network, or your own TotalSegmentator.  [default: model]",
)
@click.option("--totalsegmentator", is_flag=True, hidden=True, help="Same as --segmentation totalsegmentator.")
@click.option("--passes", type=click.IntRange(min=1), help="Number of dropout draws.  [default: 10]")
@click.option(
    "--slice-stride", type=click.IntRange(min=1), help="Label every n-th slice only, and interpolate.  [default: 1]"
)
@click.option(
    "--pixel-mm",
    type=click.FloatRange(min=0, min_open=True),
    help="Size of the pixels that the network sees.  [default: the model's]",
)
@click.option("--entropy", is_flag=True, help="Also write entropy.nii.gz.")
@click.option(
    "--slicer", is_flag=True, help="Also write labels.seg.nrrd for 3D Slicer: labels and proximal femora, with names."
)
@click.option("--series-uid", help="UID of the DICOM series to take.")
@options.dicom_objects("labels and proximal femora")
@options.common
def command(
    ct: Path,
    out: Path,
    model: Path | None,
    segmentation: str | None,
    totalsegmentator: bool,
    passes: int | None,
    slice_stride: int | None,
    pixel_mm: float | None,
    entropy: bool,
    slicer: bool,
    series_uid: str | None,
    dicom: bool,
    pseudonymise: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
) -> None:
    """Label pelvis, femurs and spine of CT; writes labels.nii.gz, labels.json, uncertainty.nii.gz and uncertainty.json.

    The model is one that you have trained (--model, or segmentation.model in a recipe), else the one that comes with
    bmdkit, which has seen simulated CTs alone. The first two files are all that TotalSegmentator gives. With --dicom,
    labels.dcm is a DICOM segmentation of the labels and of the proximal femora whose landmarks are found. With
    --slicer, labels.seg.nrrd is the same for the Segment Editor of 3D Slicer; every command takes what that saves.
    """
    import logging

    from bmdkit.cli.progress import counting_bar
    from bmdkit.dataset.bone_labels import choose_model_folder
    from bmdkit.dataset.layout import labels_file, uncertainty_files
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.io.ct import read_ct
    from bmdkit.io.label_maps import write_labels
    from bmdkit.io.results import write_json
    from bmdkit.io.volumes import write_volume
    from bmdkit.jobs.machine import MachineNeeds, check_machine
    from bmdkit.regions import find_proximal_femora
    from bmdkit.segmentation.ct_labels import segment_with_model, segment_with_totalsegmentator
    from bmdkit.segmentation.model import load_model
    from bmdkit.slicer.segmentation_nrrd import SUFFIX, write_slicer_segmentation

    if totalsegmentator:
        segmentation = "totalsegmentator"
    options.require_dicom(dicom=dicom, pseudonymise=pseudonymise)
    if segmentation == "totalsegmentator" and model is not None:
        raise click.UsageError("--model and --segmentation totalsegmentator exclude each other")
    faster = {"passes": passes, "slice_stride": slice_stride, "pixel_mm": pixel_mm, "entropy": entropy or None}
    chosen: dict[str, object] = {"predict": {name: value for name, value in faster.items() if value is not None}}
    if model is not None:
        chosen["model"] = model
    if segmentation is not None:
        chosen["source"] = segmentation
    settings = options.settings(BuildConfig, recipe=recipe, overrides=overrides, segmentation=chosen)
    device = check_machine(MachineNeeds(device=device, out=out))
    log = logging.getLogger("bmdkit.cli.segment")
    source = _read_source(ct, out, series_uid, settings, pseudonymise=pseudonymise) if dicom else None
    if settings.segmentation.source == "totalsegmentator":
        volume = read_ct(ct, series_uid=series_uid, config=settings.ct).volume
        found = segment_with_totalsegmentator(volume, settings.segmentation, settings.labels, device=device)
    else:
        network = load_model(choose_model_folder(settings), device)
        volume = read_ct(ct, series_uid=series_uid, config=settings.ct).volume
        with counting_bar("slices") as on_slice:
            found = segment_with_model(
                volume, network, settings.segmentation, settings.labels, seed=seed, on_slice=on_slice
            )
    out.mkdir(parents=True, exist_ok=True)
    if found.variance is not None:
        volume_file, table_file = uncertainty_files(out)
        write_volume(volume_file, found.variance)
        write_json(table_file, found.uncertainty)
    if found.limit.refusal:
        log.warning("these labels cannot be judged by their uncertainty: %s", found.limit.refusal)
    if found.entropy is not None:
        write_volume(out / "entropy.nii.gz", found.entropy)
    write_labels(labels_file(out), found.labels)
    regions = find_proximal_femora(found.labels) if slicer or source is not None else {}
    if source is not None:
        _write_segmentation(out, found.labels, regions, source, settings)
    if slicer:
        write_slicer_segmentation(out / f"labels{SUFFIX}", found.labels, regions=regions)
    for name in found.labels.present():
        volume_ml = found.labels.mask(name).sum() * found.labels.grid.voxel_volume_mm3 / 1000
        doubt = f", mean variance {found.uncertainty[name]:.4f}" if name in found.uncertainty else ""
        log.info("%s: %.0f ml%s", name, volume_ml, doubt)


def _read_source(
    ct: Path, out: Path, series_uid: str | None, settings: BuildConfig, *, pseudonymise: bool
) -> SourceImages:
    """The CT's study, which the segmentation joins; refused before any network is run."""
    from bmdkit.dataset.layout import require_outside_dataset
    from bmdkit.dicom_objects.source import read_source_images
    from bmdkit.io.dicom_ct import list_series_files
    from bmdkit.io.dicom_frames import is_enhanced_ct
    from bmdkit.io.pseudonyms import add_to_key_map, keep_key

    require_outside_dataset(out)
    is_dicom = ct.is_dir() or is_enhanced_ct(ct)
    files = list_series_files(ct, series_uid=series_uid, config=settings.ct) if is_dicom else [ct]
    source = read_source_images(files)
    if not pseudonymise:
        return source
    hidden = source.pseudonymise(keep_key(out))
    add_to_key_map(out, {hidden.identifier: source.identifier})
    return hidden


def _write_segmentation(
    out: Path, labels: LabelMap, regions: Mapping[Side, np.ndarray], source: SourceImages, settings: BuildConfig
) -> None:
    """Write the labels, and the proximal femora where they are found, as a DICOM segmentation."""
    from bmdkit.dataset.bone_labels import choose_model_folder
    from bmdkit.dataset.layout import labels_file
    from bmdkit.dicom_objects.segmentation import write_segmentation
    from bmdkit.io.results import sha256_of

    if settings.segmentation.source == "totalsegmentator":
        algorithm, made_from = "TotalSegmentator", labels_file(out)
    else:
        folder = choose_model_folder(settings)
        algorithm, made_from = f"segmentation network {folder.name}", folder
    write_segmentation(
        labels_file(out).with_name("labels.dcm"),
        labels,
        source,
        algorithm=algorithm,
        sha256=sha256_of(made_from),
        regions=regions,
    )
