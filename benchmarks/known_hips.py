"""What a few hips of known BMD give: lines from what is told to what was measured, and the mean, on all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmdkit.evaluation.agreement import pearson
from bmdkit.evaluation.recalibration import FEWEST_PATIENTS, fit_recalibration

DRAWS = 25
"""Of the patients whose BMD is known."""


def measure_line(told: np.ndarray, known: np.ndarray, given: np.ndarray, patients: Sequence[str]) -> dict[str, float]:
    """How well lines of some images tell the BMD of the others.

    Args:
        told: (n,) BMD that was told, g/cm2.
        known: (n,) BMD that was measured, g/cm2.
        given: (n,) bool, images that the lines and the mean are of.
        patients: Identifier of each image's patient.

    Returns:
        Of the other images: `pcc`, mean error after the line of least squares, by `fit_recalibration`, which is what
        `bmdkit predict --known` does and takes four patients, and of the mean, g/cm2, and the ratios of the first two
        to the last.
    """
    slope, intercept = np.polyfit(told[given], known[given], 1)
    after = float(np.abs(slope * told + intercept - known)[~given].mean())
    naive = float(np.abs(known[given].mean() - known[~given]).mean())
    flat = {
        "pcc": float(pearson(told[~given], known[~given])),
        "mae_after_line_g_cm2": after,
        "mae_of_the_mean_g_cm2": naive,
        "mae_ratio": after / naive,
    }
    owners = [patients[n] for n in np.flatnonzero(given)]
    if len(set(owners)) < FEWEST_PATIENTS:
        return flat
    line = fit_recalibration(told[given], known[given], owners)
    recalibrated = float(np.abs(line.apply(told) - known)[~given].mean())
    return flat | {"mae_recalibrated_g_cm2": recalibrated, "recalibrated_ratio": recalibrated / naive}


def draw_lines(told: np.ndarray, known: np.ndarray, patients: Sequence[str], count: int) -> dict[str, float]:
    """PCC and ratios of `measure_line` over draws of the patients whose BMD is known: how much one choice is worth.

    Args:
        told: (n,) BMD that was told, g/cm2.
        known: (n,) BMD that was measured, g/cm2.
        patients: Identifier of each image's patient.
        count: Number of patients whose BMD is known.

    Returns:
        Mean, and 10th and 90th percentile (`_low`, `_high`), of `DRAWS` draws.
    """
    ids, rng = list(dict.fromkeys(patients)), np.random.default_rng(0)
    owners = np.array([ids.index(patient) for patient in patients])
    chosen = (rng.choice(len(ids), count, replace=False) for _ in range(DRAWS))
    found = [measure_line(told, known, np.isin(owners, some), patients) for some in chosen]
    flat: dict[str, float] = {}
    for name in [name for name in ("pcc", "mae_ratio", "recalibrated_ratio") if name in found[0]]:
        values = [one[name] for one in found]
        low, high = np.percentile(values, [10, 90])
        flat |= {f"drawn.{name}": float(np.mean(values)), f"drawn.{name}_low": low, f"drawn.{name}_high": high}
    return flat
