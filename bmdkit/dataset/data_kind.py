"""Whether a dataset is of patients or simulated, as its dataset.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from bmdkit.dataset.layout import DESCRIPTION
from bmdkit.errors import PreflightError

DataKind = Literal["simulated", "clinical"]


def find_data_kind(root: Path) -> DataKind | None:
    """The kind of a dataset; None where it does not say it.

    Raises:
        PreflightError: Its dataset.json cannot be read (BMD-TRN-001).
    """
    try:
        kind = json.loads((root / DESCRIPTION).read_text(encoding="utf-8")).get("data")
    except (OSError, ValueError, AttributeError) as error:
        raise PreflightError("BMD-TRN-001", f"no readable dataset.json in {root.name} ({error}).") from error
    match kind:
        case "simulated" | "clinical":
            return kind
    return None
