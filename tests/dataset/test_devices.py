"""The device of a build: told with each case, never a reason to make a finished case again, absent only before it."""

import pytest
from fake_stages import build_fake

from bmdkit.core import device
from bmdkit.dataset.case_meta import read_meta
from bmdkit.dataset.cohort_build import RunOptions, build_cases, plan_build
from bmdkit.errors import PreflightError
from bmdkit.jobs import machine

pytestmark = pytest.mark.usefixtures("in_process")


def build(cases, out, name: str):
    return build_cases(cases, out, options=RunOptions(device=name), build_one=build_fake)


def files(out) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def gpus(monkeypatch):
    """Sets how many GPUs the machine has."""
    monkeypatch.setattr(machine, "free_gpu_memory_gb", lambda name: None if name == "cpu" else 80.0)
    monkeypatch.setattr(device, "find_spec", lambda name: name)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    return lambda count: monkeypatch.setattr(device, "count_gpus", lambda: count)


@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "auto"), ("auto", "cuda:1")])
def test_a_finished_case_is_kept_whatever_the_device(cases, tmp_path, gpus, first, then):
    gpus(2)
    build(cases, tmp_path / "out", first)
    kinds = {"cuda": "cuda", "cpu": "cpu", "auto": "cuda"}
    assert read_meta(tmp_path / "out", "p01").device == kinds[first]
    again = build(cases, tmp_path / "out", then)
    assert all(report.reused for report in again.reports)
    assert read_meta(tmp_path / "out", "p01").device == kinds[first]


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_a_device_that_is_not_there_ends_a_build_before_it_starts(cases, tmp_path, gpus, name):
    gpus(0)
    out = tmp_path / "out"
    build(cases, out, "auto")
    before = files(out)
    for run in (build, lambda cases, out, name: plan_build(cases, out, RunOptions(device=name))):
        with pytest.raises(PreflightError) as told:
            run(cases, out, name)
        assert (told.value.code, told.value.exit_code) == ("BMD-DRR-001", 4)
    assert files(out) == before
