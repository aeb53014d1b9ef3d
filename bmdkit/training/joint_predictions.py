"""The predictions of several networks that have learnt the same, pair by pair: a deep ensemble.

Source: Lakshminarayanan et al. 2017, arXiv 1612.01474.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bmdkit.training.bone_density import TASKS
from bmdkit.training.run_layout import PairPrediction


def join_predictions(runs: Sequence[Sequence[PairPrediction]]) -> list[tuple[PairPrediction, ...]]:
    """The predictions of every pair that all runs know, and have held out or learnt from alike."""
    by_pair = [{(row.pair_id, row.split): row for row in rows} for rows in runs]
    return [tuple(rows[key] for rows in by_pair) for key in by_pair[0] if all(key in rows for rows in by_pair)]


def average_predictions(joined: Sequence[Sequence[PairPrediction]]) -> list[PairPrediction]:
    """Each pair's prediction with the mean BMD of all runs; none of a task where one of them has none.

    Args:
        joined: The predictions of each pair, as `join_predictions` gives them.
    """
    found = []
    for rows in joined:
        dxa, qct = (_average([row.predicted(task) for row in rows]) for task in TASKS)
        found.append(replace(rows[0], predicted_dxa_bmd_g_cm2=dxa, predicted_qct_bmd_mg_cm3=qct))
    return found


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
