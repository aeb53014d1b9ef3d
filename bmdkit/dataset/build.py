"""One case through all stages: the only place that knows them all.

Everything is written to a staging folder of the case; `commit.publish` puts it in the dataset.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit import __version__
from bmdkit.config import to_dict
from bmdkit.core.case import Case, CohortRow
from bmdkit.core.geometry import GeometryError
from bmdkit.dataset import qc
from bmdkit.dataset.commit import CASES, META, SCHEMA, digest, hash_input, hash_outputs, is_whole, read_meta
from bmdkit.dataset.ct_side import CtSide, NoLabelsError, Problem, measure_ct, read_calibrated
from bmdkit.dataset.film_side import Regions, Registered, make_pairs
from bmdkit.dataset.names import pair_id, short_names, xray_names
from bmdkit.dataset.settings import BuildConfig
from bmdkit.errors import CaseError
from bmdkit.io.density import write_density
from bmdkit.io.dicom_header import check_same_patient
from bmdkit.io.images import write_png
from bmdkit.io.markups import write_landmarks
from bmdkit.io.nifti import write_nifti
from bmdkit.io.results import write_json
from bmdkit.io.volumes import write_labels
from bmdkit.io.xray import check_laterality, read_radiograph, require_geometry
from bmdkit.registration.bodies import prepare_bodies
from bmdkit.registration.pictures import edge_overlay
from bmdkit.registration.register import register_bodies

logger = logging.getLogger(__name__)

BEFORE_PAIRS = ("calibration", "labels", "segmentation", "registration", "xray", "seed")
"""Settings that a registration depends on."""


@dataclass(frozen=True)
class BuildContext:
    """What all cases of a build share.

    Attributes:
        out: The dataset.
        staging: Private folder of the run, on the same file system if possible.
        config: Everything that can change a result.
        anonymous: File names of the cohort must not be shown.
        device: Of renderer and registration.
        overwrite: Make every case anew.
    """

    out: Path
    staging: Path
    config: BuildConfig
    anonymous: bool = False
    device: str = "cpu"
    overwrite: bool = False


@dataclass(frozen=True)
class CaseResult:
    """How one case came out; small, for the parent process.

    Attributes:
        patient_id: The case.
        status: "ok" or "quarantined": some or all of its pairs are left out.
        problems: (what, code, reason) of all that is left out.
        reused: Whether what was there before was verified and kept.
        staged: Where it waits to be published; None when it was reused.
        seconds: Wall time by stage.
        notes: What a user should know.
    """

    patient_id: str
    status: str
    problems: tuple[tuple[str, str, str], ...] = ()
    reused: bool = False
    staged: Path | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identity:
    """What a case's outputs depend on, as hashes.

    Attributes:
        inputs: By role: ct, labels, calibration, landmarks_<side>, xray:<name>.
        key: Of everything.
        registrations: Of what each radiograph's registration depends on, by name.
    """

    inputs: Mapping[str, str | None]
    key: str
    registrations: Mapping[str, str]


def identify(case: Case, config: BuildConfig, names: Mapping[Path, str], device: str) -> Identity:
    """Hash all that the outputs of a case depend on; the same whatever the order of its rows."""
    inputs = {"ct": hash_input(case.ct), "labels": hash_input(case.labels), "calibration": hash_input(case.calibration)}
    inputs |= {f"landmarks_{side}": hash_input(case.landmarks_of(side)) for side in case.sides}
    settings = to_dict(config)
    code = {"schema": SCHEMA, "version": __version__, "device": device.partition(":")[0]}
    shared = {name: settings[name] for name in BEFORE_PAIRS}
    upstream = [dict(inputs), shared, code, case.patient_id]
    films = {name: hash_input(path) for path, name in names.items()}
    rows = sorted((names[row.xray], row.side, row.pose, str(row.dxa_bmd_g_cm2)) for row in case.rows)
    inputs |= {f"xray:{name}": value for name, value in films.items()}
    key = digest([upstream, settings | {"folds": None}, inputs, rows])
    return Identity(inputs, key, {name: digest([upstream, name, value]) for name, value in films.items()})


def build_case(case: Case, context: BuildContext) -> CaseResult:
    """Take one case through all stages into its staging folder, or verify that what is there can stay.

    Args:
        case: Rows of one patient.
        context: Of the build.

    Raises:
        DiskFullError: The output's file system is full.
    """
    clock = _Clock()
    names = xray_names(case, anonymous=context.anonymous)
    with clock("verify"):
        identity = identify(case, context.config, names, context.device)
        old = None if context.overwrite else read_meta(context.out, case.patient_id)
        old = old if old and old["status"] != "failed" and is_whole(context.out, old) else None
    if old and old["key"] == identity.key:
        return CaseResult(case.patient_id, old["status"], _problems(old["pairs"]), True, None, clock.seconds)
    staged = context.staging / case.patient_id
    shutil.rmtree(staged, ignore_errors=True)
    work = _Work(case, context, names, identity, staged, clock, old)
    notes: list[str] = []
    try:
        rows = work.run(notes)
    except CaseError as error:
        rows = work.all_rows(Problem.of(error), error.by_side if isinstance(error, NoLabelsError) else {})
    rows.sort(key=lambda row: (row["pair_id"], row["dataset"]))
    meta = {
        "patient_id": case.patient_id,
        "status": "ok" if all(row["status"] == "ok" for row in rows) else "quarantined",
        "bmdkit": __version__,
        "schema": SCHEMA,
        "key": identity.key,
        "inputs": dict(identity.inputs),
        "settings": to_dict(context.config),
        "registrations": work.registrations_made,
        "notes": notes,
        "pairs": rows,
        "outputs": hash_outputs(staged) if staged.exists() else {},
    }
    write_json(staged / CASES / case.patient_id / META, meta)
    return CaseResult(case.patient_id, meta["status"], _problems(rows), False, staged, clock.seconds, tuple(notes))


def failed_meta(case: Case, context: BuildContext, code: str, reason: str) -> dict[str, Any]:
    """The meta.json of a case that could not be built; never reused."""
    names = xray_names(case, anonymous=context.anonymous)
    work = _Work(case, context, names, Identity({}, "", {}), context.staging / case.patient_id, _Clock(), None)
    rows = [row | {"status": "failed"} for row in work.all_rows(Problem(code, reason))]
    rows.sort(key=lambda row: (row["pair_id"], row["dataset"]))
    return {"patient_id": case.patient_id, "status": "failed", "bmdkit": __version__, "pairs": rows, "outputs": {}}


class _Work:
    """The way of one case through the stages."""

    def __init__(self, case, context, names, identity, staged, clock, old) -> None:
        self.case: Case = case
        self.context: BuildContext = context
        self.config: BuildConfig = context.config
        self.names: Mapping[Path, str] = names
        self.short = short_names(case.patient_id, names.values())
        self.identity: Identity = identity
        self.staged: Path = staged
        self.folder = staged / CASES / case.patient_id
        self.clock: _Clock = clock
        self.old: Mapping[str, Any] | None = old
        self.registrations_made: dict[str, str] = {}
        self._bodies = None

    def run(self, notes: list[str]) -> list[dict[str, Any]]:
        with self.clock("read CT"):
            scan, line = read_calibrated(self.case, self.config)
        notes += [*scan.warnings, *line.notes]
        with self.clock("write"):
            write_json(self.folder / "calibration.json", line.to_dict())
            slope, intercept = line.slope_mg_cm3_per_hu, line.intercept_mg_cm3
            write_density(self.folder / "density.nii.gz", scan.volume, slope, intercept)
        with self.clock("regions"):
            ct = measure_ct(self.case, scan, line, self.config)
        notes += [note for hip in ct.hips.values() for note in hip.notes]
        with self.clock("write"):
            self._write_regions(ct)
        regions = Regions(ct)
        rows = []
        for path, name in sorted(self.names.items(), key=lambda item: item[1]):
            rows += self._film(path, name, ct, regions, notes)
        return rows

    def all_rows(self, problem: Problem, by_side: Mapping[str, Problem] | None = None) -> list[dict[str, Any]]:
        """Every pair of the case, left out for one reason, or one that holds for its side."""
        rows = []
        for row in self.case.rows:
            reason = (by_side or {}).get(row.side, problem)
            rows += [self._left_out(row, dataset, reason) for dataset in self.config.datasets]
        return rows

    def _left_out(self, row: CohortRow, dataset: str, problem: Problem, facts: Mapping[str, Any] | None = None) -> dict:
        facts = self._facts(row, None) if facts is None else facts
        return {**facts, "dataset": dataset, "status": "quarantined", "code": problem.code, "reason": problem.reason}

    def _facts(self, row: CohortRow, ct: CtSide | None) -> dict[str, Any]:
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
            }
        return facts

    def _write_regions(self, ct: CtSide) -> None:
        write_labels(self.folder / "labels.nii.gz", ct.labels)
        for side, hip in ct.hips.items():
            if hip.landmarks is not None:
                write_landmarks(self.folder / f"landmarks_{side}.mrk.json", hip.landmarks)
            if hip.region is not None:
                write_nifti(self.folder / f"proximal_femur_{side}.nii.gz", hip.region, ct.labels.grid)
        qc.draw_ct(self.folder / "qc", ct)

    def _film(self, path: Path, name: str, ct: CtSide, regions: Regions, notes: list[str]) -> list[dict[str, Any]]:
        """All pairs of one radiograph."""
        rows = [row for row in self.case.rows if row.xray == path]
        facts = [self._facts(row, ct) for row in rows]
        try:
            with self.clock("read radiograph"):
                film = read_radiograph(path, config=self.config.xray, case=self.case.patient_id)
            notes += [f"{name}: {warning}" for warning in film.warnings]
            check_same_patient(ct.scan.patient_key, film.patient_key, case=self.case.patient_id)
            require_geometry(film, case=self.case.patient_id)
            with self.clock("register"):
                registered = self._registered(name, film, ct)
        except (CaseError, GeometryError) as error:
            problem = Problem.of(error) if isinstance(error, CaseError) else Problem("BMD-PAIR-001", str(error))
            return [
                self._left_out(r, d, problem, f) for r, f in zip(rows, facts, strict=True) for d in self.config.datasets
            ]
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
                    self.context.device,
                )  # fmt: skip
        return made

    def _registered(self, name: str, film, ct: CtSide) -> Registered:
        """The registration of one radiograph: taken over if nothing that it depends on has changed."""
        key = self.identity.registrations[name]
        file = self.folder / f"registration_{name}.json"
        picture = self.folder / "qc" / f"overlay_{name}.png"
        if self.old and self.old.get("registrations", {}).get(name) == key:
            for target in (file, picture):
                source = self.context.out / target.relative_to(self.staged)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        else:
            geometry = film.geometry()
            bodies = self._prepared(ct)
            result = register_bodies(
                bodies,
                film,
                geometry=geometry,
                config=self.config.registration,
                rng=self._generator(name),
                device=self.context.device,
            )
            data = result.to_dict(seed=self.config.seed)
            write_json(file, data | {"seconds": None})  # time is in logs/timings.csv: outputs hold nothing that varies
            write_png(picture, edge_overlay(film, bodies, result))
        self.registrations_made[name] = key
        return Registered.from_dict(json.loads(file.read_text(encoding="utf-8")))

    def _prepared(self, ct: CtSide):
        if self._bodies is None:
            self._bodies = prepare_bodies(ct.density, ct.labels, ct.heads, self.config.registration)
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


def _problems(rows: list[Mapping[str, Any]]) -> tuple[tuple[str, str, str], ...]:
    found = ((f"{r['pair_id']} ({r['dataset']})", r["code"], r["reason"]) for r in rows if r["status"] != "ok")
    return tuple(found)
