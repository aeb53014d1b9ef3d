"""What validate finds in the files that a table names: each defect under its code, and nothing in sound ones."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from dicom_samples import body_hu, hip_image, write_ct, write_dx
from drawn_bones import BONES, CT, bones, scan

from bmdkit.core.anatomy import LABEL_VALUES, LANDMARKS
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.validation import ValidationConfig, check_case, check_cases, require_side, thin_out
from bmdkit.errors import CaseError
from bmdkit.io.cohort import read_cohort
from bmdkit.io.label_maps import write_labels
from bmdkit.io.markups import write_landmarks
from bmdkit.io.volumes import write_volume
from bmdkit.jobs.processes import Outcome

HEADER = "patient_id,ct,xray,side,landmarks,labels,calibration"
CALIBRATION = {"slope_mg_cm3_per_hu": 0.8, "intercept_mg_cm3": -3.0}


def table(folder, *rows):
    (folder / "cohort.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder


def problems(folder, **settings):
    found = [check_case(case, config=ValidationConfig(**settings)) for case in read_cohort(folder).cases]
    return [(p.line, p.column, p.code) for listed in found for p in listed]


@pytest.fixture
def images(tmp_path):
    """A cohort of one patient with a DICOM CT and a radiograph of both hips."""
    write_ct(tmp_path / "ct" / "p1", body_hu())
    write_dx(tmp_path / "x" / "p1.dcm", hip_image())
    return table(tmp_path, "p1,ct/p1,x/p1.dcm,L,,,", "p1,ct/p1,x/p1.dcm,R,,,")


def test_sound_images_have_no_problems_and_nothing_is_touched(images):
    before = {p: p.stat().st_mtime_ns for p in images.rglob("*")}
    assert problems(images) == []
    assert {p: p.stat().st_mtime_ns for p in images.rglob("*")} == before


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        ("ImageLaterality", "R", [(2, "side", "BMD-XR-020")]),
        ("Laterality", "L", [(3, "side", "BMD-XR-020")]),
        ("ImageLaterality", "B", []),
        ("PatientID", "someone else", [(2, "xray", "BMD-XR-021")]),
        ("PatientBirthDate", "19990101", [(2, "xray", "BMD-XR-021")]),
        ("PatientSex", "M", []),  # of one person by identifier and birth date
        ("PatientName", "SAMPLE^ONE^^", []),
        ("DistanceSourceToDetector", None, [(2, "xray", "BMD-XR-011")]),
        ("ImagerPixelSpacing", None, [(2, "xray", "BMD-XR-010")]),
        ("PhotometricInterpretation", "RGB", [(2, "xray", "BMD-XR-003")]),
    ],
)
def test_headers_are_held_against_the_table(images, tag, value, expected):
    write_dx(images / "x" / "p1.dcm", hip_image(), edit=lambda ds: setattr(ds, tag, value))
    assert problems(images) == expected


def test_a_defective_ct_is_found_from_its_headers(images):
    (images / "ct" / "p1" / "a_0005.dcm").unlink()
    assert problems(images) == [(2, "ct", "BMD-CT-011")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A CT with bones, its labels, landmarks of both hips, and a calibration; written once."""
    folder = tmp_path_factory.mktemp("sound")
    air = np.array(CT.array)
    air[:, :5] = -1000
    write_volume(folder / "ct.nii.gz", Volume(air, CT.grid, "hu"))
    write_labels(folder / "labels.nii.gz", bones())
    for side, sign in (("L", 1), ("R", -1)):
        write_landmarks(folder / f"{side}.mrk.json", landmarks(side, sign))
    (folder / "cal.json").write_text(json.dumps(CALIBRATION))
    write_dx(folder / "x.dcm", hip_image())
    return folder


def landmarks(side, sign):
    """Eight points within a femur of `BONES`; the head inward, the shaft outward."""
    centre, half = (np.array(part, float) for part in BONES[f"femur_{side}"])
    points = {name: np.add(centre, [sign * 4.0, 0.0, 10.0 - 3 * n]) for n, name in enumerate(LANDMARKS)}
    points["head_center"] = np.add(centre, [sign * -8.0, 0.0, 0.4 * half[2]])
    points["shaft_5cm"] = np.add(centre, [sign * 6.0, 0.0, -0.5 * half[2]])
    return Landmarks(side, points)


@pytest.fixture
def sound(written, tmp_path):
    """That cohort, to be spoilt."""
    for path in written.iterdir():
        (tmp_path / path.name).symlink_to(path)
    rows = (f"p1,ct.nii.gz,x.dcm,{side},{side}.mrk.json,labels.nii.gz,cal.json" for side in "LR")
    return table(tmp_path, *rows)


def replace(path):
    """The path of a file that may be written: what stood there was a link."""
    path.unlink()
    return path


def test_sound_labels_landmarks_and_calibration_have_no_problems(sound):
    assert problems(sound) == []


def other_map(**options):
    return lambda path: write_labels(path, bones(**options))


def unnamed(path):
    write_labels(path, bones())
    path.with_name("labels.json").unlink()


def only(*names):
    """The map without the other structures."""

    def make(path):
        whole = bones()
        values = [LABEL_VALUES[name] for name in names]
        write_labels(path, LabelMap(np.where(np.isin(whole.array, values), whole.array, 0), whole.grid, LABEL_VALUES))

    return make


def flipped(axis):
    return lambda path: write_labels(path, LabelMap(np.flip(bones().array, axis), bones().grid, LABEL_VALUES))


def save(array):
    return lambda path: nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def text(content):
    return lambda path: path.write_text(content)


LABELS = {
    "no NIfTI": (text("labels"), "BMD-MAP-001"),
    "4-D": (save(np.ones((8, 8, 8, 2), np.uint8)), "BMD-MAP-001"),
    "halves": (save(np.full((8, 8, 8), 0.5, np.float32)), "BMD-MAP-001"),
    "without names": (unnamed, "BMD-MAP-002"),
    "shifted": (other_map(shift_mm=(9, 0, 6)), "BMD-LBL-003"),
    "of a larger patient": (other_map(stretch=(1.15, 1.15, 1.15)), "BMD-LBL-003"),
    "mirrored": (flipped(2), "BMD-LBL-003"),
    "upside down": (flipped(0), "BMD-LBL-003"),
    "beside the CT": (other_map(grid=Grid((40, 40, 40), [3.0] * 3, [900.0, 0, 0], np.eye(3))), "BMD-LBL-001"),
    "pelvis alone": (only("pelvis"), "BMD-LBL-002"),
    "without the pelvis": (only("femur_L", "femur_R"), "BMD-LBL-002"),
}


@pytest.mark.parametrize(("make", "code"), LABELS.values(), ids=LABELS)
def test_label_maps_are_opened_and_held_against_the_ct(sound, make, code):
    make(replace(sound / "labels.nii.gz"))
    assert (2, "labels", code) in problems(sound)
    assert {code_ for _, column, code_ in problems(sound) if column == "labels"} == {code}


def test_a_femur_that_the_labels_lack_is_named_for_its_row(sound):
    only("pelvis", "axial", "femur_L")(replace(sound / "labels.nii.gz"))
    assert problems(sound) == [(3, "labels", "BMD-LBL-002")]


VOLUMES = {
    "no NIfTI": (text("ct"), "BMD-CT-020"),
    "4-D": (save(np.zeros((8, 8, 8, 2), np.int16)), "BMD-CT-021"),
    "no HU": (save(np.full((8, 8, 8), 30000, np.int16)), "BMD-CT-015"),
    "truncated": (lambda path: path.write_bytes((path.parent / "whole").read_bytes()[:-2000]), "BMD-CT-020"),
}


@pytest.mark.parametrize(("make", "code"), VOLUMES.values(), ids=VOLUMES)
@pytest.mark.parametrize("with_labels", [True, False])
def test_volumes_are_opened(sound, make, code, with_labels):
    (sound / "whole").write_bytes((sound / "ct.nii.gz").read_bytes())
    make(replace(sound / "ct.nii.gz"))
    if not with_labels:
        table(sound, "p1,ct.nii.gz,x.dcm,L,L.mrk.json,,")
    assert problems(sound) == [(2, "ct", code)]


MARKS = {
    "the other side's": (lambda path: write_landmarks(path, landmarks("R", -1)), "BMD-LMK-003"),
    "mirrored": (lambda path: write_landmarks(path, landmarks("L", -1)), "BMD-LMK-003"),
    "of another frame": (
        lambda path: write_landmarks(
            path, Landmarks("L", {k: np.add(v, [0, 0, 90]) for k, v in landmarks("L", 1).points_mm.items()})
        ),
        "BMD-LMK-003",
    ),
    "no JSON": (text("points"), "BMD-MRK-001"),
    "no landmark of ours": (text(json.dumps({"markups": [{"controlPoints": []}]})), "BMD-MRK-003"),
}


@pytest.mark.parametrize(("make", "code"), MARKS.values(), ids=MARKS)
def test_landmarks_are_opened_and_held_against_side_and_bone(sound, make, code):
    make(replace(sound / "L.mrk.json"))
    assert problems(sound) == [(2, "landmarks", code)]


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_other_sides_landmarks_are_told_without_labels(side):
    sign = 1 if side == "L" else -1
    assert require_side(landmarks(side, sign)) == side
    with pytest.raises(CaseError, match="other side"):
        require_side(Landmarks(side, landmarks("R" if side == "L" else "L", -sign).points_mm))


CALIBRATIONS = {
    "empty": ("{}", "BMD-CAL-004"),
    "no number": (json.dumps(CALIBRATION | {"slope_mg_cm3_per_hu": "steep"}), "BMD-CAL-004"),
    "no intercept": (json.dumps({"slope_mg_cm3_per_hu": 0.8}), "BMD-CAL-004"),
    "no JSON": ("0.8", "BMD-CAL-004"),
}


@pytest.mark.parametrize(("content", "code"), CALIBRATIONS.values(), ids=CALIBRATIONS)
def test_calibrations_are_opened(sound, content, code):
    replace(sound / "cal.json").write_text(content)
    assert problems(sound) == [(2, "calibration", code)]


def test_a_dicom_ct_is_read_where_labels_have_to_lie_on_it(sound):
    """The same bones as DICOM: sound; with labels of elsewhere not."""
    hu = np.array(CT.array)
    hu[:, :5] = -1000
    write_ct(sound / "dicom", hu, spacing_mm=tuple(CT.grid.spacing_mm), origin_mm=tuple(CT.grid.origin_mm))
    rows = [f"p1,dicom,x.dcm,{side},,labels.nii.gz," for side in "LR"]
    assert problems(table(sound, *rows)) == []
    other_map(shift_mm=(0, 10, 0))(replace(sound / "labels.nii.gz"))
    assert problems(sound) == [(2, "labels", "BMD-LBL-003")]


def test_settings_of_the_recipe_decide_what_is_allowed(sound):
    from bmdkit.segmentation.labels import LabelConfig

    other_map(shift_mm=(9, 0, 6))(replace(sound / "labels.nii.gz"))
    lenient = LabelConfig(least_edge_agreement=0.0, least_bone_hu=0.0)
    assert {code for _, _, code in problems(sound, labels=lenient)} <= {"BMD-LBL-003", "BMD-LMK-003"}


def test_thinned_labels_lie_where_they_lay():
    labels = LabelMap(scan().array > 200, CT.grid, LABEL_VALUES)
    fine = LabelMap(np.repeat(labels.array, 4, axis=2), Grid((80, 60, 440), [0.5, 2, 2.5], [0, 0, 0], np.eye(3)), {})
    thin = thin_out(fine)
    assert thin.grid.spacing_mm.tolist() == [3.0, 2.0, 2.5]
    index = np.argwhere(thin.array)[::97]
    nearest = np.rint(fine.grid.indices(thin.grid.points(index))).astype(int)
    assert fine.array[tuple(nearest.T)].all()


def test_cases_are_checked_side_by_side(images):
    rows = [f"p{n},ct/p{n},x/p{n}.dcm,L,,," for n in (1, 2, 3)]
    for n in (2, 3):
        write_ct(images / "ct" / f"p{n}", body_hu())
        write_dx(images / "x" / f"p{n}.dcm", hip_image())
    cases = read_cohort(table(images, *rows)).cases
    seen = []
    assert check_cases(cases, n_jobs=2, on_case=seen.append) == []
    assert sorted(seen) == ["p1", "p2", "p3"]
    (images / "ct" / "p2" / "a_0004.dcm").unlink()
    found = check_cases(cases, n_jobs=2)
    assert [(p.line, p.column, p.code) for p in found] == [(3, "ct", "BMD-CT-011")]


def test_a_reader_that_ends_its_process_is_a_problem_of_its_case(images, monkeypatch):
    died = Outcome("p1", code="BMD-RUN-001", reason="its process ended with exit code 11")
    monkeypatch.setattr("bmdkit.dataset.validation.run_jobs", lambda check, jobs, config: iter([died]))
    (found,) = check_cases(read_cohort(images).cases)
    assert (found.line, found.column, found.code) == (2, "", "BMD-RUN-001")
    assert found.message == "its process ended with exit code 11."
