"""A tiny simulated cohort through every stage and the command line: good, defective, and told so."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from bmdkit.cli.main import group
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.dataset.integrity import list_data_files
from bmdkit.io.label_maps import read_labels
from bmdkit.simulation.simulated_cohort import SimulateConfig, simulate_cohort

QUICK = [
    "--segmentation",
    "labels",
    "--set",
    "registration.pelvis.evaluations=100",
    "--set",
    "registration.femur.evaluations=24",
    "--set",
    "pairs.keep_rejected=true",
]  # the search is another test's business
QCT_TOLERANCE = 0.05  # voxels of 3 mm, slices of 6 mm


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """sim000 is sound; its CT without one slice is `gap`, and without labels `bare`."""
    root = tmp_path_factory.mktemp("cohort")
    config = SimulateConfig(patients=1, poses=("standing",), slice_mm=6.0, pixel_mm=1.5, grid_mm=3.0)
    simulate_cohort(root, config, seed=1)
    with (root / "cohort.csv").open(newline="") as file:
        rows = [row | {"note": "=1+1"} for row in csv.DictReader(file)]
    for name in ("gap", "bare"):
        shutil.copytree(root / "ct" / "sim000", root / "ct" / name)
        shutil.copyfile(root / rows[0]["xray"], root / "xray" / f"{name}.dcm")
        extra = {"patient_id": name, "ct": f"ct/{name}", "xray": f"xray/{name}.dcm"}
        rows += [row | extra for row in rows[:2]]
    for row in rows:
        if row["patient_id"] == "bare":
            row["labels"] = ""
    slices = sorted((root / "ct" / "gap").iterdir())
    slices[len(slices) // 2].unlink()
    with (root / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])
    code = getattr(result.exception, "exit_code", result.exit_code)  # main() makes exit codes of our errors
    return code, result.output


@pytest.fixture(scope="module")
def built(cohort, tmp_path_factory) -> tuple[Path, int, str]:
    out = tmp_path_factory.mktemp("built") / "out"
    code, text = run("build-dataset", cohort, "--out", out, "--no-report", *QUICK)
    return out, code, text


def manifest(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_defective_cases_are_named_with_their_codes_and_the_rest_is_built(built):
    out, code, text = built
    assert code == 3
    states = {(row["patient_id"], row["status"], row["code"]) for row in manifest(out)}
    assert states == {
        ("sim000", "ok", ""),
        ("gap", "quarantined", "BMD-CT-011"),
        ("bare", "quarantined", "BMD-LBL-005"),
    }
    assert text.count("gap__gap__L: BMD-CT-011") == 1
    assert run("fsck", out)[0] == 0
    assert "1 complete, 2 with something left out" in run("status", out)[1]


def test_the_files_of_a_case_are_those_of_the_contract(built):
    out, _, _ = built
    case = out / "cases" / "sim000"
    names = {path.relative_to(case).as_posix() for path in case.rglob("*") if path.is_file()}
    assert names == {
        "calibration.json",
        "density.nii.gz",
        "labels.nii.gz",
        "labels.json",
        "landmarks_L.mrk.json",
        "landmarks_R.mrk.json",
        "proximal_femur_L.nii.gz",
        "proximal_femur_R.nii.gz",
        "registration_sim000_standing.json",
        "qc/calibration.png",
        "qc/labels_L.png",
        "qc/labels_R.png",
        "qc/overlay_sim000_standing.png",
        "meta.json",
    }
    registration = json.loads((case / "registration_sim000_standing.json").read_text())
    assert set(registration["bodies"]) == {"pelvis", "femur_L", "femur_R"}
    assert {"camera_from_ct", "similarity", "similarity_at_start", "spread", "verdict"} <= set(
        registration["bodies"]["pelvis"]
    )
    assert registration["camera"]["sources"]
    calibration = json.loads((case / "calibration.json").read_text())
    density = nibabel.load(case / "density.nii.gz")
    assert density.dataobj.slope == pytest.approx(calibration["slope_mg_cm3_per_hu"], rel=1e-6)


def test_bmd_agrees_with_the_truth_and_with_the_files(built, cohort):
    out, _, _ = built
    truth = json.loads((cohort / "truth" / "sim000" / "truth.json").read_text())["proximal_femur"]
    density = np.asarray(nibabel.load(out / "cases" / "sim000" / "density.nii.gz").dataobj)
    for row in manifest(out):
        if row["status"] == "ok":
            assert float(row["qct_bmd_mg_cm3"]) == pytest.approx(
                truth[row["side"]]["qct_bmd_mg_cm3"], rel=QCT_TOLERANCE
            )
            assert row["note"] == "=1+1"
    labels = read_labels(out / "cases" / "sim000" / "labels.nii.gz")
    if labels.grid.shape == density.shape[::-1]:
        mask = np.asarray(nibabel.load(out / "cases" / "sim000" / "proximal_femur_L.nii.gz").dataobj) > 0
        left = next(row for row in manifest(out) if row["side"] == "L" and row["status"] == "ok")
        assert density[mask].mean() == pytest.approx(float(left["qct_bmd_mg_cm3"]), rel=1e-4)


def test_pairs_are_as_the_contract_says(built):
    out, _, _ = built
    for row in manifest(out):
        if row["status"] != "ok":
            continue
        xray, drr, mask = (tifffile.imread(out / row[name]) for name in ("xray", "drr", "mask"))
        assert (xray.shape, xray.dtype) == ((512, 256), np.float32)
        assert 0 <= xray.min() < xray.max() <= 1
        assert drr.dtype == np.float32
        assert drr.shape == ((2, 512, 256) if row["dataset"] == "A" else (512, 256))
        assert (mask.shape, mask.dtype) == ((512, 256), np.uint8)
        assert 0.5 < drr.max() < 8  # g/cm2 of bone
        meta = json.loads((out / row["drr"]).with_name("meta.json").read_text())
        camera = ProjectionGeometry.from_dict(meta["camera"])
        assert camera.shape == (512, 256)
        if row["dataset"] == "B":
            inside = drr[drr > 0]
            assert inside.mean() == pytest.approx(float(row["pf_drr_mean_g_cm2"]), rel=0.1)  # the outline is averaged


def test_running_again_keeps_every_byte_and_a_damaged_file_is_named_and_made_anew(built, cohort):
    out, _, _ = built
    before = {name: (out / name).read_bytes() for name in list_data_files(out)}
    victim = next(name for name in before if name.endswith("drr.tif"))
    bad = bytearray(before[victim])
    bad[len(bad) // 2] ^= 4
    (out / victim).write_bytes(bytes(bad))
    code, text = run("fsck", out)
    assert code == 3
    assert f"damaged  {victim}" in text
    code, text = run("build-dataset", cohort, "--out", out, "--no-report", *QUICK)
    assert code == 3
    assert "(2 kept from before)" in text
    assert {name: (out / name).read_bytes() for name in list_data_files(out)} == before


def test_a_dry_run_does_nothing(cohort, tmp_path):
    code, text = run("build-dataset", cohort, "--out", tmp_path / "out", "--dry-run", "--only", "gap")
    assert (code, text.split()) == (0, ["gap", "build"])
    assert not (tmp_path / "out").exists()


def test_what_stops_a_build_before_it_starts_has_exit_code_4_and_wrong_use_2(cohort, tmp_path):
    assert run("build-dataset", cohort, "--out", tmp_path / "out", "--only", "nobody")[0] == 4
    assert run("build-dataset", cohort, "--out", cohort)[0] == 4
    assert run("build-dataset", cohort, "--out", tmp_path / "out", "--shard", "3/2")[0] == 2
    assert run("build-dataset", cohort, "--out", tmp_path / "out", "--set", "pairs.rows=no")[0] == 2
    assert run("fsck", tmp_path)[0] == 4
    assert run("status", tmp_path)[0] == 4


def test_pseudonyms_leave_no_identifier_in_the_output(cohort, tmp_path):
    named = tmp_path / "named"
    named.mkdir()
    for folder in ("ct", "xray", "labels", "landmarks"):
        (named / folder).symlink_to(cohort / folder)
    lines = (cohort / "cohort.csv").read_text().splitlines(keepends=True)
    (named / "cohort.csv").write_text("".join(line for line in lines if not line.startswith("sim000")))
    out = tmp_path / "out"
    assert run("build-dataset", named, "--out", out, "--no-report", "--pseudonymise", *QUICK)[0] == 3
    for path in out.rglob("*"):
        for word in ("sim000", "gap", "bare"):
            assert word not in path.relative_to(out).as_posix()
            assert not path.is_file() or word.encode() not in path.read_bytes()
    keys = out.with_name("out.keys.csv")
    assert keys.stat().st_mode & 0o777 == 0o600
    assert "bare" in keys.read_text()


def test_a_pixel_that_changed_since_the_cohort_was_sealed_is_never_read(cohort, tmp_path):
    """DICOM has no checksum: without the seal both changes would be read as what they say."""
    sealed = tmp_path / "sealed"
    shutil.copytree(cohort, sealed)
    assert run("fsck", "--seal", sealed)[0] == 0
    for changed, column in ((sealed / "xray" / "sim000_standing.dcm", "xray"), (sealed / "ct" / "sim000", "ct")):
        file = changed if changed.is_file() else sorted(changed.iterdir())[5]
        whole = file.read_bytes()
        file.write_bytes(whole[:-1001] + bytes([whole[-1001] ^ 4]) + whole[-1000:])
        out = tmp_path / column
        assert run("build-dataset", sealed, "--out", out, "--no-report", "--only", "sim000", *QUICK)[0] == 3
        assert {row["code"] for row in manifest(out)} == {"BMD-SUM-001"}
        assert {row["reason"] for row in manifest(out)} == {f"{column}: 1 not as sealed ({file.name})."}
        assert "BMD-SUM-001" in run("validate", sealed)[1]
        file.write_bytes(whole)
