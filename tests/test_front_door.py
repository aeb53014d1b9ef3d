"""The front door: what `import bmdkit` costs, which names are public, and that they are typed for a caller."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import bmdkit as bk

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests/public_api/typed_program.py"
HEAVY = ("numpy", "scipy", "torch", "numba", "pydicom", "SimpleITK", "nibabel", "monai", "pandas", "click", "yaml")
LONGEST_HELP = 80  # lines, three screens of a terminal

PUBLIC = {
    "nouns": "Volume LabelMap Grid Radiograph Landmarks RigidTransform ProjectionGeometry Pose"
    " Body Joint TurnPrior Shown StartSpread",
    "files": "read_ct read_radiograph read_labels read_landmarks",
    "stages": "calibrate segment find_landmarks proximal_femur volumetric_bmd areal_bmd render register register_views",
    "runs": "build_dataset PairDataset predict simulate",
    "errors": "BmdkitError CaseError PreflightError LockedError DiskFullError GeometryError",
}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_the_import_loads_nothing_heavy():
    loaded = run_python(f"import sys, bmdkit; print(*sorted(set(sys.modules) & set({HEAVY})))")
    assert loaded.split() == []


def test_a_noun_loads_no_torch():
    loaded = run_python("import sys, bmdkit; bmdkit.Volume, bmdkit.read_radiograph; print('torch' in sys.modules)")
    assert loaded.strip() == "False"


def test_the_public_names_are_these_and_no_others():
    assert set(dir(bk)) == {name for names in PUBLIC.values() for name in names.split()}
    for name in dir(bk):
        assert getattr(bk, name).__name__ == name
        assert getattr(bk, name).__doc__, f"{name} says nothing about itself"


def test_help_is_short_and_names_everything():
    text = run_python("import bmdkit; help(bmdkit)")
    assert len(text.splitlines()) <= LONGEST_HELP
    assert [name for name in dir(bk) if not re.search(rf"\b{name}\b", text)] == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="read_dicom"):
        bk.read_dicom  # noqa: B018


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "bmdkit/py.typed").is_file()


def test_right_calls_type_check_and_wrong_ones_do_not():
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache"), str(PROGRAM)]
    output = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT).stdout
    found = set(re.findall(r"typed_program\.py:(\d+): error: .*\[([a-z-]+)\]", output))
    lines = PROGRAM.read_text(encoding="utf-8").splitlines()
    marked = [(str(n), line.split("# wrong: ")[1]) for n, line in enumerate(lines, 1) if "  # wrong: " in line]
    wrong = {(number, code) for number, codes in marked for code in codes.split()}
    assert len(wrong) >= 15
    assert found == wrong, output
