"""Where the dataset of a run lies, as its folder notes it; by its content, should it have moved."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from bmdkit.dataset.layout import MANIFEST_CSV
from bmdkit.errors import PreflightError
from bmdkit.io.results import sha256_of, write_json
from bmdkit.training.run_layout import CONFIG, read_json

PLACE = "data.json"
_LEVELS = 4  # folders above a run whose folders are looked through


def write_data_place(run: Path, data: Path) -> None:
    """Note in the folder of a run where its dataset lies, relative to it: both can be moved together."""
    try:
        place = Path(os.path.relpath(data.resolve(), run.resolve())).as_posix()
    except ValueError:  # another drive
        place = data.resolve().as_posix()
    write_json(run / PLACE, {"path": place})


def find_data(run: Path) -> Path:
    """Find the dataset that a run was trained on: where it was noted, or near the run by the hash of its manifest.

    Args:
        run: Folder of the run.

    Raises:
        PreflightError: No finished run (BMD-TRN-009), or its dataset is not found (BMD-EVA-006).
    """
    wanted = read_json(run / CONFIG).get("data_sha256")
    for folder in _candidates(run):
        manifest = folder / MANIFEST_CSV
        if manifest.is_file() and sha256_of(manifest) == wanted:
            return folder
    raise PreflightError("BMD-EVA-006", "its dataset is neither where it was nor near the run.", file=run)


def _candidates(run: Path) -> Iterator[Path]:
    try:
        place = json.loads((run / PLACE).read_text(encoding="utf-8"))["path"]
        yield Path(os.path.normpath(run.resolve() / place))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    for parent in list(run.resolve().parents)[:_LEVELS]:
        yield parent
        try:
            yield from sorted(path for path in parent.iterdir() if path.is_dir())
        except OSError:
            continue
