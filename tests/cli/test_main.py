"""The command line as a user first meets it."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from bmdkit.cli.main import COMMANDS, group, main

HEAVY = ("numpy", "torch", "scipy", "pandas", "SimpleITK", "numba", "pydicom", "matplotlib", "rich")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name):
    result = CliRunner().invoke(group, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Usage:")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy(name):
    code = (
        "import sys\nfrom bmdkit.cli.main import main\n"
        f"try:\n    main([{name!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\nsys.exit(f'imported {{heavy}}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_process_that_builds_cases_loads_torch_only_where_it_is_needed():
    code = (
        "import sys, bmdkit.dataset.cohort_build\nsys.exit('torch' in sys.modules)"  # it takes longer than all the rest
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["build-datset"])
    assert stop.value.code == 2
    assert "No such command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--help"], 0), (["validate", "COHORT"], 4), (["fsck", "DIR"], 4), (["validate", "nowhere"], 2)],
)
def test_the_status_of_a_command_reaches_the_shell(arguments, expected, tmp_path):
    (tmp_path / "cohort.csv").write_text("patient_id\n")
    given = [str(tmp_path) if argument.isupper() else argument for argument in arguments]
    done = subprocess.run([sys.executable, "-m", "bmdkit.cli.main", *given], capture_output=True, check=False)
    assert done.returncode == expected
