"""The pre-flight of a machine: what cannot be had is told before anything is started, and nothing is created."""

import os

import pytest

from bmdkit.core import device
from bmdkit.errors import PreflightError
from bmdkit.jobs import machine
from bmdkit.jobs.machine import MachineNeeds, Package, check_machine


def code_of(needs: MachineNeeds) -> str:
    with pytest.raises(PreflightError) as told:
        check_machine(needs)
    assert told.value.exit_code == 4
    return told.value.code


@pytest.fixture
def one_gpu(monkeypatch):
    """A machine with one GPU that has 2.5 GB of free memory."""
    monkeypatch.setattr(device, "count_gpus", lambda: 1)
    monkeypatch.setattr(device, "find_spec", lambda name: name)
    monkeypatch.setattr(machine, "free_gpu_memory_gb", lambda name: None if name == "cpu" else 2.5)


@pytest.mark.usefixtures("one_gpu")
def test_the_device_that_was_found_is_given_back():
    assert check_machine(MachineNeeds("auto", renders=True)) == "cuda"
    assert check_machine(MachineNeeds("cpu")) == "cpu"
    assert code_of(MachineNeeds("cuda:1")) == "BMD-TRN-010"


@pytest.mark.usefixtures("one_gpu")
def test_every_process_has_to_find_memory_on_the_gpu():
    assert check_machine(MachineNeeds("cuda", n_jobs=2)) == "cuda"
    assert code_of(MachineNeeds("cuda", n_jobs=3)) == "BMD-RUN-040"
    assert check_machine(MachineNeeds("cpu", n_jobs=300)) == "cpu"


def test_a_package_that_is_missing_is_told_with_its_own_code():
    there, absent = (Package(name, "BMD-RUN-038", "it is not installed.") for name in ("json", "no_such_package"))
    assert check_machine(MachineNeeds(packages=(there,))) == "cpu"
    assert code_of(MachineNeeds(packages=(there, absent))) == "BMD-RUN-038"


def test_an_output_that_can_be_made_is_not_made_yet(tmp_path):
    check_machine(MachineNeeds(out=tmp_path / "a" / "b", disk_bytes=1000))
    check_machine(MachineNeeds(out=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    assert code_of(MachineNeeds(out=tmp_path / "file")) == "BMD-RUN-030"
    assert code_of(MachineNeeds(out=tmp_path / "file" / "below")) == "BMD-RUN-030"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert code_of(MachineNeeds(out=tmp_path / "new")) == "BMD-RUN-030"


def test_a_disk_without_room_is_told(tmp_path):
    assert code_of(MachineNeeds(out=tmp_path / "new", disk_bytes=10**18)) == "BMD-RUN-031"


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"n_jobs": 0}, {"disk_bytes": -1}])
def test_needs_check_themselves(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MachineNeeds(**wrong)
