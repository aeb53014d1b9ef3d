"""A cohort as it lies on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_validity import list_errors, needs_dciodvfy

from bmdkit.cli.main import group
from bmdkit.errors import PreflightError
from bmdkit.io.cohort import read_cohort
from bmdkit.io.ct import read_ct
from bmdkit.io.label_maps import read_labels
from bmdkit.io.markups import read_landmarks
from bmdkit.io.results import sha256_of
from bmdkit.io.volumes import read_volume
from bmdkit.simulation.settings import SimulateConfig
from bmdkit.simulation.simulated_cohort import simulate_cohort

SMALL = SimulateConfig(patients=2, poses=("standing", "abduction"), slice_mm=6.0, pixel_mm=2.0, grid_mm=3.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("simulate") / "cohort"
    simulate_cohort(out, SMALL, seed=11)
    return out


def truth_of(cohort: Path, patient: str = "sim000") -> dict:
    return json.loads((cohort / "truth" / patient / "truth.json").read_text())


def test_the_table_is_a_sound_cohort(cohort: Path) -> None:
    table = read_cohort(cohort)
    assert [case.patient_id for case in table.cases] == ["sim000", "sim001"]
    rows = table.cases[0].rows
    assert {(row.pose, row.side) for row in rows} == {(p, s) for p in SMALL.poses for s in ("L", "R")}
    truth = truth_of(cohort)["proximal_femur"]
    for row in rows:
        assert row.dxa_bmd_g_cm2 == pytest.approx(truth[row.side]["dxa_bmd_g_cm2"], abs=1e-4)
        assert row.dxa_bmd_g_cm2 == pytest.approx(truth[row.side]["physical_areal_bmd_g_cm2"], rel=0.1)


def test_the_ct_is_dicom_as_scanners_write_it(cohort: Path) -> None:
    files = sorted((cohort / "ct" / "sim000").glob("*.dcm"))
    first, second = (pydicom.dcmread(f) for f in files[:2])
    assert first.Modality == "CT"
    assert first.pixel_array.dtype == np.int16
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert float(second.ImagePositionPatient[2] - first.ImagePositionPatient[2]) == pytest.approx(6.0)
    scan = read_ct(cohort / "ct" / "sim000")
    labels = read_labels(cohort / "labels" / "sim000.nii.gz")
    hu = scan.volume.resample(labels.grid).array
    assert hu[labels.mask("femur_L", "femur_R")].mean() > 150
    assert hu[labels.mask()].size == 0


def test_the_radiograph_is_dicom_with_its_geometry(cohort: Path) -> None:
    for pose in SMALL.poses:
        image = pydicom.dcmread(cohort / "xray" / f"sim000_{pose}.dcm")
        camera = truth_of(cohort)["radiographs"][pose]["camera"]
        assert image.Modality == "DX"
        assert image.ViewPosition == "AP"
        assert (image.BitsStored, image.HighBit, image.PixelRepresentation) == (12, 11, 0)
        assert image.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
        assert float(image.DistanceSourceToDetector) == camera["sdd"]
        assert list(image.ImagerPixelSpacing) == [camera["pixel"]] * 2
        assert image.pixel_array.shape == (camera["rows"], camera["cols"])
        assert image.PatientID == "sim000"


@needs_dciodvfy
def test_dciodvfy_finds_no_error_in_any_image(cohort: Path) -> None:
    files = [*sorted((cohort / "ct").rglob("*.dcm"))[::20], *sorted((cohort / "xray").glob("*.dcm"))]
    assert {path.name: list_errors(path) for path in files} == {path.name: [] for path in files}


def test_bright_pixels_are_where_the_truth_projects_the_heads(cohort: Path) -> None:
    from bmdkit.core.geometry import ProjectionGeometry, RigidTransform

    truth = truth_of(cohort)
    for pose, record in truth["radiographs"].items():
        camera = record["camera"]
        geometry = ProjectionGeometry(
            camera["sdd"],
            camera["pixel"],
            camera["pixel"],
            camera["cols"],
            camera["rows"],
            (camera["ppx"], camera["ppy"]),
        )
        stored = pydicom.dcmread(cohort / "xray" / f"sim000_{pose}.dcm")
        image = stored.pixel_array.astype(int)
        image = 4095 - image if stored.PhotometricInterpretation == "MONOCHROME1" else image
        columns = {}
        for side, head in truth["head_centre_lps"].items():
            femur = RigidTransform(np.array(record["ct_to_camera"][f"femur_{side}"]))
            u, v = np.rint(geometry.project(head, camera_from_world=femur)).astype(int)
            columns[side] = u
            assert image[v, u] > np.percentile(image, 75)
        assert columns["L"] > camera["cols"] / 2 > columns["R"]


def test_truth_agrees_with_its_volumes(cohort: Path) -> None:
    truth, folder = truth_of(cohort), cohort / "truth" / "sim000"
    density = read_volume(folder / "density.nii.gz", "density_mg_cm3")
    labels = read_labels(folder / "labels.nii.gz")
    for side in ("L", "R"):
        mask = read_volume(folder / f"proximal_femur_{side}.nii.gz", "probability").array > 0
        assert (labels.mask(f"femur_{side}") | ~mask).all()
        in_whole_voxels = density.array[mask & (density.array > 0)].mean()  # those at the surface are partly bone
        physical = truth["proximal_femur"][side]["physical_bmd_mg_cm3"]
        assert 0.85 * physical < in_whole_voxels < physical
        given = read_landmarks(cohort / "landmarks" / f"sim000_{side}.mrk.json", side)
        for name, point in truth["proximal_femur"][side]["landmarks_lps"].items():
            np.testing.assert_allclose(given[name], point, atol=2e-3)


def test_same_seed_same_bytes_whatever_the_number_of_patients(cohort: Path, tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "again", replace(SMALL, patients=1), seed=11)
    for part in ("ct/sim000", "xray/sim000_abduction.dcm", "truth/sim000", "labels/sim000.nii.gz"):
        assert sha256_of(tmp_path / "again" / part) == sha256_of(cohort / part), part
    assert sha256_of(cohort / "ct/sim001") != sha256_of(cohort / "ct/sim000")


def test_a_finished_cohort_is_kept_and_another_is_refused(cohort: Path, tmp_path: Path) -> None:
    before = sha256_of(cohort)
    seen = []
    simulate_cohort(cohort, SMALL, seed=11, progress=lambda *report: seen.append(report))
    assert seen == []
    assert sha256_of(cohort) == before
    with pytest.raises(PreflightError, match="BMD-SIM-001"):
        simulate_cohort(cohort, SMALL, seed=12)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(PreflightError, match="BMD-SIM-001"):
        simulate_cohort(tmp_path, SMALL, seed=11, overwrite=True)


def test_the_command_takes_lists_of_words(tmp_path: Path) -> None:
    from click.testing import CliRunner

    words = ["simulate", "--poses", "adduction", "--sides", "L", str(tmp_path / "out"), "--patients", "1", "--give"]
    words += ["--prone", "--stress", "marker", "collimation", "--seed", "2", "-q"]
    words += [part for text in ("slice_mm=6", "pixel_mm=2", "grid_mm=4") for part in ("--set", text)]
    result = CliRunner().invoke(group, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (row,) = read_cohort(tmp_path / "out").cases[0].rows
    assert (row.pose, row.side, row.labels, row.landmarks) == ("adduction", "L", None, None)
    assert pydicom.dcmread(tmp_path / "out/ct/sim000/0000.dcm").PatientPosition == "HFP"


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="slice_mm"):
        SimulateConfig(slice_mm=0)
    with pytest.raises(ValueError, match="patients"):
        SimulateConfig(patients=0)
    with pytest.raises(ValueError, match="poses"):
        SimulateConfig(poses=("standing", "standing"))
    with pytest.raises(ValueError, match="prefix"):
        SimulateConfig(prefix="../")


def test_a_part_of_the_cohort_can_be_simulated(tmp_path: Path) -> None:
    from click.testing import CliRunner

    words = ["simulate", str(tmp_path / "out"), "--patients", "3", "--dry-run", "--only", "sim001", "sim002"]
    result = CliRunner().invoke(group, words, catch_exceptions=False)
    assert result.output.split() == ["sim001:", "to", "simulate", "sim002:", "to", "simulate"]
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="only"):
        simulate_cohort(tmp_path / "out", SMALL, seed=1, only=["sim007"])
