"""The first draft of a cohort's table: one row per radiograph and hip, and what could not be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bmdkit.core.anatomy import Side
from bmdkit.errors import CaseError
from bmdkit.intake.header_scan import ScannedFile, TreeScan
from bmdkit.intake.pairing import CtChoice, CtSeries, choose_ct, count_days
from bmdkit.intake.persons import Person, group_by_person, name_persons
from bmdkit.intake.proposals import look_for_hips_safely, propose_pose, propose_sides
from bmdkit.intake.settings import IntakeConfig
from bmdkit.io.xray import inspect_radiograph
from bmdkit.jobs.local_pool import run_in_pool

COLUMNS = ("patient_id", "ct", "xray", "side", "pose", "dxa_bmd", "sex", "age_years", "days_from_ct")
"""Columns of the table; the last three are carried into the manifest."""


@dataclass(frozen=True)
class Question:
    """Something that the files do not tell, and that its user has to.

    Attributes:
        patient_id: Name of the person in the cohort.
        xray: Radiograph, as the table names it; empty where it concerns the person.
        column: Column of the table that is left empty, or has to be looked at.
        text: What is not known, and what to do.
    """

    patient_id: str
    xray: str
    column: str
    text: str


@dataclass
class CohortDraft:
    """A table, the files that it names, and what is open.

    Attributes:
        rows: Cells of the table by column, in order.
        questions: What could not be told.
        files: Place in the cohort -> file of the export.
        left_out: Path and reason of every file that is not used.
        keys: Name in the cohort -> PatientID, of every person who is not called by it.
        persons, radiographs: Numbers of persons and radiographs of the table.
    """

    rows: list[dict[str, object]] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    persons: int = 0
    radiographs: int = 0

    def count_left_out(self) -> list[tuple[str, int]]:
        """How many files were left out for each reason, the most frequent first."""
        return Counter(reason for _, reason in self.left_out).most_common()


def draft_cohort(
    scan: TreeScan,
    config: IntakeConfig | None = None,
    *,
    known: Mapping[str, str] | None = None,
    pseudonymise: bool = False,
    n_jobs: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> CohortDraft:
    """Pair the CTs and radiographs of a tree, and propose side and pose.

    Args:
        scan: Headers of the tree.
        config: How images are paired.
        known: PatientID -> name of an earlier call, which is kept.
        pseudonymise: Whether nobody is called by PatientID.
        n_jobs: Number of processes that look at images.
        on_progress: Called with the number of radiographs that were looked at, and of all.
    """
    config = config or IntakeConfig()
    draft = CohortDraft(left_out=list(scan.left_out))
    draft.left_out += [(file.path, _describe_other(file)) for file in scan.files if file.kind == "other"]
    usable = _drop_unusable(scan.files, config, draft)
    hips = _find_hips(usable, config, draft, n_jobs, on_progress)
    persons = group_by_person(file for file in scan.files if file.kind != "other")
    names = name_persons(persons, known=known, pseudonymise=pseudonymise)
    for person, name in zip(persons, names, strict=True):
        _add_person(person, name, hips, config, draft)
    return draft


def _describe_other(file: ScannedFile) -> str:
    modality = file.modality if file.modality.isalnum() else "unknown"
    return "a localizer of a CT" if modality == "CT" else f"no CT or radiograph (modality {modality})"


def _drop_unusable(files: Iterable[ScannedFile], config: IntakeConfig, draft: CohortDraft) -> list[ScannedFile]:
    """The radiographs whose headers let them be read, each exposure once."""
    exposures: dict[tuple[object, ...], ScannedFile] = {}
    for file in files:
        if file.kind != "radiograph":
            continue
        try:
            inspect_radiograph(file.path, config=config.xray)
        except CaseError as error:
            draft.left_out.append((file.path, f"{error.code}: {error.message}"))
            continue
        key = (file.study_uid, file.date, file.time, file.laterality) if file.time else (file.path,)
        rival = exposures.get(key)
        if rival is None or {rival.intent, file.intent} != {"FOR PROCESSING", "FOR PRESENTATION"}:
            exposures[key if rival is None else (*key, file.path)] = file
            continue
        kept, dropped = (file, rival) if file.intent == "FOR PRESENTATION" else (rival, file)
        exposures[key] = kept
        draft.left_out.append((dropped.path, "the unprocessed image of an exposure that is there for presentation"))
    return list(exposures.values())


def _find_hips(
    radiographs: Sequence[ScannedFile],
    config: IntakeConfig,
    draft: CohortDraft,
    n_jobs: int,
    on_progress: Callable[[int, int], None] | None,
) -> dict[Path, tuple[Side, ...] | None]:
    """The hips that each radiograph shows, by its header, else by its image; None where neither tells."""
    hips: dict[Path, tuple[Side, ...] | None] = {file.path: propose_sides(file) for file in radiographs}
    unclear = [file.path for file in radiographs if hips[file.path] is None]
    if not config.look_at_images:
        return hips
    calls = [(path, config.xray) for path in unclear]
    for done, (path, sides, fault) in enumerate(run_in_pool(look_for_hips_safely, calls, n_jobs), start=1):
        hips[path] = sides
        if fault:
            del hips[path]
            draft.left_out.append((path, fault))
        if on_progress is not None:
            on_progress(done, len(unclear))
    return hips


def _add_person(
    person: Person,
    name: str,
    hips: Mapping[Path, tuple[Side, ...] | None],
    config: IntakeConfig,
    draft: CohortDraft,
) -> None:
    """Write the rows of one person, and what is open about them."""
    radiographs = [file for file in person.files if file.path in hips]
    choice = choose_ct(person, radiographs, config)
    for series, why in choice.left_out:
        draft.left_out += [(file.path, why) for file in series.files]
    if not radiographs:
        rest = [choice.series] if choice.series else list(choice.candidates)
        draft.left_out += [(file.path, "a CT of a person without radiographs") for ct in rest for file in ct.files]
        return
    if name != person.patient_id:
        draft.keys[name] = person.patient_id
    draft.persons += 1
    draft.radiographs += len(radiographs)
    ct = _take_ct(person, name, choice, draft)
    radiographs.sort(key=lambda file: (str(file.date), file.time, file.order, str(file.path)))
    for number, file in enumerate(radiographs, start=1):
        place = f"xray/{name}_{number}.dcm"
        draft.files[place] = file.path
        row = {"patient_id": name, "xray": place, "sex": file.sex, "age_years": file.age_years}
        row["ct"], row["days_from_ct"] = _pair(ct, choice.series, file, config, draft, name, place)
        pose = propose_pose(file)
        row["pose"] = pose or ""
        if pose is None:
            draft.questions.append(Question(name, place, "pose", "no tag names it; empty counts as unknown"))
        sides = hips[file.path]
        if sides is None:
            text = "one hip, and neither tags nor image tell which: write L or R, the patient's own side"
            draft.questions.append(Question(name, place, "side", text))
        draft.rows += [{**row, "side": side} for side in (sides or ("",))]


def _take_ct(person: Person, name: str, choice: CtChoice, draft: CohortDraft) -> str:
    """Give the CT of one person its place in the cohort; empty, with a question, where nothing says which it is."""
    if choice.series is not None and person.is_known:
        _place_series(choice.series, f"ct/{name}", draft)
        return f"ct/{name}"
    candidates = [choice.series] if choice.series is not None else list(choice.candidates)
    places = [f"ct/{name}" + (f"_{number}" if len(candidates) > 1 else "") for number in range(1, len(candidates) + 1)]
    for place, series in zip(places, candidates, strict=True):
        _place_series(series, place, draft)
    offered = "; ".join(f"{place}: {series.describe()}" for place, series in zip(places, candidates, strict=True))
    why = choice.why if person.is_known else "PatientID is absent or a placeholder, so that nothing names the person"
    text = f"{why}; write one of {offered}" if offered else f"{why}: write the CT of this person"
    draft.questions.append(Question(name, "", "ct", text))
    return ""


def _place_series(series: CtSeries, place: str, draft: CohortDraft) -> None:
    for number, file in enumerate(series.files, start=1):
        draft.files[f"{place}/{number:04d}.dcm"] = file.path


def _pair(
    ct: str,
    series: CtSeries | None,
    file: ScannedFile,
    config: IntakeConfig,
    draft: CohortDraft,
    name: str,
    place: str,
) -> tuple[str, int | None]:
    """The CT of one radiograph and the days between; an empty cell, with a question, where too many lie between."""
    if not ct or series is None:
        return "", None
    days = count_days(series, file)
    if days is None:
        text = "the day of the CT or of the radiograph is not known: make sure that the CT fits"
        draft.questions.append(Question(name, place, "ct", text))
        return ct, None
    if abs(days) > config.max_days:
        text = f"{abs(days)} days from {ct}, at most {config.max_days} are paired: write the CT, or delete the row"
        draft.questions.append(Question(name, place, "ct", text))
        return "", days
    return ct, days
