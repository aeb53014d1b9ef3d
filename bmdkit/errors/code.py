"""What one error code says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["quarantine", "failed", "flag", "warning", "exit 4", "exit 5", "exit 6"]


@dataclass(frozen=True)
class Code:
    """One code of the table in docs/errors.md.

    Attributes:
        cause: Cause of the error, one sentence.
        remedy: Steps that the user can take.
        outcome: Outcome for the case or for the whole run.
    """

    cause: str
    remedy: str
    outcome: Outcome = "quarantine"
