"""A table of hips of known DXA-BMD: what is read, and every problem of every row."""

from __future__ import annotations

from pathlib import Path

import pytest

from bmdkit.io.known_hips import read_known_hips
from bmdkit.io.table_check import TableError

HEADER = "patient_id,xray,side,dxa_bmd\n"


def write_table(folder: Path, text: str) -> Path:
    """A table beside two radiographs, which are never opened."""
    for name in ("a.dcm", "b.dcm"):
        (folder / name).write_bytes(b"not read")
    path = folder / "dxa.csv"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(TableError) as caught:
        read_known_hips(path)
    return [str(problem) for problem in caught.value.problems]


def test_rows_are_read_as_they_stand(tmp_path):
    path = write_table(tmp_path, HEADER + "Mr. 7/12,a.dcm,L,0.91\nMr. 7/12,a.dcm,R,0.88\nq,b.dcm,R,\n")
    first, second = read_known_hips(path)
    assert (first.patient_id, first.xray, first.side, first.dxa_bmd_g_cm2, first.line) == (
        "Mr. 7/12",
        tmp_path / "a.dcm",
        "L",
        0.91,
        2,
    )
    assert (second.side, second.dxa_bmd_g_cm2) == ("R", 0.88)


def test_one_patient_in_two_spellings_is_no_two_patients(tmp_path):
    (told,) = problems_of(write_table(tmp_path, HEADER + "P1,a.dcm,L,0.9\np1,b.dcm,L,0.9\n"))
    assert told.startswith("BMD-COH-011: line 3, patient_id")


def test_the_table_of_a_cohort_is_one(sample_cohort):
    hips = read_known_hips(sample_cohort / "cohort.csv")
    assert [hip.side for hip in hips] == ["L", "R"]
    assert all(hip.xray.is_file() and 0.2 < hip.dxa_bmd_g_cm2 < 1.8 for hip in hips)


def test_every_problem_is_told_with_its_line(tmp_path):
    rows = ["p,a.dcm,left,0.9", "p,a.dcm,L,912", "p,c.dcm,L,0.9", ",b.dcm,L,0.9", "p,a.dcm,R,0.9", "p,a.dcm,R,0.8"]
    found = problems_of(write_table(tmp_path, HEADER + "\n".join([*rows, "q,a.dcm,L,0.7"])))
    assert [line.split(":")[0] + line.split(":")[1] for line in found] == [
        "BMD-COH-007 line 2, side",
        "BMD-COH-008 line 3, dxa_bmd",
        "BMD-COH-006 line 4, xray",
        "BMD-COH-005 line 5, patient_id",
        "BMD-COH-010 line 7",
        "BMD-COH-013 line 8, xray",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("patient_id,xray,side\np,a.dcm,L\n", "missing columns: dxa_bmd"),
        ("patient_id,xray,side,bmd\np,a.dcm,L,0.9\n", "did you mean dxa_bmd"),
        ("patient_id;xray;side;dxa_bmd\np;a.dcm;L;0,9\n", "separated by semicolons"),
        (HEADER + "p,a.dcm,L,\n", "dxa.csv: no row has a dxa_bmd"),
        ("", "dxa.csv: empty"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, text, told):
    assert told in "\n".join(problems_of(write_table(tmp_path, text)))


def test_columns_of_other_use_are_no_problem(tmp_path):
    """`mask` is nearly the column `labels` of a cohort, which means nothing here."""
    path = write_table(tmp_path, "patient_id,xray,side,dxa_bmd,mask,age\np,a.dcm,L,0.9,m.png,70\n")
    assert len(read_known_hips(path)) == 1
