"""Tables of benchmarks/registration.py: success rates with intervals, errors, capture range, and verdicts."""

from __future__ import annotations

import numpy as np

from bmdkit.evaluation.segmentation_metrics import auroc as area

BIN_MM = 20.0
"""Width of the bins of initial error, of which the capture range is made."""

SDD_OFF_PCT = 0.1
"""A source distance further off than this is listed apart: depth, and with it mTRE, cannot be seen in one view."""


def bootstrap(rows: list[dict], threshold: float, *, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of a success rate, %, patients drawn with replacement."""
    names = sorted({row["patient"] for row in rows})
    by_patient = [np.array([r["mtre_mm"] < threshold for r in rows if r["patient"] == name]) for name in names]
    hits, sizes = np.array([b.sum() for b in by_patient]), np.array([len(b) for b in by_patient])
    drawn = np.random.default_rng(0).integers(0, len(names), (draws, len(names)))
    rates = 100 * hits[drawn].sum(1) / sizes[drawn].sum(1)
    return float(np.percentile(rates, 2.5)), float(np.percentile(rates, 97.5))


LEAST = 5


def auroc(score: np.ndarray, bad: np.ndarray) -> float:
    """Chance that a bad pose has the higher score; NaN with fewer than `LEAST` of either kind, which tell nothing."""
    bad = np.asarray(bad, bool)
    return area(score, bad) if min(bad.sum(), (~bad).sum()) >= LEAST else float("nan")


def summarise(rows: list[dict]) -> dict[str, float]:
    """Print the tables; returns them flat: name -> number."""
    flat: dict[str, float] = {}
    for row in rows:
        if abs(row.get("sdd_off_pct", 0.0)) > SDD_OFF_PCT and not row["labels"].endswith("SDD off"):
            row["labels"] += ", SDD off"
    head = (
        f"{'method':8s} {'start':8s} {'labels':14s} {'body':7s} {'n':>4s} {'<2mm %':>7s} {'95 %':>13s} {'<10mm %':>8s}"
    )
    print(
        head
        + "".join(f" {t:>6s}" for t in ("mTRE", "p95", "plane", "depth", "proj.", "rot.", "PF %", "PFp95", "CPU s"))
    )
    plain = [r for r in rows if not r["start"].startswith("capture") and not r["labels"].startswith("wrong")]
    for key in dict.fromkeys((r["method"], r["start"], r["labels"], r["body"].split("_")[0]) for r in plain):
        part = [r for r in plain if (r["method"], r["start"], r["labels"], r["body"].split("_")[0]) == key]
        column = {k: np.array([r[k] for r in part], float) for k in part[0] if isinstance(part[0][k], int | float)}
        low, high = bootstrap(part, 2.0)
        values = {
            "below_2mm_pct": 100 * float((column["mtre_mm"] < 2).mean()),
            "below_2mm_low_pct": low,
            "below_2mm_high_pct": high,
            "bones": len(part),
            "patients": len({r["patient"] for r in part}),
            "below_10mm_pct": 100 * float((column["mtre_mm"] < 10).mean()),
            "mtre_median_mm": float(np.median(column["mtre_mm"])),
            "mtre_p95_mm": float(np.percentile(column["mtre_mm"], 95)),
            "in_plane_median_mm": float(np.median(column["in_plane_mm"])),
            "in_plane_below_0.5mm_pct": 100 * float((column["in_plane_mm"] < 0.5).mean()),
            "depth_median_mm": float(np.median(column["depth_mm"])),
            "projection_median_mm": float(np.median(column["projection_mm"])),
            "rotation_median_deg": float(np.median(column["rotation_deg"])),
            "rotation_below_0.5deg_pct": 100 * float((column["rotation_deg"] < 0.5).mean()),
            "seconds_median": float(np.median(column["seconds"])),
            "evaluations_median": float(np.median(column["evaluations"])),
        }
        density = column["region_error_pct"][np.isfinite(column["region_error_pct"])]
        if density.size:
            values |= {"pf_median_pct": float(np.median(density)), "pf_p95_pct": float(np.percentile(density, 95))}
        flat |= {".".join([*key, name]): value for name, value in values.items()}
        v = values
        print(
            f"{key[0]:8s} {key[1]:8s} {key[2]:14s} {key[3]:7s} {len(part):4d} {v['below_2mm_pct']:7.1f} "
            f"{low:5.1f} - {high:5.1f} {v['below_10mm_pct']:8.1f} {v['mtre_median_mm']:6.2f} {v['mtre_p95_mm']:6.2f} "
            f"{v['in_plane_median_mm']:6.2f} {v['depth_median_mm']:6.2f} {v['projection_median_mm']:6.2f} "
            f"{v['rotation_median_deg']:6.2f} {v.get('pf_median_pct', np.nan):6.2f} "
            f"{v.get('pf_p95_pct', np.nan):6.2f} {v['seconds_median']:6.2f}"
        )
    known = [r for r in rows if r["method"] == "bmdkit" and not r["labels"].endswith("SDD off")]
    flat |= _capture(rows) | _verdicts(known)
    return flat


def _capture(rows: list[dict]) -> dict[str, float]:
    flat = {}
    rows = [r for r in rows if r["start"].startswith("capture") and not r["body"].startswith("femur")]
    for method in dict.fromkeys(r["method"] for r in rows):
        reach, open_ended = 0.0, True
        for label in sorted({r["start"] for r in rows}, key=lambda s: float(s.split()[1])):
            part = [r for r in rows if r["method"] == method and r["start"] == label]
            rate = 100 * float(np.mean([r["mtre_mm"] < 2 for r in part]))
            low = float(label.split()[1])
            flat[f"{method}.capture.{low:g}-{low + BIN_MM:g}mm_pct"] = rate
            open_ended = open_ended and rate >= 95
            reach = low + BIN_MM if open_ended else reach
            print(f"{method}: pelvis below 2 mm, started {low:g}-{low + BIN_MM:g} mm off: {rate:.0f} % of {len(part)}")
        flat[f"{method}.capture_range_mm"] = reach
    return flat


def _verdicts(rows: list[dict]) -> dict[str, float]:
    if not rows:
        return {}
    error = np.array([r["mtre_mm"] for r in rows])
    accepted = np.array([r["verdict"] == "accept" for r in rows])
    refused = np.array([r["verdict"] == "reject" for r in rows])
    good, bad = error < 2, error > 10
    flat = {
        "verdict.poses": float(len(rows)),
        "verdict.above_2mm": float((error > 2).sum()),
        "verdict.above_10mm": float(bad.sum()),
        "verdict.accepted_pct": 100 * float(accepted.mean()),
        "verdict.accepted_of_below_2mm_pct": 100 * float(accepted[good].mean()) if good.any() else 0.0,
        "verdict.rejected_of_above_10mm_pct": 100 * float(refused[bad].mean()) if bad.any() else 0.0,
        "verdict.accepted_above_10mm": float((accepted & bad).sum()),
        "verdict.accepted_above_2mm_pct": 100 * float((error[accepted] > 2).mean()) if accepted.any() else 0.0,
    }
    for limit in (2, 10):
        if f"probability_over_{limit}mm" in rows[0]:
            score = np.array([r[f"probability_over_{limit}mm"] for r in rows])
            for name, part in (("", error > -1), ("searched_", np.isfinite(error))):
                value = auroc(score[part], error[part] > limit)
                if np.isfinite(value):
                    flat[f"verdict.{name}auroc_{limit}mm"] = value
    for kind in sorted({r["labels"] for r in rows if r["labels"].startswith("wrong")}):
        part = np.array([r["labels"] == kind for r in rows])
        flat[f"verdict.{kind.replace(': ', '_')}.poses"] = float(part.sum())
        flat[f"verdict.{kind.replace(': ', '_')}.accepted"] = float(accepted[part].sum())
    print("  ".join(f"{name} {value:.3g}" for name, value in flat.items()))
    return flat
