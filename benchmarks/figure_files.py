"""What a benchmark leaves behind: its numbers, and beside them the command, the machine and the versions."""

from __future__ import annotations

import csv
import datetime
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

RENDERERS = {
    "rtk": "itk-rtk",  # itk alone has no RTK
    "diffdrr": "diffdrr",
    "nanodrr": "nanodrr",
    "flashdrr": "flashdrr",
    "diffct": "diffct",
}
"""Peer of the renderer -> the distribution that it needs."""


def read_versions() -> dict[str, str]:
    """Versions of what took part, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in ("bmdkit", "numpy", "numba", "torch", "triton", *RENDERERS.values()):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_device_name(device: str) -> str:
    """Model of the processor or of the card."""
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"


def write_command(words: Sequence[str]) -> str:
    """The command line of a benchmark, folders outside of the working directory by their names alone."""
    script, *given = words
    told = [Path(word).name if Path(word).is_absolute() else word for word in given]
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *told])


def write_figures(path: Path, found: Mapping[str, float], device: str, **settings: object) -> None:
    """Write the numbers, flat, and beside them the command, the machine and the settings that they come from.

    Args:
        path: The JSON file of the numbers, without those that are not finite; the other is NAME_machine.json.
        found: Name -> number.
        device: cpu or cuda.
        settings: What else belongs beside them; `command` takes the place of the command line of this process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "command": write_command(sys.argv),
        "device": read_device_name(device),
        "date": datetime.date.today().isoformat(),
        "versions": read_versions(),
    }
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    for name, content in ((path, finite), (path.with_stem(f"{path.stem}_machine"), about | settings)):
        name.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_rows(path: Path, kind: type, rows: Sequence[Any]) -> None:
    """Write a table of dataclasses, a line each; of none, its header.

    Args:
        path: The CSV file.
        kind: The dataclass.
        rows: Instances of it.
    """
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, [field.name for field in fields(kind)])
        writer.writeheader()
        writer.writerows(map(asdict, rows))
