"""Disks fill, bits flip: nothing wrong is published, and all is found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_stages import make_cases
from quick_builds import simulate
from test_cohort_build import build, tree

from bmdkit.dataset import integrity
from bmdkit.dataset.case_meta import find_damage, read_meta
from bmdkit.dataset.layout import CASES
from bmdkit.dataset.samples import read_images, read_pairs
from bmdkit.errors import DiskFullError, PreflightError

DISKS = 20
FLIPS = 1000

pytestmark = pytest.mark.slow


def published(out: Path) -> int:
    """Whole cases of a dataset; asserts that no meta.json vouches for a file that is not as it says."""
    whole = 0
    for case in (out / CASES).glob("*"):
        meta = read_meta(out, case.name)
        if meta is not None:
            assert list(find_damage(out, meta)) == []
            whole += meta.status == "ok"
    return whole


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a tmpfs of so many kilobytes; skips where that is not allowed."""
    mounted = []

    def mount(kilobytes: int) -> Path:
        where = Path(tempfile.mkdtemp(dir=tmp_path))
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(where)], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip("no permission to mount a tmpfs")
        mounted.append(where)
        return where

    yield mount
    for where in mounted:
        subprocess.run(["umount", str(where)], check=False)


@pytest.mark.usefixtures("in_process")
def test_a_full_disk_publishes_nothing_cut_off_and_the_run_resumes(tmp_path, small_disk, monkeypatch, figure):
    monkeypatch.setattr("bmdkit.dataset.preflight.check_disk", lambda out, cases: 0)  # an estimate would stop it first
    cases = make_cases(tmp_path / "cohort", 6)
    build(cases, tmp_path / "whole")
    expected = tree(tmp_path / "whole")
    pages = sum(file.stat().st_blocks for file in (tmp_path / "whole").rglob("*") if file.is_file()) // 2
    stopped = 0
    for kilobytes in np.linspace(16, pages, DISKS).astype(int):
        out = small_disk(int(kilobytes)) / "out"
        try:
            build(cases, out)
        except (DiskFullError, PreflightError):  # the latter: no room for the folder itself
            stopped += 1
        published(out)
        for name, whole in expected.items():
            if (out / name).exists() and not name.startswith(("SHA256SUMS", "dataset.json", "manifest", "quarantine")):
                assert (out / name).read_bytes() == whole
        assert not (out / "SHA256SUMS").exists() or integrity.check_files(out) == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(out.parent)], check=True)
        assert build(cases, out).exit_code == 0
        assert tree(out) == expected
    figure("full disks", DISKS)
    figure("full disks: builds stopped with exit 6 or 4, and resumed to the same bytes", stopped)
    assert stopped >= DISKS // 2


def bmdkit(*words: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, started by another if wanted."""
    return subprocess.run(
        [*before, sys.executable, "-m", "bmdkit.cli.main", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.usefixtures("in_process")
def test_a_read_only_output_ends_a_build_at_once_and_can_be_looked_at(tmp_path, small_disk, figure):
    """A file system mounted read-only, empty or with a finished dataset; root's rights do not help there."""
    cases = make_cases(tmp_path / "cohort", 3)
    for already in (False, True):
        out = small_disk(65536) / "out"
        if already:
            build(cases, out)
        expected = tree(out) if already else {}
        subprocess.run(["mount", "-o", "remount,ro", str(out.parent)], check=True)
        with pytest.raises(PreflightError) as caught:
            build(cases, out)
        assert (caught.value.code, caught.value.exit_code) == ("BMD-RUN-030", 4)
        figure("read-only outputs: exit 4", 1)
        if already:
            assert tree(out) == expected
            assert integrity.check_files(out) == []
            for look in ("status", "fsck"):
                shown = bmdkit(look, str(out))
                assert shown.returncode == 0, shown.stderr


def test_an_output_and_an_input_without_permission_end_a_build_with_4(tmp_path, figure):
    powerless = ()
    if os.geteuid() == 0:  # root may write and read anything, unless that is taken away
        powerless = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
        if shutil.which("setpriv") is None:
            pytest.skip("root's rights cannot be dropped without setpriv")
    cohort = simulate(tmp_path / "cohort")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    refused = bmdkit("build-dataset", str(cohort), "--out", str(closed / "out"), "--no-report", before=powerless)
    assert refused.returncode == 4
    assert "BMD-RUN-030" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(closed.iterdir()) == []
    figure("read-only outputs: exit 4", 1)
    for unreadable in (next(cohort.rglob("*standing*.dcm")), cohort / "cohort.csv"):
        unreadable.chmod(0)
        refused = bmdkit("build-dataset", str(cohort), "--out", str(tmp_path / "out"), "--no-report", before=powerless)
        assert refused.returncode == 4, refused.stderr
        assert re.search("BMD-COH-00[26]", refused.stderr)
        assert "Traceback" not in refused.stderr
        assert not (tmp_path / "out" / CASES).exists()
        figure("unreadable inputs: exit 4", 1)
        unreadable.chmod(0o644)


def spoilt(whole: bytes, rng: np.random.Generator) -> tuple[bytes, bytes]:
    """The same with one bit flipped, and cut off somewhere."""
    flipped = bytearray(whole)
    flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
    return bytes(flipped), whole[: rng.integers(len(whole))]


@pytest.mark.usefixtures("in_process")
def test_every_flipped_bit_and_every_truncation_of_any_output_is_found(cases, tmp_path, figure):
    out = tmp_path / "out"
    build(cases, out)
    names = [*integrity.list_data_files(out), "SHA256SUMS"]
    rng = np.random.default_rng(3)
    figure("flipped bits and truncations of outputs", 2 * FLIPS)
    for _ in range(FLIPS):
        name = names[rng.integers(len(names))]
        whole = (out / name).read_bytes()
        for content in spoilt(whole, rng):
            (out / name).write_bytes(content)
            found = integrity.check_files(out)
            assert found, name
            figure("flipped bits and truncations of outputs found by fsck", 1)
            if name != "SHA256SUMS":
                assert found == [integrity.Finding("damaged", name)]
        (out / name).write_bytes(whole)
    assert integrity.check_files(out) == []


@pytest.mark.usefixtures("in_process")
def test_every_flipped_bit_and_every_truncation_of_what_is_learnt_from_is_found_by_the_loader(
    cases, tmp_path, figure, caplog
):
    """Images are refused; tables that somebody may have edited are named."""
    out = tmp_path / "out"
    build(cases, out)
    names = [name for name in integrity.list_data_files(out) if name.startswith("dataset_a/") and name.endswith(".tif")]
    names += ["manifest.csv", "dataset.json"]
    rng = np.random.default_rng(4)
    assert loads(out, caplog)
    figure("flipped bits and truncations of what is learnt from", 2 * FLIPS)
    for _ in range(FLIPS):
        name = names[rng.integers(len(names))]
        whole = (out / name).read_bytes()
        for content in spoilt(whole, rng):
            (out / name).write_bytes(content)
            assert not loads(out, caplog), name
            figure("flipped bits and truncations found by the loader", 1)
        (out / name).write_bytes(whole)
    assert loads(out, caplog)


def loads(out: Path, caplog) -> bool:
    """Whether all pairs of dataset A can be read and nothing is said of them."""
    caplog.clear()
    try:
        for pair in read_pairs(out, "A"):
            read_images(pair)
    except PreflightError:
        return False
    return not caplog.messages
