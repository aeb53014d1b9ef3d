"""Builds are killed, disks fill, bits flip: nothing is lost, nothing wrong is published, all is found."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from fake_stages import make_cases
from test_campaign import build, tree

from bmdkit.dataset import integrity
from bmdkit.dataset.commit import CASES, damage, read_meta
from bmdkit.errors import DiskFullError, PreflightError

HERE = Path(__file__).parent
KILLS = 50
CASES_OF_A_BUILD = 6
DISKS = 20
FLIPS = 1000

RUN = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from fake_stages import build_fake, make_cases
from bmdkit.dataset.campaign import RunOptions, build_dataset
from bmdkit.dataset.runner import RunnerConfig

if __name__ == "__main__":
    root = Path(sys.argv[1])
    cases = make_cases(Path({cohort!r}), {count}, dict.fromkeys(range({count}), "slow0.1"))
    made = build_dataset(cases, root / "out", None, RunOptions(RunnerConfig(2)), build_one=build_fake)
    print(sum(not report.reused for report in made.reports))
"""

pytestmark = pytest.mark.slow


def start(script: Path, root: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(script), str(root)], stdout=subprocess.PIPE, text=True)


def published(out: Path) -> int:
    """Whole cases of a dataset; asserts that no meta.json vouches for a file that is not as it says."""
    whole = 0
    for case in (out / CASES).glob("*"):
        meta = read_meta(out, case.name)
        if meta is not None:
            assert list(damage(out, meta)) == []
            whole += meta["status"] == "ok"
    return whole


def kill(process: subprocess.Popen, who: str, rng: np.random.Generator) -> None:
    if who == "parent":
        process.kill()
        return
    children = [child for child in psutil.Process(process.pid).children() if "resource_tracker" not in _line(child)]
    if children:
        victim = children[rng.integers(len(children))]
        victim.send_signal(signal.SIGKILL)


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_killed_at_random_moments_nothing_is_lost(tmp_path):
    cohort, script = tmp_path / "cohort", tmp_path / "run.py"
    script.write_text(RUN.format(here=str(HERE), cohort=str(cohort), count=CASES_OF_A_BUILD))
    start_s = time.monotonic()
    assert start(script, tmp_path / "whole").wait() == 0
    lasts_s = time.monotonic() - start_s
    expected = tree(tmp_path / "whole" / "out")
    rng = np.random.default_rng(11)
    for number in range(KILLS):
        root = tmp_path / f"killed-{number}"
        who = ("parent", "worker")[number % 2]
        process = start(script, root)
        time.sleep(rng.uniform(0.2, 1.0) * lasts_s)
        if process.poll() is None:
            kill(process, who, rng)
        process.communicate()
        before = published(root / "out") if (root / "out" / CASES).exists() else 0
        again = start(script, root)
        rebuilt = int(again.communicate()[0])
        assert again.returncode == 0
        assert rebuilt == CASES_OF_A_BUILD - before
        assert tree(root / "out") == expected
        assert not (root / "out" / ".staging").exists()
        shutil.rmtree(root)


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
def test_a_full_disk_publishes_nothing_cut_off_and_the_run_resumes(tmp_path, small_disk, monkeypatch):
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
        assert not (out / "SHA256SUMS").exists() or integrity.check(out) == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(out.parent)], check=True)
        assert build(cases, out).exit_code == 0
        assert tree(out) == expected
    assert stopped >= DISKS // 2


@pytest.mark.usefixtures("in_process")
def test_every_flipped_bit_and_every_truncation_of_any_output_is_found(cases, tmp_path):
    out = tmp_path / "out"
    build(cases, out)
    names = [*integrity.data_files(out), "SHA256SUMS"]
    rng = np.random.default_rng(3)
    for _ in range(FLIPS):
        name = names[rng.integers(len(names))]
        whole = (out / name).read_bytes()
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        for content in (bytes(flipped), whole[: rng.integers(len(whole))]):
            (out / name).write_bytes(content)
            found = integrity.check(out)
            assert found, name
            if name != "SHA256SUMS":
                assert found == [integrity.Finding("damaged", name)]
        (out / name).write_bytes(whole)
    assert integrity.check(out) == []
