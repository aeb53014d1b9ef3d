"""The pages of what was measured hold all kept figures and no other; the shared parts of the benchmarks are right."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def benchmarks_are_found(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_pages_hold_what_is_kept():
    from measured import write_all

    for path, text in write_all().items():
        assert path.read_text(encoding="utf-8") == text, f"python benchmarks/measured.py changes {path.name}"


def test_every_measurement_names_its_command_machine_and_date():
    from measured_figures import Figures, list_kept

    for path in list_kept():
        about = Figures.read(path).about
        assert {"command", "device", "date", "versions"} <= about.keys(), path.name


def test_a_file_without_a_page_is_an_error(monkeypatch):
    import measured

    monkeypatch.setattr(measured, "list_kept", lambda: [Path("never_named.json")])
    with pytest.raises(ValueError, match="never_named"):
        measured.write_all()


def test_groups_with_the_same_figures_stand_side_by_side():
    from measured_figures import tabulate

    flat = {
        "pelvis.below_0.5mm": 1.0,
        "pelvis.bones": 2.0,
        "femur.below_0.5mm": 0.25,
        "femur.bones": 4.0,
        "a: b, c": 1e-16,
    }
    side_by_side, alone = tabulate(flat)
    assert side_by_side == [["", "pelvis", "femur"], ["below_0.5mm", "1", "0.25"], ["bones", "2", "4"]]
    assert alone == [["", "a"], ["b, c", "0"]]


def test_a_study_gives_mean_and_spread_of_its_seeds():
    from measured_figures import tabulate_study

    seeds = [{"n": 8, "patients": 4, "pcc": 0.5}, {"n": 8, "patients": 4, "pcc": 0.7}]
    study = {"methods": {"m": {"tasks": {"dxa": {"by_seed": seeds}, "qct": {"by_seed": []}}}}}
    (head, row), *others = tabulate_study(study)
    assert dict(zip(head, row, strict=True))["PCC"] == "0.6 ± 0.14"
    assert row[2:5] == ["2", "8", "4"]
    assert not others


def test_figures_are_written_with_their_command_and_without_paths(tmp_path, monkeypatch):
    from figure_files import write_figures

    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/drr.py", "--views", "4", "/a/folder/cohort"])
    write_figures(tmp_path / "x.json", {"right": 1.5, "none": float("nan")}, "cpu", seed=3)
    assert json.loads((tmp_path / "x.json").read_text()) == {"right": 1.5}
    about = json.loads((tmp_path / "x_machine.json").read_text())
    assert about["command"] == "python benchmarks/drr.py --views 4 cohort"
    assert about["seed"] == 3


def test_new_figures_stand_beside_the_kept(tmp_path):
    from bench import compare

    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "speed.json").write_text('{"fast": {"ms": 4.0}, "gone": 1}')
    (tmp_path / "speed.json").write_text('{"fast": {"ms": 2.0}, "new": 7}')
    assert list(compare("speed", tmp_path, kept)) == [("fast.ms", "4", "2", "0.50"), ("new", "", "7", "")]


def test_every_step_of_the_bench_is_a_benchmark_with_its_arguments():
    from bench import STEPS

    for step in STEPS:
        text = (ROOT / "benchmarks" / step.words[0]).read_text(encoding="utf-8")
        options = [word for word in step.words if word.startswith("--")]
        assert all(f'"{option}"' in text for option in [*options, "--json"]), step.name
