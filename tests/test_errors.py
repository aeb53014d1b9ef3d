"""Codes: documented, stable in form, and carried whole between processes."""

import pickle
import re
from pathlib import Path

import pytest

from bmdkit import errors
from bmdkit.errors.page import write_page

ROOT = Path(__file__).parents[1]


def test_the_page_of_codes_is_up_to_date():
    assert (ROOT / "docs/errors.md").read_text(encoding="utf-8") == write_page(), "run `make docs`"


def test_every_code_in_the_source_is_documented_and_used():
    pattern = re.compile(r"BMD-[A-Z]+-\d{3}")
    used = set()
    for path in (ROOT / "bmdkit").rglob("*.py"):
        if path.parent.name != "errors":
            used |= set(pattern.findall(path.read_text(encoding="utf-8")))
    assert used == set(errors.CODES)


@pytest.mark.parametrize("kind", [errors.CaseError, errors.PreflightError, errors.LockedError, errors.DiskFullError])
def test_an_error_survives_the_way_between_processes(kind):
    code = next(iter(errors.CODES))
    error = pickle.loads(pickle.dumps(kind(code, "3 mm against 1 mm", case="p1", file="a.dcm")))  # noqa: S301
    assert type(error) is kind
    assert (error.code, error.message, error.case, error.file) == (code, "3 mm against 1 mm", "p1", "a.dcm")
    assert error.remedy in str(error)


def test_an_undocumented_code_is_a_bug():
    with pytest.raises(ValueError, match="not documented"):
        errors.CaseError("BMD-XX-999", "no such thing")
