"""Mutated files are refused with a code or read: never a crash, a hang or more memory than a case may have.

DICOM and plain NIfTI have no checksums, so a mutant that is a sound file of other values is read as what it says.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from dicom_samples import body_hu, hip_image, write_ct, write_dx

from bmdkit.core.volume import Grid, Volume
from bmdkit.dataset.runner import RunnerConfig, run_jobs
from bmdkit.errors import CaseError
from bmdkit.io.ct import read_ct
from bmdkit.io.volumes import write_volume
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig

MANY = 400
MEMORY_GB = 3.0
LONGEST_S = 30.0


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


def read_all(kind: str, folder: Path, seed: int, count: int) -> dict[str, int]:
    """In a child: so many mutants of one file; counts those refused, and those read as the original or otherwise."""
    rng = np.random.default_rng(seed)
    target = folder / "volume.nii.gz"
    if kind == "ct":
        write_ct(folder / "ct", body_hu())
        target, read = folder / "ct" / "a_0005.dcm", lambda: read_ct(folder / "ct").volume
    elif kind == "xray":
        target = write_dx(folder / "x.dcm", hip_image())
        read = lambda: read_radiograph(target, config=XrayConfig())  # noqa: E731
    else:
        target = folder / f"volume.{kind}"
        write_volume(target, Volume(body_hu(), Grid((12, 40, 48), (2, 2.5, 3), (0, 0, 0), np.eye(3)), "hu"))
        read = lambda: read_ct(target).volume  # noqa: E731
    whole = target.read_bytes()
    before = facts(read())
    seen = {"refused": 0, "same": 0, "other": 0}
    for number in range(count):
        target.write_bytes(mutate(whole, rng))
        start = time.monotonic()
        try:
            after = facts(read())
            seen["same" if all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)) else "other"] += 1
        except CaseError:
            seen["refused"] += 1
        assert time.monotonic() - start < LONGEST_S, number
    return seen


def facts(image) -> tuple[np.ndarray, ...]:
    """Pixels and all that says where they lie."""
    if isinstance(image, Volume):
        return image.array, image.grid.lps_from_ijk
    distances = (image.sdd_mm, image.row_spacing_mm, image.column_spacing_mm)
    return image.pixels, np.array([np.nan_to_num(v if v is not None else -1.0) for v in distances])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ct", "xray", "nii", "nii.gz"])
def test_mutants_are_refused_or_read_and_the_parent_lives(tmp_path, kind):
    config = RunnerConfig(timeout_s=300.0, memory_gb=MEMORY_GB)
    (outcome,) = run_jobs(read_all, [(kind, (kind, tmp_path, 17, MANY))], config)
    assert outcome.code is None, (outcome.code, outcome.reason, outcome.detail)
    assert sum(outcome.value.values()) == MANY
    assert outcome.value["refused"] > MANY // 10
    if kind == "nii.gz":
        assert outcome.value["other"] == 0  # its checksum tells
