"""The network for radiographs that comes with the package, trained on simulated images alone."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of what comes with the package; CARD.md in it says what they learnt from and how good they are."""

WORD = "bmdkit"
"""What a user writes in place of a folder to start from the network that comes with the package."""

DECOMPOSITION = WEIGHTS / "decomposition"
"""A decomposition run of dataset B, with a ridge regression on what it sees."""

SIMULATED_USE = "simulated training only; not for patients"
"""What every output says of a network that has learnt from simulated images alone."""
