"""The drawn bones of benchmarks/registration_solids.py are as large as they say, and what misleads is told by size."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def solids(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module("registration_solids")
    sys.modules.pop("registration_solids", None)


@pytest.mark.parametrize("kind", ["vertebra", "tibia", "metacarpal", "short"])
def test_a_bone_is_as_long_as_asked_and_differs_with_the_seed(solids, kind):
    one, other = (solids.draw_solid(kind, 80.0, np.random.default_rng(seed)) for seed in (0, 1))
    filled = np.argwhere(one.array > 0)
    extent = (np.ptp(filled, axis=0) + 1) * one.grid.spacing_mm[::-1]
    assert 56.0 < extent.max() < 84.0
    assert set(np.unique(one.array[one.array > 1000])) == {1150.0}  # cortex
    assert ((one.array > 0) != (other.array > 0)).mean() > 0.005


def test_what_misleads_follows_the_size(solids):
    row = solids.Row(
        "short", 0, 1, "wide", True, 5.0, 1.5, 4.0, 1.5, 1.0, 2.0, "accept", 0.8, 0.1, 1.0, 1.0, 1.0, 0.5, 1.0, 0.1,
        0.1, 0.3, 0.4, 0.5,
    )  # fmt: skip
    assert not row.is_wrong
    assert replace(row, scale=0.25).is_wrong
    assert replace(row, rotation_deg=6.0).is_wrong
    assert replace(row, is_there=False).is_wrong
    flat = solids.summarise([row, replace(row, is_there=False)])
    assert flat["accepted_wrong"] == 1
    assert flat["short_1_wide_n"] == 1


def test_rows_are_written_with_their_evidence(solids, tmp_path):
    assert {"similarity", "across_mm", "spread_across_mm", "lead", "depth_sd_mm"} <= set(solids.Row.__annotations__)
    solids.write_rows(tmp_path / "rows.csv", solids.Row, [])
    assert (tmp_path / "rows.csv").read_text().startswith("kind,seed,views,start")
