"""`bmdkit doctor`: versions, devices, what is missing and the command that installs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

NEEDED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "numba": "numba",
    "SimpleITK": "SimpleITK",
    "nibabel": "nibabel",
    "pydicom": "pydicom",
    "python-gdcm": "gdcm",
    "highdicom": "highdicom",
    "cma": "cma",
    "torch": "torch",
    "monai": "monai",
    "scikit-image": "skimage",
    "joblib": "joblib",
    "pyarrow": "pyarrow",
    "tifffile": "tifffile",
    "pillow": "PIL",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
    "pebble": "pebble",
    "portalocker": "portalocker",
    "safetensors": "safetensors",
    "psutil": "psutil",
    "click": "click",
    "rich": "rich",
    "PyYAML": "yaml",
    "lazy-loader": "lazy_loader",
}
"""Distribution and module of every package that is needed."""


@dataclass(frozen=True)
class OptionalPart:
    """A part of bmdkit that needs further packages.

    Attributes:
        purpose: Purpose of the part.
        packages: Distribution and module of each package.
        install: Words behind `pip install` that bring them.
    """

    purpose: str
    packages: tuple[tuple[str, str], ...]
    install: str


OPTIONAL = (
    OptionalPart("DRRs on a GPU", (("triton", "triton"),), "triton"),
    OptionalPart(
        "further codecs of compressed DICOM",
        (
            ("pylibjpeg", "pylibjpeg"),
            ("pylibjpeg-libjpeg", "libjpeg"),
            ("pylibjpeg-openjpeg", "openjpeg"),
        ),
        "'bmdkit[codecs]'",
    ),
    OptionalPart("volumes as images of ITK", (("itk-core", "itk"), ("itk-io", "itk")), "'bmdkit[itk]'"),
    OptionalPart("builds on a cluster", (("distributed", "distributed"),), "'bmdkit[dask]'"),
    OptionalPart(
        "export to ONNX",
        (("onnx", "onnx"), ("onnxscript", "onnxscript"), ("onnxruntime", "onnxruntime")),
        "'bmdkit[onnx]'",
    ),
    OptionalPart("MONAI's own checks of a bundle", (("fire", "fire"), ("jsonschema", "jsonschema")), "'bmdkit[monai]'"),
    OptionalPart("t-SNE in the figures of a study", (("scikit-learn", "sklearn"),), "'bmdkit[figures]'"),
    OptionalPart("curves of a training in TensorBoard", (("tensorboard", "tensorboard"),), "'bmdkit[tensorboard]'"),
)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
def command(as_json: bool) -> None:
    """Say what this installation can do; exit code 4 when something that is needed is missing."""
    found = examine()
    if as_json:
        import json

        click.echo(json.dumps(found, indent=1))
    else:
        _show(found)
    if found["missing"]:
        click.echo(f"Install what is missing: pip install {' '.join(found['missing'])}", err=True)
        raise click.exceptions.Exit(4)
    if not as_json:
        click.echo("All that is needed is there.")


def examine() -> dict[str, Any]:
    """Everything that doctor tells, as plain values."""
    import os
    import platform
    import shutil

    import bmdkit

    packages = {name: _find_version(name, module) for name, module in NEEDED.items()}
    optional = []
    for part in OPTIONAL:
        versions = {name: _find_version(name, module) for name, module in part.packages}
        lacks = [name for name, version in versions.items() if version is None]
        install = f"pip install {part.install}" if lacks else None
        optional.append({"purpose": part.purpose, "packages": versions, "missing": lacks, "install": install})
    return {
        "bmdkit": bmdkit.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        **_measure_memory(),
        "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
        "packages": packages,
        "missing": [name for name, version in packages.items() if version is None],
        "optional": optional,
        "totalsegmentator": shutil.which("TotalSegmentator"),
        "gpu": _examine_gpu(),
    }


def _show(found: dict[str, Any]) -> None:
    """Tell people what was found."""
    click.echo(f"bmdkit {found['bmdkit']}, Python {found['python']}, {found['platform']}")
    memory = ""
    if found["memory_gib"] is not None:
        memory = f", {found['memory_gib']:.0f} GiB of memory ({found['memory_free_gib']:.0f} free)"
    click.echo(f"{found['processors']} CPUs{memory}, {found['disk_free_gb']:.0f} GB free here")
    for name, version in found["packages"].items():
        click.echo(f"  {name:<14}{version or 'missing'}")
    click.echo("Optional parts:")
    for part in found["optional"]:
        if part["missing"]:
            told = f"{', '.join(part['missing'])} not installed ({part['install']})"
        else:
            told = ", ".join(f"{name} {version}" for name, version in part["packages"].items())
        click.echo(f"  {part['purpose']}: {told}")
    program = found["totalsegmentator"] or "the program is not on the PATH (pip install TotalSegmentator)"
    click.echo(f"  labels by TotalSegmentator: {program}")
    gpu = found["gpu"]
    click.echo(f"GPU: {', '.join(gpu['names']) or gpu['why']}")
    if gpu["driver"]:
        click.echo(f"  driver {gpu['driver']}, PyTorch for CUDA {gpu['cuda_of_torch'] or 'none'}")
    if gpu["install"]:
        click.echo(f"  {gpu['install']}")


def _find_version(name: str, module: str) -> str | None:
    """The version of an installed distribution whose module can be found; None if it is missing."""
    from importlib import metadata, util

    if util.find_spec(module) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _measure_memory() -> dict[str, float | None]:
    try:
        import psutil
    except ImportError:
        return {"memory_gib": None, "memory_free_gib": None}
    memory = psutil.virtual_memory()
    return {"memory_gib": round(memory.total / 2**30, 1), "memory_free_gib": round(memory.available / 2**30, 1)}


def _examine_gpu() -> dict[str, Any]:
    """The GPUs that PyTorch can use, the driver, and what to do where there is one that it cannot use."""
    found: dict[str, Any] = {"names": [], "driver": _find_driver(), "cuda_of_torch": None, "why": "", "install": None}
    try:
        import torch
    except ImportError:
        return {**found, "why": "unknown, torch is missing"}
    found["cuda_of_torch"] = torch.version.cuda
    if torch.cuda.is_available():
        found["names"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return found
    found["why"] = "none that torch can use; everything runs on the CPU"
    if found["driver"] and torch.version.cuda is None:
        found["install"] = "this is a CPU build of PyTorch: pip install --force-reinstall torch (a build for CUDA)"
    elif found["driver"]:
        found["install"] = "PyTorch does not find the GPU: is its CUDA newer than the driver? Update the driver."
    return found


def _find_driver() -> str | None:
    """The version of NVIDIA's driver; None without one."""
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=30).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return told[0] if told else None
