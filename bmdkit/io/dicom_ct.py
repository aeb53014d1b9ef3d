"""A CT series from its DICOM headers: which files belong to it, and the gate that its geometry has to pass."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmdkit.errors import CaseError
from bmdkit.io.dicom_header import (
    MAX_SIDE,
    UnreadableError,
    dicom_files,
    number,
    numbers,
    patient_key,
    read_header,
    text,
    whole,
    words,
)
from bmdkit.io.slice_stack import MIN_SLICES, TILT_LIMIT_DEG, Slice, SliceStack, stack_slices

logger = logging.getLogger(__name__)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
MAX_SLICES = 5000
MAX_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Series:
    """The slices of one series, before any pixel is read.

    Attributes:
        stack: The slices in order along their normal.
        patient_key, warnings: As in CtScan.
    """

    stack: SliceStack
    patient_key: str | None
    warnings: tuple[str, ...]


def read_series(
    folder: Path, *, series_uid: str | None = None, case: str | None = None, correct_tilt: bool = False
) -> Series:
    """Choose the series of a folder and pass its headers through the geometry gate.

    Of several CT series the one is taken that `series_uid` names; otherwise, of those marked ORIGINAL (or of all, if
    none is), the one with the most slices. A tie is refused.

    Raises:
        CaseError: No or several equal series, unreadable slices, or a geometry that is not a regular stack.
    """
    gate = _Gate(Path(folder), case)
    headers = gate.readable_headers()
    chosen = gate.one_series(headers, series_uid)
    chosen = gate.without_localizers(chosen)
    gate.one_patient(headers, chosen)
    slices = gate.slices(chosen)
    key = patient_key(chosen[0][1])
    stack = stack_slices(slices, gate.refuse)
    if stack.tilt_deg > TILT_LIMIT_DEG:
        if not correct_tilt:
            raise gate.refuse("BMD-CT-014", f"{stack.tilt_deg:.2f} degrees by the positions, allowed {TILT_LIMIT_DEG}.")
        gate.warnings.append(f"gantry tilt of {stack.tilt_deg:.2f} degrees corrected by shearing")
    for message in gate.warnings:
        logger.warning("%s", message, extra={"case": case})
    return Series(stack, key, tuple(gate.warnings))


class _Gate:
    """The checks of one folder, in their order; each raises with the files at fault."""

    def __init__(self, folder: Path, case: str | None) -> None:
        self.folder, self.case = folder, case
        self.warnings: list[str] = []

    def refuse(self, code: str, message: str, files=()) -> CaseError:
        names = [p.relative_to(self.folder).as_posix() for p in files]
        listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return CaseError(code, message + (f" Files: {listed}." if names else ""), case=self.case, file=self.folder.name)

    def readable_headers(self) -> list:
        found, bad, other, enhanced = [], [], 0, []
        for path in dicom_files(self.folder):
            try:
                header = read_header(path)
            except UnreadableError as error:
                bad.append((path, str(error)))
                continue
            if text(header, "SOPClassUID") == ENHANCED_CT or (number(header, "NumberOfFrames") or 1) > 1:
                enhanced.append(path)
            elif text(header, "SOPClassUID") == CT_IMAGE and text(header, "Modality").upper() == "CT":
                found.append((path, header))
            else:
                other += 1
        if bad:
            raise self.refuse("BMD-CT-010", f"{len(bad)} unreadable, the first: {bad[0][1]}.", [p for p, _ in bad])
        if enhanced:
            raise self.refuse("BMD-CT-019", f"{len(enhanced)} multi-frame files.", enhanced)
        if not found:
            raise self.refuse("BMD-CT-001", "no CT slices in this folder.")
        if other:
            self.warnings.append(f"{other} DICOM files that are no CT slices were left out")
        return found

    def one_series(self, headers: list, series_uid: str | None) -> list:
        groups = defaultdict(list)
        for path, header in headers:
            groups[text(header, "SeriesInstanceUID")].append((path, header))
        if series_uid is not None:
            if series_uid not in groups:
                raise self.refuse("BMD-CT-002", f"the series asked for is not among the {len(groups)} of this folder.")
            return groups[series_uid]
        if len(groups) == 1:
            return headers
        sizes = {uid: sum(not _is_localizer(h) for _, h in group) for uid, group in groups.items()}
        original = {uid for uid, group in groups.items() if "ORIGINAL" in words(group[0][1], "ImageType")}
        pool = {uid for uid in original if sizes[uid]} or {uid for uid in groups if sizes[uid]}
        if not pool:
            raise self.refuse("BMD-CT-001", "localizers only.")
        most = max(sizes[uid] for uid in pool)
        best = sorted(uid for uid in pool if sizes[uid] == most)
        if len(best) > 1:
            described = "; ".join(_describe(groups[uid]) for uid in best)
            raise self.refuse("BMD-CT-003", f"{len(best)} series of {most} slices each: {described}.")
        ignored = sum(1 for uid in groups if uid != best[0] and sizes[uid])
        if ignored:
            self.warnings.append(f"{ignored} further CT series in the folder left out; taken: {most} slices")
        return groups[best[0]]

    def without_localizers(self, chosen: list) -> list:
        kept = [(p, h) for p, h in chosen if not _is_localizer(h)]
        if len(kept) < len(chosen):
            self.warnings.append(f"{len(chosen) - len(kept)} localizer images dropped")
        if len(kept) < MIN_SLICES:
            raise self.refuse("BMD-CT-004", f"{len(kept)} slices, at least {MIN_SLICES} are needed.")
        if len(kept) > MAX_SLICES:
            raise self.refuse("BMD-CT-004", f"{len(kept)} slices, at most {MAX_SLICES} are read.")
        return kept

    def one_patient(self, headers: list, chosen: list) -> None:
        keys = defaultdict(list)
        for path, header in headers:
            keys[patient_key(header)].append(path)
        if len(keys) > 1:
            raise self.refuse("BMD-CT-005", f"{len(keys)} patients in one folder.", min(keys.values(), key=len))
        frames = defaultdict(list)
        for path, header in chosen:
            frames[text(header, "FrameOfReferenceUID")].append(path)
        if len(frames) > 1:
            raise self.refuse("BMD-CT-006", f"{len(frames)} frames of reference.", min(frames.values(), key=len))

    def slices(self, chosen: list) -> list[Slice]:
        def faulty(good) -> list[Path]:
            return [p for p, h in chosen if not good(h)]

        if files := faulty(
            lambda h: _vector(h, "ImagePositionPatient", 3) and _vector(h, "ImageOrientationPatient", 6)
        ):
            raise self.refuse("BMD-CT-007", f"{len(files)} slices without position or orientation.", files)
        if files := faulty(lambda h: number(h, "RescaleSlope") and number(h, "RescaleIntercept") is not None):
            raise self.refuse("BMD-CT-009", f"{len(files)} slices without rescale slope and intercept.", files)
        if files := faulty(_is_plausible):
            raise self.refuse("BMD-CT-010", f"{len(files)} slices whose header is not plausible.", files)
        if files := [p for p, h in chosen if _is_short(p, h)]:
            raise self.refuse("BMD-CT-010", f"{len(files)} slices are truncated.", files)
        made = [_slice(path, header) for path, header in chosen]
        for what, of in (
            ("matrices", lambda s: (s.rows, s.columns)),
            ("pixel spacings", lambda s: tuple(round(v / made[0].spacing_mm[0] * 2000) for v in s.spacing_mm)),
            ("pixel formats", lambda s: s.pixel_format),
        ):
            groups = defaultdict(list)
            for s in made:
                groups[of(s)].append(s.path)
            if len(groups) > 1:
                named = ", ".join(str(key) for key in list(groups)[:4])
                raise self.refuse("BMD-CT-006", f"{len(groups)} {what}: {named}.", min(groups.values(), key=len))
        if made[0].rows * made[0].columns * len(made) * 2 > MAX_BYTES:
            raise self.refuse("BMD-CT-010", f"{len(made)} slices of {made[0].rows} x {made[0].columns} are too large.")
        return made


def _is_localizer(header) -> bool:
    return bool({"LOCALIZER", "SCOUT", "TOPOGRAM"} & set(words(header, "ImageType")))


def _vector(header, name: str, size: int) -> bool:
    values = numbers(header, name)
    return values is not None and len(values) == size


def _is_plausible(header) -> bool:
    rows, columns = whole(header, "Rows"), whole(header, "Columns")
    allocated, stored = whole(header, "BitsAllocated"), whole(header, "BitsStored")
    spacing, slope = numbers(header, "PixelSpacing"), abs(number(header, "RescaleSlope") or 0)
    high = whole(header, "HighBit")
    high = stored - 1 if high is None and stored else high
    return (
        rows is not None
        and columns is not None
        and min(rows, columns) >= 2
        and max(rows, columns) <= MAX_SIDE
        and allocated in (8, 16, 32)
        and stored is not None
        and 1 <= stored <= allocated
        and stored - 1 <= high < allocated
        and whole(header, "PixelRepresentation") in (0, 1)
        and (whole(header, "SamplesPerPixel") or 1) == 1
        and text(header, "PhotometricInterpretation").upper() in ("MONOCHROME1", "MONOCHROME2")
        and spacing is not None
        and len(spacing) == 2
        and all(0.01 <= v <= 20 for v in spacing)
        and 1e-6 < slope < 1e6
        and abs(number(header, "RescaleIntercept") or 0) < 1e6
        and max(map(abs, numbers(header, "ImagePositionPatient"))) < 1e5
    )


def _is_short(path: Path, header) -> bool:
    """Whether the file cannot hold its pixels (a compressed one: not even at 1 : 1000)."""
    needed = int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) // 8
    packed = str(header.file_meta.TransferSyntaxUID) not in UNCOMPRESSED
    return path.stat().st_size * (1000 if packed else 1) < needed


def _slice(path: Path, header) -> Slice:
    spacing = numbers(header, "PixelSpacing")
    return Slice(
        path,
        np.array(numbers(header, "ImagePositionPatient")),
        np.array(numbers(header, "ImageOrientationPatient")),
        (spacing[0], spacing[1]),
        whole(header, "Rows"),
        whole(header, "Columns"),
        number(header, "RescaleSlope"),
        number(header, "RescaleIntercept"),
        tuple(whole(header, name) for name in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")),
    )


def _describe(group: list) -> str:
    header = group[0][1]
    kernel = text(header, "ConvolutionKernel").replace("\\", "/")[:16] or "kernel not named"
    thickness, uid = text(header, "SliceThickness")[:8] or "?", text(header, "SeriesInstanceUID")
    return f"{thickness} mm, {kernel}, UID ending in {uid[-6:]}"
