"""Targets in HU: BMD stays calibrated by the phantom, comes from the cohort, or is empty; units are what they say."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import quick_builds
import tifffile

from bmdkit.config import load
from bmdkit.dataset import cohort_build
from bmdkit.dataset.build_run import RunOptions
from bmdkit.dataset.samples import read_pairs, read_projection_unit
from bmdkit.dataset.settings import BuildConfig
from bmdkit.io.cohort import read_cohort
from bmdkit.jobs.processes import run_timed

RECIPES = Path(__file__).parents[2] / "pipelines" / "build-dataset"
BUILDS = {"calibrated": None, "uncalibrated": RECIPES / "uncalibrated.yaml", "no_phantom": RECIPES / "no-phantom.yaml"}


def rows_of(dataset: Path) -> list[dict[str, str]]:
    """Rows of a manifest."""
    with (dataset / "manifest.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def description_of(dataset: Path) -> dict:
    """Content of a dataset.json."""
    return json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """Simulated patients built with each recipe, in this process; the cohort says the QCT-BMD of the second of two."""
    root = tmp_path_factory.mktemp("uncalibrated")
    cohort = quick_builds.simulate(root / "cohort", patients=2)
    head, first, second = (cohort / "cohort.csv").read_text(encoding="utf-8").split()
    (cohort / "cohort.csv").write_text(f"{head},qct_bmd\n{first},\n{second},251.5\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        here = lambda function, jobs, _, **__: (replace(run_timed(function, a), name=name) for name, a in jobs)  # noqa: E731
        patch.setattr(cohort_build, "run_jobs", here)
        for name, recipe in BUILDS.items():
            settings = load(BuildConfig, recipe=recipe, overrides=(*quick_builds.SETTINGS, "dataset=B"))
            options = RunOptions(only=() if name == "no_phantom" else (second.partition(",")[0],))
            cohort_build.build_cases(read_cohort(cohort).cases, root / name, settings, options)
    return {name: root / name for name in BUILDS}


def test_bmd_is_that_of_the_phantom_whatever_the_targets_show(built) -> None:
    for known, raw in zip(*(rows_of(built[name]) for name in ("calibrated", "uncalibrated")), strict=True):
        for same in ("qct_bmd_mg_cm3", "ct_abmd_g_cm2", "dxa_bmd_g_cm2", "calibration", "calibration_slope"):
            assert known[same] == raw[same] != ""
        assert float(known["qct_bmd_mg_cm3"]) != 251.5  # the CT has a calibration of its own
        assert known["pf_drr_mean_g_cm2"] != "" == raw["pf_drr_mean_g_cm2"]


def test_targets_are_line_integrals_of_hu(built) -> None:
    density, hu = (
        tifffile.imread(built[name] / rows_of(built[name])[0]["drr"]) for name in ("calibrated", "uncalibrated")
    )
    row = rows_of(built["calibrated"])[0]
    slope, intercept = float(row["calibration_slope"]), float(row["calibration_intercept"])
    inside = density > 0.5 * density.max()
    path_mm = (density - slope * hu)[inside] / (1e-4 * intercept)  # density = slope * HU + intercept along every ray
    assert 20 < np.median(path_mm) < 90  # of bone


def test_units_and_kind_stand_in_every_description(built) -> None:
    assert read_projection_unit(built["calibrated"]) == "g/cm2"
    for name in ("uncalibrated", "no_phantom"):
        assert read_projection_unit(built[name]) == "1000 HU cm"
        pair = read_pairs(built[name], "B")[0]
        meta = json.loads((pair.drr.parent / "meta.json").read_text(encoding="utf-8"))
        assert meta["units"]["drr.tif"] == meta["pf_drr_mean"]["unit"] == "1000 HU cm"
        assert meta["pf_drr_mean"]["value"] > 0
    assert {description_of(path)["data"] for path in built.values()} == {"simulated"}


def test_without_calibration_bmd_is_what_the_cohort_says_or_empty(built) -> None:
    empty, given = rows_of(built["no_phantom"])
    for row, qct in ((empty, ""), (given, "251.5")):
        assert row["qct_bmd_mg_cm3"] == qct
        assert row["calibration"] == "none"
        assert row["dxa_bmd_g_cm2"] != ""
        for nothing in ("ct_abmd_g_cm2", "calibration_slope", "calibration_intercept", "pf_drr_mean_g_cm2"):
            assert row[nothing] == ""
    assert "qct_bmd" not in given
