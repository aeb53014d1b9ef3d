"""`bmdkit evaluate RUN` finds the dataset of the run, by a note in its folder or by the content of the manifest."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner
from drawn_hips import write_dataset
from drawn_runs import write_run

from bmdkit.cli.main import group
from bmdkit.errors import PreflightError
from bmdkit.training.data_place import PLACE, find_data, write_data_place


@pytest.fixture
def place(tmp_path):
    """A dataset that says that it is simulated, and a run on it in another branch of the tree."""
    data = write_dataset(tmp_path / "data" / "hips", patients=5)
    description = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(description | {"data": "simulated"}))
    return data, write_run(tmp_path / "deep" / "er" / "still" / "runs" / "b", data)


def test_the_note_is_relative_and_holds_when_all_is_moved(place, tmp_path):
    data, run = place
    write_data_place(run, data)
    assert json.loads((run / PLACE).read_text()) == {"path": "../../../../../data/hips"}
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("data", "deep"):
        shutil.move(tmp_path / name, moved / name)
    assert find_data(moved / "deep/er/still/runs/b") == (moved / "data/hips").resolve()


def test_without_a_note_it_is_known_by_its_manifest(place):
    data, run = place
    with pytest.raises(PreflightError, match="BMD-EVA-006"):
        find_data(run)  # too far away
    beside = run.parents[2] / "copy"
    shutil.copytree(data, beside)
    write_data_place(run, data.parent)  # a note that is wrong
    assert find_data(run) == beside.resolve()
    (beside / "manifest.csv").write_text("changed")
    with pytest.raises(PreflightError, match="BMD-EVA-006"):
        find_data(run)


def test_evaluate_needs_nothing_but_the_run(place):
    data, run = place
    write_data_place(run, data)
    done = CliRunner().invoke(group, ["evaluate", str(run), "-q"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads((run / "evaluation" / "metrics.json").read_text())["data"] == "simulated"
