"""`bmdkit validate`: problems by their kind and exit code 4, or one line and 0."""

import json

import pytest
from click.testing import CliRunner
from dicom_samples import body_hu, hip_image, write_ct, write_dx

from bmdkit.cli.validate import command


@pytest.fixture
def cohort(tmp_path):
    write_ct(tmp_path / "ct", body_hu())
    write_dx(tmp_path / "x.dcm", hip_image())
    (tmp_path / "cohort.csv").write_text("patient_id,ct,xray,side\np1,ct,x.dcm,L\n")
    return tmp_path


def run(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(command, [str(a) for a in arguments])


def test_sound(cohort):
    result = run(cohort)
    assert result.exit_code == 0
    assert "1 patients, 1 radiographs" in result.output


def test_every_problem_with_its_remedy_and_markup_escaped(cohort):
    (cohort / "cohort.csv").write_text("patient_id,ct,xray,side\n[red]p1,none,x.dcm,Q\n")
    result = run(cohort)
    assert result.exit_code == 4
    for text in ("BMD-COH-009", "[red]p1", "BMD-COH-006", "BMD-COH-007", "L or R"):
        assert text in result.output


def test_images_are_looked_at_unless_told_not_to(cohort):
    (cohort / "ct" / "a_0004.dcm").unlink()
    assert run(cohort).exit_code == 4
    assert run(cohort, "--table-only").exit_code == 0


def test_recipe_decides_what_is_allowed(cohort):
    write_dx(cohort / "x.dcm", hip_image(), edit=lambda ds: delattr(ds, "DistanceSourceToDetector"))
    assert run(cohort).exit_code == 4
    (cohort / "r.yaml").write_text("xray: {default_sdd_mm: 1000}\n")
    assert run(cohort, "--recipe", cohort / "r.yaml").exit_code == 0
    (cohort / "r.yaml").write_text("xray: {default_sd: 1000}\n")
    assert run(cohort, "--recipe", cohort / "r.yaml").exit_code == 2


@pytest.mark.parametrize(
    ("header", "cells", "code"), [("verdict", "x,x", "BMD-RUN-032"), ("fold", "0,1", "BMD-RUN-033")]
)
def test_what_the_manifest_cannot_take_is_said_before_a_build(cohort, header, cells, code):
    rows = [f"p1,ct,x.dcm,{side},{cell}\n" for side, cell in zip("LR", cells.split(","), strict=True)]
    (cohort / "cohort.csv").write_text(f"patient_id,ct,xray,side,{header}\n" + "".join(rows))
    result = run(cohort)
    assert result.exit_code == 4
    assert code in result.output


def test_problems_are_grouped_and_no_file_name_is_cut(cohort):
    names = [f"images/of/the/department/of/radiology/{n:03d}_" + "x" * 80 + ".dcm" for n in range(200)]
    rows = "".join(f"p{n},ct{n},{name},L\n" for n, name in enumerate(names))
    (cohort / "cohort.csv").write_text("patient_id,ct,xray,side\n" + rows)
    result = run(cohort)
    assert result.exit_code == 4
    lines = result.output.splitlines()
    assert lines[0].startswith("BMD-COH-006: 400 problems.")
    assert sum("Remedy:" in line for line in lines) == 1
    assert all(any(f"'{name}' does not exist" in line for line in lines) for name in names)


def test_the_same_words_of_several_lines_are_said_once(cohort):
    rows = "".join(f"p{n},ct,x.dcm,Q\n" for n in (1, 2, 3)) + "p4,none,x.dcm,L\n" + "p5,ct,x.dcm,Q\n"
    (cohort / "cohort.csv").write_text("patient_id,ct,xray,side\n" + rows)
    lines = run(cohort).output.splitlines()
    assert "  lines 2-4, 6, side: 'Q', expected L or R" in lines


def test_json_holds_every_problem(cohort):
    (cohort / "cohort.csv").write_text("patient_id,ct,xray,side,Labels,pose\np1,none,x.dcm,Q,,supin\n")
    result = run(cohort, "--json", cohort / "found.json")
    assert result.exit_code == 4
    found = json.loads((cohort / "found.json").read_text())
    assert not found["is_sound"]
    assert (found["errors"], found["warnings"]) == (3, 1)
    assert [(p["line"], p["column"], p["code"]) for p in found["problems"]] == [
        (1, "Labels", "BMD-COH-014"),
        (2, "ct", "BMD-COH-006"),
        (2, "side", "BMD-COH-007"),
        (2, "pose", "BMD-COH-015"),
    ]
    assert all(p["remedy"] and p["message"] for p in found["problems"])


def test_json_of_a_sound_cohort(cohort):
    assert run(cohort, "--json", cohort / "found.json").exit_code == 0
    found = json.loads((cohort / "found.json").read_text())
    assert (found["is_sound"], found["patients"], found["radiographs"], found["problems"]) == (True, 1, 1, [])


def test_a_warning_alone_leaves_the_cohort_sound(cohort):
    (cohort / "cohort.csv").write_text("patient_id,ct,xray,side,pose\np1,ct,x.dcm,L,Standing\n")
    result = run(cohort)
    assert result.exit_code == 0
    assert "BMD-COH-015: 1 warning." in result.output
    assert "did you mean standing?" in result.output


def test_what_a_terminal_would_obey_is_escaped(cohort):
    (cohort / "cohort.csv").write_text("patient_id,ct,xray,side\np1,\x1b[31mct,x.dcm,L\n")
    result = run(cohort)
    assert "\x1b" not in result.output
    assert "\\x1b[31mct" in result.output
