"""How well the uncertainty of a network tells its failures, and the largest one that is allowed because of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bmdkit.errors import PreflightError

SHIPPED = Path(__file__).parent / "weights"
"""A network trained on simulated CTs alone, which comes with the package; CARD.md in it says on which and how good."""

ROC = "roc.json"
"""In the folder of a network; benchmarks/segmentation.py writes it."""


def read_roc(folder: Path) -> dict[str, Any] | None:
    """What was measured on CTs with known labels, whole and spoilt; None where nothing was.

    Returns:
        `threshold`: mean variance of a structure above which it counts as failed; `sensitivity` and `specificity`
        there; `auroc`; `structures`, `failed` of them below a Dice of `failed_below_dice`; `curve` of the first three.

    Raises:
        PreflightError: It cannot be read (BMD-TRN-009).
    """
    path = Path(folder) / ROC
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["threshold"] = float(found["threshold"])
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError("BMD-TRN-009", f"no readable {ROC} ({error!r}).", file=folder) from error
