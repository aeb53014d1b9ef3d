"""Errors that a patient's data or a user's set-up can cause, each with a stable code.

A caller's mistake in Python raises ValueError or TypeError. What a hospital's data, a cohort or a machine can do
wrong raises a `BmdkitError`, which carries a code of `CODES`. `python -m bmdkit.errors` prints the page of all codes.
"""

from bmdkit.errors.code import Code, Outcome
from bmdkit.errors.exceptions import CODES, BmdkitError, CaseError, DiskFullError, LockedError, PreflightError

__all__ = ["CODES", "BmdkitError", "CaseError", "Code", "DiskFullError", "LockedError", "Outcome", "PreflightError"]
