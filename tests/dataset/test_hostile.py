"""What a cohort's author could try: names that lead out of the output, and tags that must not get into it."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from fake_stages import build_fake

from bmdkit.cli.main import group
from bmdkit.core.case import Case, CohortRow
from bmdkit.dataset import integrity
from bmdkit.dataset.cohort_build import RunOptions, build_cases
from bmdkit.dataset.names import name_radiographs
from bmdkit.errors import PreflightError
from bmdkit.io.cohort import read_cohort
from bmdkit.simulation.simulated_cohort import SimulateConfig, simulate_cohort

PARTS = ["../", "..", "/", "\\", "\0", "\n", "C:", "~", "$HOME", "`id`", "%2e%2e", "\u202e", "CON", "<script>", "=1+1"]
PARTS += ["'", '"', ";", "|", "\ud800", "\u2024\u2024/", " ", ".", "-", "a", "A", "\x7f", "é", "😀", "x" * 300]
COUNT = 200

CANARIES = {
    "PatientName": "ZANARY^Alpha", "PatientID": "ZANARY-ID", "PatientBirthDate": "19010203",
    "OtherPatientIDs": "ZANARY-OTHER", "PatientBirthName": "ZANARY^Birth", "PatientMotherBirthName": "ZANARY^Mother",
    "PatientAddress": "ZANARY street", "PatientTelephoneNumbers": "ZANARY-TEL", "PatientComments": "ZANARY comment",
    "MilitaryRank": "ZANARY rank", "EthnicGroup": "ZANARYETHNIC", "Occupation": "ZANARY job",
    "AdditionalPatientHistory": "ZANARY history", "AccessionNumber": "ZANARYACC", "StudyID": "ZANARYSTUDY",
    "StudyDescription": "ZANARY study", "SeriesDescription": "ZANARY series", "ProtocolName": "ZANARY protocol",
    "InstitutionName": "ZANARY clinic", "InstitutionAddress": "ZANARY town", "ReferringPhysicianName": "ZANARY^Ref",
    "PerformingPhysicianName": "ZANARY^Perf", "OperatorsName": "ZANARY^Op", "StationName": "ZANARYSTATION",
    "DeviceSerialNumber": "ZANARYSERIAL", "RequestedProcedureDescription": "ZANARY request",
    "ImageComments": "ZANARY image", "StudyInstanceUID": "1.2.777000777.1", "SeriesInstanceUID": "1.2.777000777.2",
    "FrameOfReferenceUID": "1.2.777000777.3", "StudyDate": "19040506", "ConvolutionKernel": "ZANARYKERNEL",
}  # fmt: skip
TRACES = ("zanary", "777000777", "19010203", "19040506")


def hostile_names() -> list[str]:
    rng = np.random.default_rng(5)
    return ["".join(rng.choice(PARTS, rng.integers(1, 6))) for _ in range(COUNT)]


def files_of(folder: Path, *, but: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if not p.is_relative_to(but)}


def test_hostile_patient_ids_are_refused_or_become_pseudonyms(tmp_path):
    root = tmp_path / "cohort"
    root.mkdir()
    given = sorted({name.strip() for name in hostile_names()} - {""})
    for number in range(len(given)):
        (root / f"{number}.nii").write_text(f"fine {number}")
        (root / f"{number}.dcm").write_text(f"film {number}")
    with (root / "cohort.csv").open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["patient_id", "ct", "xray", "side", "pose"])
        writer.writerows([name, f"{n}.nii", f"{n}.dcm", "L", name[:40]] for n, name in enumerate(given))
    with pytest.raises(PreflightError) as caught:
        read_cohort(root)
    refused = {problem.line for problem in caught.value.problems if problem.code == "BMD-COH-009"}
    assert len(refused) > COUNT // 2
    cohort = read_cohort(root, pseudonymise_key=b"k" * 32)
    assert all(case.patient_id.startswith("sub-") and len(case.patient_id) == 16 for case in cohort.cases)


@pytest.mark.usefixtures("in_process")
def test_hostile_names_of_files_and_poses_write_nothing_outside_the_output(tmp_path, figure):
    root, out = tmp_path / "a" / "cohort", tmp_path / "a" / "b" / "out"
    root.mkdir(parents=True)
    cases = []
    for number, name in enumerate(hostile_names()):
        ct = root / f"{number}.nii"
        ct.write_text(f"fine {number}")
        stem = name.replace("/", "_").replace("\0", "_").encode("utf-8", "replace").decode()[:50]
        xray = root / f"{stem}{number}.dcm"
        xray.write_text(f"film {number}")
        cases.append(Case(f"p{number:03}", (CohortRow(f"p{number:03}", ct, xray, "L", name, carried={"x": name}),)))
    for case in cases:
        for anonymous in (False, True):
            (made,) = name_radiographs(case, anonymous=anonymous).values()
            assert made == Path(made).name
            assert made not in ("", ".", "..")
            assert made.isascii()
            assert len(made) <= 80
    before = files_of(tmp_path, but=out)
    sane = [Case(c.patient_id, tuple(_writable(row) for row in c.rows)) for c in cases]
    build_cases(sane, out, None, RunOptions(anonymous=True), build_one=build_fake)
    after = files_of(tmp_path, but=out)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    figure("hostile names", len(cases))
    figure("hostile names: files written outside of the output", len(changed - {out.parent, out.parent.parent}))
    assert {path for path in changed if path != out.parent} <= {out.parent.parent}
    assert integrity.check_files(out) == []


def _writable(row: CohortRow) -> CohortRow:
    """A table is UTF-8, so no lone surrogate comes out of one."""
    text = row.pose.encode("utf-8", "replace").decode()
    return CohortRow(row.patient_id, row.ct, row.xray, row.side, text, carried={"x": text})


def mark(cohort: Path) -> None:
    """Canaries in all images, and in the names of their files."""
    for path in sorted(p for p in cohort.rglob("*") if p.suffix == ".dcm"):
        ds = pydicom.dcmread(path)
        for name, value in CANARIES.items():
            setattr(ds, name, value)
        ds.add_new(0x00091001, "LO", "ZANARY private")
        ds.save_as(path)


def hits(folder: Path) -> list[str]:
    """Files whose name or bytes, unpacked if need be, hold a canary."""
    import gzip

    found = []
    for path in (p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        data += gzip.decompress(data) if path.name.endswith(".gz") else b""
        if any(trace in data.lower() or trace.decode() in path.name.lower() for trace in (t.encode() for t in TRACES)):
            found.append(str(path.relative_to(folder)))
    return found


@pytest.mark.slow
def test_tags_that_tell_a_person_reach_no_output(tmp_path, figure):
    """Good, damaged and crashing cases: neither datasets, reports, logs nor what is printed holds any canary."""
    assert len(CANARIES) >= 30
    cohort = tmp_path / "cohort"
    config = SimulateConfig(patients=1, poses=("standing",), slice_mm=6.0, pixel_mm=1.5, grid_mm=3.0)
    simulate_cohort(cohort, config, seed=1)
    shutil.rmtree(cohort / "truth", ignore_errors=True)
    mark(cohort)
    with (cohort / "cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    source, film = cohort / rows[0]["ct"], cohort / rows[0]["xray"]
    for name in ("gap", "cut", "film"):
        shutil.copytree(source, cohort / "ct" / name)
        shutil.copyfile(film, cohort / "xray" / f"ZANARY_{name}.dcm")
        extra = {"patient_id": f"ZANARY {name}", "ct": f"ct/{name}", "xray": f"xray/ZANARY_{name}.dcm"}
        rows.append(rows[0] | extra)
    slices = sorted((cohort / "ct" / "gap").iterdir())
    slices[len(slices) // 2].unlink()
    slices = sorted((cohort / "ct" / "cut").iterdir())
    slices[3].rename(slices[3].with_name("ZANARY_slice.dcm"))
    damaged = slices[3].with_name("ZANARY_slice.dcm")
    damaged.write_bytes(damaged.read_bytes()[:-500])
    film = cohort / "xray" / "ZANARY_film.dcm"
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with (cohort / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "work").mkdir()
    out = tmp_path / "work" / "out"
    quick = ["registration.pelvis.evaluations=60", "registration.femur.evaluations=24", "pairs.keep_rejected=true"]
    command = [sys.executable, "-m", "bmdkit.cli.main", "build-dataset", str(cohort), "--out", str(out), "-v"]
    command += ["--pseudonymise", "--log-format", "json", *(part for item in quick for part in ("--set", item))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["code"] for line in lines if "code" in line} >= {"BMD-CT-011", "BMD-CT-010", "BMD-XR-002"}
    (tmp_path / "work" / "printed").write_text(done.stdout + done.stderr)
    for secret in out.parent.glob("out.keys.*"):  # the map of pseudonyms is the user's, outside of the dataset
        secret.unlink()
    figure("personal data: tags", len(CANARIES))
    figure("personal data: files with a hit", len(hits(tmp_path / "work")))
    assert hits(tmp_path / "work") == []
    assert CliRunner().invoke(group, ["fsck", str(out)]).exit_code == 0
