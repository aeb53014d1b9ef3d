"""The commit unit is the case: staged in a private folder, hashed, published by renaming, its meta.json the last word.

A case is taken as it is only when its meta.json names the same inputs, settings and code schema and every file it
lists has the hash it lists. Only the holder of the output's lock publishes; children write to their staging folder.
"""

from __future__ import annotations

import contextlib
import glob
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from bmdkit.core.disk import flush_to_disk
from bmdkit.dataset.case_meta import find_damage, hash_data, read_meta
from bmdkit.dataset.layout import CASES, META, PAIR_FOLDERS, STAGING, case_folder, meta_file
from bmdkit.io.results import sha256_of
from bmdkit.io.volumes import find_stem


def list_input_files(path: Path) -> list[Path]:
    """List all files of a folder; or the file itself, then those that share its stem (side-cars, raw data)."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    beside = [file for file in path.parent.glob(f"{glob.escape(find_stem(path))}.*") if file.is_file()]
    return [path, *sorted(file for file in beside if file != path)]


def hash_input(path: Path | None, found: dict[Path, str] | None = None) -> str | None:
    """Hash an input, over all that it is made of.

    Args:
        path: File or folder; None where there is none.
        found: Mapping that gets the hash of every single file, if given.

    Returns:
        SHA-256; None where there is no input.
    """
    if path is None:
        return None
    if path.is_dir():
        return sha256_of(path, found)
    own, *beside = (sha256_of(file, found) for file in list_input_files(path))
    return hash_data([own, *sorted(beside)])


def hash_outputs(staged: Path) -> dict[str, str]:
    """Hash all that was staged, read back from the disk: relative path -> SHA-256."""
    files = sorted(file for file in staged.rglob("*") if file.is_file())
    return {file.relative_to(staged).as_posix(): sha256_of(file) for file in files}


def publish(staged: Path, out: Path, patient_id: str) -> None:
    """Put a staged case in the place of the published one.

    The old meta.json goes first and the new one comes last, within the renamed case folder: at no moment does a
    meta.json vouch for files of another run.

    Args:
        staged: Staging folder of the case; it is gone afterwards.
        out: Folder of the dataset, locked.
        patient_id: Identifier of the case.
    """
    if staged.stat().st_dev != out.stat().st_dev:  # a rename must stay within one file system
        near = out / STAGING / f"{patient_id}.copy"
        shutil.rmtree(near, ignore_errors=True)
        shutil.copytree(staged, near)
        _flush_tree(near)
        shutil.rmtree(staged)
        staged = near
    old = read_meta(out, patient_id)
    with contextlib.suppress(FileNotFoundError):
        meta_file(out, patient_id).unlink()
        flush_to_disk(case_folder(out, patient_id))
    old_outputs = () if old is None else old.outputs
    old_pairs = {Path(name).parent for name in old_outputs if not name.startswith(CASES)}
    new_pairs = {path.relative_to(staged) for folder in PAIR_FOLDERS.values() for path in staged.glob(f"{folder}/*")}
    for pair in sorted(old_pairs - new_pairs):
        shutil.rmtree(out / pair, ignore_errors=True)
    for folder in (*sorted(new_pairs), Path(CASES) / patient_id):
        _replace(staged / folder, out / folder, aside=staged / "replaced")
    shutil.rmtree(staged, ignore_errors=True)


def rescue(left: Path, out: Path, names: Iterable[str], *, before: Callable[[], None] = lambda: None) -> list[str]:
    """Publish what a run that died had staged whole.

    A case that is published already is left alone; so is one of which anything is missing or changed, unless it is in
    its place already: publishing may have been what was interrupted.

    Args:
        left: Staging folder of the dead run.
        out: Folder of the dataset, locked.
        names: Cases that may be published.
        before: Function that is called before each is.

    Returns:
        The cases that were published.
    """
    rescued = []
    wanted = set(names)
    for vouching in sorted(left.rglob(f"{CASES}/*/{META}")):
        name, staged = vouching.parent.name, vouching.parents[2]
        meta = read_meta(staged, name)
        if name not in wanted or meta is None or read_meta(out, name) is not None:
            continue
        if not set(find_damage(staged, meta)) & set(find_damage(out, meta)):
            before()
            publish(staged, out, name)
            rescued.append(name)
    return rescued


def _replace(source: Path, target: Path, aside: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    source.rename(target)
    flush_to_disk(target.parent)


def _flush_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        flush_to_disk(path)
