"""A CT series from its DICOM headers: which files belong to it, and the gate that its geometry has to pass."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from bmdkit.errors import CaseError
from bmdkit.io.ct_settings import CtConfig
from bmdkit.io.dicom_files import (
    UNCOMPRESSED,
    OtherObjectError,
    UnreadableError,
    find_dicom_files,
    may_be_damaged_slice,
)
from bmdkit.io.dicom_frames import ENHANCED_CT, read_frame_headers
from bmdkit.io.dicom_header import DicomHeader
from bmdkit.io.dicom_parsing import read_header
from bmdkit.io.patient_identity import list_contradictions
from bmdkit.io.slice_stack import MIN_SLICES, TILT_LIMIT_DEG, Slice, SliceStack, stack_slices

logger = logging.getLogger(__name__)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MAX_SLICES = 5000
MAX_BYTES = 8 * 2**30

Located = list[tuple[Path, DicomHeader]]
"""Files and their headers."""


@dataclass(frozen=True)
class Series:
    """The slices of one series, before any pixel is read.

    Attributes:
        stack: The slices in order along their normal.
        patient_key, warnings, is_simulated: Same as in CtScan.
    """

    stack: SliceStack
    patient_key: str | None
    warnings: tuple[str, ...]
    is_simulated: bool


def read_series(
    source: Path, *, series_uid: str | None = None, config: CtConfig | None = None, case: str | None = None
) -> Series:
    """Choose the series of a folder, or of one enhanced file, and pass its headers through the geometry gate.

    Of several CT series the one is taken that `series_uid` names; otherwise, of those marked ORIGINAL (or of all, if
    none is), the one with the most slices. A tie is refused.

    Args:
        source: Folder, or enhanced multi-frame file.
        series_uid: Series to take.
        config: What to refuse.
        case: Patient, named in errors.

    Raises:
        CaseError: No or several equal series, unreadable slices, or a geometry that is not a regular stack.
    """
    config = config or CtConfig()
    gate = _Gate(Path(source), case)
    headers = gate.readable_headers()
    chosen = gate.one_series(headers, series_uid)
    chosen = gate.without_localizers(chosen)
    gate.one_patient(headers, chosen)
    gate.without_loss(chosen, config)
    slices = gate.slices(chosen)
    key = chosen[0][1].patient_key
    stack = stack_slices(slices, gate.refuse)
    if stack.tilt_deg > TILT_LIMIT_DEG:
        if not config.correct_tilt:
            raise gate.refuse("BMD-CT-014", f"{stack.tilt_deg:.2f} degrees by the positions, allowed {TILT_LIMIT_DEG}.")
        gate.warnings.append(f"gantry tilt of {stack.tilt_deg:.2f} degrees corrected by shearing")
    for message in gate.warnings:
        logger.warning("%s", message, extra={"case": case})
    return Series(stack, key, tuple(gate.warnings), chosen[0][1].is_simulated)


def list_series_files(
    source: Path, *, series_uid: str | None = None, config: CtConfig | None = None, case: str | None = None
) -> list[Path]:
    """List the files that `read_series` takes, in order, each once.

    Raises:
        CaseError: As `read_series` raises it.
    """
    stack = read_series(source, series_uid=series_uid, config=config, case=case).stack
    dropped = {second for _, second in stack.twins}
    return list(dict.fromkeys(piece.path for n, piece in enumerate(stack.slices) if n not in dropped))


class _Gate:
    """The checks of one folder, in their order; each raises with the files at fault."""

    def __init__(self, source: Path, case: str | None) -> None:
        self.source, self.case = source, case
        self.folder = source.parent if source.is_file() else source
        self.warnings: list[str] = []

    def refuse(self, code: str, message: str, files: Sequence[Path] = ()) -> CaseError:
        names = [p.relative_to(self.folder).as_posix() for p in files]
        listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return CaseError(code, message + (f" Files: {listed}." if names else ""), case=self.case, file=self.source.name)

    def readable_headers(self) -> Located:
        """The CT slices; what lies beside them is told and left out, what may be a damaged slice is refused."""
        found: Located = []
        bad: list[tuple[Path, str]] = []
        multiple: list[Path] = []
        others: list[str] = []
        for path in [self.source] if self.source.is_file() else find_dicom_files(self.folder):
            try:
                header = read_header(path)
                if header.sop_class_uid in ENHANCED_CT:
                    found += [(path, frame) for frame in read_frame_headers(path)]
                elif header.sop_class_uid != CT_IMAGE or header.modality != "CT":
                    others.append(header.modality if header.modality.isalnum() else "unknown")
                elif header.pixels.frames > 1:
                    multiple.append(path)
                else:
                    found.append((path, header))
            except OtherObjectError:
                others.append("no image")
            except UnreadableError as error:
                bad.append((path, str(error)))
        nothing_else = not (found or others or multiple)
        slices = [path for path, _ in found]
        damaged = [(path, why) for path, why in bad if nothing_else or may_be_damaged_slice(path, slices)]
        if damaged:
            paths = [path for path, _ in damaged]
            raise self.refuse("BMD-CT-010", f"{len(damaged)} unreadable, the first: {damaged[0][1]}.", paths)
        if multiple and not found:
            raise self.refuse("BMD-CT-019", f"{len(multiple)} multi-frame files.", multiple)
        if not found:
            raise self.refuse("BMD-CT-001", "no CT slices in this folder.")
        others += ["CT with several frames"] * len(multiple)
        if others:
            kinds = ", ".join(sorted(set(others)))
            self.warnings.append(f"{len(others)} DICOM files that are no CT slices were left out ({kinds})")
        if len(bad) > len(damaged):
            self.warnings.append(f"{len(bad) - len(damaged)} files that are no DICOM were left out")
        return found

    def one_series(self, headers: Located, series_uid: str | None) -> Located:
        groups: dict[str, Located] = defaultdict(list)
        for path, header in headers:
            groups[header.series_uid].append((path, header))
        if series_uid is not None:
            if series_uid not in groups:
                raise self.refuse("BMD-CT-002", f"the series asked for is not among the {len(groups)} of this folder.")
            return groups[series_uid]
        if len(groups) == 1:
            return headers
        sizes = {uid: sum(not h.is_localizer for _, h in group) for uid, group in groups.items()}
        original = {uid for uid, group in groups.items() if "ORIGINAL" in group[0][1].image_type}
        pool = {uid for uid in original if sizes[uid]} or {uid for uid in groups if sizes[uid]}
        if not pool:
            raise self.refuse("BMD-CT-001", "localizers only.")
        most = max(sizes[uid] for uid in pool)
        best = sorted(uid for uid in pool if sizes[uid] == most)
        if len(best) > 1:
            described = "; ".join(_describe(groups[uid]) for uid in best)
            raise self.refuse("BMD-CT-003", f"{len(best)} series of {most} slices each: {described}.")
        ignored = sum(1 for uid in groups if uid != best[0] and sizes[uid])
        scouts = sum(h.is_localizer for uid, group in groups.items() if uid != best[0] for _, h in group)
        if scouts:
            self.warnings.append(f"{scouts} localizer images of other series left out")
        if ignored:
            self.warnings.append(f"{ignored} further CT series in the folder left out; taken: {most} slices")
        return groups[best[0]]

    def without_localizers(self, chosen: Located) -> Located:
        kept = [(p, h) for p, h in chosen if not h.is_localizer]
        if len(kept) < len(chosen):
            self.warnings.append(f"{len(chosen) - len(kept)} localizer images dropped")
        if len(kept) < MIN_SLICES:
            raise self.refuse("BMD-CT-004", f"{len(kept)} slices, at least {MIN_SLICES} are needed.")
        if len(kept) > MAX_SLICES:
            raise self.refuse("BMD-CT-004", f"{len(kept)} slices, at most {MAX_SLICES} are read.")
        return kept

    def one_patient(self, headers: Located, chosen: Located) -> None:
        keys: dict[str | None, list[Path]] = defaultdict(list)
        for path, header in headers:
            keys[header.patient_key].append(path)
        for one, other in combinations(keys, 2):
            if apart := list_contradictions(one, other):
                message = f"two patients in one folder: {', '.join(apart)} differ."
                raise self.refuse("BMD-CT-005", message, min(keys[one], keys[other], key=len))
        frames: dict[str, list[Path]] = defaultdict(list)
        for path, header in chosen:
            frames[header.frame_of_reference_uid].append(path)
        if len(frames) > 1:
            raise self.refuse("BMD-CT-006", f"{len(frames)} frames of reference.", min(frames.values(), key=len))

    def without_loss(self, chosen: Located, config: CtConfig) -> None:
        lossy = [path for path, header in chosen if header.is_lossy]
        if lossy and config.lossy == "quarantine":
            raise self.refuse("BMD-CT-016", f"{len(lossy)} slices of the series.", lossy)
        if lossy:
            self.warnings.append(f"BMD-CT-016: {len(lossy)} slices were compressed with loss, their HU are not exact")

    def slices(self, chosen: Located) -> list[Slice]:
        def faulty(good: Callable[[DicomHeader], bool]) -> list[Path]:
            return [p for p, h in chosen if not good(h)]

        if files := faulty(lambda h: h.ct.position_mm is not None and h.ct.orientation is not None):
            raise self.refuse("BMD-CT-007", f"{len(files)} slices without position or orientation.", files)
        if files := faulty(lambda h: bool(h.rescale_slope) and h.rescale_intercept is not None):
            raise self.refuse("BMD-CT-009", f"{len(files)} slices without rescale slope and intercept.", files)
        if files := faulty(_is_plausible):
            raise self.refuse("BMD-CT-010", f"{len(files)} slices whose header is not plausible.", files)
        if files := [p for p, h in chosen if _is_short(p, h)]:
            raise self.refuse("BMD-CT-010", f"{len(files)} slices are truncated.", files)
        made = [_make_slice(path, header) for path, header in chosen]
        first_mm = made[0].spacing_mm[0]
        self._check_alike(made, "matrices", lambda s: s.header.pixels.shape)
        self._check_alike(made, "pixel spacings", lambda s: tuple(round(v / first_mm * 2000) for v in s.spacing_mm))
        self._check_alike(made, "pixel formats", lambda s: (*s.header.pixels.bits, s.header.pixels.representation))
        rows, columns = made[0].header.pixels.shape
        if rows * columns * len(made) * 2 > MAX_BYTES:
            raise self.refuse("BMD-CT-010", f"{len(made)} slices of {rows} x {columns} are too large.")
        return made

    def _check_alike(self, slices: list[Slice], what: str, of: Callable[[Slice], object]) -> None:
        groups: dict[object, list[Path]] = defaultdict(list)
        for piece in slices:
            groups[of(piece)].append(piece.path)
        if len(groups) > 1:
            named = ", ".join(str(key) for key in list(groups)[:4])
            raise self.refuse("BMD-CT-006", f"{len(groups)} {what}: {named}.", min(groups.values(), key=len))


def _is_plausible(header: DicomHeader) -> bool:
    """Whether the numbers of a header with position, orientation and rescale can be those of a CT slice."""
    position_mm, slope, intercept = header.ct.position_mm, header.rescale_slope, header.rescale_intercept
    return (
        header.pixels.is_plausible(least_side=2)
        and header.pixels.samples == 1
        and header.pixels.photometric in ("MONOCHROME1", "MONOCHROME2")
        and len(header.pixel_spacing_mm) == 2
        and all(0.01 <= v <= 20 for v in header.pixel_spacing_mm)
        and slope is not None
        and 1e-6 < abs(slope) < 1e6
        and intercept is not None
        and abs(intercept) < 1e6
        and position_mm is not None
        and max(map(abs, position_mm)) < 1e5
    )


def _is_short(path: Path, header: DicomHeader) -> bool:
    """Whether the file cannot hold its pixels (a compressed one: not even at 1 : 1000)."""
    rows, columns = header.pixels.shape
    needed = rows * columns * header.pixels.bits[0] // 8 * header.pixels.frames
    packed = header.transfer_syntax_uid not in UNCOMPRESSED
    return path.stat().st_size * (1000 if packed else 1) < needed


def _make_slice(path: Path, header: DicomHeader) -> Slice:
    """A slice from a header that is plausible."""
    slope, intercept = header.rescale_slope, header.rescale_intercept
    if slope is None or intercept is None:
        raise ValueError("header: expected a rescale slope and intercept")
    position, orientation = np.array(header.ct.position_mm), np.array(header.ct.orientation)
    spacing_mm = (header.pixel_spacing_mm[0], header.pixel_spacing_mm[1])
    return Slice(path, header, position, orientation, spacing_mm, slope, intercept)


def _describe(group: Located) -> str:
    header = group[0][1]
    kernel = header.ct.kernel.replace("\\", "/")[:16] or "kernel not named"
    return f"{header.ct.thickness[:8] or '?'} mm, {kernel}, UID ending in {header.series_uid[-6:]}"
