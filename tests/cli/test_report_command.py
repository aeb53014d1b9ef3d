"""`bmdkit report`."""

import pytest
from click.testing import CliRunner

from bmdkit.cli.main import group
from bmdkit.dataset.integrity import check, write_sums
from bmdkit.io.results import sha256_of, write_csv


@pytest.fixture
def built(tmp_path):
    """A dataset of one pair that was left out, sealed."""
    row = {"pair_id": "p1__standing__L", "dataset": "B", "patient_id": "p1", "side": "L", "pose": "standing"}
    row |= {"status": "quarantined", "code": "BMD-CAL-001", "reason": "no rods"}
    write_csv(tmp_path / "manifest.csv", [row], list(row))
    write_sums(tmp_path, {"manifest.csv": sha256_of(tmp_path / "manifest.csv")})
    return tmp_path


def test_it_names_the_index_and_keeps_the_checksums_whole(built):
    result = CliRunner().invoke(group, ["report", str(built), "-q"])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(built / "report" / "index.html")
    assert (built / "report" / "p1.html").exists()
    assert check(built) == []


def test_a_folder_that_is_no_dataset_is_a_usage_error(tmp_path):
    result = CliRunner().invoke(group, ["report", str(tmp_path), "-q"])
    assert result.exit_code == 2
    assert "not a built dataset" in result.output
