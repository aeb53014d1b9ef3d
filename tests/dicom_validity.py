"""The verdict of dciodvfy on a DICOM file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy of dicom3tools is not installed")


def list_errors(path: Path) -> list[str]:
    """The errors that dciodvfy finds in a file; warnings are no errors."""
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    errors = [line for line in told.stderr.splitlines() if line.startswith("Error")]
    return errors if errors or told.returncode == 0 else [f"exit {told.returncode}: {told.stderr[-500:]}"]
