"""Fit the verdicts of single bodies to rows of `registration_solids.py`, and show how they sort bones not fitted to.

    python benchmarks/registration_solids.py --bones 40 --rows ROWS
    python benchmarks/verdict_fit.py ROWS [--held ROWS2] [--json FILE]

Three logistic models: the pose misleads (off in plane by more than 4 mm, for a body of a pelvis's size, or turned by
more than 5 degrees, or the bone is not there), it is lost (10 mm, 15 degrees), and it is far: off by more than 10 mm
in all, depth included. No slope may make worse evidence look better. Each bone is judged by a fit to the others
(tenfold); the coefficients that are printed are of all rows.
--held: rows of other bones, which nothing was fitted to.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
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

EVENTS = (*LIMITS, FAR)

SIGNS = {"similarity": -1, "lead": -1, "log_rotation": 1}
"""Slopes that are fitted, and their signs. Where restarts end tells a little more of drawn bones, but far less of what
is expected of other images: it depends on how much the coarse level shows."""

FAR_SIGNS = SIGNS | {"log_across": 1, "log_depth": 1}

FACTS = tuple(Evidence.__dataclass_fields__)


def read_evidence(row: Mapping[str, str]) -> Evidence:
    """What is known about the pose of a row."""
    return Evidence(**{name: float(row[name]) for name in FACTS if name in row and name != "mirrored"})


def is_event(row: Mapping[str, str], name: str) -> bool:
    """Whether the pose misleads, or is lost."""
    if name == FAR:
        return row["is_there"] != "True" or float(row["mtre_mm"]) > FAR_MM
    plane, turn = LIMITS[name]
    too_far = float(row["in_plane_mm"]) > plane * float(row["scale"]) or float(row["rotation_deg"]) > turn
    return row["is_there"] != "True" or too_far


def fit_logistic(evidence: Sequence[Evidence], events: np.ndarray, name: str) -> Logistic:
    """The most likely model of an event whose slopes have their signs, a little smoothed."""
    signs = FAR_SIGNS if name == FAR else SIGNS
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


def judge_held_out(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    """Probability of an event for each row by a fit to the bones of the other folds."""
    bones = list(dict.fromkeys((row["kind"], row["seed"]) for row in rows))
    order = np.random.default_rng(0).permutation(len(bones))
    fold = {bones[index]: place % FOLDS for place, index in enumerate(order)}
    own = np.array([fold[row["kind"], row["seed"]] for row in rows])
    evidence, events = [read_evidence(row) for row in rows], np.array([is_event(row, name) for row in rows])
    found = np.zeros(len(rows))
    for held in range(FOLDS):
        model = fit_logistic([e for e, n in zip(evidence, own, strict=True) if n != held], events[own != held], name)
        for index in np.flatnonzero(own == held):
            found[index] = model.probability(evidence[index])
    return found


def show_events(rows: Sequence[Mapping[str, str]], found: Mapping[str, np.ndarray], title: str) -> dict[str, float]:
    """Print how probabilities sort the rows; returns the numbers, flat."""
    flat: dict[str, float] = {}
    bad = {name: np.array([is_event(row, name) for row in rows]) for name in EVENTS}
    for name in EVENTS:
        flat[f"{title}.auroc_{name}"] = auroc(found[name], bad[name])
    flat |= {f"{title}.poses": len(rows), f"{title}.misleading": int(bad["misleads"].sum())}
    for most in (0.02, 0.05, 0.1, 0.2, 0.35):
        taken = found["misleads"] <= most
        wrong = int((taken & bad["misleads"]).sum())
        share = 100 * float(taken[~bad["misleads"]].mean())
        print(f"{title}: accepted at most {most:4.2f}: {taken.sum()} ({share:.0f} % of the right ones), wrong {wrong}")
        flat[f"{title}.at_{most:g}.accepted_of_right_pct"] = share
        flat[f"{title}.at_{most:g}.accepted_wrong"] = wrong
    return flat


def main() -> None:
    """Read the rows, fit, and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--held", type=Path, help="rows of other bones, to be judged by the fit to all of the first")
    parser.add_argument("--json", type=Path, help="write the numbers, flat: name -> number")
    args = parser.parse_args()
    rows = read_csv(args.rows)
    flat = show_events(rows, {name: judge_held_out(rows, name) for name in EVENTS}, "tenfold")
    evidence = [read_evidence(row) for row in rows]
    models = {name: fit_logistic(evidence, np.array([is_event(row, name) for row in rows]), name) for name in EVENTS}
    if args.held:
        others = read_csv(args.held)
        seen = [read_evidence(row) for row in others]
        found = {name: np.array([model.probability(one) for one in seen]) for name, model in models.items()}
        flat |= show_events(others, found, "held out")
    for name, value in flat.items():
        print(f"{name}: {value:.4g}")
    for name, model in models.items():
        print(name, model)
    if args.json:
        write_figures(args.json, flat, "cpu")


if __name__ == "__main__":
    main()
