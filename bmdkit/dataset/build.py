"""One case through all stages: the only place that knows them all.

Everything is written to a staging folder of the case; `commit.publish` puts it in the dataset.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from bmdkit import __version__
from bmdkit.config import to_dict
from bmdkit.core.anatomy import Side
from bmdkit.core.case import Case, CohortRow
from bmdkit.core.device import resolve_device
from bmdkit.core.geometry import GeometryError
from bmdkit.core.pose_json import read_poses
from bmdkit.core.radiograph import Radiograph
from bmdkit.dataset import qc_pictures
from bmdkit.dataset.anonymity import FileNames
from bmdkit.dataset.case_meta import CaseMeta, find_damage, read_meta, write_meta
from bmdkit.dataset.commit import hash_outputs
from bmdkit.dataset.context import BuildContext, CaseResult
from bmdkit.dataset.ct_stage import MeasuredCt, check_without_labels, measure_ct
from bmdkit.dataset.fingerprint import SCHEMA, XRAY, Fingerprint, fingerprint_case
from bmdkit.dataset.layout import (
    calibration_file,
    case_folder,
    density_file,
    labels_file,
    landmarks_file,
    overlay_file,
    pictures_folder,
    proximal_femur_file,
    registration_file,
    uncertainty_files,
)
from bmdkit.dataset.manifest import LeftOut, PairRow, Status, list_problems
from bmdkit.dataset.names import RadiographNames
from bmdkit.dataset.radiograph_stage import HipView, Regions, Registered, make_pairs
from bmdkit.dataset.stage_clock import StageClock, note_file
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
from bmdkit.registration.bodies import Body
from bmdkit.registration.overlays import draw_edge_overlay
from bmdkit.registration.register_bodies import PA_WARNING, register_views
from bmdkit.registration.result import RegistrationResult
from bmdkit.registration.staging import Shown

logger = logging.getLogger(__name__)

Stages = Callable[["CaseWork"], list[PairRow]]


def build_case(case: Case, context: BuildContext, stages: Stages | None = None) -> CaseResult:
    """Take one case through all stages into its staging folder, or verify that what is there can stay.

    Args:
        case: Rows of one patient.
        context: What all cases of the build share.
        stages: Function that works on the case and returns its rows of the manifest; `CaseWork.run` if not given.

    Returns:
        How the case came out, and where it waits to be published.

    Raises:
        DiskFullError: The output's file system is full.
    """
    work = CaseWork(case, context)
    finished = work.find_finished()
    if finished is not None:
        problems = list_problems(finished.clear_failure().pairs)
        return CaseResult(case.patient_id, finished.status, problems, True, None, work.clock.spent)
    shutil.rmtree(work.staged, ignore_errors=True)
    try:
        work.require_unchanged(*(role for role in work.fingerprint.changed if not role.startswith(XRAY)))
        rows = (stages or CaseWork.run)(work)
    except CaseError as error:
        rows = work.leave_all_out(LeftOut.from_error(error))
    files = FileNames(case, hidden=context.anonymous)
    hidden = (row if row.reason is None else replace(row, reason=files.hide(row.reason)) for row in rows)
    pairs = sort_rows(hidden)
    notes = tuple(files.hide(note) for note in work.notes)
    status: Status = "ok" if all(row.is_ok for row in pairs) else "quarantined"
    meta = CaseMeta(
        case.patient_id,
        status,
        data="simulated" if work.is_simulated else None,
        bmdkit=__version__,
        schema=SCHEMA,
        device=work.device.partition(":")[0],
        key=work.fingerprint.key,
        inputs=dict(work.fingerprint.inputs),
        settings=to_dict(context.config),
        registrations=work.registrations_made,
        notes=notes,
        pairs=pairs,
        outputs=hash_outputs(work.staged),
    )
    write_meta(work.staged, meta)
    return CaseResult(case.patient_id, status, list_problems(pairs), False, work.staged, work.clock.spent, notes)


def stage_failure(case: Case, context: BuildContext, why: LeftOut) -> CaseResult:
    """Stage a case that could not be built: nothing but a meta.json that says so, and that is never reused.

    Args:
        case: Rows of one patient.
        context: What all cases of the build share.
        why: Code and reason of the failure.
    """
    names = RadiographNames(case, anonymous=context.anonymous)
    staged = context.staging / case.patient_id
    shutil.rmtree(staged, ignore_errors=True)
    rows = sort_rows(
        replace(names.start_row(row), dataset=dataset).leave_out(why, "failed")
        for row in case.rows
        for dataset in context.config.datasets
    )
    write_meta(staged, CaseMeta(case.patient_id, "failed", bmdkit=__version__, pairs=rows))
    return CaseResult(case.patient_id, "failed", list_problems(rows), staged=staged)


def sort_rows(rows: Iterable[PairRow]) -> tuple[PairRow, ...]:
    """Sort rows as a manifest has them: by pair, then by dataset."""
    return tuple(sorted(rows, key=lambda row: (row.pair_id, row.dataset)))


class CaseWork:
    """The way of one case through the stages.

    Args:
        case: Rows of one patient.
        context: What all cases of the build share.

    Attributes:
        device: Device that works on the case.
        names: Names of the radiographs and pairs.
        staged, folder: Staging folder, and the case's own folder in it.
        clock: Wall time by stage.
        notes: Sentences that a user should know.
        registrations_made: Hash of what each registration depends on, by name.
        is_simulated: Whether the CT says that bmdkit simulated it.
        old: The case as it was published before, if parts of it can be taken over.
    """

    def __init__(self, case: Case, context: BuildContext) -> None:
        """Find the device and the names; nothing is read or written."""
        self.case, self.context, self.config = case, context, context.config
        self.device = resolve_device(context.device, renders=True)  # of this machine, which may be a cluster's
        self.names = RadiographNames(case, anonymous=context.anonymous)
        self.staged = context.staging / case.patient_id
        self.folder = case_folder(self.staged, case.patient_id)
        self.clock = StageClock(note_file(context.staging, case.patient_id))
        self.notes: list[str] = []
        self.registrations_made: dict[str, str] = {}
        self.is_simulated = False
        self.old: CaseMeta | None = None
        self._damaged: set[str] = set()
        self._bodies: tuple[Body, ...] | None = None
        self._together: dict[str, RegistrationResult] = {}

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What the outputs depend on; reads every input."""
        return fingerprint_case(self.case, self.config, self.names.by_file, self.context.checksums)

    def find_finished(self) -> CaseMeta | None:
        """Return the published case if it is the same and whole; otherwise keep it for parts that can be taken over."""
        with self.clock("verify"):
            old = None if self.context.overwrite else read_meta(self.context.out, self.case.patient_id)
            if old is not None and old.status != "failed":
                self.old, self._damaged = old, set(find_damage(self.context.out, old))
            key = self.fingerprint.key  # before anything is read for use
            return self.old if self.old is not None and not self._damaged and self.old.key == key else None

    def run(self) -> list[PairRow]:
        """Work on all stages, and return the rows of the manifest."""
        with self.clock("read CT"):
            scan = read_ct(self.case.ct, config=self.config.ct, case=self.case.patient_id)
        self.notes += scan.warnings
        self.is_simulated = scan.is_simulated
        try:
            ct = self._measure_ct(scan)
        except CaseError as error:
            with self.clock("regions"):
                return self.leave_all_out(LeftOut.from_error(error), check_without_labels(scan, error))
        regions = Regions(ct)
        rows: list[PairRow] = []
        files = sorted(self.names.by_file.items(), key=lambda item: item[1])
        for number, (path, name) in enumerate(files, start=1):
            self.clock.part = f"{number}/{len(files)}"
            rows += self._build_pairs(path, name, ct, regions)
        return rows

    def require_unchanged(self, *roles: str) -> None:
        """Make sure that these inputs are as they were sealed.

        Raises:
            CaseError: One of them is not (BMD-SUM-001).
        """
        changed = self.fingerprint.changed
        found = [f"{role.partition(':')[0]}: {changed[role]}" for role in roles if role in changed]
        if found:
            raise CaseError("BMD-SUM-001", "; ".join(found) + ".", case=self.case.patient_id)

    def leave_all_out(self, why: LeftOut, by_side: Mapping[Side, LeftOut] | None = None) -> list[PairRow]:
        """Return the rows of all pairs of the case, left out for one reason, or for one that holds for their side."""
        reasons = by_side or {}
        rows = [(self.names.start_row(row), reasons.get(row.side, why)) for row in self.case.rows]
        return [left_out for row, reason in rows for left_out in self._leave_out(row, reason)]

    def _leave_out(self, row: PairRow, why: LeftOut) -> list[PairRow]:
        return [replace(row, dataset=dataset).leave_out(why) for dataset in self.config.datasets]

    def _measure_ct(self, scan: CtScan) -> MeasuredCt:
        """Find calibration, density and regions, and write each as soon as it is known."""
        with self.clock("calibrate"):
            line = calibrate_ct(scan.volume, self.case.calibration, self.config.calibration)
        self.notes += line.notes
        with self.clock("write"):
            write_json(calibration_file(self.folder), line.to_dict())
            slope, intercept = line.slope_mg_cm3_per_hu, line.intercept_mg_cm3
            write_density(density_file(self.folder), scan.volume, slope, intercept)
            qc_pictures.draw_calibration(pictures_folder(self.folder), scan.volume, line)
        with self.clock("regions"):
            ct = measure_ct(self.case, scan, line, self.config, self.device)
        self.notes += [note for hip in ct.hips.values() for note in hip.notes]
        with self.clock("write"):
            self._write_regions(ct)
        return ct

    def _write_regions(self, ct: MeasuredCt) -> None:
        write_labels(labels_file(self.folder), ct.labels)
        if ct.segmented.variance is not None:
            volume_file, table_file = uncertainty_files(self.folder)
            write_volume(volume_file, ct.segmented.variance)
            write_json(table_file, ct.segmented.uncertainty)
        for side, hip in ct.hips.items():
            if hip.landmarks is not None:
                write_landmarks(landmarks_file(self.folder, side), hip.landmarks)
            if hip.region is not None:
                write_nifti(proximal_femur_file(self.folder, side), hip.region, ct.labels.grid)
        qc_pictures.draw_hips(pictures_folder(self.folder), ct)

    def _build_pairs(self, path: Path, name: str, ct: MeasuredCt, regions: Regions) -> list[PairRow]:
        """Read and register one radiograph, and write all its pairs."""
        rows = [self._add_measurements(row, ct) for row in self.case.rows if row.xray == path]
        try:
            radiograph = self._read_radiograph(path, name, ct)
            with self.clock("register"):
                registered = self._register(name, radiograph, ct)
        except CaseError as error:
            return [left_out for row in rows for left_out in self._leave_out(row, LeftOut.from_error(error))]
        except GeometryError as error:
            why = LeftOut("BMD-PAIR-001", str(error))
            return [left_out for row in rows for left_out in self._leave_out(row, why)]
        if registered.mirrored:
            self.notes.append(f"{name}: BMD-XR-022, the mirrored image fits better")
        if registered.camera.reversed_columns:
            self.notes.append(f"{name}: {PA_WARNING}")
        made: list[PairRow] = []
        for row in rows:
            try:
                check_laterality(radiograph, row.side, case=self.case.patient_id)
            except CaseError as error:
                made += self._leave_out(row, LeftOut.from_error(error))
                continue
            view = HipView(ct.hips[row.side], radiograph, registered, regions, self.config, self.device)
            with self.clock("pairs"):
                made += make_pairs(view, row, self.staged)
        return made

    def _add_measurements(self, row: CohortRow, ct: MeasuredCt) -> PairRow:
        """Return what the manifest says of a row once its CT is measured."""
        hip, line = ct.hips[row.side], ct.calibration
        return replace(
            self.names.start_row(row),
            qct_bmd_mg_cm3=row.qct_bmd_mg_cm3 if line.source == "none" else hip.qct_bmd_mg_cm3,
            ct_abmd_g_cm2=hip.ct_abmd_g_cm2,
            calibration=line.source,
            calibration_slope=None if line.source == "none" else line.slope_mg_cm3_per_hu,
            calibration_intercept=None if line.source == "none" else line.intercept_mg_cm3,
            segmentation_uncertainty=ct.uncertainty(row.side),
        )

    def _read_radiograph(self, path: Path, name: str, ct: MeasuredCt) -> Radiograph:
        """Read one radiograph, and make sure that it is the patient's and has a geometry."""
        self.require_unchanged(f"{XRAY}{name}")
        with self.clock("read radiograph"):
            radiograph = read_radiograph(path, config=self.config.xray, case=self.case.patient_id)
        self.notes += [f"{name}: {warning}" for warning in radiograph.warnings]
        warnings = check_same_patient(
            ct.scan.patient_key, radiograph.patient_key, rule=self.config.same_person, case=self.case.patient_id
        )
        self.notes += [f"{name}: {warning}" for warning in warnings]
        require_geometry(radiograph, case=self.case.patient_id)
        return radiograph

    def _register(self, name: str, radiograph: Radiograph, ct: MeasuredCt) -> Registered:
        """Register one radiograph, or take its registration over if nothing that it depends on has changed."""
        file, picture = registration_file(self.folder, name), overlay_file(self.folder, name)
        if self._can_take_over(name, file, picture):
            for target in (file, picture):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.context.out / target.relative_to(self.staged), target)
        else:
            bodies = self._prepare_bodies(ct)
            result = self._register_views(name, radiograph, ct, bodies)
            data = result.to_dict(seed=self.config.seed)
            write_json(file, data | {"seconds": None})  # time is in logs/timings.csv: outputs hold nothing that varies
            write_png(picture, draw_edge_overlay(radiograph, bodies, result))
        self.registrations_made[name] = self.fingerprint.registrations[name]
        return Registered.from_poses(read_poses(file))

    def _register_views(
        self, name: str, radiograph: Radiograph, ct: MeasuredCt, bodies: tuple[Body, ...]
    ) -> RegistrationResult:
        """Register one radiograph, together with those of the same moment; these are then known too."""
        if name in self._together:
            return self._together[name]
        config, files = self.config.registration, {each: path for path, each in self.names.by_file.items()}
        views = [self.names.by_file[path] for path in self.case.views_with(files[name])]
        if len(views) == 1:
            rng = self._make_generator(name)
            return register_bones(bodies, radiograph, config=config, seed=rng, device=self.device)
        shown = []
        for each in views:
            image = radiograph if each == name else self._read_radiograph(files[each], each, ct)
            if image.camera is None or image.camera.camera_from_world is None:
                message = (
                    f"{each} is one of {len(views)} views of one moment, and its side-car gives no camera_from_world."
                )
                raise CaseError("BMD-XR-027", message, case=self.case.patient_id, file=files[each].name)
            shown.append(Shown(image, image.camera, None, each))
        rng = self._make_generator("\0".join(views))
        results = register_views(bodies, shown, config=config, rng=rng, device=self.device)
        self._together |= dict(zip(views, results, strict=True))
        return self._together[name]

    def _can_take_over(self, name: str, *files: Path) -> bool:
        """Whether an earlier registration depends on the same, and its files are whole."""
        before = {} if self.old is None or self.old.registrations is None else self.old.registrations
        if self.old is None or before.get(name) != self.fingerprint.registrations[name]:
            return False
        wanted = {file.relative_to(self.staged).as_posix() for file in files}
        return wanted <= set(self.old.outputs) - self._damaged

    def _prepare_bodies(self, ct: MeasuredCt) -> tuple[Body, ...]:
        if self._bodies is None:
            self._bodies = prepare_bones(ct.density, ct.labels, landmarks=ct.heads, config=self.config.registration)
        return self._bodies

    def _make_generator(self, name: str) -> np.random.Generator:
        """Return the random generator of one radiograph: it depends on nothing but the seed and the names."""
        text = f"{self.config.seed}\0{self.case.patient_id}\0{name}"
        return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))
