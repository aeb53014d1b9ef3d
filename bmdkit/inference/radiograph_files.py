"""Which files are meant by the paths that a user gives: radiographs, folders of them, or the folder of a training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from bmdkit.core.naming import make_safe_name, make_unique_name
from bmdkit.errors import PreflightError
from bmdkit.io.dicom_files import UnreadableError, find_dicom_files
from bmdkit.io.dicom_parsing import read_header
from bmdkit.io.dicom_xray import RADIOGRAPH_MODALITIES
from bmdkit.io.xray_plain import IMAGE_SUFFIXES
from bmdkit.training.run_layout import CHECKPOINTS, CONFIG, GENERATOR, RUN

logger = logging.getLogger(__name__)

_NAMED = 5


def is_run_folder(path: Path) -> bool:
    """Whether a path is the folder of a training, be it finished, unfinished or damaged.

    It is one where any of the files stands that only a training writes. A `config.json` that is the side-car of an
    image does not count.
    """
    if not path.is_dir():
        return False
    if (path / RUN).exists() or (path / GENERATOR).exists() or (path / CHECKPOINTS).is_dir():
        return True
    settings = path / CONFIG
    return settings.exists() and not any(settings.with_suffix(suffix).exists() for suffix in IMAGE_SUFFIXES)


def find_radiographs(paths: Sequence[Path], *, out: Path | None = None) -> list[Path]:
    """The radiographs that are meant by files and folders, each once, in the order given, those of a folder by name.

    A file is taken as it is. Of a folder, PNG and TIFF files are taken, and DICOM objects that are radiographs; what
    else lies there is left out, and the log says so.

    Args:
        paths: Files and folders.
        out: A folder whose files are no input, though it may lie in one of `paths`.

    Returns:
        Paths of files; those that were given need not exist.

    Raises:
        PreflightError: A folder holds a training's run or no radiograph (BMD-PRE-003).
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _radiographs_in(path, out) if path.is_dir() else [path]:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def name_radiographs(paths: Sequence[Path]) -> list[str]:
    """A name for each file's outputs: its stem, safe in any file system, and unique without regard to letter case."""
    names: list[str] = []
    for path in paths:
        names.append(make_unique_name(make_safe_name(path.stem), names, separator="-"))
    return names


def input_files(radiograph: Path) -> list[Path]:
    """The files that a radiograph is read from: its own, and the side-car of a PNG or TIFF where there is one."""
    side_car = radiograph.with_suffix(".json")
    beside = radiograph.suffix.lower() in IMAGE_SUFFIXES and side_car.is_file()
    return [file for file in (radiograph, *([side_car] if beside else [])) if file.is_file()]


def _radiographs_in(folder: Path, out: Path | None) -> list[Path]:
    if is_run_folder(folder):
        raise PreflightError("BMD-PRE-003", "it is the folder of a training, named where a radiograph is.", file=folder)
    images = {file for file in folder.rglob("*") if file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES}
    candidates = sorted(images | set(find_dicom_files(folder)))
    hidden = [file for file in candidates if any(p.startswith(".") for p in file.relative_to(folder).parts)]
    elsewhere = [file for file in candidates if out is not None and file.resolve().is_relative_to(out.resolve())]
    candidates = [file for file in candidates if file not in hidden and file not in elsewhere]
    runs = {parent for file in candidates for parent in _parents(file, folder) if is_run_folder(parent)}
    taken = [
        file
        for file in candidates
        if not runs.intersection(_parents(file, folder)) and (file in images or _may_be_radiograph(file))
    ]
    if left_out := [file for file in candidates if file not in taken]:
        names = ", ".join(str(file.relative_to(folder)) for file in left_out[:_NAMED])
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        logger.warning("%s: left out, no radiographs: %s%s", folder.name, names, more)
    if not taken:
        raise PreflightError("BMD-PRE-003", f"no radiograph among {len(candidates)} files.", file=folder)
    return taken


def _parents(file: Path, folder: Path) -> list[Path]:
    return [parent for parent in file.parents if parent != folder and parent.is_relative_to(folder)]


def _may_be_radiograph(file: Path) -> bool:
    """Whether a DICOM file shows a radiograph, or is a damaged one that the reader has to name."""
    try:
        header = read_header(file)
    except UnreadableError:
        return file.suffix.lower() in (".dcm", ".dicom", ".ima")
    return header.pixels.rows is not None and header.modality in (*RADIOGRAPH_MODALITIES, "")
