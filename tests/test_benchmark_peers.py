"""Peers of the renderer's benchmark: one that is not installed is named, and no error."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    yield importlib.import_module("drr_peers")
    for name in ("drr_peers", "drr_cases"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("peer", "package"),
    [
        ("rtk", "itk-rtk"),
        ("diffdrr", "diffdrr"),
        ("nanodrr", "nanodrr"),
        ("flashdrr", "flashdrr"),
        ("diffct", "diffct"),
    ],
)
def test_a_peer_is_missing_where_its_own_package_is(peers, monkeypatch, peer, package):
    """ITK can be there without RTK: what counts is the package that brings the peer."""
    there = {package: False, "itk": True, "itk-core": True}

    def look(name):
        if not there[name]:
            raise PackageNotFoundError(name)

    monkeypatch.setattr(peers, "distribution", look)
    assert peers.missing(peer) == f"the package {package} is not installed"
    there[package] = True
    assert peers.missing(peer) is None
