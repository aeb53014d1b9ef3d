"""One case through all stages: the only place that knows them all.

Everything is written to a staging folder of the case; `commit.publish` puts it in the dataset.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit import __version__
from bmdkit.config import to_dict
from bmdkit.core.case import Case, CohortRow
from bmdkit.core.device import resolve_device
from bmdkit.core.geometry import GeometryError
from bmdkit.core.pose_json import read_poses
from bmdkit.dataset import qc_pictures
from bmdkit.dataset.anonymity import FileNames
from bmdkit.dataset.bone_labels import UNCERTAINTY_FILE, UNCERTAINTY_JSON
from bmdkit.dataset.commit import CASES, SCHEMA, damage, hash_outputs, read_meta, without_failures, write_meta
from bmdkit.dataset.context import BuildContext, CaseResult
from bmdkit.dataset.ct_stage import MeasuredCt, Problem, measure_ct, seen_without_labels
from bmdkit.dataset.fingerprint import XRAY, Fingerprint, fingerprint_case
from bmdkit.dataset.manifest import problems_of
from bmdkit.dataset.names import pair_id, short_names, xray_names
from bmdkit.dataset.radiograph_stage import Regions, Registered, make_pairs
from bmdkit.dataset.stages import calibrate_ct, prepare_bones, register_bones
from bmdkit.errors import CaseError
from bmdkit.io.ct import CtScan, read_ct
from bmdkit.io.density import write_density
from bmdkit.io.images import write_png
from bmdkit.io.label_maps import write_labels
from bmdkit.io.markups import write_landmarks
from bmdkit.io.nifti import write_nifti
from bmdkit.io.patient_identity import check_same_patient
from bmdkit.io.results import write_json
from bmdkit.io.volumes import write_volume
from bmdkit.io.xray import check_laterality, read_radiograph, require_geometry
from bmdkit.registration.overlays import draw_edge_overlay

logger = logging.getLogger(__name__)

Stages = Callable[["CaseWork"], list[dict[str, Any]]]


def build_case(case: Case, context: BuildContext, stages: Stages | None = None) -> CaseResult:
    """Take one case through all stages into its staging folder, or verify that what is there can stay.

    Args:
        case: Rows of one patient.
        context: Of the build.
        stages: What is done with the case, `CaseWork.run` if not given; returns rows of the manifest.

    Raises:
        DiskFullError: The output's file system is full.
    """
    work = CaseWork(case, context)
    if work.is_done():
        problems = problems_of(without_failures(work.old["pairs"]))
        return CaseResult(case.patient_id, work.old["status"], problems, True, None, work.clock.seconds)
    shutil.rmtree(work.staged, ignore_errors=True)
    try:
        work.require_unbroken(*(role for role in work.fingerprint.broken if not role.startswith(XRAY)))
        rows = (stages or CaseWork.run)(work)
    except CaseError as error:
        rows = work.all_rows(Problem.of(error))
    files = FileNames(case, hidden=context.anonymous)
    rows = [row | {"reason": files.hide(row["reason"])} if "reason" in row else row for row in rows]
    work.notes = [files.hide(note) for note in work.notes]
    rows.sort(key=lambda row: (row["pair_id"], row["dataset"]))
    status = "ok" if all(row["status"] == "ok" for row in rows) else "quarantined"
    meta = {
        "patient_id": case.patient_id,
        "status": status,
        "bmdkit": __version__,
        "schema": SCHEMA,
        "device": work.device.partition(":")[0],
        "key": work.fingerprint.key,
        "inputs": dict(work.fingerprint.inputs),
        "settings": to_dict(context.config),
        "registrations": work.registrations_made,
        "notes": work.notes,
        "pairs": rows,
        "outputs": hash_outputs(work.staged),
    }
    write_meta(work.staged, case.patient_id, meta)
    return CaseResult(
        case.patient_id, status, problems_of(rows), False, work.staged, work.clock.seconds, tuple(work.notes)
    )


def stage_failure(case: Case, context: BuildContext, code: str, reason: str) -> CaseResult:
    """Stage a case that could not be built: nothing but a meta.json that says so, and that is never reused."""
    work = CaseWork(case, context)
    shutil.rmtree(work.staged, ignore_errors=True)
    rows = [row | {"status": "failed"} for row in work.all_rows(Problem(code, reason))]
    rows.sort(key=lambda row: (row["pair_id"], row["dataset"]))
    meta = {"patient_id": case.patient_id, "status": "failed", "bmdkit": __version__, "pairs": rows, "outputs": {}}
    write_meta(work.staged, case.patient_id, meta)
    return CaseResult(case.patient_id, "failed", problems_of(rows), staged=work.staged)


class CaseWork:
    """The way of one case through the stages.

    Attributes:
        case, context: What is built.
        names, short: Names of the radiographs, by file; and the short ones, by name.
        device: Device that works on the case.
        staged, folder: The staging folder, and the case's own folder in it.
        clock: Wall time by stage.
        notes: What a user should know.
        registrations_made: What each registration depends on, by name.
    """

    def __init__(self, case: Case, context: BuildContext) -> None:
        self.case, self.context, self.config = case, context, context.config
        self.device = resolve_device(context.device, renders=True)  # of this machine, which may be a cluster's
        self.names = xray_names(case, anonymous=context.anonymous)
        self.short = short_names(case.patient_id, self.names.values())
        self.staged = context.staging / case.patient_id
        self.folder = self.staged / CASES / case.patient_id
        self.clock = _Clock()
        self.notes: list[str] = []
        self.registrations_made: dict[str, str] = {}
        self.old: dict[str, Any] | None = None
        self._damaged: set[str] = set()
        self._bodies = None

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What the outputs depend on; reads every input."""
        return fingerprint_case(self.case, self.config, self.names, self.context.checksums)

    def is_done(self) -> bool:
        """Whether the same case is there, whole; keeps what is there for parts that can be taken over."""
        with self.clock("verify"):
            old = None if self.context.overwrite else read_meta(self.context.out, self.case.patient_id)
            if old and old["status"] != "failed":
                self.old, self._damaged = old, set(damage(self.context.out, old))
            key = self.fingerprint.key  # before anything is read for use
            return self.old is not None and not self._damaged and self.old["key"] == key

    def run(self) -> list[dict[str, Any]]:
        """All stages; returns the rows of the manifest."""
        with self.clock("read CT"):
            scan = read_ct(self.case.ct, config=self.config.ct, case=self.case.patient_id)
        self.notes += scan.warnings
        try:
            ct = self._measured(scan)
        except CaseError as error:
            with self.clock("regions"):
                return self.all_rows(Problem.of(error), seen_without_labels(scan, error))
        regions = Regions(ct)
        rows = []
        for path, name in sorted(self.names.items(), key=lambda item: item[1]):
            rows += self._film(path, name, ct, regions)
        return rows

    def require_unbroken(self, *roles: str) -> None:
        """Raise a CaseError if one of these inputs is not as it was sealed."""
        found = [
            f"{role.partition(':')[0]}: {self.fingerprint.broken[role]}"
            for role in roles
            if role in self.fingerprint.broken
        ]
        if found:
            raise CaseError("BMD-SUM-001", "; ".join(found) + ".", case=self.case.patient_id)

    def _measured(self, scan: CtScan) -> MeasuredCt:
        """Calibration, density and regions, written as soon as they are known."""
        with self.clock("calibrate"):
            line = calibrate_ct(scan.volume, self.case.calibration, self.config.calibration)
        self.notes += line.notes
        with self.clock("write"):
            write_json(self.folder / "calibration.json", line.to_dict())
            slope, intercept = line.slope_mg_cm3_per_hu, line.intercept_mg_cm3
            write_density(self.folder / "density.nii.gz", scan.volume, slope, intercept)
            qc_pictures.draw_calibration(self.folder / "qc", scan.volume, line)
        with self.clock("regions"):
            ct = measure_ct(self.case, scan, line, self.config, self.device)
        self.notes += [note for hip in ct.hips.values() for note in hip.notes]
        with self.clock("write"):
            self._write_regions(ct)
        return ct

    def all_rows(self, problem: Problem, by_side: Mapping[str, Problem] | None = None) -> list[dict[str, Any]]:
        """Every pair of the case, left out for one reason, or one that holds for its side."""
        rows = []
        for row in self.case.rows:
            reason = (by_side or {}).get(row.side, problem)
            rows += [self._left_out(row, dataset, reason) for dataset in self.config.datasets]
        return rows

    def _left_out(self, row: CohortRow, dataset: str, problem: Problem, facts: Mapping[str, Any] | None = None) -> dict:
        facts = self.facts(row) if facts is None else facts
        return {**facts, "dataset": dataset, "status": "quarantined", "code": problem.code, "reason": problem.reason}

    def facts(self, row: CohortRow, ct: MeasuredCt | None = None) -> dict[str, Any]:
        """What the manifest says of a row before its radiograph is looked at."""
        facts: dict[str, Any] = {
            "pair_id": pair_id(self.case.patient_id, self.short[self.names[row.xray]], row.side),
            "patient_id": self.case.patient_id,
            "side": row.side,
            "pose": row.pose,
            "dxa_bmd_g_cm2": row.dxa_bmd_g_cm2,
        }
        if ct is not None:
            hip, line = ct.hips[row.side], ct.calibration
            facts |= {
                "qct_bmd_mg_cm3": hip.qct_bmd_mg_cm3,
                "ct_abmd_g_cm2": hip.ct_abmd_g_cm2,
                "calibration": line.source,
                "calibration_slope": line.slope_mg_cm3_per_hu,
                "calibration_intercept": line.intercept_mg_cm3,
                "segmentation_uncertainty": ct.uncertainty(row.side),
            }
        return facts

    def _write_regions(self, ct: MeasuredCt) -> None:
        write_labels(self.folder / "labels.nii.gz", ct.labels)
        if ct.segmented.variance is not None:
            write_volume(self.folder / UNCERTAINTY_FILE, ct.segmented.variance)
            write_json(self.folder / UNCERTAINTY_JSON, ct.segmented.uncertainty)
        for side, hip in ct.hips.items():
            if hip.landmarks is not None:
                write_landmarks(self.folder / f"landmarks_{side}.mrk.json", hip.landmarks)
            if hip.region is not None:
                write_nifti(self.folder / f"proximal_femur_{side}.nii.gz", hip.region, ct.labels.grid)
        qc_pictures.draw_hips(self.folder / "qc", ct)

    def _film(self, path: Path, name: str, ct: MeasuredCt, regions: Regions) -> list[dict[str, Any]]:
        """All pairs of one radiograph."""
        rows = [row for row in self.case.rows if row.xray == path]
        facts = [self.facts(row, ct) for row in rows]
        try:
            self.require_unbroken(f"{XRAY}{name}")
            with self.clock("read radiograph"):
                film = read_radiograph(path, config=self.config.xray, case=self.case.patient_id)
            self.notes += [f"{name}: {warning}" for warning in film.warnings]
            told = check_same_patient(
                ct.scan.patient_key, film.patient_key, rule=self.config.same_person, case=self.case.patient_id
            )
            self.notes += [f"{name}: {warning}" for warning in told]
            require_geometry(film, case=self.case.patient_id)
            with self.clock("register"):
                registered = self._registered(name, film, ct)
        except (CaseError, GeometryError) as error:
            problem = Problem.of(error) if isinstance(error, CaseError) else Problem("BMD-PAIR-001", str(error))
            return [
                self._left_out(r, d, problem, f) for r, f in zip(rows, facts, strict=True) for d in self.config.datasets
            ]
        if registered.mirrored:
            self.notes.append(f"{name}: BMD-XR-022, the mirrored image fits better")
        made = []
        for row, fact in zip(rows, facts, strict=True):
            try:
                check_laterality(film, row.side, case=self.case.patient_id)
            except CaseError as error:
                made += [self._left_out(row, dataset, Problem.of(error), fact) for dataset in self.config.datasets]
                continue
            with self.clock("pairs"):
                made += make_pairs(
                    self.staged, fact["pair_id"], row.side, film, registered, ct, regions, self.config, fact,
                    self.device,
                )  # fmt: skip
        return made

    def _registered(self, name: str, film, ct: MeasuredCt) -> Registered:
        """The registration of one radiograph: taken over if nothing that it depends on has changed."""
        key = self.fingerprint.registrations[name]
        file = self.folder / f"registration_{name}.json"
        picture = self.folder / "qc" / f"overlay_{name}.png"
        if self._can_take_over(name, file, picture):
            for target in (file, picture):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.context.out / target.relative_to(self.staged), target)
        else:
            bodies = self._prepared(ct)
            result = register_bones(
                bodies, film, config=self.config.registration, seed=self._generator(name), device=self.device
            )
            data = result.to_dict(seed=self.config.seed)
            write_json(file, data | {"seconds": None})  # time is in logs/timings.csv: outputs hold nothing that varies
            write_png(picture, draw_edge_overlay(film, bodies, result))
        self.registrations_made[name] = key
        return Registered.from_poses(read_poses(file))

    def _can_take_over(self, name: str, *files: Path) -> bool:
        """Whether an earlier registration depends on the same, and its files are whole."""
        if self.old is None or self.old["registrations"].get(name) != self.fingerprint.registrations[name]:
            return False
        wanted = {file.relative_to(self.staged).as_posix() for file in files}
        return wanted <= set(self.old["outputs"]) - self._damaged

    def _prepared(self, ct: MeasuredCt):
        if self._bodies is None:
            self._bodies = prepare_bones(ct.density, ct.labels, landmarks=ct.heads, config=self.config.registration)
        return self._bodies

    def _generator(self, name: str) -> np.random.Generator:
        """Of one radiograph: it depends on nothing but the seed and the names."""
        text = f"{self.config.seed}\0{self.case.patient_id}\0{name}"
        return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))


class _Clock:
    """Wall time by stage, summed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start
