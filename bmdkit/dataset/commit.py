"""The commit unit is the case: staged in a private folder, hashed, published by renaming, its meta.json the last word.

A case is taken as it is only when its meta.json names the same inputs, settings and code schema and every file it
lists has the hash it lists. Only the holder of the output's lock publishes; children write to their staging folder.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bmdkit.core.disk import flush_to_disk
from bmdkit.io.results import sha256_of, write_json
from bmdkit.io.volumes import stem_of

SCHEMA = 2
"""Raised whenever the code makes other results from the same inputs and settings."""

CASES, META, STAGING = "cases", "meta.json", ".staging"
PAIR_FOLDERS = {"A": "dataset_a", "B": "dataset_b"}


def digest(value: Any) -> str:
    """SHA-256 of plain nested data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def input_files(path: Path) -> list[Path]:
    """All files of a folder; or the file itself, then those that share its stem (side-cars, raw data)."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    beside = [file for file in path.parent.glob(f"{glob.escape(stem_of(path))}.*") if file.is_file()]
    return [path, *sorted(file for file in beside if file != path)]


def hash_input(path: Path | None, found: dict[Path, str] | None = None) -> str | None:
    """SHA-256 of an input, over all that it is made of; the hash of every single file is added to `found`, if given."""
    if path is None:
        return None
    if path.is_dir():
        return sha256_of(path, found)
    own, *beside = (sha256_of(file, found) for file in input_files(path))
    return digest([own, *sorted(beside)])


def write_meta(staged: Path, patient_id: str, meta: Mapping[str, Any]) -> None:
    """Write the meta.json of a staged case, sealed with a hash of its own content."""
    write_json(staged / CASES / patient_id / META, {**meta, "sealed": digest(meta)})


def read_meta(out: Path, patient_id: str) -> dict[str, Any] | None:
    """The meta.json of a case, or None when there is none or it is not as it was written."""
    try:
        text = (out / CASES / patient_id / META).read_bytes().decode("utf-8")
        meta = json.loads(text)
        sealed = meta.pop("sealed")
    except (OSError, ValueError, AttributeError, KeyError):
        return None
    return meta if text.endswith("}\n") and digest(meta) == sealed else None


def is_good(out: Path, patient_id: str) -> bool:
    """Whether a published case came out, is whole, and has something that can be used."""
    meta = read_meta(out, patient_id)
    if meta is None or meta["status"] == "failed" or any(damage(out, meta)):
        return False
    return any(row["status"] == "ok" for row in meta["pairs"])


def note_failure(out: Path, patient_id: str, code: str, reason: str) -> list[dict[str, Any]]:
    """Say with every usable pair of a published case why its new build failed; all its values stay.

    Returns:
        The rows of the case as they are now.
    """
    meta = read_meta(out, patient_id)
    if meta is None:
        raise ValueError(f"patient_id: expected a published case, got {patient_id!r}")
    noted = {"code": code, "reason": reason}
    meta["pairs"] = [row | noted if row["status"] == "ok" else row for row in meta["pairs"]]
    write_meta(out, patient_id, meta)
    return meta["pairs"]


def without_failures(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a case without the failure of a later build; why a pair is left out stays."""
    return [
        dict(row) if row["status"] != "ok" else {k: v for k, v in row.items() if k not in ("code", "reason")}
        for row in rows
    ]


def has_failure(out: Path, patient_id: str) -> bool:
    """Whether a published case bears the failure of a later build."""
    meta = read_meta(out, patient_id)
    return meta is not None and any(row["status"] == "ok" and row.get("code") for row in meta["pairs"])


def clear_failure(out: Path, patient_id: str) -> None:
    """Take the failure of a later build off a published case: its meta.json is as it was before."""
    meta = read_meta(out, patient_id)
    if meta is None:
        return
    write_meta(out, patient_id, meta | {"pairs": without_failures(meta["pairs"])})


def damage(out: Path, meta: Mapping[str, Any]) -> Iterable[str]:
    """Outputs that a meta.json lists and that are missing or changed."""
    for name, expected in meta["outputs"].items():
        try:
            whole = sha256_of(out / name) == expected
        except OSError:
            whole = False
        if not whole:
            yield name


def hash_outputs(staged: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of all that was staged, read back from the disk."""
    files = sorted(file for file in staged.rglob("*") if file.is_file())
    return {file.relative_to(staged).as_posix(): sha256_of(file) for file in files}


def publish(staged: Path, out: Path, patient_id: str) -> None:
    """Put a staged case in the place of the published one.

    The old meta.json goes first and the new one comes last, within the renamed case folder: at no moment does a
    meta.json vouch for files of another run.
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
        (out / CASES / patient_id / META).unlink()
        flush_to_disk(out / CASES / patient_id)
    old_pairs = {Path(name).parent for name in (old or {}).get("outputs", ()) if not name.startswith(CASES)}
    new_pairs = {path.relative_to(staged) for folder in PAIR_FOLDERS.values() for path in staged.glob(f"{folder}/*")}
    for pair in sorted(old_pairs - new_pairs):
        shutil.rmtree(out / pair, ignore_errors=True)
    for folder in (*sorted(new_pairs), Path(CASES) / patient_id):
        _replace(staged / folder, out / folder, aside=staged / "replaced")
    shutil.rmtree(staged, ignore_errors=True)


def rescue(left: Path, out: Path, names: Iterable[str], *, before: Callable[[], None] = lambda: None) -> list[str]:
    """Publish what a run that died had staged whole; returns the cases.

    A case that is published already is left alone; so is one of which anything is missing or changed, unless it is in
    its place already: publishing may have been what was interrupted.

    Args:
        left: The staging folder of the dead run.
        out: The dataset, locked.
        names: Cases that may be published.
        before: Called before each is.
    """
    rescued = []
    wanted = set(names)
    for vouching in sorted(left.rglob(f"{CASES}/*/{META}")):
        name, staged = vouching.parent.name, vouching.parents[2]
        meta = read_meta(staged, name)
        if name not in wanted or meta is None or read_meta(out, name) is not None:
            continue
        if not set(damage(staged, meta)) & set(damage(out, meta)):
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
