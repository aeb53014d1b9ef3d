"""`bmdkit doctor` knows every package that the installation asks for, and says what is missing and how to get it."""

import configparser
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bmdkit.cli import doctor
from bmdkit.cli.main import group

SETUP = Path(__file__).parents[2] / "setup.cfg"


def read_requirements(section: str, option: str) -> set[str]:
    """Names of the distributions of a list in setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(SETUP, encoding="utf-8")
    return {re.split(r"[\[<>=!~; ]", line)[0] for line in parser[section][option].split("\n") if line}


@pytest.fixture
def without_highdicom_and_dask(monkeypatch):
    real = doctor._find_version
    missing = {"highdicom", "distributed"}
    monkeypatch.setattr(doctor, "_find_version", lambda name, module: None if name in missing else real(name, module))


def test_every_requirement_is_looked_for():
    assert set(doctor.NEEDED) == read_requirements("options", "install_requires")


@pytest.mark.parametrize(
    "part", [part for part in doctor.OPTIONAL if "bmdkit[" in part.install], ids=lambda p: p.purpose
)
def test_an_optional_part_needs_what_its_extra_brings(part):
    extra = re.search(r"bmdkit\[(\w+)\]", part.install)[1]
    assert {name for name, _ in part.packages} == read_requirements("options.extras_require", extra)


def test_what_is_missing_is_named_with_the_command_that_installs_it(without_highdicom_and_dask):
    told = CliRunner().invoke(group, ["doctor"])
    assert told.exit_code == 4
    assert "pip install highdicom" in told.output
    assert "builds on a cluster: distributed not installed (pip install 'bmdkit[dask]')" in told.output


def test_a_whole_installation_ends_with_status_0():
    told = CliRunner().invoke(group, ["doctor"])
    assert told.exit_code == 0, told.output
    assert "All that is needed is there." in told.output


def test_json_says_the_same(without_highdicom_and_dask):
    told = CliRunner().invoke(group, ["doctor", "--json"])
    found = json.loads(told.output.partition("\nInstall what")[0])
    assert told.exit_code == 4
    assert found["missing"] == ["highdicom"]
    parts = {part["purpose"]: part for part in found["optional"]}
    assert parts["builds on a cluster"]["install"] == "pip install 'bmdkit[dask]'"
    assert found["processors"] >= 1
    assert found["disk_free_gb"] > 0


def test_a_driver_without_a_cuda_build_is_told(monkeypatch):
    import torch

    monkeypatch.setattr(doctor, "_find_driver", lambda: "550.54")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    told = CliRunner().invoke(group, ["doctor"])
    assert "driver 550.54" in told.output
    assert "CPU build of PyTorch" in told.output
