"""The contract's table of bad input, three variants of each at least, through the whole command.

One cohort holds all defective images beside sound ones: one build has to name each with its code and build the rest.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter

import nibabel
import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from dicom_samples import body_hu, hip_image, write_ct, write_dx, write_enhanced_ct
from pydicom.uid import generate_uid
from quick_builds import build, simulate
from test_cohort import BAD_ROWS, GOOD, NEAR_COLUMNS, TABLES, table, with_column
from test_ct_dicom import BAD_SLICES, move
from test_hospital_ct import ENHANCED, LOSSY
from test_volumes import BAD as BAD_VOLUMES
from test_volumes import GRID, IJK, RAS_FROM_LPS
from test_xray import BAD as BAD_FILMS
from test_xray import QUESTIONABLE, j2k, setting
from volume_headers import VALUES, metaimage_header, nrrd_header, write_nifti

from bmdkit.cli.main import group
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap
from bmdkit.image_content.polarity import CLEAR, DOUBT, measure_polarity
from bmdkit.io import nifti
from bmdkit.io.label_maps import read_labels, write_labels
from bmdkit.io.markups import read_points, write_landmarks

VARIANTS = 3


def series(**tags):
    """A CT whose slices have these tags."""
    return lambda k, ds: [setattr(ds, name, value) for name, value in tags.items()]


def at(number, **tags):
    """One slice of a CT has them."""
    return lambda k, ds: k == number and series(**tags)(k, ds)


def slices(edit):
    """Makes a CT of edited slices."""
    return lambda folder: write_ct(folder, body_hu(), edit=lambda k, ds: edit(k, ds) and None)


def without(*numbers):
    return slices(lambda k, ds: setattr(ds, "skip", k in numbers))


def second_version(change, number=4):
    """Makes a CT with another image at the place of one slice."""

    def make(folder):
        write_ct(folder, body_hu())
        hu = body_hu()
        hu[number, 3, 3] += change

        def edit(k, ds):
            ds.skip, ds.SeriesInstanceUID = k != number, generate_uid(entropy_srcs=["ct a", "series"])

        write_ct(folder, hu, series="z", edit=edit)

    return make


def tie(*others):
    """Makes several series of one length."""

    def make(folder):
        write_ct(folder, body_hu())
        for name in others:
            write_ct(folder, body_hu() + 5, series=name)

    return make


def cropped(k, ds):
    if k == 3:
        ds.Rows, ds.PixelData = 38, bytes(ds.PixelData)[: 38 * 48 * 2]


def cut(number, keep):
    def make(folder):
        write_ct(folder, body_hu())
        path = folder / f"a_{number:04d}.dcm"
        path.write_bytes(path.read_bytes()[:keep])

    return make


def two_frames(offset_mm):
    """Makes a NIfTI file whose qform lies beside its sform."""

    def make(path):
        image = nibabel.Nifti1Image(IJK, RAS_FROM_LPS @ GRID.lps_from_ijk)
        other = image.affine.copy()
        other[:3, 3] += offset_mm
        image.set_sform(image.affine, code=1)
        image.set_qform(other, code=1)
        nibabel.save(image, path)

    return make


def metaimage(drop):
    """Bytes of a MetaImage without some of its fields."""
    return metaimage_header(**dict.fromkeys(drop)).encode() + VALUES.tobytes()


def nrrd(drop):
    """Bytes of a NRRD file without some of its fields."""
    return nrrd_header(**dict.fromkeys(drop)).encode() + VALUES.tobytes()


def known(names):
    """Rows of the tests of single stages, for whole series."""
    return {name: (slices(BAD_SLICES[name][0]), BAD_SLICES[name][1]) for name in names}


def volumes(*names):
    return {name: BAD_VOLUMES[name] for name in names}


SCANS = {
    "missing slice": {
        "one": (without(5), "BMD-CT-011"),
        "two apart": (without(1, 8), "BMD-CT-011"),
        "three in a row": (without(4, 5, 6), "BMD-CT-011"),
    },
    "variable spacing": known(["spacing varies at one slice", "spacing changes half way", "spacing drifts"]),
    "two pixel versions of one position": {
        "a grey value": (second_version(1), "BMD-CT-013"),
        "much darker": (second_version(-300), "BMD-CT-013"),
        "the first slice": (second_version(40, 0), "BMD-CT-013"),
    },
    "non-orthonormal direction": known(["axes not orthogonal", "axes not of length one", "zero axes"]),
    "mixed patient": {
        **known(["another patient", "another birth date"]),
        "another name": (slices(at(7, PatientName="Other^Two")), "BMD-CT-005"),
    },
    "mixed frame of reference": {
        "one slice": (slices(at(4, FrameOfReferenceUID="1.2.3")), "BMD-CT-006"),
        "the last": (slices(at(11, FrameOfReferenceUID="1.2.4")), "BMD-CT-006"),
        "half": (slices(lambda k, ds: k > 5 and setattr(ds, "FrameOfReferenceUID", "1.2.5")), "BMD-CT-006"),
    },
    "mixed matrix or spacing": {
        **known(["another pixel spacing", "another orientation"]),
        "a smaller matrix": (slices(cropped), "BMD-CT-006"),
    },
    "no position": known(["no position", "no orientation", "empty position"]),
    "no rescale": known(["no rescale", "no intercept in one", "slope of zero"]),
    "truncated, empty or bad-header slice": {
        **known(["no rows", "huge rows", "more rows than pixels", "short pixels", "no pixels", "spacing of zero"]),
        "truncated": (cut(6, 1500), "BMD-CT-010"),
        "truncated in its header": (cut(3, 300), "BMD-CT-010"),
        "empty": (cut(0, 0), "BMD-CT-010"),
    },
    "NIfTI with NaN": volumes("NaN", "infinite", "NaN everywhere"),
    "4-D NIfTI": volumes("4-D", "4-D of one", "2-D"),
    "singular NIfTI": volumes("singular", "not finite", "two columns alike", "spacing of zero"),
    "damaged NIfTI": volumes("truncated", "header only", "empty", "no NIfTI", "huge", "negative size"),
    "qform and sform disagree": {
        "across": (two_frames((5, 0, 0)), "BMD-CT-023"),
        "along": (two_frames((0, 0, -1)), "BMD-CT-023"),
        "a little": (two_frames((0, 0.3, 0)), "BMD-CT-023"),
    },
    "gantry tilt": {
        **known(["tilted", "tilted a little"]),
        "the other way": (slices(lambda k, ds: move(ds, x=-0.08 * k)), "BMD-CT-014"),
    },
    "two series tie": {
        "two": (tie("b"), "BMD-CT-003"),
        "three": (tie("b", "c"), "BMD-CT-003"),
        "four": (tie("b", "c", "d"), "BMD-CT-003"),
    },
    "compressed with loss": {name: (slices(change), "BMD-CT-016") for name, change in LOSSY.items()},
    "enhanced CT that is no regular stack": {
        name: (
            lambda folder, change=ENHANCED[name][0]: write_enhanced_ct(
                folder / "e.dcm", body_hu(), edit=lambda ds: change(ds) and None
            ),
            ENHANCED[name][1],
        )
        for name in ("a frame is missing", "a frame is displaced", "tilted", "no positions", "no rescale", "two frames")
    },
    "NIfTI whose unit cannot be right": {
        name: (lambda path, unit=unit, scale=scale: write_nifti(path, unit, scale), "BMD-CT-026")
        for name, unit, scale in (
            ("mm said, micron meant", "mm", 1e3),
            ("micron said", "micron", 1.0),
            ("metre said", "meter", 1.0),
        )
    },
    "MetaImage without geometry": {
        name: (lambda path, drop=drop: path.write_bytes(metaimage(drop)), "BMD-CT-007")
        for name, drop in (
            ("no spacing", ("ElementSpacing",)),
            ("no offset", ("Offset",)),
            ("neither", ("ElementSpacing", "Offset", "TransformMatrix")),
        )
    },
    "NRRD without geometry": {
        name: (lambda path, drop=drop: path.write_bytes(nrrd(drop)), "BMD-CT-007")
        for name, drop in (
            ("no space", ("space",)),
            ("no directions", ("space directions", "space origin", "space")),
            ("no origin", ("space origin",)),
        )
    },
    "HU implausible": {**known(["unsubtracted offset", "intercept twice", "blank"]), **volumes("no HU")},
}
"""Row -> variant -> (what makes the CT, code)."""


def mine(edit):
    """The edited film of the cohort's own patient."""

    def changed(ds):
        edit(ds)
        ds.PatientID = ds.PatientName = ds.PatientBirthDate = ds.PatientSex = ""

    return changed


def tagged(**tags):
    """A film of the cohort's own patient with these tags."""
    return mine(setting(**tags))


def in_doubt(seed):
    """A film of blobs under noise, stored so that it seems to be the opposite of what its tags say, but not clearly."""

    def change(ds):
        v, u = np.mgrid[-1:1:160j, -1:1:200j]
        bones = sum(np.exp(-(((u - sign * 0.5) ** 2 + v**2) / 0.05)) for sign in (1, -1))
        body = np.sqrt(np.clip(1 - u**2, 0, None)) + bones
        noise = np.random.default_rng(seed).normal(size=body.shape)
        images = (body + strength * noise for strength in np.geomspace(0.1, 3, 20))
        scores = ((image, measure_polarity(image, np.ones(image.shape, bool))) for image in images)
        image, score = next(found for found in scores if DOUBT + 0.5 < abs(found[1]) < CLEAR - 0.5)
        low, high = (image.min(), image.max()) if score < 0 else (image.max(), image.min())
        values = np.rint(4095 * (image - low) / (high - low)).astype("<u2")
        tagged(Rows=160, Columns=200, PixelData=values.tobytes())(ds)

    return change


FILMS = {
    "view that is not frontal": {
        name: (tagged(ViewPosition=name), "BMD-XR-019") for name in ("AXIAL", "FROG LEG", "ML", "INLET")
    },
    "another part of the body": {
        name: (tagged(BodyPartExamined=name), "BMD-XR-024") for name in ("CHEST", "KNEE", "WRIST")
    },
    "resampled, and the spacing kept": {
        "halved": (tagged(FieldOfViewDimensions=[96, 120]), "BMD-XR-026"),
        "doubled": (tagged(FieldOfViewDimensions=[24, 30]), "BMD-XR-026"),
        "a third of the detector": (tagged(DetectorActiveDimensions=[144, 180]), "BMD-XR-026"),
    },
    "polarity in doubt": {f"noise {seed}": (in_doubt(seed), "BMD-XR-023") for seed in range(3)},
    "no spacing": {
        "none": (mine(setting(ImagerPixelSpacing=None)), "BMD-XR-010"),
        "zero": (mine(setting(ImagerPixelSpacing=[0, 0])), "BMD-XR-010"),
        "in the wrong unit": (mine(setting(ImagerPixelSpacing=[50, 50])), "BMD-XR-010"),
    },
    "no SDD": {
        "none": (mine(setting(DistanceSourceToDetector=None)), "BMD-XR-011"),
        "zero": (mine(setting(DistanceSourceToDetector=0)), "BMD-XR-011"),
        "in cm": (mine(setting(DistanceSourceToDetector=115)), "BMD-XR-011"),
    },
    "RGB or palette": {
        "RGB": (QUESTIONABLE["RGB"][0], "BMD-XR-003"),
        "palette": BAD_FILMS["palette"],
        "no photometric interpretation": BAD_FILMS["no photometric interpretation"],
    },
    "multi-frame": {
        f"{count} frames": (
            lambda ds, count=count: setting(NumberOfFrames=count, PixelData=bytes(ds.PixelData) * count)(ds),
            "BMD-XR-004",
        )
        for count in (2, 3, 10)
    },
    "screenshot": {
        name: (QUESTIONABLE[name][0], "BMD-XR-005") for name in ("secondary capture", "modality OT", "screen save")
    },
    "lossy": {
        "flag and ratio": (QUESTIONABLE["lossy flag"][0], "BMD-XR-006"),
        "flag": (setting(LossyImageCompression="01"), "BMD-XR-006"),
        "transfer syntax": BAD_FILMS["lossy syntax"],
    },
    "J2K precision unlike BitsStored": {
        f"{bits} bits": (
            lambda ds, bits=bits: [j2k(ds), setting(BitsStored=bits, HighBit=bits - 1)(ds)],
            "BMD-XR-007",
        )
        for bits in (10, 12, 14)
    },
    "of another patient": {
        "identifier": (setting(PatientID="x"), "BMD-XR-021"),
        "birth date": (setting(PatientID="", PatientBirthDate="19000101"), "BMD-XR-021"),
        "name": (setting(PatientID="", PatientName="Other^Two"), "BMD-XR-021"),
        "placeholder": (setting(PatientID="ANONYMOUS"), "BMD-XR-021"),
    },
    "unreadable": {name: BAD_FILMS[name] for name in ("short pixels", "no pixels", "no rows", "more rows than pixels")},
}
"""Row -> variant -> (what changes the film, code)."""

TURNED = {
    "image": {"ImageLaterality": "R"},
    "series": {"ImageLaterality": "", "Laterality": "R"},
    "both": {"ImageLaterality": "R", "Laterality": "R"},
}


def relabelled(change):
    """Makes a label map of a changed array, or on a changed grid."""
    return lambda path, labels: write_labels(path, change(labels))


def moved(*by_mm):
    def change(labels):
        grid = labels.grid
        there = Grid(grid.shape, grid.spacing_mm, np.add(grid.origin_mm, by_mm), grid.direction)
        return LabelMap(labels.array, there, labels.values)

    return relabelled(change)


def flipped(axis):
    return relabelled(lambda labels: LabelMap(np.flip(labels.array, axis), labels.grid, labels.values))


def without_bones(*names):
    return relabelled(
        lambda labels: LabelMap(np.where(labels.mask(*names), 0, labels.array), labels.grid, labels.values)
    )


def named(**names):
    """Makes a label map whose side-car differs in these names."""

    def make(path, labels):
        write_labels(path, labels)
        beside = path.with_name(path.name.replace(".nii.gz", ".json"))
        wrong = {key: value for key, value in names.items() if value is not None}
        beside.write_text(json.dumps({key: value for key, value in labels.values.items() if key not in names} | wrong))

    return make


def plain(content):
    return lambda path, labels: path.write_bytes(content)


def array(values):
    return lambda path, labels: nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


BESIDE_THE_TABLE = {
    "label map off the bones": {
        "shifted": (moved(8, 0, 6), "BMD-LBL-003"),
        "far away": (moved(0, 300, 0), "BMD-LBL-003"),
        "mirrored": (flipped(2), "BMD-LBL-003"),
        "upside down": (flipped(0), "BMD-LBL-003"),
        "front to back": (flipped(1), "BMD-LBL-003"),
    },
    "label map without a bone": {
        "no pelvis": (without_bones("pelvis"), "BMD-LBL-002"),
        "no femur": (without_bones("femur_L", "femur_R"), "BMD-LBL-002"),
        "nothing": (without_bones("pelvis", "femur_L", "femur_R", "axial"), "BMD-LBL-001"),
    },
    "names of a label map": {
        "a letter is absent": (named(femur_R=None, femr_R=3), "BMD-MAP-002"),
        "no side": (named(femur_L=None, femur_R=None, femur=2), "BMD-MAP-002"),
        "none": (lambda path, labels: nifti.write_nifti(path, labels.array, labels.grid), "BMD-MAP-002"),
        "half a value": (named(axial=4.5), "BMD-MAP-003"),
        "one value twice": (named(axial=1), "BMD-MAP-003"),
    },
    "unreadable label map": {
        "no NIfTI": (plain(b"labels"), "BMD-MAP-001"),
        "4-D": (array(np.ones((8, 8, 8, 2), np.uint8)), "BMD-MAP-001"),
        "halves": (array(np.full((8, 8, 8), 0.5, np.float32)), "BMD-MAP-001"),
    },
    "landmarks": {
        "the other side's": (lambda path, folder: shutil.copy(folder / "other.mrk.json", path), "BMD-LMK-003"),
        "no JSON": (plain(b"points"), "BMD-MRK-001"),
        "none of ours": (plain(b'{"markups": [{"controlPoints": []}]}'), "BMD-MRK-003"),
    },
    "calibration": {
        "empty": (plain(b"{}"), "BMD-CAL-004"),
        "no JSON": (plain(b"0.8"), "BMD-CAL-004"),
        "no number": (plain(b'{"slope_mg_cm3_per_hu": "steep", "intercept_mg_cm3": 0}'), "BMD-CAL-004"),
    },
}
"""Row -> variant -> (what makes the file, code)."""

COLUMN_OF = {"landmarks": ("landmarks", ".mrk.json"), "calibration": ("calibration", ".json")}


@pytest.mark.slow
def test_every_bad_file_beside_the_images_has_its_code_in_validate_and_in_a_build(tmp_path, figure):
    root = simulate(tmp_path / "cohort")
    with (root / "cohort.csv").open(newline="") as file:
        (sound,) = csv.DictReader(file)
    labels = read_labels(root / sound["labels"])
    mirror = {name: point * (-1, 1, 1) for name, point in read_points(root / sound["landmarks"]).items()}
    write_landmarks(root / "other.mrk.json", Landmarks("R", mirror))
    rows, expected = [sound], {}
    for row, variants in BESIDE_THE_TABLE.items():
        for variant, (make, code) in variants.items():
            name = f"file{len(rows):03d}"
            column, suffix = COLUMN_OF.get(row, ("labels", ".nii.gz"))
            shutil.copytree(root / sound["ct"], root / "ct" / name)
            shutil.copy(root / sound["xray"], root / "xray" / f"{name}.dcm")
            make(root / f"{name}{suffix}", root if column == "landmarks" else labels)
            rows.append(sound | {"patient_id": name, "ct": f"ct/{name}", "xray": f"xray/{name}.dcm"})
            rows[-1][column] = f"{name}{suffix}"
            expected[name] = (f"{row}: {variant}", code)
    with (root / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*sound, "calibration"], restval="")
        writer.writeheader()
        writer.writerows(rows)
    lines = {line: row["patient_id"] for line, row in enumerate(rows, start=2)}
    told = CliRunner().invoke(group, ["validate", str(root), "--json", str(tmp_path / "found.json")])
    assert told.exit_code == 4
    found = {lines[p["line"]]: p["code"] for p in json.loads((tmp_path / "found.json").read_text())["problems"]}
    assert {said: found.get(name) for name, (said, code) in expected.items() if found.get(name) != code} == {}
    assert set(found) == set(expected)
    done = build(root, tmp_path / "out", "--dataset", "B")
    assert done.returncode == 3, done.stderr
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        built = {row["pair_id"].split("__")[1]: (row["status"], row["code"]) for row in csv.DictReader(file)}
    wrong = {
        said: built.get(name) for name, (said, code) in expected.items() if built.get(name) != ("quarantined", code)
    }
    assert wrong == {}
    seen = Counter(said.partition(":")[0] for said, _ in expected.values())
    assert min(seen.values()) >= VARIANTS
    figure("bad files beside the images: variants", len(expected))
    assert built["standing"] == ("ok", "")


@pytest.mark.slow
def test_every_bad_image_has_its_code_and_the_rest_is_built(tmp_path, figure):
    root = simulate(tmp_path / "cohort")
    with (root / "cohort.csv").open(newline="") as file:
        (sound,) = csv.DictReader(file)
    rows, expected = [sound], {}
    for row, variants in SCANS.items():
        for variant, (make, code) in variants.items():
            name = f"ct{len(rows):03d}"
            is_nifti = "NIfTI" in row or variant == "no HU" or row.startswith("qform")
            suffix = ".nii" if is_nifti else {"MetaImage": ".mha", "NRRD": ".nrrd"}.get(row.split()[0], "")
            path = root / "ct" / f"{name}{suffix}"
            make(path)
            write_dx(root / "xray" / f"{name}.dcm", hip_image())
            rows.append({"patient_id": name, "ct": f"ct/{path.name}", "xray": f"xray/{name}.dcm", "side": "L"})
            expected[name] = (f"CT, {row}: {variant}", code)
    for row, variants in FILMS.items():
        for variant, (edit, code) in variants.items():
            name = f"film{len(rows):03d}"
            write_dx(root / "xray" / f"{name}.dcm", hip_image(), edit=lambda ds, edit=edit: edit(ds) and None)
            rows.append(sound | {"xray": f"xray/{name}.dcm"})
            expected[name] = (f"film, {row}: {variant}", code)
    for variant, tags in TURNED.items():
        name = f"side{len(rows):03d}"
        ds = pydicom.dcmread(root / sound["xray"])
        setting(**tags)(ds)
        ds.save_as(root / "xray" / f"{name}.dcm")
        rows.append(sound | {"xray": f"xray/{name}.dcm"})
        expected[name] = (f"film, laterality against side: {variant}", "BMD-XR-020")
    with (root / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(sound), restval="")
        writer.writeheader()
        writer.writerows(rows)
    done = build(root, tmp_path / "out", "--dataset", "B", "--set", "xray.resampled=quarantine")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        found = {row["pair_id"].split("__")[1]: (row["status"], row["code"]) for row in csv.DictReader(file)}
    wrong = {
        said: found.get(name) for name, (said, code) in expected.items() if found.get(name) != ("quarantined", code)
    }
    seen = Counter(said.partition(":")[0] for said, _ in expected.values())
    figure("bad images: rows of the table", len(seen))
    figure("bad images: variants", len(expected))
    figure("bad images: with the expected code", len(expected) - len(wrong))
    assert wrong == {}
    assert min(seen.values()) >= VARIANTS
    assert found["standing"] == ("ok", "")


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *(("row", len(BAD_ROWS)), ("table", len(TABLES)), ("column", len(NEAR_COLUMNS))),
        *(("folds", VARIANTS), ("recipe", VARIANTS)),
    ],
)
def test_what_stops_a_build_ends_with_its_status_and_no_traceback(tmp_path, figure, kind, count):
    """Tables, identifiers, folds: 4, and every row is named. Recipes that would run code: 2."""
    right = 0
    for number in range(count):
        folder = tmp_path / f"{number}"
        for name in ("p1", "p2", "p3"):
            (folder / "ct" / name).mkdir(parents=True)
            (folder / "ct" / name / "0.dcm").write_text("x")
            (folder / "x").mkdir(exist_ok=True)
            (folder / "x" / f"{name}.dcm").write_text("x")
        words, status, codes = [], 4, {"BMD-RUN-033"}
        if kind == "row":
            row, problems = list(BAD_ROWS.values())[number]
            table(folder, [GOOD[0], row, GOOD[1].replace("p1", "p3")])
            codes = {code for _, _, code in problems}
        elif kind == "table":
            data, code = list(TABLES.values())[number]
            codes = {code}
            if data is not None:
                (folder / "cohort.csv").write_bytes(data)
        elif kind == "column":
            known, names = list(NEAR_COLUMNS.items())[number]
            with_column(folder, names[-1], known)
            codes = {"BMD-COH-014"}
        elif kind == "folds":
            folds = (("0", "1"), ("2", "0"), ("0", ""))[number]
            rows = [f"p1,ct/p1,x/p1.dcm,{side},,,{fold}" for side, fold in zip("LR", folds, strict=True)]
            table(folder, rows, header="patient_id,ct,xray,side,pose,dxa_bmd,fold")
        else:
            table(folder, GOOD)
            text = ("seed: !!python/object/apply:os.system ['true']", "seed: !!python/name:os.system", "a: [1")[number]
            (folder / "r.yaml").write_text(text)
            words, status, codes = ["--recipe", str(folder / "r.yaml")], 2, set()
        done = CliRunner().invoke(group, ["build-dataset", str(folder), "--out", str(folder / "out"), *words])
        error = done.exception
        said = str(error) + done.output
        ended = getattr(error, "exit_code", done.exit_code)  # `main` makes the status of our errors
        assert ended == status, (kind, number, said)
        assert all(code in said for code in codes), (kind, number, said)
        assert not (folder / "out").exists()
        right += 1
        shutil.rmtree(folder)
    figure("bad tables, folds and recipes", count)
    figure("bad tables, folds and recipes refused as expected", right)
