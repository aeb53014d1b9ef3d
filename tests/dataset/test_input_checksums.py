"""A sealed cohort: whatever changes in a file that the table names is noticed, whatever its format."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_stages import build_fake, make_cases

from bmdkit.cli.main import group
from bmdkit.dataset.cohort_build import RunOptions, build_cases
from bmdkit.dataset.input_checksums import check_input_checksums, read_input_checksums, write_input_checksums
from bmdkit.dataset.integrity import Finding
from bmdkit.errors import PreflightError
from bmdkit.io.cohort import read_cohort


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Three patients; the labels of p00 are a folder, the radiograph of p01 has a side-car."""
    root = tmp_path / "cohort"
    cases = make_cases(root, 3)
    rows = [
        {
            "patient_id": row.patient_id,
            "ct": row.ct.name,
            "xray": row.xray.name,
            "side": row.side,
            "dxa_bmd": "0.7",
            "labels": "",
        }
        for case in cases
        for row in case.rows
    ]
    (root / "masks").mkdir()
    for number in range(4):
        (root / "masks" / f"{number}.nii").write_text(f"mask {number}")
    for row in rows[:2]:
        row["labels"] = "masks"
    (root / "p01_standing.json").write_text("{}")
    with (root / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def cases_of(root: Path):
    return read_cohort(root).cases


def fsck(*words) -> tuple[int, str]:
    result = CliRunner().invoke(group, ["fsck", *map(str, words)])
    return getattr(result.exception, "exit_code", result.exit_code), result.output


def flip(path: Path) -> bytes:
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    return whole


def test_the_command_seals_and_names_what_has_changed(cohort):
    assert fsck(cohort)[0] == 4  # not sealed
    code, text = fsck("--seal", cohort)
    assert (code, text) == (0, "12 files, sealed\n")
    assert fsck(cohort) == (0, "12 files, all as they were written\n")
    flip(cohort / "masks" / "2.nii")
    (cohort / "p01_standing.json").unlink()
    (cohort / "masks" / "4.nii").write_text("one more")
    code, text = fsck(cohort)
    assert code == 3
    assert set(text.splitlines()[:3]) == {
        "damaged  masks/2.nii",
        "missing  p01_standing.json",
        "extra  masks/4.nii",
    }


def test_sealing_again_takes_what_is_new_and_no_damage(cohort):
    assert write_input_checksums(cohort, cases_of(cohort)) == []
    table = (cohort / "cohort.csv").read_text()
    (cohort / "cohort.csv").write_text(table.replace("0.7", "0.8", 1))
    (cohort / "masks" / "4.nii").write_text("one more")
    assert write_input_checksums(cohort, cases_of(cohort)) == []
    assert check_input_checksums(cohort, cases_of(cohort)) == []
    before = (cohort / "SHA256SUMS").read_bytes()
    flip(cohort / "p02.nii")
    (cohort / "masks" / "4.nii").unlink()
    found = [Finding("missing", "masks/4.nii"), Finding("damaged", "p02.nii")]
    assert write_input_checksums(cohort, cases_of(cohort)) == found
    assert (cohort / "SHA256SUMS").read_bytes() == before
    assert write_input_checksums(cohort, cases_of(cohort), overwrite=True) == []
    assert check_input_checksums(cohort, cases_of(cohort)) == []


@pytest.mark.usefixtures("in_process")
def test_damaged_cases_are_quarantined_and_the_rest_is_what_it_is_without_a_seal(cohort, tmp_path):
    out = tmp_path / "out"

    def build():
        options = RunOptions()
        made = build_cases(
            cases_of(cohort), out, None, options, checksums=read_input_checksums(cohort), build_one=build_fake
        )
        return {
            report.patient_id: (report.reused, frozenset((c, r) for _, c, r in report.problems))
            for report in made.reports
        }

    assert set(build().values()) == {(False, frozenset())}
    write_input_checksums(cohort, cases_of(cohort))
    assert set(build().values()) == {(True, frozenset())}  # a seal that is kept changes nothing
    whole = flip(cohort / "masks" / "2.nii")
    (cohort / "masks" / "3.nii").rename(cohort / "kept")
    reason = "labels: 1 not as sealed (2.nii), 1 gone."
    fine, broken = frozenset(), frozenset({("BMD-SUM-001", reason)})
    assert build() == {"p00": (False, broken), "p01": (True, fine), "p02": (True, fine)}
    assert build()["p00"] == (True, broken)
    (cohort / "masks" / "2.nii").write_bytes(whole)
    (cohort / "kept").rename(cohort / "masks" / "3.nii")
    assert build()["p00"] == (False, fine)


def test_a_changed_table_or_seal_stops_everything(cohort):
    assert read_input_checksums(cohort) is None
    write_input_checksums(cohort, cases_of(cohort))
    for name in ("cohort.csv", "SHA256SUMS"):
        whole = (cohort / name).read_bytes()
        (cohort / name).write_bytes(whole.replace(b"0.7", b"0.9") if name == "cohort.csv" else whole[:-1])
        with pytest.raises(PreflightError) as caught:
            read_input_checksums(cohort)
        assert (caught.value.code, caught.value.exit_code) == ("BMD-SUM-003", 4)
        (cohort / name).write_bytes(whole)


def test_a_case_is_told_no_more_of_the_seal_than_is_about_its_files(cohort):
    write_input_checksums(cohort, cases_of(cohort))
    checksums = read_input_checksums(cohort)
    first, second, _ = cases_of(cohort)
    assert set(checksums.select_case(first).sums) == {
        *(f"masks/{n}.nii" for n in range(4)),
        "p00.nii",
        "p00_standing.dcm",
    }
    assert set(checksums.select_case(second).sums) == {"p01.nii", "p01_standing.dcm", "p01_standing.json"}


def test_files_outside_of_the_folder_are_sealed_too(cohort, tmp_path):
    shutil.move(cohort / "p02.nii", tmp_path / "p02.nii")
    table = cohort / "cohort.csv"
    table.write_text(table.read_text().replace("p02.nii", "../p02.nii"))
    write_input_checksums(cohort, cases_of(cohort))
    assert "../p02.nii" in read_input_checksums(cohort).select_case(cases_of(cohort)[2]).sums
    flip(tmp_path / "p02.nii")
    assert check_input_checksums(cohort, cases_of(cohort)) == [Finding("damaged", "../p02.nii")]
