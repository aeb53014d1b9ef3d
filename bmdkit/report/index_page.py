"""What the index of the report shows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bmdkit.errors import CODES, PreflightError
from bmdkit.evaluation.summary import number
from bmdkit.report import charts
from bmdkit.report.built import BuildProblem, BuiltDataset
from bmdkit.report.case_page import CaseLine, Outlier, Picture
from bmdkit.report.methods_text import write_methods
from bmdkit.segmentation.failures import SHIPPED, read_roc

_HEADER = ("kind", "bmdkit")
_HIDDEN = (*_HEADER, "configuration", "citation")


def index_context(built: BuiltDataset, lines: Sequence[CaseLine]) -> dict:
    """Everything that the template of the index names."""
    return {
        "title": "Overview",
        "tiles": _tiles(built, lines),
        "lines": lines,
        "overlays": [line for line in lines if line.least is not None and line.least.uri],
        "charts": _charts(built, lines),
        "problems": _by_code(built.problems),
        "pages": {line.patient_id: line.page for line in lines},
        "header": ", built with bmdkit ".join(str(built.about[name]) for name in _HEADER if name in built.about),
        "about": {k: _plain(v) for k, v in built.about.items() if k not in _HIDDEN},
        "configuration": json.dumps(built.about.get("configuration", {}), indent=1, ensure_ascii=False, sort_keys=True),
        "citation": built.about.get("citation", ""),
        "methods": write_methods(
            built.about, patients=len(lines), pairs=[row for row in built.rows if row.get("status") == "ok"]
        ),
    }


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(inner) for inner in value)
    return str(value)


def _tiles(built: BuiltDataset, lines: Sequence[CaseLine]) -> list[dict]:
    ok = [row for row in built.rows if row.get("status") == "ok"]
    datasets = Counter(row.get("dataset", "") for row in ok)
    verdicts = Counter(row.get("verdict", "") for row in ok)
    states = Counter(line.verdict for line in lines)
    doubtful, lost = verdicts["review"] + verdicts["reject"], states["failed"] + states["quarantined"]
    return [
        _tile("cases", len(lines), f"{sum(len(line.hips) for line in lines)} hips"),
        _tile("radiographs", sum(line.radiographs for line in lines)),
        _tile("pairs", len(ok), f"{datasets['A']} in A, {datasets['B']} in B", "accept" if ok else ""),
        _tile("pairs to review", doubtful, f"{verdicts['review']} review, {verdicts['reject']} reject", "review"),
        _tile("cases built in part", states["partial"], "some pairs left out", "review"),
        _tile("cases left out", lost, f"{states['failed']} failed, {states['quarantined']} quarantined", "reject"),
    ]


def _tile(label: str, value: int, note: str = "", tone: str = "") -> dict:
    return {"label": label, "value": value, "note": note, "tone": tone if value else ""}


def _charts(built: BuiltDataset, lines: Sequence[CaseLine]) -> list[dict]:
    """Groups of charts: what a group is about, and its pictures; charts without a single value are left out."""
    groups = (
        ("Bone mineral density per hip", "four", _density_charts(lines)),
        ("PF-DRR mean against the measurements, dataset B", "three", _scatter_charts(built)),
        ("Calibration and registration", "three", _quality_charts(built, lines)),
        ("Labels by the network", "three", _label_charts(built)),
    )
    return [{"title": title, "columns": columns, "pictures": found} for title, columns, found in groups if found]


def _density_charts(lines: Sequence[CaseLine]) -> list[Picture]:
    hips = [hip for line in lines for hip in line.hips]
    return _histograms(
        ("QCT-BMD", "mg/cm³", [hip.qct_bmd_mg_cm3 for hip in hips]),
        ("CT-aBMD", "g/cm²", [hip.ct_abmd_g_cm2 for hip in hips]),
        ("DXA-BMD", "g/cm²", [hip.dxa_bmd_g_cm2 for hip in hips]),
        ("PF-DRR mean", "g/cm²", [hip.pf_drr_mean_g_cm2 for hip in hips]),
    )


def _histograms(*wanted: tuple[str, str, Sequence[float]], wide: bool = False) -> list[Picture]:
    return [
        Picture(charts.histogram(values, title=title, unit=unit, wide=wide), f"Histogram of {title}")
        for title, unit, values in wanted
        if np.isfinite(values).any()
    ]


def _scatter_charts(built: BuiltDataset) -> list[Picture]:
    rows = [row for row in built.rows if row.get("dataset") == "B" and row.get("status") == "ok"]
    verdicts = [row.get("verdict", "") for row in rows]
    drr = [number(row.get("pf_drr_mean_g_cm2")) for row in rows]
    found = []
    for name, column, unit in (
        ("DXA-BMD", "dxa_bmd_g_cm2", "g/cm²"),
        ("QCT-BMD", "qct_bmd_mg_cm3", "mg/cm³"),
        ("CT-aBMD", "ct_abmd_g_cm2", "g/cm²"),
    ):
        values = [number(row.get(column)) for row in rows]
        if (np.isfinite(values) & np.isfinite(drr)).any():
            labels = {"x_label": "PF-DRR mean, g/cm²", "y_label": f"{name}, {unit}"}
            far = charts.find_far(drr, values)
            names = {place: f"{rows[place].get('patient_id')} {rows[place].get('side')}" for place in far}
            chart = charts.scatter(drr, values, title=name, by=verdicts, names=names, **labels)
            outliers = tuple(Outlier(*_describe_pair(rows[place])) for place in far)
            found.append(Picture(chart, f"PF-DRR mean against {name}", outliers=outliers))
    return found


def _describe_pair(row: Mapping[str, str]) -> tuple[str, str]:
    """The patient of a pair, and side and pose of its radiograph."""
    return str(row.get("patient_id", "")), f"{row.get('side', '')} {row.get('pose', '')}".strip()


def _quality_charts(built: BuiltDataset, lines: Sequence[CaseLine]) -> list[Picture]:
    found = _histograms(
        ("Calibration slope", "mg/cm³ per HU", [line.slope for line in lines]),
        ("Calibration residual", "mg/cm³", [line.residual for line in lines]),
        wide=True,
    )
    rows = [row for row in built.rows if np.isfinite(number(row.get("registration_similarity")))]
    if rows:
        values = [number(row.get("registration_similarity")) for row in rows]
        verdicts = [row.get("verdict", "") for row in rows]
        title = "Registration similarity per pair"
        chart = charts.histogram(values, title=title, unit="", by=verdicts, wide=True)
        found.append(Picture(chart, f"Histogram of {title}"))
    return found


def _label_charts(built: BuiltDataset) -> list[Picture]:
    """How sure the network was, and the curve from which the largest uncertainty that it may have was read."""
    hips = {(row.get("patient_id"), row.get("side")): row.get("segmentation_uncertainty") for row in built.rows}
    found = _histograms(("Segmentation uncertainty", "mean variance", [number(v) for v in hips.values()]), wide=True)
    if not found:
        return []
    named = built.about.get("configuration", {}).get("segmentation", {}).get("model")
    try:
        measured = read_roc(Path(named) if named else SHIPPED)
    except PreflightError:
        measured = None
    if measured:
        found.append(Picture(charts.roc(measured), "How uncertainty tells failed labels"))
    return found


def _by_code(problems: Sequence[BuildProblem]) -> list[dict]:
    """Problems grouped by code, the most frequent first."""
    groups: dict[str, list[BuildProblem]] = {}
    for problem in problems:
        groups.setdefault(problem.code, []).append(problem)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {
            "code": code,
            "cause": members[0].cause,
            "remedy": members[0].remedy,
            "outcome": CODES[code].outcome if code in CODES else "",
            "members": sorted(members, key=lambda p: (p.patient_id, p.subject, p.reason)),
        }
        for code, members in ordered
    ]
