"""`bmdkit validate`: a table of problems and exit code 4, or one line and 0."""

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
