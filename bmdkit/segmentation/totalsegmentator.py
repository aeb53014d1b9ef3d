"""Labels from the user's own installation of TotalSegmentator, run as a program of its own."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bmdkit.core.volume import LabelMap, Volume
from bmdkit.errors import CaseError, PreflightError
from bmdkit.io.label_maps import read_labels
from bmdkit.io.volumes import write_volume

logger = logging.getLogger(__name__)

ROIS = (
    "hip_left",
    "hip_right",
    "femur_left",
    "femur_right",
    "sacrum",
    "vertebrae_S1",
    *(f"vertebrae_L{level}" for level in range(1, 6)),
)
"""Classes that are asked for: version 2, task "total"."""


@dataclass(frozen=True)
class TotalSegmentatorConfig:
    """How TotalSegmentator is run.

    Attributes:
        executable: Its name on the PATH, or its path.
        fast: Its model for 3 mm voxels: quicker, coarser.
        timeout_s: Seconds after which it is ended.
    """

    executable: str = "TotalSegmentator"
    fast: bool = False
    timeout_s: float = 3600.0


def require_totalsegmentator(config: TotalSegmentatorConfig) -> Path:
    """Where the program is.

    Raises:
        PreflightError: It is not installed (BMD-SEG-002).
    """
    found = shutil.which(config.executable)
    if found is None:
        raise PreflightError("BMD-SEG-002", f"no program {config.executable} on the PATH.")
    return Path(found)


def run_totalsegmentator(
    ct: Volume, config: TotalSegmentatorConfig | None = None, *, device: str = "cpu", case: str | None = None
) -> LabelMap:
    """Have TotalSegmentator segment a CT, and read its masks.

    Args:
        ct: HU.
        config: How.
        device: cpu or cuda[:N].
        case: Named in errors.

    Returns:
        Our structures, on the CT's grid.

    Raises:
        PreflightError: It is not installed (BMD-SEG-002).
        CaseError: It failed, took too long or found no bone of ours (BMD-SEG-003); its masks cannot be read (BMD-MAP).
    """
    config = TotalSegmentatorConfig() if config is None else config
    program = require_totalsegmentator(config)
    with tempfile.TemporaryDirectory(prefix="bmdkit-") as scratch:
        given, made = Path(scratch) / "ct.nii.gz", Path(scratch) / "segmentations"
        write_volume(given, ct.require("hu"))
        command = [str(program), "-i", str(given), "-o", str(made), "--device", _device(device)]
        command += ["--roi_subset", *ROIS, *(["--fast"] if config.fast else [])]
        _run(command, config.timeout_s, scratch, case)
        if not made.is_dir() or not any(made.iterdir()):
            raise CaseError("BMD-SEG-003", "it ended without an error and wrote no mask.", case=case)
        return read_labels(made, case=case)


def _run(command: list[str], timeout_s: float, scratch: str, case: str | None) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise CaseError("BMD-SEG-003", f"not done after {timeout_s:g} s.", case=case) from error
    except OSError as error:
        raise CaseError("BMD-SEG-003", f"it cannot be started ({error.strerror}).", case=case) from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).replace(scratch, "").strip().splitlines()
        logger.debug("TotalSegmentator: %s", "\n".join(lines))
        last = lines[-1][:200] if lines else "no message"
        raise CaseError("BMD-SEG-003", f"exit status {done.returncode}: {last}", case=case)


def _device(device: str) -> str:
    """Its word for a device of ours."""
    kind, _, number = device.partition(":")
    return "cpu" if kind == "cpu" else f"gpu:{number}" if number else "gpu"
