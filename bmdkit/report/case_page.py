"""What the page of one case shows."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import BODIES, SIDE_NAMES
from bmdkit.dataset.manifest import COLUMNS
from bmdkit.errors import BmdkitError
from bmdkit.evaluation.summary import number
from bmdkit.io.images import read_tiff
from bmdkit.report import charts
from bmdkit.report.built import BuiltCase, Row
from bmdkit.report.image_panels import pair_images, projection_image, radiograph_image, thumbnail
from bmdkit.report.page_style import uri

logger = logging.getLogger(__name__)

_MEASUREMENTS = ("qct_bmd_mg_cm3", "ct_abmd_g_cm2", "dxa_bmd_g_cm2")
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, struct.error, BmdkitError)
"""What a missing or damaged file raises, in whichever library meets it."""

_PAGES = {"A": ("A: pelvis", "A: femur"), "B": ("B: region",)}


@dataclass(frozen=True)
class Outlier:
    """A point of a chart that lies far from the others.

    Attributes:
        patient_id: Its case.
        what: What of the case it is, in words.
    """

    patient_id: str
    what: str


@dataclass(frozen=True)
class Picture:
    """An image of the page, or why it is not there.

    Attributes:
        uri: A data URI; empty if it could not be drawn.
        text: Its alternative text.
        missing: The file that is missing or damaged.
        outliers: Points that are named in it, the farthest first.
    """

    uri: str
    text: str
    missing: str = ""
    outliers: tuple[Outlier, ...] = ()


@dataclass(frozen=True)
class HipLine:
    """The numbers of one hip; NaN where there is none.

    Attributes:
        side: L or R.
        qct_bmd_mg_cm3, ct_abmd_g_cm2, dxa_bmd_g_cm2: Of the hip.
        pf_drr_mean_g_cm2: Mean over its radiographs.
        pf_drr_spread_pct: Coefficient of variation over its radiographs, percent.
        radiographs: Number of radiographs of dataset B.
    """

    side: str
    qct_bmd_mg_cm3: float
    ct_abmd_g_cm2: float
    dxa_bmd_g_cm2: float
    pf_drr_mean_g_cm2: float
    pf_drr_spread_pct: float
    radiographs: int


@dataclass(frozen=True)
class CaseLine:
    """One case in the index.

    Attributes:
        patient_id, page: Its name and its file.
        verdict: The word of `BuiltCase.verdict`.
        hips: Measurements of its hips.
        radiographs, pairs: Number of radiographs, and of pairs that were built.
        calibration: Source of its line.
        slope, residual: Slope of the calibration line and its residual, mg/cm3 per HU and mg/cm3.
        similarity: Least similarity of its pairs.
        codes: Codes of its problems.
        least: The overlay of the radiograph that fits least, small; None if there is none.
    """

    patient_id: str
    page: str
    verdict: str
    hips: tuple[HipLine, ...]
    radiographs: int
    pairs: int
    calibration: str
    slope: float
    residual: float
    similarity: float
    codes: tuple[str, ...]
    least: Picture | None


def hip_lines(case: BuiltCase) -> tuple[HipLine, ...]:
    """The measurements of every hip of a case."""
    lines = []
    for side in case.sides:
        mine = [row for row in case.rows if row.get("side") == side]
        qct, areal, dxa = (_first(number(row.get(name)) for row in mine) for name in _MEASUREMENTS)
        drr = np.array([number(row.get("pf_drr_mean_g_cm2")) for row in mine if row.get("dataset") == "B"])
        drr = drr[np.isfinite(drr)]
        mean = float(drr.mean()) if drr.size else math.nan
        spread = 100 * float(drr.std(ddof=1)) / mean if drr.size > 1 and mean > 0 else math.nan
        lines.append(HipLine(side, qct, areal, dxa, mean, spread, drr.size))
    return tuple(lines)


def case_line(case: BuiltCase, page: str) -> CaseLine:
    """The case's line in the index."""
    line = _calibration(case)
    similarity = [number(row.get("registration_similarity")) for row in case.rows]
    similarity = [value for value in similarity if math.isfinite(value)]
    return CaseLine(
        patient_id=case.patient_id,
        page=page,
        verdict=case.verdict,
        hips=hip_lines(case),
        radiographs=len(case.radiographs),
        pairs=sum(row.get("status") == "ok" for row in case.rows),
        calibration=str(line.get("source", "")),
        slope=_finite(line.get("slope_mg_cm3_per_hu")),
        residual=_finite(line.get("residual_mg_cm3")),
        similarity=min(similarity, default=math.nan),
        codes=tuple(dict.fromkeys(problem.code for problem in case.problems)),
        least=_least_overlay(case),
    )


def _least_overlay(case: BuiltCase) -> Picture | None:
    """The overlay of the radiograph with the least similar body."""
    least = {}
    for name in case.radiographs:
        bodies = case.read_registration(name).get("bodies", {})
        similarity = [_finite(body.get("similarity")) for body in bodies.values()]
        file = case.folder / "qc" / f"overlay_{name}.png"
        if similarity and file.exists():
            least[name] = (min(similarity), file)
    if not least:
        return None
    name = min(least, key=lambda name: least[name][0])
    file = least[name][1]
    return _drawn(f"{case.patient_id} {name.removeprefix(case.patient_id).strip('_')}", file, lambda: thumbnail(file))


def case_context(case: BuiltCase) -> dict:
    """Everything that the template of a case page names."""
    calibration = _calibration(case)
    line, slices = _calibration_pictures(case, calibration)
    notes = [*(calibration.get("notes") or []), *(case.read_meta().get("notes") or [])]
    return {
        "title": case.patient_id,
        "case": case,
        "verdict": case.verdict,
        "hips": hip_lines(case),
        "carried": _carried(case.rows),
        "calibration": calibration,
        "rods": _rods(calibration),
        "line": line,
        "slice": slices,
        "regions": _region_pictures(case),
        "radiographs": [_radiograph(case, name, rows) for name, rows in case.radiographs.items()],
        "notes": list(dict.fromkeys(map(str, notes))),
        "others": _other_pictures(case),
    }


def _drawn(text: str, file: Path | str, draw: Callable[[], str]) -> Picture:
    try:
        return Picture(draw(), text)
    except _UNREADABLE as error:
        name = Path(file).name
        logger.warning("no picture from %s: %s", name, error)
        return Picture("", text, name)


def _calibration(case: BuiltCase) -> dict:
    """calibration.json, or nothing if it does not hold a line."""
    line = case.read_calibration()
    whole = all(math.isfinite(_finite(line.get(name))) for name in ("slope_mg_cm3_per_hu", "intercept_mg_cm3"))
    return line if whole else {}


def _calibration_pictures(case: BuiltCase, calibration: Mapping) -> tuple[Picture | None, Picture | None]:
    if not calibration:
        return None, None
    line = _drawn("Rods and fitted line", "calibration.json", lambda: charts.calibration_line(calibration))
    placed = any(rod.get("center_lps_mm") for rod in calibration.get("rods") or [])
    return line, _file_picture("Rods on the axial slice", case.folder / "qc" / "calibration.png") if placed else None


def _file_picture(text: str, file: Path) -> Picture:
    return _drawn(text, file, lambda: uri("image/png", _checked_png(file)))


def _checked_png(file: Path) -> bytes:
    data = file.read_bytes()
    if not data.startswith(b"\x89PNG\r\n") or not data.endswith(b"IEND\xaeB`\x82"):
        raise ValueError(f"{file.name}: not a whole PNG")
    return data


def _rods(calibration: Mapping) -> list[dict]:
    rods = []
    for rod in calibration.get("rods") or []:
        fitted = calibration["slope_mg_cm3_per_hu"] * rod["hu"] + calibration["intercept_mg_cm3"]
        rods.append({**rod, "fitted": fitted, "residual": fitted - rod["density_mg_cm3"]})
    return sorted(rods, key=lambda rod: rod["density_mg_cm3"])


def _region_pictures(case: BuiltCase) -> list[tuple[str, Picture]]:
    """Three planes per hip."""
    text = "Axial, coronal and sagittal cut with labels and region"
    folder = case.folder / "qc"
    files = {side: folder / f"labels_{side}.png" for side in case.sides}
    measured = {side for side in case.sides if (case.folder / f"proximal_femur_{side}.nii.gz").exists()}
    return [(side, _file_picture(text, file)) for side, file in files.items() if side in measured or file.exists()]


def _radiograph(case: BuiltCase, name: str, rows: list[Row]) -> dict:
    result = case.read_registration(name)
    bodies = [{"name": body, **result["bodies"][body]} for body in BODIES if body in result.get("bodies", {})]
    overlay = case.folder / "qc" / f"overlay_{name}.png"
    text = "Radiograph with the projected edges of the registered bones"
    picture = _file_picture(text, overlay) if overlay.exists() or bodies else None
    sides = sorted({row["side"] for row in rows if row.get("drr")}, reverse=True)  # as in the radiograph: right first
    return {
        "name": name,
        "pose": next((row["pose"] for row in rows if row.get("pose")), ""),
        "overlay": picture,
        "bodies": bodies,
        "camera": result.get("camera") or {},
        "result": result,
        "rows": sorted(rows, key=lambda row: (row.get("side", ""), row.get("dataset", ""))),
        "pairs": [(side, picture) for side in sides for picture in _pair_pictures(case, rows, side)],
        "rated": [
            (side, row["pair_id"], case.ratings.get(row["pair_id"], ""))
            for side in sides
            for row in [next(r for r in rows if r.get("drr") and r["side"] == side)]
        ],
        "flickers": [flicker for side in sides for flicker in _flicker_pictures(case, rows, side)],
    }


def _flicker_pictures(case: BuiltCase, rows: Iterable[Row], side: str) -> list[tuple[str, Picture, Picture]]:
    """The radiograph of one hip and its projection, to be shown in turn: of dataset A where it is there."""
    mine = sorted((r for r in rows if r.get("drr") and r.get("side") == side), key=lambda r: r.get("dataset", ""))
    for row in mine:
        try:
            xray, drr = read_tiff(case.root / row["xray"])[0], read_tiff(case.root / row["drr"])
        except _UNREADABLE:
            continue  # the pair's own picture says so
        name = SIDE_NAMES.get(side, side)
        under = Picture(radiograph_image(xray), f"Radiograph of the {name} hip")
        over = Picture(projection_image(drr), f"Projection of the bones of the {name} hip, in the same frame")
        return [(side, under, over)]
    return []


def _pair_pictures(case: BuiltCase, rows: Iterable[Row], side: str) -> list[Picture]:
    """The images of one hip's pairs: side by side when A and B share their radiograph, one picture each otherwise."""
    mine = sorted((r for r in rows if r.get("drr") and r.get("side") == side), key=lambda r: r.get("dataset", ""))
    loaded, missing = [], []
    for row in mine:
        try:
            xray, drr = read_tiff(case.root / row["xray"])[0], read_tiff(case.root / row["drr"])
            loaded.append((row["dataset"], xray, drr))
        except _UNREADABLE as error:
            logger.warning("no picture of pair %s: %s", row.get("pair_id"), error)
            missing.append(Picture("", f"Pair {row.get('pair_id', '')}", Path(row["drr"]).parent.name))
    radiographs: list[tuple[np.ndarray, list]] = []
    for dataset, xray, drr in loaded:
        pages = list(zip(_page_names(dataset, len(drr)), drr, strict=True))
        same = next((one for one in radiographs if np.array_equal(one[0], xray)), None)
        if same is None:
            radiographs.append((xray, [pages]))
        else:
            same[1].append(pages)
    name = {"L": "Left", "R": "Right"}.get(side, side)
    text = f"Images of the pairs of the {name.lower()} hip"
    return [
        _drawn(text, "pair", partial(pair_images, xray, pages, title=f"{name} hip")) for xray, pages in radiographs
    ] + missing


def _page_names(dataset: str, count: int) -> list[str]:
    names = _PAGES.get(dataset, ())
    return list(names) if len(names) == count else [f"{dataset}: page {n + 1}" for n in range(count)]


def _other_pictures(case: BuiltCase) -> list[tuple[str, Picture]]:
    """Pictures of qc/ that no other part of the page shows."""
    shown = {"calibration", *(f"overlay_{name}" for name in case.radiographs), *(f"labels_{s}" for s in case.sides)}
    files = sorted(p for p in (case.folder / "qc").glob("*.png") if p.stem not in shown)
    return [(p.stem, _file_picture(p.stem, p)) for p in files]


def _carried(rows: Iterable[Row]) -> dict[str, str]:
    """Columns of the cohort that bmdkit only carries, with the values that the case's rows have."""
    carried: dict[str, dict] = {}
    for row in rows:
        for name, value in row.items():
            if name and name not in COLUMNS and value:
                carried.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(values) for name, values in carried.items()}


def _first(values: Iterable[float]) -> float:
    return next((value for value in values if math.isfinite(value)), math.nan)


def _finite(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan
