"""The fit of the verdicts of single bodies: signs, folds of whole bones, and what the package carries."""

import csv
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from bmdkit.registration.quality import FAR, LOST, MISLEADING


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(name="script")
def script_(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module("verdict_fit")
    sys.modules.pop("verdict_fit", None)


def draw_rows(count: int, rng: np.random.Generator) -> list[dict[str, str]]:
    """Rows in which low similarity misleads, and in which the lead says nothing."""
    rows = []
    for n in range(count):
        similarity, turn = rng.uniform(0.2, 0.95), float(np.exp(rng.normal(0, 0.7)))
        wrong = rng.random() < 1 / (1 + np.exp(20 * (similarity - 0.6)))
        numbers = {
            "in_plane_mm": 20.0 * wrong, "rotation_deg": 0.0, "mtre_mm": 30.0 * wrong, "similarity": similarity,
            "spread_mm": 1.0, "curvature_mm": 1.0, "prior": 1.0, "visible": 1.0, "scale": 0.25, "depth_sd_mm": 1.0,
            "across_mm": 0.1, "spread_across_mm": 0.1, "lead": rng.uniform(0, 1), "rotation_sd_deg": turn,
        }  # fmt: skip
        rows.append(
            {"kind": "short", "seed": str(n // 3), "is_there": "True"} | {k: str(v) for k, v in numbers.items()}
        )
    return rows


def test_the_fit_finds_what_tells_right_from_wrong(script, rng):
    rows = draw_rows(600, rng)
    events = np.array([script.is_solid_event(row, "misleads") for row in rows])
    model = script.fit_logistic([script.read_evidence(row) for row in rows], events, script.SIGNS)
    assert model.similarity == pytest.approx(-20, abs=5)
    assert model.lead <= 0 <= model.log_rotation
    assert abs(model.lead) < 1
    assert abs(model.log_rotation) < 0.5


def test_no_slope_makes_worse_evidence_look_better(script, rng):
    rows = draw_rows(300, rng)
    events = ~np.array([script.is_solid_event(row, "misleads") for row in rows])  # high similarity "misleads"
    model = script.fit_logistic([script.read_evidence(row) for row in rows], events, script.SIGNS)
    assert model.similarity == 0
    for carried in (MISLEADING, LOST, FAR):
        assert carried.similarity <= 0
        assert carried.lead <= 0
        assert min(carried.log_rotation, carried.log_depth, carried.log_across) >= 0


def test_a_bone_is_judged_without_its_own_rows(script, rng, monkeypatch):
    rows, seen = draw_rows(60, rng), []

    def fit(evidence, events, signs):
        seen.append({round(one.similarity, 12) for one in evidence})
        return MISLEADING

    monkeypatch.setattr(script, "fit_logistic", fit)
    script.judge_held_out(rows, "misleads")
    assert len(seen) == script.FOLDS
    bones = {}
    for row in rows:
        bones.setdefault(row["seed"], set()).add(round(float(row["similarity"]), 12))
    for given in seen:
        assert all(own <= given or not own & given for own in bones.values())
    for own in bones.values():
        assert sum(not own & given for given in seen) == 1


def test_rows_of_hips_are_fitted_by_patient_and_by_how_far_all_points_are_off(script, rng):
    rows = [row | {"patient": f"c/{row['seed']}", "body": "pelvis"} for row in draw_rows(200, rng)]
    found = script.find_events(rows, script.HIPS)
    off = np.array([float(row["mtre_mm"]) for row in rows])
    assert np.array_equal(found["over_2mm"], off > 2)
    assert np.array_equal(found["over_10mm"], off > 10)
    assert {script.HIPS.whose(row) for row in rows} == {row["patient"] for row in rows}
    unlike = rows[0] | {"mtre_mm": "inf"}  # a CT of somebody else: there is no true pose
    assert script.is_hip_event(unlike, "over_10mm")


@pytest.mark.parametrize(("words", "event"), [((), "misleads"), (("--hips",), "over_2mm")])
def test_the_command_prints_coefficients_and_writes_figures(script, rng, tmp_path, monkeypatch, capsys, words, event):
    rows = [row | {"patient": row["seed"]} for row in draw_rows(120, rng)]
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    given = [str(tmp_path / "rows.csv"), "--held", str(tmp_path / "rows.csv"), "--json", str(tmp_path / "fit.json")]
    monkeypatch.setattr(sys, "argv", ["verdict_fit.py", *words, *given])
    script.main()
    told = capsys.readouterr().out
    assert f"{event} Logistic(" in told
    assert f"held out.auroc_{event}" in told
    assert (tmp_path / "fit.json").exists()
