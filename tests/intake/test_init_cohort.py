"""A tree of exports becomes a cohort: who, which CT, which hips, which pose; and nobody's name on the way."""

import csv
import stat
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from dicom_samples import body_hu, hip_image, write_ct, write_dx
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from bmdkit.cli.main import group
from bmdkit.errors import PreflightError
from bmdkit.intake.cohort_draft import draft_cohort
from bmdkit.intake.cohort_files import write_draft
from bmdkit.intake.header_scan import scan_tree
from bmdkit.intake.settings import IntakeConfig
from bmdkit.io.cohort import check_cohort

HU = body_hu((24, 32, 40))
IMAGE = hip_image(48, 60)


def person(patient_id="P1", name="Doe^Jane", born="19500101", sex="F"):
    return {"PatientID": patient_id, "PatientName": name, "PatientBirthDate": born, "PatientSex": sex}


def renew(ds, *words, **tags):
    for name, value in tags.items():
        setattr(ds, name, value)
    for name in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(ds, name, generate_uid(entropy_srcs=[name, *map(str, words), *map(str, tags.values())]))
    number = str(ds.get("InstanceNumber", 0))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[ds.SeriesInstanceUID, number]
    )


def add_ct(folder, who=None, day="20230110", hu=HU, word="", **tags):
    return write_ct(folder, hu, edit=lambda _, ds: renew(ds, "ct", word, **(who or person()), StudyDate=day, **tags))


def add_xray(path, who=None, day="20230112", laterality="B", word="", **tags):
    def edit(ds):
        renew(ds, "xray", path.name, word, **(who or person()), StudyDate=day, **tags)
        if laterality:
            ds.ImageLaterality = laterality

    return write_dx(path, IMAGE, edit=edit)


def draft(tree, **settings):
    return draft_cohort(scan_tree([tree]), IntakeConfig(**settings))


def columns(found, *names):
    return [tuple(row[name] for name in names) for row in found.rows]


def test_a_pelvis_gives_both_hips_and_a_side_gives_one(tmp_path):
    add_ct(tmp_path / "ct")
    add_xray(tmp_path / "a.dcm", ViewPosition="AP", SeriesDescription="Pelvis AP standing")
    add_xray(tmp_path / "b.dcm", laterality="R", SeriesDescription="Hip")
    found = draft(tmp_path)
    assert columns(found, "patient_id", "ct", "xray", "side", "pose") == [
        ("P1", "ct/P1", "xray/P1_1.dcm", "L", "standing"),
        ("P1", "ct/P1", "xray/P1_1.dcm", "R", "standing"),
        ("P1", "ct/P1", "xray/P1_2.dcm", "R", ""),
    ]
    assert [(question.xray, question.column) for question in found.questions] == [("xray/P1_2.dcm", "pose")]
    assert columns(found, "sex", "age_years", "days_from_ct") == [("F", 73, 2)] * 3


def test_the_cohort_is_sound_and_holds_no_name(tmp_path):
    who = person("DOE-JANE-1950", "Doe^Jane")
    tree = tmp_path / "export" / "DOE^JANE_19500101"
    add_ct(tree / "CT of Doe", who)
    add_xray(tree / "Jane Doe hip.dcm", who)
    out = tmp_path / "cohort"
    done = CliRunner().invoke(group, ["init-cohort", str(tree), "--out", str(out), "--n-jobs", "1"])
    assert done.exit_code == 0, done.output
    assert [problem for problem in check_cohort(out) if not problem.is_warning] == []
    written = "\n".join([(out / "cohort.csv").read_text(), (out / "open_questions.csv").read_text()])
    written += "\n".join(str(path.relative_to(out)) for path in out.rglob("*"))
    assert not any(word in (written + done.output).casefold() for word in ("doe", "jane", "1950", "1.2.826"))
    with (tmp_path / "cohort.keys.csv").open() as handle:
        assert list(csv.DictReader(handle)) == [{"case": "sub-001", "patient_id": "DOE-JANE-1950"}]
    if sys.platform != "win32":
        for ending in (".keys.csv", ".sources.csv"):
            assert stat.S_IMODE((tmp_path / f"cohort{ending}").stat().st_mode) == 0o600
    slices = sorted((out / "ct/sub-001").iterdir())
    assert len(slices) == len(HU)
    assert slices[0].read_bytes() == (tree / "CT of Doe/a_0000.dcm").read_bytes()


def test_validate_reads_what_was_written(tmp_path):
    add_ct(tmp_path / "tree/ct")
    add_xray(tmp_path / "tree/x.dcm")
    runner = CliRunner()
    out = str(tmp_path / "cohort")
    assert runner.invoke(group, ["init-cohort", str(tmp_path / "tree"), "--out", out]).exit_code == 0
    done = runner.invoke(group, ["validate", out, "--n-jobs", "1"])
    assert done.exit_code == 0, done.output
    assert "sound: 1 patients, 1 radiographs" in done.output


@pytest.mark.parametrize(
    ("patient_id", "name"),
    [("P 1/2", "Doe^Jane"), ("doe42", "Doe^Jane"), ("19500101-7", "Doe^Jane"), ("../up", "Doe^Jane")],
)
def test_an_identifier_that_may_not_be_in_a_path_gives_a_number(tmp_path, patient_id, name):
    who = person(patient_id, name)
    add_ct(tmp_path / "ct", who)
    add_xray(tmp_path / "x.dcm", who)
    found = draft(tmp_path)
    assert {row["patient_id"] for row in found.rows} == {"sub-001"}
    assert found.keys == {"sub-001": patient_id}


def test_names_stay_when_the_tree_grows(tmp_path):
    for patient in ("B 1", "C 1"):
        add_ct(tmp_path / patient / "ct", person(patient))
        add_xray(tmp_path / patient / "x.dcm", person(patient))
    out = tmp_path / "cohort"
    runner = CliRunner()
    first = runner.invoke(group, ["init-cohort", str(tmp_path / "B 1"), str(tmp_path / "C 1"), "--out", str(out)])
    add_ct(tmp_path / "A 1/ct", person("A 1"))
    add_xray(tmp_path / "A 1/x.dcm", person("A 1"))
    folders = [str(tmp_path / name) for name in ("A 1", "B 1", "C 1")]
    refused = runner.invoke(group, ["init-cohort", *folders, "--out", str(out)])
    again = runner.invoke(group, ["init-cohort", *folders, "--out", str(out), "--overwrite"])
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert isinstance(refused.exception, PreflightError)
    assert refused.exception.code == "BMD-COH-017"
    with (tmp_path / "cohort.keys.csv").open() as handle:
        keys = {row["patient_id"]: row["case"] for row in csv.DictReader(handle)}
    assert keys == {"B 1": "sub-001", "C 1": "sub-002", "A 1": "sub-003"}


def test_zeros_and_blanks_do_not_part_a_person_and_birth_dates_do(tmp_path):
    add_ct(tmp_path / "ct", person("0042"))
    add_xray(tmp_path / "same.dcm", person("42"))
    add_xray(tmp_path / "other.dcm", person("42", "Roe^Richard", "19610202", "M"))
    found = draft(tmp_path)
    by_sex = {row["sex"]: row for row in found.rows}
    assert by_sex["F"]["ct"] == f"ct/{by_sex['F']['patient_id']}"
    assert by_sex["M"]["ct"] == ""
    assert by_sex["F"]["patient_id"] != by_sex["M"]["patient_id"]


def test_a_placeholder_pairs_nobody(tmp_path):
    for number in (1, 2):
        who = person("ANONYMOUS", f"Anon^{number}", "")
        add_ct(tmp_path / f"ct{number}", who, word=number)
        add_xray(tmp_path / f"x{number}.dcm", who, word=number)
    found = draft(tmp_path)
    assert {row["ct"] for row in found.rows} == {""}
    assert len({row["patient_id"] for row in found.rows}) == 2
    assert all(question.text for question in found.questions if question.column == "ct")


def test_the_ct_of_the_nearest_day_is_taken(tmp_path):
    add_ct(tmp_path / "early", day="20220101", word="early")
    near = add_ct(tmp_path / "near", day="20230105", word="near")
    add_xray(tmp_path / "x.dcm", day="20230110")
    found = draft(tmp_path)
    assert {path.parent for place, path in found.files.items() if place.startswith("ct/")} == {near}
    assert dict(found.count_left_out()) == {"a CT of another day is nearer": len(HU)}


def test_too_many_days_leave_the_ct_empty(tmp_path):
    add_ct(tmp_path / "ct", day="20200101")
    add_xray(tmp_path / "x.dcm", day="20230110")
    assert {row["ct"] for row in draft(tmp_path).rows} == {""}
    assert {row["ct"] for row in draft(tmp_path, max_days=2000).rows} == {"ct/P1"}


def test_of_equal_series_the_user_chooses_and_of_others_the_largest_is_taken(tmp_path):
    add_ct(tmp_path / "soft", word="soft", ConvolutionKernel="B30f")
    add_ct(tmp_path / "short", word="short", hu=HU[:20])
    add_xray(tmp_path / "x.dcm")
    assert {row["ct"] for row in draft(tmp_path).rows} == {"ct/P1"}
    add_ct(tmp_path / "hard", word="hard", ConvolutionKernel="B70f")
    found = draft(tmp_path)
    assert {row["ct"] for row in found.rows} == {""}
    (question,) = [question for question in found.questions if question.column == "ct"]
    assert "B30f" in question.text
    assert "B70f" in question.text
    assert {place.split("/")[1] for place in found.files if place.startswith("ct/")} == {"P1_1", "P1_2"}


def test_what_is_no_hip_is_left_out_and_counted(tmp_path):
    add_ct(tmp_path / "ct")
    add_ct(tmp_path / "chest", word="chest", BodyPartExamined="CHEST", day="20230112")
    add_xray(tmp_path / "good.dcm")
    add_xray(tmp_path / "lateral.dcm", ViewPosition="LL")
    add_xray(tmp_path / "hand.dcm", BodyPartExamined="HAND")
    (tmp_path / "notes.dcm").write_text("no image")
    (tmp_path / "ct/copy_of_0000.dcm").write_bytes((tmp_path / "ct/a_0000.dcm").read_bytes())
    found = draft(tmp_path)
    reasons = dict(found.count_left_out())
    assert reasons.pop("a copy of another file") == 1
    assert reasons.pop("another part of the body") == len(HU)
    assert reasons.pop("no DICOM") == 1
    assert sorted(reason[:10] for reason in reasons) == ["BMD-XR-019", "BMD-XR-024"]
    assert {row["ct"] for row in found.rows} == {"ct/P1"}


def test_an_exposure_that_is_there_twice_counts_once(tmp_path):
    add_ct(tmp_path / "ct")
    for intent in ("FOR PROCESSING", "FOR PRESENTATION"):
        path = add_xray(tmp_path / f"{intent}.dcm", PresentationIntentType=intent, AcquisitionTime="101500")
        import pydicom

        ds = pydicom.dcmread(path)
        ds.StudyInstanceUID = "1.2.3"
        ds.save_as(path)
    found = draft(tmp_path)
    assert {path.name for place, path in found.files.items() if place.startswith("xray/")} == {"FOR PRESENTATION.dcm"}


@pytest.mark.parametrize(
    ("tags", "pose"),
    [
        ({"SeriesDescription": "Hip AP weight-bearing"}, "standing"),
        ({"SeriesDescription": "Hip AP non weight-bearing"}, ""),
        ({"ProtocolName": "Hüfte liegend"}, "supine"),
        ({"StudyDescription": "understanding hips"}, ""),
        ({"SeriesDescription": "hip abduction", "PatientPosition": "HFS"}, "abduction"),
        ({"PatientPosition": "FFS"}, "supine"),
        ({"SeriesDescription": "股関節 立位", "SpecificCharacterSet": "ISO_IR 192"}, "standing"),
    ],
)
def test_the_pose_is_what_the_tags_name(tmp_path, tags, pose):
    add_ct(tmp_path / "ct")
    add_xray(tmp_path / "x.dcm", laterality="L", **{"SpecificCharacterSet": "ISO_IR 192", **tags})
    assert columns(draft(tmp_path), "side", "pose") == [("L", pose)]


def test_the_pose_by_its_codes(tmp_path):
    recumbent, supine = Dataset(), Dataset()
    recumbent.CodeValue, supine.CodeValue = "F-10450", "F-10340"
    recumbent.PatientOrientationModifierCodeSequence = [supine]
    add_ct(tmp_path / "ct")
    add_xray(tmp_path / "x.dcm", laterality="L", PatientOrientationCodeSequence=[recumbent])
    assert columns(draft(tmp_path), "pose") == [("supine",)]


@pytest.mark.parametrize(
    ("description", "sides"), [("Hip left AP", "L"), ("HIP RT", "R"), ("Becken a.p.", "LR"), ("both hips", "LR")]
)
def test_the_side_by_a_word(tmp_path, description, sides):
    add_ct(tmp_path / "ct")
    add_xray(tmp_path / "x.dcm", laterality="", SeriesDescription=description)
    assert [row["side"] for row in draft(tmp_path, look_at_images=False).rows] == list(sides)


def test_the_image_tells_where_no_tag_does(sample_cohort, tmp_path):
    import pydicom

    source = sorted((sample_cohort / "xray").glob("*.dcm"))[0]
    ds = pydicom.dcmread(source)
    for name in ("ImageLaterality", "Laterality", "BodyPartExamined", "SeriesDescription", "StudyDescription"):
        if name in ds:
            del ds[name]
    ds.save_as(tmp_path / "pelvis.dcm")
    half = ds.pixel_array[:, ds.Columns // 2 :]
    ds.PixelData, ds.Columns = np.ascontiguousarray(half).tobytes(), half.shape[1]
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.save_as(tmp_path / "half.dcm")
    found = draft(tmp_path)
    sides = {}
    for row in found.rows:
        sides.setdefault(found.files[row["xray"]].name, []).append(row["side"])
    assert sides["pelvis.dcm"] == ["L", "R"]
    assert sides["half.dcm"] in (["L"], [""])


def test_paths_are_kept_when_asked(tmp_path):
    add_ct(tmp_path / "tree/ct")
    add_xray(tmp_path / "tree/x.dcm")
    write_draft(draft(tmp_path / "tree"), tmp_path / "cohort", placement="paths")
    assert [problem for problem in check_cohort(tmp_path / "cohort") if not problem.is_warning] == []
    assert "../tree/ct" in (tmp_path / "cohort/cohort.csv").read_text()
    assert not (tmp_path / "cohort/ct").exists()


def test_a_tree_without_radiographs_is_refused(tmp_path):
    add_ct(tmp_path / "tree/ct")
    done = CliRunner().invoke(group, ["init-cohort", str(tmp_path / "tree"), "--out", str(tmp_path / "c")])
    assert isinstance(done.exception, PreflightError)
    assert done.exception.code == "BMD-COH-016"
    assert not (tmp_path / "c").exists()


def test_nothing_is_written_on_a_dry_run(tmp_path):
    add_ct(tmp_path / "tree/ct")
    add_xray(tmp_path / "tree/x.dcm")
    arguments = ["init-cohort", str(tmp_path / "tree"), "--out", str(tmp_path / "c"), "--dry-run"]
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
