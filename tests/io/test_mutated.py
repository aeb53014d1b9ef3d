"""Mutated files are refused with a code or read: never a crash, a hang or more memory than a case may have.

DICOM and plain NIfTI have no checksums, so a mutant that is a sound file of other values is read as what it says,
unless the cohort is sealed.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dicom_samples import body_hu, hip_image, write_ct, write_dx

from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.dataset.commit import hash_input
from bmdkit.dataset.input_checksums import InputChecksums
from bmdkit.errors import CaseError
from bmdkit.io.ct import read_ct
from bmdkit.io.volumes import write_volume
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.jobs.processes import RunnerConfig, run_jobs

KINDS = ("ct", "xray", "nii", "nii.gz")
MANY = 1250
FEW = 40
BATCH = 250
MEMORY_GB = 3.0
LONGEST_S = 30.0
SAID = {
    "refused": "refused with a code",
    "same": "read, and the same",
    "pixels": "read without a seal with other pixels",
    "geometry": "read without a seal with another geometry",
    "unnoticed": "read with a seal and not the same",
}


def mutate(whole: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits, cut off, overwrite, insert, remove or repeat; mostly in the header, where it hurts."""
    data = bytearray(whole)
    reach = min(len(data), 1500) if rng.random() < 0.8 else len(data)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(min(reach, len(data))))
        match int(rng.integers(6)):
            case 0:
                data[place] ^= 1 << int(rng.integers(8))
            case 1:
                data[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xfe\xff\xff\x7f"])
            case 2:
                data[place : place + 2] = rng.bytes(2)
            case 3:
                data[place:place] = rng.bytes(int(rng.integers(1, 9)))
            case 4:
                del data[place : place + int(rng.integers(1, 9))]
            case _:
                data = data[: max(place, 1)]
        if not data:
            return b"0"
    return bytes(data)


def read_all(kind: str, folder: Path, seed: int, count: int) -> Counter[str]:
    """In a child: so many mutants of one file of a sealed cohort, and what becomes of each.

    Counts those `refused`; those read with the `same` values, with other `pixels`, or with another `geometry`; and,
    of the latter two, those that are `unnoticed` by the seal.
    """
    rng = np.random.default_rng([seed, *kind.encode()])
    folder.mkdir(parents=True)
    target = source = folder / f"volume.{kind}"
    if kind == "ct":
        source = write_ct(folder / "ct", body_hu())
        target, read = source / "a_0005.dcm", lambda: read_ct(source).volume
    elif kind == "xray":
        target = source = write_dx(folder / "x.dcm", hip_image())
        read = lambda: read_radiograph(target, config=XrayConfig())  # noqa: E731
    else:
        write_volume(target, Volume(body_hu(), Grid((12, 40, 48), (2, 2.5, 3), (0, 0, 0), np.eye(3)), "hu"))
        read = lambda: read_ct(target).volume  # noqa: E731
    whole = target.read_bytes()
    pixels, geometry = facts(read())
    sealed: dict[Path, str] = {}
    hash_input(source, sealed)
    seal = InputChecksums(folder, {file.relative_to(folder).as_posix(): value for file, value in sealed.items()})
    seen: Counter[str] = Counter()
    for number in range(count):
        target.write_bytes(mutate(whole, rng))
        start = time.process_time()  # of the processor: a busy machine is no hang
        try:
            found = facts(read())
        except CaseError:
            seen["refused"] += 1
        else:
            moved, other = not np.array_equal(found[1], geometry), not np.array_equal(found[0], pixels)
            seen["geometry" if moved else "pixels" if other else "same"] += 1
            now: dict[Path, str] = {}
            hash_input(source, now)
            seen["unnoticed"] += (moved or other) and not seal.find_changes({"input": source}, now)
        assert time.process_time() - start < LONGEST_S, number
    return seen


def facts(image) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, and all that says where they lie."""
    if isinstance(image, Volume):
        return image.array, image.grid.lps_from_ijk
    distances = (image.sdd_mm, image.row_spacing_mm, image.column_spacing_mm)
    return image.pixels, np.array([np.nan_to_num(v if v is not None else -1.0) for v in distances])


def mutants(kind: str, folder: Path, count: int) -> Counter[str]:
    """What becomes of so many, read in children under the caps of a case."""
    config = RunnerConfig(timeout_s=1200.0, memory_gb=MEMORY_GB)
    jobs = [(f"{n}", (kind, folder / f"{n}", n, min(BATCH, count - n))) for n in range(0, count, BATCH)]
    seen: Counter[str] = Counter()
    for outcome in run_jobs(read_all, jobs, config):
        assert outcome.code is None, (outcome.code, outcome.reason, outcome.detail)
        seen += outcome.value
    assert sum(seen[name] for name in ("refused", "same", "pixels", "geometry")) == count
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_some_mutants_are_refused_or_read_and_the_seal_notices(tmp_path, kind):
    seen = mutants(kind, tmp_path, FEW)
    assert seen["refused"] > FEW // 10
    assert seen["unnoticed"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mutants_are_refused_or_read_and_the_parent_lives(tmp_path, kind, figure):
    seen = mutants(kind, tmp_path, MANY)
    for name in ("refused", "same", "pixels", "geometry", "unnoticed"):
        figure(f"mutants of {kind}: {SAID[name]}", seen[name])
    figure(f"mutants of {kind}", MANY)
    assert seen["refused"] > MANY // 10
    assert seen["unnoticed"] == 0
    if kind == "nii.gz":
        assert seen["pixels"] + seen["geometry"] == 0  # its own checksum tells
