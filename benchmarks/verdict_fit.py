"""Fit the verdicts of poses to rows whose truth is known, and show how they sort patients or bones not fitted to.

    python benchmarks/registration_solids.py --bones 40 --rows ROWS
    python benchmarks/verdict_fit.py ROWS [--held ROWS2] [--json FILE]

    python benchmarks/registration.py --cohort COHORT ... --rows ROWS
    python benchmarks/verdict_fit.py --hips ROWS ... [--held ROWS2 ...] [--json FILE]

Logistic models, one for each thing that can be wrong with a pose. Of single bones: the pose misleads (off in plane by
more than 4 mm, for a body of a pelvis's size, or turned by more than 5 degrees, or the bone is not there), it is lost
(10 mm, 15 degrees), and it is far: off by more than 10 mm in all, depth included. Of the bones of the hips: off by more
than 2 mm, and by more than 10 mm. No slope may make worse evidence look better. Each bone, or patient, is judged by a
fit to the others (tenfold); the coefficients that are printed are of all rows.
--held: rows of others, which nothing was fitted to.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from figure_files import write_figures
from registration_solids import WRONG_DEG, WRONG_MM
from scipy.optimize import minimize

from bmdkit.evaluation.segmentation_metrics import auroc
from bmdkit.io.results import read_csv
from bmdkit.registration.quality import Evidence, Logistic, describe_evidence

FOLDS, RIDGE = 10, 1e-3
LIMITS = {"misleads": (WRONG_MM, WRONG_DEG), "lost": (10.0, 15.0)}
"""Event -> mm in plane for a body of a pelvis's size, and degrees."""

FAR, FAR_MM = "far", 10.0
"""The third event: all points together off by so many mm, depth included, whatever the body's size."""

HIP_LIMITS_MM = {"over_2mm": 2.0, "over_10mm": 10.0}
"""Event -> mm by which all points of a bone of the hips are off, depth included."""

SIGNS = {"similarity": -1, "lead": -1, "log_rotation": 1}
"""Slopes that are fitted, and their signs. Where restarts end tells a little more of drawn bones, but far less of what
is expected of other images: it depends on how much the coarse level shows."""

FAR_SIGNS = SIGNS | {"log_across": 1, "log_depth": 1}

HIP_SIGNS = {"similarity": -1, "log_curvature": 1, "log_spread": 1}

FACTS = tuple(Evidence.__dataclass_fields__)

Row = Mapping[str, str]


@dataclass(frozen=True)
class Kind:
    """What verdicts are about.

    Attributes:
        signs: Event -> slopes that are fitted, with their signs. The first event is the one that poses are accepted by.
        is_event: Whether an event is true of a row.
        whose: Name of the bone or the patient: all its rows are fitted to, or judged, together.
    """

    signs: Mapping[str, Mapping[str, int]]
    is_event: Callable[[Row, str], bool]
    whose: Callable[[Row], object]


def read_evidence(row: Row) -> Evidence:
    """What is known about the pose of a row."""
    return Evidence(**{name: float(row[name]) for name in FACTS if row.get(name) and name != "mirrored"})


def is_solid_event(row: Row, name: str) -> bool:
    """Whether the pose of a single bone misleads, is lost, or is far."""
    if name == FAR:
        return row["is_there"] != "True" or float(row["mtre_mm"]) > FAR_MM
    plane, turn = LIMITS[name]
    too_far = float(row["in_plane_mm"]) > plane * float(row["scale"]) or float(row["rotation_deg"]) > turn
    return row["is_there"] != "True" or too_far


def is_hip_event(row: Row, name: str) -> bool:
    """Whether the pose of a bone of the hips is off by more than the event says."""
    return float(row["mtre_mm"]) > HIP_LIMITS_MM[name]


SOLIDS = Kind(
    {"misleads": SIGNS, "lost": SIGNS, FAR: FAR_SIGNS}, is_solid_event, lambda row: (row["kind"], row["seed"])
)
HIPS = Kind(dict.fromkeys(HIP_LIMITS_MM, HIP_SIGNS), is_hip_event, lambda row: row["patient"])


def fit_logistic(evidence: Sequence[Evidence], events: np.ndarray, signs: Mapping[str, int]) -> Logistic:
    """The most likely model of an event whose slopes have their signs, a little smoothed."""
    features = np.array([[describe_evidence(one)[slope] for slope in signs] for one in evidence])
    middle, size = features.mean(0), features.std(0) + 1e-9
    scaled = np.column_stack([np.ones(len(features)), (features - middle) / size])
    sign = np.where(events, -1.0, 1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (scaled @ weights)
        slope = sign / (1 + np.exp(-margin))
        penalty = RIDGE * weights[1:]
        gradient = scaled.T @ slope / len(events)
        gradient[1:] += penalty
        return float(np.logaddexp(0, margin).mean() + 0.5 * (penalty @ weights[1:])), gradient

    bounds = [(None, None)] + [(0, None) if rises > 0 else (None, 0) for rises in signs.values()]
    found = minimize(loss, np.zeros(scaled.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x
    slopes = found[1:] / size
    return Logistic(float(found[0] - slopes @ middle), **{n: float(s) for n, s in zip(signs, slopes, strict=True)})


def find_events(rows: Sequence[Row], kind: Kind) -> dict[str, np.ndarray]:
    """Event -> whether it is true of each row."""
    return {name: np.array([kind.is_event(row, name) for row in rows]) for name in kind.signs}


def judge_held_out(rows: Sequence[Row], name: str, kind: Kind = SOLIDS) -> np.ndarray:
    """Probability of an event for each row by a fit to the bones, or patients, of the other folds."""
    names = list(dict.fromkeys(map(kind.whose, rows)))
    order = np.random.default_rng(0).permutation(len(names))
    fold = {names[index]: place % FOLDS for place, index in enumerate(order)}
    own = np.array([fold[kind.whose(row)] for row in rows])
    evidence, events = [read_evidence(row) for row in rows], np.array([kind.is_event(row, name) for row in rows])
    found = np.zeros(len(rows))
    for held in sorted(set(fold.values())):
        learnt = [e for e, n in zip(evidence, own, strict=True) if n != held]
        model = fit_logistic(learnt, events[own != held], kind.signs[name])
        for index in np.flatnonzero(own == held):
            found[index] = model.probability(evidence[index])
    return found


def show_events(rows: Sequence[Row], found: Mapping[str, np.ndarray], title: str, kind: Kind) -> dict[str, float]:
    """Print how probabilities sort the rows; returns the numbers, flat."""
    bad = find_events(rows, kind)
    flat: dict[str, float] = {f"{title}.poses": len(rows)}
    for name, events in bad.items():
        flat |= {f"{title}.auroc_{name}": auroc(found[name], events), f"{title}.{name}": int(events.sum())}
    first = next(iter(kind.signs))
    for most in (0.02, 0.05, 0.1, 0.2, 0.35):
        taken = found[first] <= most
        wrong = int((taken & bad[first]).sum())
        share = 100 * float(taken[~bad[first]].mean())
        print(f"{title}: accepted at most {most:4.2f}: {taken.sum()} ({share:.0f} % of the right ones), wrong {wrong}")
        flat[f"{title}.at_{most:g}.accepted_of_right_pct"] = share
        flat[f"{title}.at_{most:g}.accepted_wrong"] = wrong
    return flat


def main() -> None:
    """Read the rows, fit, and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--hips", action="store_true", help="rows of benchmarks/registration.py: bones of the hips")
    parser.add_argument("--held", type=Path, nargs="+", help="rows of others, to be judged by the fit to all rows")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    kind = HIPS if args.hips else SOLIDS
    rows = [row for path in args.rows for row in read_csv(path)]
    flat = show_events(rows, {name: judge_held_out(rows, name, kind) for name in kind.signs}, "tenfold", kind)
    evidence, events = [read_evidence(row) for row in rows], find_events(rows, kind)
    models = {name: fit_logistic(evidence, events[name], signs) for name, signs in kind.signs.items()}
    if args.held:
        others = [row for path in args.held for row in read_csv(path)]
        seen = [read_evidence(row) for row in others]
        found = {name: np.array([model.probability(one) for one in seen]) for name, model in models.items()}
        flat |= show_events(others, found, "held out", kind)
    for name, value in flat.items():
        print(f"{name}: {value:.4g}")
    for name, model in models.items():
        print(name, model)
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
