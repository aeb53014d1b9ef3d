"""`bmdkit doctor`: versions, devices, what is missing and the command that installs it."""

from __future__ import annotations

from dataclasses import dataclass

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
    OptionalPart("volumes as images of ITK", (("itk-core", "itk"), ("itk-io", "itk")), "'bmdkit[itk]'"),
    OptionalPart("builds on a cluster", (("distributed", "distributed"),), "'bmdkit[dask]'"),
    OptionalPart(
        "export to ONNX",
        (("onnx", "onnx"), ("onnxscript", "onnxscript"), ("onnxruntime", "onnxruntime")),
        "'bmdkit[onnx]'",
    ),
    OptionalPart("t-SNE in the figures of a study", (("scikit-learn", "sklearn"),), "'bmdkit[figures]'"),
    OptionalPart("curves of a training in TensorBoard", (("tensorboard", "tensorboard"),), "'bmdkit[tensorboard]'"),
)


@click.command("doctor")
def command() -> None:
    """Say what this installation can do; exit code 4 when something that is needed is missing."""
    import os
    import platform
    import shutil

    import bmdkit

    click.echo(f"bmdkit {bmdkit.__version__}, Python {platform.python_version()}, {platform.platform()}")
    click.echo(f"{os.cpu_count()} CPUs{_describe_memory()}, {shutil.disk_usage('.').free / 1e9:.0f} GB free here")
    missing = []
    for name, module in NEEDED.items():
        version = _find_version(name, module)
        click.echo(f"  {name:<14}{version or 'missing'}")
        if version is None:
            missing.append(name)
    click.echo("Optional parts:")
    for part in OPTIONAL:
        click.echo(f"  {part.purpose}: {_describe_part(part)}")
    click.echo(f"  labels by TotalSegmentator: {shutil.which('TotalSegmentator') or 'the program is not on the PATH'}")
    click.echo(f"GPU: {_describe_gpu()}")
    if missing:
        click.echo(f"Install what is missing: pip install {' '.join(missing)}", err=True)
        raise click.exceptions.Exit(4)
    click.echo("All that is needed is there.")


def _describe_part(part: OptionalPart) -> str:
    """The versions of a part's packages, or the command that installs what is missing."""
    versions = {name: _find_version(name, module) for name, module in part.packages}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return f"{', '.join(missing)} not installed (pip install {part.install})"
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _find_version(name: str, module: str) -> str | None:
    """The version of an installed distribution whose module can be found; None if it is missing."""
    from importlib import metadata, util

    if util.find_spec(module) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _describe_memory() -> str:
    try:
        import psutil
    except ImportError:
        return ""
    memory = psutil.virtual_memory()
    return f", {memory.total / 2**30:.0f} GiB of memory ({memory.available / 2**30:.0f} free)"


def _describe_gpu() -> str:
    try:
        import torch
    except ImportError:
        return "unknown, torch is missing"
    if not torch.cuda.is_available():
        return "none that torch can use; everything runs on the CPU"
    return ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
