"""The network for radiographs that comes with the package, trained on simulated images alone."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of what comes with the package; CARD.md in it says what they learnt from and how good they are."""

WORD = "bmdkit"
"""What a user writes in place of a folder to start from the network that comes with the package."""

DECOMPOSITIONS = tuple(sorted(WEIGHTS.glob("decomposition*")))
"""Decomposition runs of dataset B that have learnt the same, each with a ridge regression on what it sees."""

DECOMPOSITION = WEIGHTS / "decomposition"
"""The first of them, from which a training starts."""

SIMULATED_USE = "simulated training only; not for patients"
"""What every output says of a network that has learnt from simulated images alone."""
