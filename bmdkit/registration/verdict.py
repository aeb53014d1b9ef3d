"""From the traces of a search to accept, review or reject."""

from __future__ import annotations

from collections.abc import Mapping

from bmdkit.registration.result import Verdict


def judge(evidence: Mapping[str, float]) -> tuple[Verdict, dict[str, float]]:
    """The verdict on one bone, and the evidence for it.

    Args:
        evidence: similarity (near the bone), spread_mm (between repeated refinements), prior (root mean square, in
            standard deviations).
    """
    if evidence["similarity"] < 0.5 or evidence["spread_mm"] > 10 or evidence["prior"] > 4:
        return "reject", dict(evidence)
    if evidence["similarity"] < 0.7 or evidence["spread_mm"] > 2 or evidence["prior"] > 2.5:
        return "review", dict(evidence)
    return "accept", dict(evidence)
