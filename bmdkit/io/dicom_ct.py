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

logger = logging.getLogger(__name__)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
MIN_SLICES, MAX_SLICES = 3, 5000
MAX_BYTES = 8 * 2**30
ORTHONORMAL_TOLERANCE = 1e-3
TILT_LIMIT_DEG = 0.1
SAME_POSITION_MM = 0.01
STRAIGHT_LIMIT_MM = 0.1


@dataclass(frozen=True)
class Slice:
    """What the headers say about one slice.

    Attributes:
        path: Its file.
        position_mm: (3,), LPS of the centre of its first pixel.
        orientation: (6,), direction of rows' and columns' indices.
        spacing_mm: Between rows, between columns (DICOM's order).
        rows, columns: Its size.
        slope, intercept: HU = slope * stored + intercept.
        pixel_format: Bits allocated, stored, high bit, and whether signed.
    """

    path: Path
    position_mm: np.ndarray
    orientation: np.ndarray
    spacing_mm: tuple[float, float]
    rows: int
    columns: int
    slope: float
    intercept: float
    pixel_format: tuple[int, int, int | None, int]


@dataclass(frozen=True)
class Series:
    """The slices of one series in order along their normal, before any pixel is read.

    Attributes:
        slices: In ascending order of position on the normal; may hold several of one position (see `twins`).
        twins: Index pairs of `slices` that lie at one position.
        distance_mm: (n,), of each slice along the normal.
        tilt_deg: Angle between the normal and the line of positions.
        patient_key, warnings: As in CtScan.
    """

    slices: tuple[Slice, ...]
    twins: tuple[tuple[int, int], ...]
    distance_mm: np.ndarray
    tilt_deg: float
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
    slices, distance, twins, tilt = gate.stack(slices, correct_tilt)
    for message in gate.warnings:
        logger.warning("%s", message, extra={"case": case})
    return Series(slices, twins, distance, tilt, key, tuple(gate.warnings))


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
            ("pixel spacings", lambda s: tuple(round(v, 4) for v in s.spacing_mm)),
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

    def stack(self, slices: list[Slice], correct_tilt: bool):
        orientations = np.array([s.orientation for s in slices])
        middle = np.median(orientations, axis=0)
        turned = np.abs(orientations - middle).max(axis=1) > ORTHONORMAL_TOLERANCE
        if turned.any():
            raise self.refuse(
                "BMD-CT-006", f"{turned.sum()} slices are oriented otherwise.",
                [s.path for s, t in zip(slices, turned, strict=True) if t],
            )  # fmt: skip
        axes = middle.reshape(2, 3)
        if np.abs(axes @ axes.T - np.eye(2)).max() > ORTHONORMAL_TOLERANCE:
            raise self.refuse("BMD-CT-008", f"row and column directions {axes.round(4).tolist()}.")
        normal = np.cross(*axes) / np.linalg.norm(np.cross(*axes))
        positions = np.array([s.position_mm for s in slices])
        along = positions @ normal
        order = np.argsort(along, kind="stable")
        slices, positions, along = [slices[i] for i in order], positions[order], along[order]
        twins = tuple((i - 1, i) for i in range(1, len(slices)) if along[i] - along[i - 1] < SAME_POSITION_MM)
        second = {pair[1] for pair in twins}
        single = [i for i in range(len(slices)) if i not in second]
        if len(single) < MIN_SLICES:
            raise self.refuse("BMD-CT-004", f"{len(single)} positions, at least {MIN_SLICES} are needed.")
        self._check_spacing([slices[i] for i in single], along[single])
        tilt = self._check_line([slices[i] for i in single], positions[single], along[single], normal, correct_tilt)
        for first, other in twins:
            if np.abs(positions[first] - positions[other]).max() > SAME_POSITION_MM:
                raise self.refuse(
                    "BMD-CT-013", "slices at one level are shifted.", [slices[first].path, slices[other].path]
                )
        return tuple(slices), along, twins, tilt

    def _check_spacing(self, slices: list[Slice], along: np.ndarray) -> None:
        steps = np.diff(along)
        usual = float(np.median(steps))
        allowed = max(0.01 * usual, 0.01)
        off = np.flatnonzero(np.abs(steps - usual) > allowed)
        if off.size == 0:
            return
        ratio = steps[off] / usual
        missing = np.rint(ratio) - 1
        gaps = (missing >= 1) & (np.abs(ratio - np.rint(ratio)) * usual <= allowed * np.maximum(np.rint(ratio), 1))
        where = [(slices[i].path.name, slices[i + 1].path.name, along[i], along[i + 1]) for i in off[:6]]
        listed = "; ".join(f"between {a} ({x:.2f} mm) and {b} ({y:.2f} mm)" for a, b, x, y in where)
        more = f" and {off.size - 6} more" if off.size > 6 else ""
        if gaps.all():
            raise self.refuse(
                "BMD-CT-011", f"{int(missing.sum())} missing at a spacing of {usual:.3f} mm: {listed}{more}."
            )
        raise self.refuse(
            "BMD-CT-012",
            f"from {steps.min():.3f} to {steps.max():.3f} mm, allowed {usual:.3f} +- {allowed:.3f} mm: {listed}{more}.",
        )

    def _check_line(self, slices, positions, along, normal, correct_tilt: bool) -> float:
        line = np.polynomial.polynomial.polyfit(along - along.mean(), positions, 1)
        fitted = line[0] + (along - along.mean())[:, None] * line[1]
        apart = np.linalg.norm(positions - fitted, axis=1)
        if apart.max() > STRAIGHT_LIMIT_MM:
            raise self.refuse(
                "BMD-CT-013", f"slices up to {apart.max():.2f} mm beside the line of the others, "
                f"allowed {STRAIGHT_LIMIT_MM} mm.", [slices[int(apart.argmax())].path],
            )  # fmt: skip
        step = line[1] / np.linalg.norm(line[1])
        tilt = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
        if tilt > TILT_LIMIT_DEG:
            if not correct_tilt:
                raise self.refuse("BMD-CT-014", f"{tilt:.2f} degrees by the positions, allowed {TILT_LIMIT_DEG}.")
            self.warnings.append(f"gantry tilt of {tilt:.2f} degrees corrected by shearing")
        return tilt


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
