"""cohort.csv: every problem of every row at once, and the same cases whatever the order of rows."""

import numpy as np
import pytest

from bmdkit.errors import PreflightError
from bmdkit.io.cohort import check_cohort, make_pseudonym, read_cohort, write_keys

HEADER = "patient_id,ct,xray,side,pose,dxa_bmd,sex"
GOOD = ["p1,ct/p1,x/p1.dcm,L,standing,0.9,F", "p1,ct/p1,x/p1.dcm,R,standing,,F", "p2,ct/p2,x/p2.dcm,R,,1.1,M"]


@pytest.fixture
def folder(tmp_path):
    for name in ("p1", "p2", "p3"):
        (tmp_path / "ct" / name).mkdir(parents=True)
        (tmp_path / "ct" / name / "0.dcm").write_text("x")
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / f"{name}.dcm").write_text("x")
    return tmp_path


def table(folder, rows, header=HEADER, encoding="utf-8"):
    (folder / "cohort.csv").write_bytes(("\n".join([header, *rows]) + "\n").encode(encoding))
    return folder


def found(folder, rows, **options):
    return [(p.line, p.column, p.code) for p in check_cohort(table(folder, rows, **options))]


def test_a_sound_table(folder):
    cohort = read_cohort(table(folder, GOOD))
    assert [c.patient_id for c in cohort.cases] == ["p1", "p2"]
    first = cohort.cases[0]
    assert first.sides == ("L", "R")
    assert first.xrays == (folder / "x" / "p1.dcm",)
    assert first.rows[0].dxa_bmd_g_cm2 == pytest.approx(0.9)
    assert first.rows[1].dxa_bmd_g_cm2 is None
    assert cohort.cases[1].rows[0].pose == "unknown"
    assert cohort.carried == ("sex",)
    assert first.rows[0].carried == {"sex": "F"}


def test_the_order_of_rows_does_not_matter(folder):
    def cases(rows):
        return [[(r.patient_id, r.xray, r.side) for r in c.rows] for c in read_cohort(table(folder, rows)).cases]

    assert cases(GOOD) == cases(GOOD[::-1])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_byte_order_mark_and_line_endings(folder, encoding, ending):
    (folder / "cohort.csv").write_bytes(ending.join([HEADER, *GOOD, "", " , ,,,,,"]).encode(encoding))
    assert check_cohort(folder) == []


BAD_ROWS = {
    "duplicate row": (GOOD[0], [(3, "", "BMD-COH-010")]),
    "missing CT": ("p2,ct/none,x/p2.dcm,L,,,", [(3, "ct", "BMD-COH-006")]),
    "missing radiograph": ("p2,ct/p2,x/none.dcm,L,,,", [(3, "xray", "BMD-COH-006")]),
    "folder for a file": ("p2,ct/p2,x,L,,,", [(3, "xray", "BMD-COH-006")]),
    "path with NUL": ("p2,ct/p2,x/p\0.dcm,L,,,", [(3, "xray", "BMD-COH-006")]),
    "empty path": ("p2,,x/p2.dcm,L,,,", [(3, "ct", "BMD-COH-005")]),
    "empty id": (",ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-005")]),
    "empty side": ("p2,ct/p2,x/p2.dcm,,,,", [(3, "side", "BMD-COH-005")]),
    "unknown side": ("p2,ct/p2,x/p2.dcm,left,,,", [(3, "side", "BMD-COH-007")]),
    "both sides": ("p2,ct/p2,x/p2.dcm,LR,,,", [(3, "side", "BMD-COH-007")]),
    "lower-case side": ("p2,ct/p2,x/p2.dcm,l,,,", [(3, "side", "BMD-COH-007")]),
    "BMD a word": ("p2,ct/p2,x/p2.dcm,L,,high,", [(3, "dxa_bmd", "BMD-COH-008")]),
    "BMD with a comma": ('p2,ct/p2,x/p2.dcm,L,,"0,9",', [(3, "dxa_bmd", "BMD-COH-008")]),
    "BMD NaN": ("p2,ct/p2,x/p2.dcm,L,,nan,", [(3, "dxa_bmd", "BMD-COH-008")]),
    "BMD in mg": ("p2,ct/p2,x/p2.dcm,L,,900,", [(3, "dxa_bmd", "BMD-COH-008")]),
    "BMD negative": ("p2,ct/p2,x/p2.dcm,L,,-1,", [(3, "dxa_bmd", "BMD-COH-008")]),
    "id climbs": ("../p2,ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-009")]),
    "id with NUL": ("p\0,ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-009")]),
    "id of 300": (f"{'a' * 300},ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-009")]),
    "id of 65": (f"{'a' * 65},ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-009")]),
    "id with markup": ("<b>p</b>,ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-009")]),
    "id with blank": ("p 2,ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-009")]),
    "id of other letters": ("pé,ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-009")]),
    "id with a dot": ("..,ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-009")]),
    "case clash": ("P1,ct/p2,x/p2.dcm,L,,,", [(3, "patient_id", "BMD-COH-011")]),
    "two CTs of one patient": ("p1,ct/p2,x/p2.dcm,L,,,", [(3, "ct", "BMD-COH-012")]),
    "one CT of two patients": ("p2,ct/p1,x/p2.dcm,L,,,", [(3, "ct", "BMD-COH-013")]),
    "one radiograph of two patients": ("p2,ct/p2,x/p1.dcm,L,,,", [(3, "xray", "BMD-COH-013")]),
    "too many cells": ("p2,ct/p2,x/p2.dcm,L,,,F,more", [(3, "", "BMD-COH-004")]),
}


@pytest.mark.parametrize(("row", "expected"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_each_problem_is_named_by_line_and_column(folder, row, expected):
    assert found(folder, [GOOD[0], row, GOOD[1].replace("p1", "p3")]) == expected


def test_all_problems_of_all_rows_come_at_once(folder):
    rows = ["..,ct/p1,x/p1.dcm,L,,,", "p2,ct/none,x/none.dcm,X,,bad,", "p3,,x/p3.dcm,L,,,"]
    with pytest.raises(PreflightError) as caught:
        read_cohort(table(folder, rows))
    assert caught.value.exit_code == 4
    assert len(caught.value.problems) == 6
    for text in ("line 2", "line 3, ct", "line 3, xray", "line 3, side", "line 3, dxa_bmd", "line 4, ct"):
        assert text in str(caught.value)


TABLES = {
    "no table": (None, "BMD-COH-002"),
    "empty": (b"", "BMD-COH-002"),
    "header only": (HEADER.encode(), "BMD-COH-002"),
    "not UTF-8": (HEADER.encode() + b"\np\xe9,a,b,L,,,", "BMD-COH-002"),
    "UTF-16": (HEADER.encode("utf-16"), "BMD-COH-002"),
    "open quote": (HEADER.encode() + b'\n"p1,a,b', "BMD-COH-002"),
    "missing columns": (b"patient_id,ct\np1,ct/p1", "BMD-COH-003"),
    "semicolons": (b"patient_id;ct;xray;side\np1;ct/p1;x/p1.dcm;L", "BMD-COH-003"),
    "column twice": (b"patient_id,ct,xray,side,side\np1,ct/p1,x/p1.dcm,L,L", "BMD-COH-003"),
}


@pytest.mark.parametrize(("data", "code"), TABLES.values(), ids=TABLES)
def test_tables_that_cannot_be_used(folder, data, code):
    if data is not None:
        (folder / "cohort.csv").write_bytes(data)
    assert code in {p.code for p in check_cohort(folder)}
    with pytest.raises(PreflightError):
        read_cohort(folder)


NEAR_COLUMNS = {
    "landmarks": ("Landmarks", "landmark", "LANDMARK", "Land marks", "Markups", "landmarks_file", "key points"),
    "labels": ("Labels", "label", "Label Map", "labelmap", "segmentation", "Label_Path", "masks"),
    "dxa_bmd": ("DXA_BMD", "dxa", "Dxa Bmd", "DXA-BMD", "dxaBmd", "dexa", "aBMD"),
    "calibration": ("Calibration", "calibrations", "calib", "calibration_json"),
    "pose": ("Pose", "poses", "Posture", "patient position"),
    "fold": ("Fold", "folds", "cv_fold"),
    "patient_id": ("Patient ID", "PatientID", "patient-id", "patient_ids", "Subject ID", "case"),
    "ct": ("CT", "cts", "ct_path", "CT folder", "CT scan"),
    "xray": ("X-ray", "x_ray", "Xrays", "XRAY", "radiographs", "xray_file"),
    "side": ("Side", "sides", "Laterality", "hip side"),
}


def with_column(folder, name, known):
    """A sound table in which one column bears another name; a new column if there is none of the known name."""
    names = HEADER.split(",")
    header = [name if own == known else own for own in names] + ([] if known in names else [name])
    return table(folder, [row + ("" if known in names else ",") for row in GOOD], header=",".join(header))


@pytest.mark.parametrize(("known", "name"), [(known, name) for known, all_ in NEAR_COLUMNS.items() for name in all_])
def test_a_column_that_is_nearly_a_known_one_is_an_error(folder, known, name):
    with pytest.raises(PreflightError, match=f"did you mean {known}?") as caught:
        read_cohort(with_column(folder, name, known))
    assert caught.value.exit_code == 4
    assert [(p.line, p.column, p.code) for p in caught.value.problems] == [(1, name, "BMD-COH-014")]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "age",
            "bmi",
            "weight",
            "site",
            "size",
            "hospital",
            "t_score",
            "dxa_date",
            "dxa_bmc",
            "dxa_device",
            "ct_date",
        ),
        *(
            "ct_kvp",
            "patient_name",
            "patient_age",
            "labels_source",
            "study_id",
            "comment",
            "crowe_grade",
            "xray_device",
        ),
    ],
)
def test_other_columns_are_carried_without_a_word(folder, name):
    cohort = read_cohort(with_column(folder, name, "sex"))
    assert cohort.carried == (name,)
    assert cohort.warnings == ()
    assert cohort.cases[0].rows[0].carried == {name: "F"}


@pytest.mark.parametrize(("name", "beside"), [("bmd", "dxa_bmd"), ("patient", "patient_id"), ("position", "pose")])
def test_a_synonym_beside_the_known_column_is_another_value(folder, name, beside):
    assert beside in HEADER
    assert read_cohort(with_column(folder, name, "sex")).carried == (name,)


@pytest.mark.parametrize("name", ["Side", "DXA_BMD", "Patient ID"])
def test_the_same_name_in_other_letters_beside_the_known_column_is_an_error(folder, name):
    assert [p.code for p in check_cohort(with_column(folder, name, "sex"))] == ["BMD-COH-014"]


@pytest.mark.parametrize(
    ("name", "known"), [("lables", "labels"), ("landmrks", "landmarks"), ("calbration", "calibration")]
)
def test_a_typing_error_in_a_column_is_a_warning(folder, name, known):
    cohort = read_cohort(with_column(folder, name, "sex"))
    assert cohort.carried == (name,)
    assert [(p.code, p.is_warning) for p in cohort.warnings] == [("BMD-COH-014", True)]
    assert f"did you mean {known}?" in cohort.warnings[0].message


@pytest.mark.parametrize(
    ("word", "known"),
    [
        *(
            ("supin", "supine"),
            ("Supine", "supine"),
            ("stand", "standing"),
            ("Standing", "standing"),
        ),
        *(("upright", "standing"), ("abduct", "abduction"), ("adducted", "adduction"), ("aduction", "adduction")),
    ],
)
def test_a_pose_that_is_nearly_a_known_one_is_a_warning_and_is_carried(folder, word, known):
    rows = [f"p1,ct/p1,x/p1.dcm,L,{word},,", f"p2,ct/p2,x/p2.dcm,R,{word},,"]
    cohort = read_cohort(table(folder, rows))
    assert [row.pose for case in cohort.cases for row in case.rows] == [word, word]
    assert [(p.line, p.column, p.code, p.is_warning) for p in cohort.warnings] == [(2, "pose", "BMD-COH-015", True)]
    assert f"did you mean {known}?" in cohort.warnings[0].message


@pytest.mark.parametrize("word", ["supine", "unknown", "frog-leg", "prone", "seated", "lateral", "false profile"])
def test_any_other_word_is_a_pose_without_a_word(folder, word):
    cohort = read_cohort(table(folder, [f"p1,ct/p1,x/p1.dcm,L,{word},,"]))
    assert cohort.cases[0].rows[0].pose == word
    assert cohort.warnings == ()


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (r"ct\p2", "write paths with /, such as 'ct/p2'"),
        (r"C:\data\ct\p2", "path of Windows"),
        ("D:/data/ct/p2", "path of Windows"),
        ("none/" + "n" * 90 + ".dcm", "n" * 90 + ".dcm' does not exist"),
    ],
)
def test_a_path_that_cannot_be_found_is_named_whole_with_its_remedy(folder, cell, said):
    (problem,) = check_cohort(table(folder, [f"p2,{cell},x/p2.dcm,L,,,"]))
    assert (problem.column, problem.code) == ("ct", "BMD-COH-006")
    assert said in problem.message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (HEADER.encode("utf-16"), "UTF-16"),
        (HEADER.encode("utf-16-be"), "UTF-16"),
        (b"PK\x03\x04rest of a workbook", "spreadsheet"),
        (b"patient_id;ct;xray;side\np1;a;b;L", "semicolons"),
        (b"patient_id\tct\txray\tside\np1\ta\tb\tL", "tabs"),
        (HEADER.encode() + b"\np\xe9,a,b,L,,,", "line 2"),
    ],
)
def test_a_table_of_another_kind_names_the_remedy(folder, data, said):
    (folder / "cohort.csv").write_bytes(data)
    (problem,) = check_cohort(folder)
    assert said in problem.message
    assert "CSV, UTF-8, separated by commas" in problem.message


def test_a_workbook_beside_the_place_of_the_table_is_named(folder):
    (folder / "cohort.xlsx").write_bytes(b"PK")
    (problem,) = check_cohort(folder)
    assert "cohort.xlsx is there" in problem.message


def test_a_file_that_may_not_be_read_is_named_before_anything_is_started(folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path.suffix != ".dcm")  # the superuser may read all
    problems = check_cohort(table(folder, GOOD))
    assert {(problem.code, problem.column) for problem in problems} == {("BMD-COH-006", "xray")}
    assert all("may not be read" in problem.message for problem in problems)


def test_pseudonymise_takes_any_identifier_and_keeps_the_map_private(folder):
    rows = [f"../p1 {'x' * 300},ct/p1,x/p1.dcm,L,,,", "A1,ct/p2,x/p2.dcm,L,,,", "a1,ct/p3,x/p3.dcm,L,,,"]
    cohort = read_cohort(table(folder, rows), pseudonymise_key=b"k")
    assert all(c.patient_id.startswith("sub-") and len(c.patient_id) == 16 for c in cohort.cases)
    assert len(cohort.cases) == 3
    assert cohort.keys[make_pseudonym("A1", b"k")] == "A1"
    assert make_pseudonym("A1", b"k") != make_pseudonym("A1", b"other")
    write_keys(folder / "out.keys.csv", cohort)
    assert (folder / "out.keys.csv").stat().st_mode & 0o777 == 0o600
    assert f"{make_pseudonym('a1', b'k')},a1" in (folder / "out.keys.csv").read_text()


def test_dxa_values_are_numbers(folder):
    values = [row.dxa_bmd_g_cm2 for case in read_cohort(table(folder, GOOD)).cases for row in case.rows]
    assert [v for v in values if v is not None] == pytest.approx(np.array([0.9, 1.1]))
