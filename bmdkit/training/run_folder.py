"""The folder of a run while it is written: held by one training, and never mixed with another."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bmdkit.config import ConfigError, build, to_dict
from bmdkit.errors import PreflightError
from bmdkit.io.results import sha256_of, write_json
from bmdkit.jobs.lock import hold, require_free
from bmdkit.training.provenance import PROVENANCE_KEY
from bmdkit.training.run_layout import CONFIG, GENERATOR, Provenance, read_json

MAY_DIFFER = ("settings.loop.epochs", "settings.loop.budget_minutes", PROVENANCE_KEY)
"""Entries of config.json that may change when a run is resumed; the runs before have the same first weights."""


FolderState = Literal["new", "same", "replaced"]
"""What a training finds in its folder: nothing, the same run, or a run that is dropped for it."""


@dataclass(frozen=True)
class LabelledData:
    """What a segmentation learns from, as an entry of its config.json.

    Attributes:
        data: Name, fold, and the digests of the CT and of the labels, of every CT.
    """

    data: tuple[tuple[str, int, str | None, str | None], ...]


def make_identity(
    kind: str,
    config: Any,
    *,
    seed: int,
    data: Provenance | LabelledData,
    init_from: Path | None,
    weights: str = GENERATOR,
) -> dict[str, Any]:
    """What tells one run from another, as config.json has it.

    Args:
        kind: Kind of the run.
        config: All settings, a dataclass.
        seed: Seed of all random draws.
        data: What it learns from.
        init_from: The run that the first weights come from; None: they are drawn.
        weights: Name of their file there.
    """
    return {
        "kind": kind,
        "settings": to_dict(config),
        "seed": seed,
        **asdict(data),
        "init_from_sha256": None if init_from is None else sha256_of(init_from / weights),
    }


@contextlib.contextmanager
def open_folder(
    folder: Path, identity: Mapping[str, Any], *, overwrite: bool, settings: type | None = None
) -> Iterator[None]:
    """Hold a run's folder for writing; it is new, or holds the same run.

    Only `loop.epochs` and `loop.budget_minutes` may differ: a run can be made longer.

    Args:
        folder: Folder of the run.
        identity: What tells the run from others, from `make_identity`.
        overwrite: Whether to drop what the folder holds.
        settings: Dataclass of the settings; those that an older run does not name have their default values.

    Raises:
        PreflightError: It holds something else (BMD-TRN-008).
        LockedError: Another training writes to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder):
        if _compare_folder(folder, identity, overwrite=overwrite, settings=settings) == "replaced":
            _remove(_list_present(folder))
        for unfinished in folder.rglob(".part-*"):  # of a write that was killed
            unfinished.unlink()
        write_json(folder / CONFIG, identity)
        yield


def examine_folder(
    folder: Path, identity: Mapping[str, Any], *, overwrite: bool, settings: type | None = None
) -> FolderState:
    """Say what `open_folder` would find in a run's folder; nothing is made or changed.

    Args:
        folder: Folder of the run, which need not be there.
        identity: What tells the run from others, from `make_identity`.
        overwrite: Whether to drop what the folder holds.
        settings: Dataclass of the settings, as of `open_folder`.

    Raises:
        PreflightError: It holds something else (BMD-TRN-008).
        LockedError: Another training writes to it.
    """
    require_free(folder)
    return _compare_folder(folder, identity, overwrite=overwrite, settings=settings)


def _compare_folder(
    folder: Path, identity: Mapping[str, Any], *, overwrite: bool, settings: type | None
) -> FolderState:
    """What the folder holds, seen from a run."""
    if not _list_present(folder):
        return "new"
    if not (folder / CONFIG).is_file():
        raise PreflightError("BMD-TRN-008", "it holds files that are no training run.", file=folder)
    if overwrite:
        return "replaced"
    present_identity = _complete(read_json(folder / CONFIG), settings)
    differing = _find_differences(present_identity, json.loads(json.dumps(identity)))
    differing = [path for path in differing if path not in MAY_DIFFER]
    if differing:
        raise PreflightError("BMD-TRN-008", f"{', '.join(differing)} differ.", file=folder)
    return "same"


def _list_present(folder: Path) -> list[Path]:
    """The files and folders in it that are not hidden."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []


def _complete(identity: dict[str, Any], settings: type | None) -> dict[str, Any]:
    """An identity with the default values of settings that came after it was written."""
    if settings is None:
        return identity
    try:
        known = to_dict(build(settings, identity["settings"]))
    except (ConfigError, KeyError, TypeError):
        return identity
    return identity | {"settings": json.loads(json.dumps(known))}


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _find_differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Dotted paths of the entries in which two nested mappings differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        found = []
        for key in sorted(a.keys() | b.keys()):
            found += _find_differences(a.get(key), b.get(key), f"{path}.{key}" if path else key)
        return found
    return [] if a == b else [path]
