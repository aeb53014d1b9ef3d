"""Repeatability on one device and reproducibility between devices, where the manifest says which took a radiograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bmdkit.evaluation.repeatability import Precision, measure_precision
from bmdkit.study.task_values import TaskValues


def describe_devices(values: TaskValues, devices: Mapping[str, str]) -> dict[str, Any]:
    """Precision of repeated radiographs of one hip and pose.

    Args:
        values: Predictions of one method and task.
        devices: Device of each pair by its name; "" where it is not known.

    Returns:
        `repeatability` of each device and of all (repeats on one device), and `reproducibility` (means of different
        devices); what no hip allows is left out.
    """
    known = [
        (row, float(p), devices.get(row.pair_id, "")) for row, p in zip(values.rows, values.predicted, strict=True)
    ]
    known = [one for one in known if one[2]]
    found: dict[str, Any] = {}
    repeats: dict[str, Precision] = {}
    for device in (*sorted({device for *_, device in known}), None):
        mine = [one for one in known if device in (None, one[2])]
        keys = [f"{row.hip} {row.pose} {used}" for row, _, used in mine]
        precision = measure_precision([value for _, value, _ in mine], keys)
        if precision is not None:
            repeats["all" if device is None else device] = precision
    if repeats:
        found["repeatability"] = {name: asdict(one) for name, one in repeats.items()}
    between = _between_devices([(f"{row.hip} {row.pose}", value, device) for row, value, device in known])
    if between is not None:
        found["reproducibility"] = asdict(between)
    return found


def _between_devices(known: Sequence[tuple[str, float, str]]) -> Precision | None:
    """Precision of the means that different devices give of one hip and pose."""
    groups: dict[tuple[str, str], list[float]] = {}
    for hip, value, device in known:
        groups.setdefault((hip, device), []).append(value)
    return measure_precision([float(np.mean(some)) for some in groups.values()], [hip for hip, _ in groups])
