"""`bmdkit segment`: labels of the bones of one CT, and how sure the network is of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bmdkit.cli import options

if TYPE_CHECKING:
    import numpy as np

    from bmdkit.core.anatomy import Side
    from bmdkit.core.volume import LabelMap, Volume
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.dicom_objects.source import SourceImages
    from bmdkit.segmentation.model import SegmentationModel

_NAMES, _ENTROPY, _DICOM = "labels.json", "entropy.nii.gz", "labels.dcm"


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
@options.dry_run()
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
    dry_run: bool,
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
    from bmdkit.dataset.layout import labels_file, uncertainty_files
    from bmdkit.dataset.settings import BuildConfig
    from bmdkit.io.label_maps import write_labels
    from bmdkit.io.results import write_json
    from bmdkit.io.volumes import write_volume
    from bmdkit.regions import find_proximal_femora
    from bmdkit.segmentation.ct_labels import segment_with_model, segment_with_totalsegmentator
    from bmdkit.slicer.segmentation_nrrd import write_slicer_segmentation

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
    log = logging.getLogger("bmdkit.cli.segment")
    ready = _prepare(ct, out, settings, device, series_uid=series_uid, dicom=dicom)
    if dry_run:
        _show_plan(ready, out, settings, slicer=slicer)
        return
    source = _hide_patient(ready.source, out) if ready.source is not None and pseudonymise else ready.source
    if ready.network is None:
        found = segment_with_totalsegmentator(ready.volume, settings.segmentation, settings.labels, device=ready.device)
    else:
        with counting_bar("slices") as on_slice:
            found = segment_with_model(
                ready.volume, ready.network, settings.segmentation, settings.labels, seed=seed, on_slice=on_slice
            )
    out.mkdir(parents=True, exist_ok=True)
    if found.variance is not None:
        volume_file, table_file = uncertainty_files(out)
        write_volume(volume_file, found.variance)
        write_json(table_file, found.uncertainty)
    if found.limit.refusal:
        log.warning("these labels cannot be judged by their uncertainty: %s", found.limit.refusal)
    if found.entropy is not None:
        write_volume(out / _ENTROPY, found.entropy)
    write_labels(labels_file(out), found.labels)
    regions = find_proximal_femora(found.labels) if slicer or source is not None else {}
    if source is not None:
        _write_segmentation(out, found.labels, regions, source, settings)
    if slicer:
        write_slicer_segmentation(_slicer_file(out), found.labels, regions=regions)
    for name in found.labels.present():
        volume_ml = found.labels.mask(name).sum() * found.labels.grid.voxel_volume_mm3 / 1000
        doubt = f", mean variance {found.uncertainty[name]:.4f}" if name in found.uncertainty else ""
        log.info("%s: %.0f ml%s", name, volume_ml, doubt)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What a segmentation works with.

    Attributes:
        device: Device of the network.
        volume: CT, HU.
        network: Network that labels; None: TotalSegmentator does.
        source: Study that DICOM objects join; None: none are written.
    """

    device: str
    volume: Volume
    network: SegmentationModel | None
    source: SourceImages | None


def _prepare(
    ct: Path, out: Path, settings: BuildConfig, device: str, *, series_uid: str | None, dicom: bool
) -> _Prepared:
    """Check and read all that a segmentation needs, before any network is run; nothing is written."""
    from bmdkit.dataset.bone_labels import choose_model_folder
    from bmdkit.io.ct import read_ct
    from bmdkit.jobs.machine import MachineNeeds, check_machine
    from bmdkit.segmentation.model import load_model
    from bmdkit.segmentation.totalsegmentator import require_totalsegmentator

    there = check_machine(MachineNeeds(device=device, out=out))
    source = _read_source(ct, out, series_uid, settings) if dicom else None
    network = None
    if settings.segmentation.source == "totalsegmentator":
        require_totalsegmentator(settings.segmentation.totalsegmentator)
    else:
        network = load_model(choose_model_folder(settings), there)
    return _Prepared(there, read_ct(ct, series_uid=series_uid, config=settings.ct).volume, network, source)


def _show_plan(ready: _Prepared, out: Path, settings: BuildConfig, *, slicer: bool) -> None:
    """Say what would be done with the CT, and which files would be written."""
    from bmdkit.dataset.layout import labels_file, uncertainty_files

    chosen, files = settings.segmentation, [labels_file(out), out / _NAMES]
    click.echo(f"CT: {options.describe_grid(ready.volume.grid)}.")
    if ready.network is None:
        click.echo(f"TotalSegmentator would label it, on {ready.device}.")
    else:
        used = chosen.predict
        every = "every slice" if used.slice_stride == 1 else f"one slice in {used.slice_stride}"
        draws = "1 dropout draw" if used.passes == 1 else f"{used.passes} dropout draws"
        name = "that comes with bmdkit" if chosen.model is None else f"of {chosen.model}"
        click.echo(f"The network {name} would label {every} with {draws}, on {ready.device}.")
        refusal = ready.network.limit_uncertainty(used, chosen.most_uncertainty).refusal
        if refusal:
            click.echo(f"The labels could not be judged by their uncertainty: {refusal}.")
        files += uncertainty_files(out) if used.passes > 1 else ()
        files += [out / _ENTROPY] if used.entropy else []
    files += [out / _DICOM] if ready.source is not None else []
    files += [_slicer_file(out)] if slicer else []
    options.show_files(files, out)


def _slicer_file(out: Path) -> Path:
    """File of the labels for 3D Slicer."""
    from bmdkit.slicer.segmentation_nrrd import SUFFIX

    return out / f"labels{SUFFIX}"


def _read_source(ct: Path, out: Path, series_uid: str | None, settings: BuildConfig) -> SourceImages:
    """The CT's study, which the segmentation joins."""
    from bmdkit.dataset.layout import require_outside_dataset
    from bmdkit.dicom_objects.source import read_source_images
    from bmdkit.io.dicom_ct import list_series_files
    from bmdkit.io.dicom_frames import is_enhanced_ct

    require_outside_dataset(out)
    is_dicom = ct.is_dir() or is_enhanced_ct(ct)
    files = list_series_files(ct, series_uid=series_uid, config=settings.ct) if is_dicom else [ct]
    return read_source_images(files)


def _hide_patient(source: SourceImages, out: Path) -> SourceImages:
    """The study under a pseudonym, whose key and map lie beside the output."""
    from bmdkit.io.pseudonyms import add_to_key_map, keep_key

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
        out / _DICOM,
        labels,
        source,
        algorithm=algorithm,
        sha256=sha256_of(made_from),
        regions=regions,
    )
