"""The benchmark of a graphics card, at a tiny size without one: no mistake is left to be found there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_step_runs_without_a_card(tmp_path):
    pytest.importorskip("triton", reason="the kernels need triton; its interpreter needs no device")
    words = [sys.executable, ROOT / "benchmarks/gpu.py", "--dry-run", "--minutes", "60"]
    words += ["--work", tmp_path / "work", "--json", tmp_path / "gpu.json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    machine = json.loads((tmp_path / "gpu_machine.json").read_text())
    assert set(machine["steps"].values()) == {"finished"}
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["correctness.tests_passed"] >= 8
    assert found["correctness.tests_failed"] == found["correctness.tests_skipped"] == 0
    assert found["registration.largest_difference_mm"] == 0  # both ran on the processor
    assert {name.partition(".")[0] for name in found} == set(machine["steps"])
