"""`bmdkit report`."""

import pytest
from click.testing import CliRunner

from bmdkit.cli.main import group, main
from bmdkit.dataset.integrity import check_files, write_sums
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
    assert check_files(built) == []


@pytest.mark.parametrize("command", ["report", "status", "fsck"])
def test_every_command_says_the_same_of_a_folder_that_is_no_dataset(tmp_path, command, capsys):
    (tmp_path / "holiday.jpg").write_bytes(b"0")
    with pytest.raises(SystemExit) as ended:
        main([command, str(tmp_path)])
    assert ended.value.code == 4
    assert capsys.readouterr().err.startswith(f"BMD-RUN-035: {tmp_path.name}: ")
