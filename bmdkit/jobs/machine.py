"""The pre-flight of a machine: every condition of a run is checked in one place, before anything is started.

A command says what it needs and gets the device that it is to work on; what cannot be had ends it with exit status 4.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bmdkit.core.device import check_device_name, free_gpu_memory_gb, resolve_device
from bmdkit.errors import PreflightError

GPU_MEMORY_GB = 1.0
"""Free memory of a GPU that each process of a run has to find, GB of 1e9 bytes."""

PROBE_PREFIX = ".part-"
"""Start of the name of the file that probes whether a folder can be written to."""


@dataclass(frozen=True)
class Package:
    """An optional package that a run needs.

    Attributes:
        module: Name of the module to import.
        code: Code of `bmdkit.errors` that its absence has.
        message: Sentence that says what is missing.
    """

    module: str
    code: str
    message: str


@dataclass(frozen=True)
class MachineNeeds:
    """What a run needs of the machine that it starts on.

    Attributes:
        device: Device that was asked for: auto, cpu or cuda[:N].
        renders: Whether radiographs are rendered on the device.
        n_jobs: Number of processes that share the device.
        packages: Optional packages without which the run cannot work.
        out: Folder or file that is written; None: nothing is.
        disk_bytes: Room that the output takes; 0 where it is not known.
    """

    device: str = "cpu"
    renders: bool = False
    n_jobs: int = 1
    packages: tuple[Package, ...] = ()
    out: Path | None = None
    disk_bytes: int = 0

    def __post_init__(self) -> None:
        """Check the name of the device and the numbers."""
        check_device_name(self.device)
        if self.n_jobs < 1:
            raise ValueError(f"n_jobs: expected at least 1, got {self.n_jobs}")
        if self.disk_bytes < 0:
            raise ValueError(f"disk_bytes: expected 0 or more, got {self.disk_bytes}")


def check_machine(needs: MachineNeeds) -> str:
    """Check every condition of a run on this machine; nothing is created or changed.

    Args:
        needs: What the run needs.

    Returns:
        The device to work on: cpu or cuda[:N].

    Raises:
        PreflightError: The device is not there (BMD-TRN-010, BMD-DRR-001) or has too little free memory
            (BMD-RUN-040), a package is missing (its own code), or the output cannot be written to (BMD-RUN-030) or has
            too little room (BMD-RUN-031).

    Example:
        >>> check_machine(MachineNeeds(device="cpu"))
        'cpu'
    """
    device = resolve_device(needs.device, renders=needs.renders)
    check_gpu_memory(device, needs.n_jobs)
    for package in needs.packages:
        require_package(package)
    if needs.out is not None:
        check_writable(needs.out)
        check_room(needs.out, needs.disk_bytes)
    return device


def check_gpu_memory(device: str, n_jobs: int = 1) -> None:
    """Make sure that the processes of a run find free memory on their GPU.

    Raises:
        PreflightError: They do not (BMD-RUN-040).
    """
    free_gb = free_gpu_memory_gb(device)
    if free_gb is not None and free_gb < GPU_MEMORY_GB * n_jobs:
        needed = f"{GPU_MEMORY_GB * n_jobs:.1f} GB are needed by {n_jobs} processes"
        raise PreflightError("BMD-RUN-040", f"{device} has {free_gb:.1f} GB of free memory, {needed}.")


def require_package(package: Package) -> None:
    """Make sure that a package is installed.

    Raises:
        PreflightError: It is not; the code is the package's own.
    """
    if find_spec(package.module) is None:
        raise PreflightError(package.code, package.message)


def check_writable(out: Path) -> None:
    """Make sure that an output can be written to; what is not there yet is not created.

    Args:
        out: Folder that may have to be made, with those above it.

    Raises:
        PreflightError: It cannot (BMD-RUN-030).
    """
    folder = find_existing(out)
    if not folder.is_dir():
        raise PreflightError("BMD-RUN-030", "a file stands where a folder is needed.", file=folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PreflightError("BMD-RUN-030", "there is no permission to write to it.", file=folder)
    if folder == Path(out).absolute():
        probe_folder(folder)


def probe_folder(folder: Path) -> None:
    """Make sure that a file can be written to a folder that exists, by writing one for a moment.

    The file has no name where the system can do without, so that the folder stays as it was.

    Raises:
        PreflightError: It cannot (BMD-RUN-030).
    """
    try:
        with tempfile.TemporaryFile(prefix=PROBE_PREFIX, dir=folder) as probe:
            probe.write(b"0")
    except OSError as error:
        raise PreflightError("BMD-RUN-030", f"{error.strerror or error}.", file=folder) from error


def check_room(out: Path, needed_bytes: int) -> None:
    """Make sure that the output's file system has room.

    Raises:
        PreflightError: It has not (BMD-RUN-031).
    """
    free_bytes = shutil.disk_usage(find_existing(out)).free
    if needed_bytes > free_bytes:
        message = f"about {needed_bytes / 1e6:.0f} MB are needed, {free_bytes / 1e6:.0f} MB are free."
        raise PreflightError("BMD-RUN-031", message)


def find_existing(path: Path) -> Path:
    """Return the path itself, absolute, or the nearest one above it that exists."""
    path = Path(path).absolute()
    return next(above for above in (path, *path.parents) if above.exists())
