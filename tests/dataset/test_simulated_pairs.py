"""Pairs straight from digital patients."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from scipy import ndimage

from bmdkit.cli.main import group
from bmdkit.config import ConfigError, build, load
from bmdkit.core.anatomy import LANDMARKS
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.dataset.integrity import check_files
from bmdkit.dataset.manifest import COLUMNS
from bmdkit.dataset.pairs import PairConfig
from bmdkit.dataset.samples import PairDataset, read_pairs, read_projection_unit
from bmdkit.dataset.simulated_pairs import simulate_pairs
from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig
from bmdkit.dataset.status import read_status
from bmdkit.errors import PreflightError
from bmdkit.evaluation.agreement import pearson
from bmdkit.evaluation.joint_angle_errors import read_joint_angles
from bmdkit.io.images import read_tiff
from bmdkit.io.results import sha256_of
from bmdkit.simulation.exposure_site import find_site
from bmdkit.simulation.population import Population
from bmdkit.simulation.procedural_anatomy import draw_anatomy
from bmdkit.simulation.settings import SimulateConfig

SMALL = SimulatePairsConfig(
    count=3, poses=("standing",), pixel_mm=3.0, grid_mm=4.0, pairs=PairConfig(rows=96, columns=48)
)
RECIPES = sorted((Path(__file__).parents[2] / "pipelines" / "simulate").glob("*.yaml"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pairs") / "data"
    simulate_pairs(out, SMALL, seed=3)
    return out


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_it_is_a_dataset_like_any_other(made: Path) -> None:
    rows = rows_of(made)
    assert tuple(rows[0]) == COLUMNS
    assert [(r["pair_id"], r["dataset"]) for r in rows[:3]] == [
        ("sim0000__standing__L", "A"),
        ("sim0000__standing__L", "B"),
        ("sim0000__standing__R", "A"),
    ]
    assert len(rows) == 2 * SMALL.count
    assert {r["status"] for r in rows} == {"ok"}
    assert check_files(made) == []
    state = read_status(made)
    assert state.finished
    assert state.ok == 2
    description = json.loads((made / "dataset.json").read_text())
    assert description["data"] == "simulated"
    assert description["counts"]["pairs"]["A"]["ok"] == SMALL.count


@pytest.mark.parametrize(("dataset", "pages"), [("A", 2), ("B", 1)])
def test_training_reads_it(made: Path, dataset: str, pages: int) -> None:
    pairs = read_pairs(made, dataset)
    assert len(pairs) == SMALL.count
    item = PairDataset.from_pairs(pairs)[0]
    assert item["drr"].shape == (pages, 96, 48)
    assert item["xray"].shape == (1, 96, 48)
    assert 0.3 < float(item["drr"].max()) < 10


def test_the_target_lies_where_the_true_pose_puts_the_bone(made: Path) -> None:
    """The centre of the femoral head, projected, lies in the femur's image and beyond the cut proximal femur."""
    folder = made / "dataset_a" / "sim0000__standing__L"
    meta = json.loads((folder / "meta.json").read_text())
    anatomy = draw_anatomy(np.random.default_rng([3, 0]), SMALL.grid_mm)
    camera = ProjectionGeometry.from_dict(meta["camera"])
    pose = RigidTransform(np.array(meta["camera_from_ct"]["femur_L"]))
    column, row = np.rint(camera.project(anatomy.heads_mm["L"], camera_from_world=pose)).astype(int)
    femur = read_tiff(folder / "drr.tif")[1]
    region = read_tiff(made / "dataset_b" / "sim0000__standing__L" / "drr.tif")[0]
    assert femur[row, column] > 0.3
    assert region[row, column] == 0
    assert (region > 0).sum() > 50
    told = meta["landmarks_uv"]
    assert set(told) == set(LANDMARKS)
    for name, uv in told.items():  # by hand: the pinhole camera and its pixels
        seen = pose.apply(anatomy.landmarks["L"][name])
        at_detector = camera.sdd_mm * seen[:2] / seen[2] / (camera.column_spacing_mm, camera.row_spacing_mm)
        assert uv == pytest.approx((camera.principal_point_uv + at_detector).tolist(), abs=1e-6)


def test_bones_are_seen_in_the_radiograph(made: Path) -> None:
    """Without what is smooth, the lower half of the radiograph is that of the femur's projection."""
    item = PairDataset.from_pairs(read_pairs(made, "A"))[0]
    femur, xray = (item[name][-1].numpy()[48:] for name in ("drr", "xray"))
    femur, xray = (image - ndimage.gaussian_filter(image, 4.0) for image in (femur, xray))
    assert pearson(femur.ravel(), xray.ravel()) > 0.5


def test_the_angles_of_the_hips_are_those_of_their_poses(tmp_path: Path) -> None:
    """A thigh is 20 degrees further out in abduction than standing, with some degrees of its own."""
    simulate_pairs(tmp_path / "data", replace(SMALL, count=8, poses=("standing", "abduction")), seed=3)
    pairs = read_pairs(tmp_path / "data", "B")
    found = read_joint_angles(tmp_path / "data", pairs)
    assert {angles.source for angles in found.values()} == {"isb"}
    out = {
        pose: np.array([found[p.pair_id].abduction_deg for p in pairs if p.pose == pose])
        for pose in ("standing", "abduction")
    }
    assert np.mean(out["abduction"] - out["standing"]) == pytest.approx(20, abs=5)


def test_the_bytes_depend_on_settings_and_seed_alone(made: Path, tmp_path: Path) -> None:
    simulate_pairs(tmp_path / "longer", replace(SMALL, count=2), seed=3)
    name = "dataset_b/sim0000__standing__R/drr.tif"
    assert sha256_of(tmp_path / "longer" / name) == sha256_of(made / name)
    simulate_pairs(tmp_path / "other", replace(SMALL, count=1), seed=4)
    name = "dataset_b/sim0000__standing__L/drr.tif"
    assert sha256_of(tmp_path / "other" / name) != sha256_of(made / name)


def test_an_interrupted_run_goes_on_and_repairs(tmp_path: Path) -> None:
    out = tmp_path / "data"
    config = replace(SMALL, count=2, poses=("standing",), sides=("L",))
    simulate_pairs(out, config, seed=3)
    before = sha256_of(out / "SHA256SUMS")
    (out / "dataset_a" / "sim0001__standing__L" / "xray.tif").unlink()
    (out / "SHA256SUMS").unlink()
    done: list[str] = []
    simulate_pairs(out, config, seed=3, progress=lambda _done, _total, name: done.append(name))
    assert done == ["", "sim0001"]
    assert sha256_of(out / "SHA256SUMS") == before


def test_what_is_there_is_not_overwritten_unasked(made: Path, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="BMD-SIM-001"):
        simulate_pairs(made, SMALL, seed=4)
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(PreflightError, match="BMD-SIM-001"):
        simulate_pairs(tmp_path, SMALL, seed=3, overwrite=True)


def test_bmd_goes_with_the_mineral(tmp_path: Path) -> None:
    values = []
    for mineral in (0.6, 1.2):
        out = tmp_path / str(mineral)
        simulate_pairs(out, replace(SMALL, count=1, mineral=mineral), seed=3)
        values.append([float(rows_of(out)[1][name]) for name in ("qct_bmd_mg_cm3", "pf_drr_mean_g_cm2")])
    low, high = np.array(values)
    assert ((high / low > 1.3) & (high / low < 2.0)).all()


def test_without_calibration_the_targets_hold_hu_of_a_scanner_of_each_patients_own(tmp_path: Path) -> None:
    settings = replace(SMALL, count=4, poses=("standing",), sides=("L",))
    found = {}
    for uncalibrated in (False, True):
        out = tmp_path / str(uncalibrated)
        simulate_pairs(out, replace(settings, uncalibrated=uncalibrated), seed=3)
        found[uncalibrated] = [row for row in rows_of(out) if row["dataset"] == "B"]
    ratios = []
    for known, raw in zip(found[False], found[True], strict=True):
        for same in ("patient_id", "dxa_bmd_g_cm2", "qct_bmd_mg_cm3", "ct_abmd_g_cm2", "xray_sha256"):
            assert known[same] == raw[same]
        lines = [(row["calibration"], row["calibration_slope"], row["calibration_intercept"]) for row in (known, raw)]
        assert lines == [("none", "", "")] * 2
        assert raw["pf_drr_mean_g_cm2"] == ""  # it is no areal density
        sums = [tifffile.imread(tmp_path / name / row["drr"]).sum() for name, row in (("False", known), ("True", raw))]
        ratios.append(sums[1] / sums[0])
    assert [read_projection_unit(tmp_path / name) for name in ("False", "True")] == ["g/cm2", "1000 HU cm"]
    assert 0.9 < min(ratios) < max(ratios) < 1.6
    assert np.std(ratios) > 0.01


@pytest.mark.parametrize(
    "values", [{"count": 0}, {"stress": ["implant"]}, {"poses": []}, {"pixel_mm": 0.0}, {"prefix": "a/b"}]
)
def test_settings_that_make_no_sense_are_named(values) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(SimulatePairsConfig, values)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_changes_a_setting(recipe) -> None:
    assert load(SimulatePairsConfig, recipe=recipe) != SimulatePairsConfig()


@pytest.mark.parametrize("name", ["paper-like", "mixed-sites"])
def test_recipes_of_a_clinic_fit_cohorts_as_well(name: str) -> None:
    recipe = Path(__file__).parents[2] / "pipelines" / "simulate" / f"{name}.yaml"
    cohort = load(SimulateConfig, recipe=recipe)
    assert load(SimulatePairsConfig, recipe=recipe).population == cohort.population != Population()


def test_a_patients_sex_and_site_are_told(tmp_path: Path) -> None:
    population = Population(bmd_mean_g_cm2=0.7, bmd_sd_g_cm2=0.01, female_share=1.0)
    settings = replace(SMALL, count=1, sides=("L",), site="mixed", population=population)
    simulate_pairs(tmp_path / "data", settings, seed=3)
    row = rows_of(tmp_path / "data")[1]
    assert row["sex"] == "female"
    assert float(row["ct_abmd_g_cm2"]) == pytest.approx(0.7, abs=0.06)  # of one hip; the mean of both is asked for
    told = json.loads((tmp_path / "data" / "cases" / "sim0000" / "meta.json").read_text())["simulated"]
    assert told["site"]["exposure"]["kvp"] == find_site("mixed", 3, 0).exposure.kvp


def test_on_the_command_line(tmp_path: Path) -> None:
    arguments = ["simulate", str(tmp_path / "out"), "--pairs", "9", "-q"]
    result = CliRunner().invoke(group, [*arguments, "--poses", "supine", "--site", "3", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == "9 pairs of each dataset, from 5 patients, 0 of them there"
    result = CliRunner().invoke(group, [*arguments, "--patients", "3"])
    assert result.exit_code == 2
    assert "--patients: not with --pairs" in result.output
