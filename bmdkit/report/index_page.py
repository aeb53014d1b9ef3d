"""What the index of the report shows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np

from bmdkit.errors import CODES
from bmdkit.evaluation.summary import number
from bmdkit.report import charts
from bmdkit.report.built import BuiltDataset, Problem
from bmdkit.report.case_page import CaseLine

_HIDDEN = ("config", "configuration", "citation")


def index_context(built: BuiltDataset, lines: Sequence[CaseLine], problems: Sequence[Problem]) -> dict:
    """Everything that the template of the index names."""
    return {
        "title": "Overview",
        "tiles": _tiles(built, lines),
        "lines": lines,
        "charts": _charts(built, lines),
        "problems": _by_code(problems),
        "pages": {line.patient_id: line.page for line in lines},
        "about": {k: _plain(v) for k, v in built.about.items() if k not in _HIDDEN},
        "configuration": json.dumps(_configuration(built), indent=1, ensure_ascii=False, sort_keys=True),
        "citation": built.about.get("citation", ""),
    }


def _configuration(built: BuiltDataset) -> object:
    return built.about.get("configuration") or built.about.get("config") or {}


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
    failed = states["failed"] + states["quarantined"]
    clean = sum(line.pairs > 0 and line.verdict not in ("failed", "quarantined") for line in lines)
    return [
        {"label": "cases", "value": len(lines), "note": f"{sum(len(line.hips) for line in lines)} hips", "tone": ""},
        {"label": "radiographs", "value": sum(line.radiographs for line in lines), "note": "", "tone": ""},
        {"label": "pairs", "value": len(ok), "note": f"{datasets['A']} in A, {datasets['B']} in B", "tone": ""},
        {"label": "cases without fault", "value": clean, "note": f"of {len(lines)}", "tone": "accept"},
        {
            "label": "pairs to review",
            "value": verdicts["review"] + verdicts["reject"],
            "note": f"{verdicts['review']} review, {verdicts['reject']} reject",
            "tone": "review" if verdicts["review"] + verdicts["reject"] else "",
        },
        {
            "label": "cases failed or quarantined",
            "value": failed,
            "note": f"{states['failed']} failed, {states['quarantined']} quarantined",
            "tone": "reject" if failed else "",
        },
    ]


def _charts(built: BuiltDataset, lines: Sequence[CaseLine]) -> list[tuple[str, str]]:
    """(what it shows, data URI); those without a single value are left out."""
    hips = [hip for line in lines for hip in line.hips]
    found = []
    for title, unit, values in (
        ("QCT-BMD per hip", "mg/cm³", [hip.qct_bmd_mg_cm3 for hip in hips]),
        ("CT-aBMD per hip", "g/cm²", [hip.ct_abmd_g_cm2 for hip in hips]),
        ("DXA-BMD per hip", "g/cm²", [hip.dxa_bmd_g_cm2 for hip in hips]),
        ("PF-DRR mean per hip", "g/cm²", [hip.pf_drr_mean_g_cm2 for hip in hips]),
    ):
        if np.isfinite(values).any():
            found.append((title, charts.histogram(values, title=title, unit=unit)))
    rows = [row for row in built.rows if row.get("dataset") == "B" and row.get("status") == "ok"]
    verdicts = [row.get("verdict", "") for row in rows]
    drr = [number(row.get("pf_drr_mean_g_cm2")) for row in rows]
    for name, column, unit in (
        ("DXA-BMD", "dxa_bmd_g_cm2", "g/cm²"),
        ("QCT-BMD", "qct_bmd_mg_cm3", "mg/cm³"),
        ("CT-aBMD", "ct_abmd_g_cm2", "g/cm²"),
    ):
        values = [number(row.get(column)) for row in rows]
        if (np.isfinite(values) & np.isfinite(drr)).any():
            labels = {"x_label": "PF-DRR mean, g/cm²", "y_label": f"{name}, {unit}"}
            title = f"PF-DRR mean and {name}"
            found.append((title, charts.scatter(drr, values, title=name, by=verdicts, **labels)))
    if np.isfinite([line.slope for line in lines]).any():
        slopes, residuals = [line.slope for line in lines], [line.residual for line in lines]
        found.append(("Calibration slope", charts.histogram(slopes, title="Calibration slope", unit="mg/cm³ per HU")))
        if np.isfinite(residuals).any():
            title = "Calibration residual"
            found.append((title, charts.histogram(residuals, title=title, unit="mg/cm³")))
    similarity = {}
    for row in built.rows:
        similarity[row["patient_id"], row.get("pose"), row.get("side")] = (
            number(row.get("registration_similarity")),
            row.get("verdict", ""),
        )
    values = [value for value, _ in similarity.values()]
    if np.isfinite(values).any():
        title = "Registration similarity"
        found.append((title, charts.histogram(values, title=title, unit="", by=[v for _, v in similarity.values()])))
    return found


def _by_code(problems: Sequence[Problem]) -> list[dict]:
    """Problems grouped by code, the most frequent first."""
    groups: dict[str, list[Problem]] = {}
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
