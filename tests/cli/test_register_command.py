"""`bmdkit register` as typed: what it refuses, and how points of a radiograph become pixels."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from bmdkit.cli.register import command
from bmdkit.cli.registration_inputs import read_pixels
from bmdkit.core.geometry import ProjectionGeometry


def test_help_names_its_options():
    text = CliRunner().invoke(command, ["--help"]).output
    assert all(name in text for name in ("--out", "--labels", "--calibration", "--side", "--init", "--seed"))


def test_labels_are_asked_for(ct_folder, dx_file, tmp_path):
    result = CliRunner().invoke(command, [str(ct_folder), str(dx_file), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "--labels" in result.output
    assert not (tmp_path / "out").exists()


def test_an_unknown_setting_is_a_usage_error(ct_folder, dx_file, tmp_path):
    arguments = [str(ct_folder), str(dx_file), "--out", str(tmp_path), "--set", "registration.patch=3"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "registration.patch" in result.output


@pytest.mark.parametrize("kind", ["pixels", "markups"])
def test_points_of_the_radiograph_becomeread_pixels(tmp_path, kind):
    camera = ProjectionGeometry(1000, 0.5, 0.25, 100, 100)
    file = tmp_path / f"points{'.mrk' if kind == 'markups' else ''}.json"
    point = {"label": "a", "position": [10.0, 5.0, 0.0], "positionStatus": "defined"}
    content = {
        "pixels": {"a": [20, 20]},
        "markups": {"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [point]}]},
    }[kind]
    file.write_text(json.dumps(content))
    assert np.allclose(read_pixels(file, camera)["a"], (20, 20))
