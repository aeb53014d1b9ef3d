"""`bmdkit doctor`: versions, devices, what is missing and the command that installs it."""

from __future__ import annotations

import click

NEEDED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "numba": "numba",
    "SimpleITK": "SimpleITK",
    "nibabel": "nibabel",
    "pydicom": "pydicom",
    "python-gdcm": "gdcm",
    "cma": "cma",
    "torch": "torch",
    "monai": "monai",
    "scikit-image": "skimage",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "tifffile": "tifffile",
    "pillow": "PIL",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
    "pebble": "pebble",
    "safetensors": "safetensors",
    "psutil": "psutil",
    "rich": "rich",
}
OPTIONAL = {"itk-core": ("itk", "volumes as images of ITK"), "dask": ("distributed", "builds on a cluster")}


@click.command("doctor")
def command() -> None:
    """Say what this installation can do; exit code 4 when something that is needed is missing."""
    import os
    import platform
    import shutil

    import bmdkit

    click.echo(f"bmdkit {bmdkit.__version__}, Python {platform.python_version()}, {platform.platform()}")
    click.echo(f"{os.cpu_count()} CPUs{_memory()}, {shutil.disk_usage('.').free / 1e9:.0f} GB free here")
    missing = []
    for name, module in NEEDED.items():
        version = _version(name, module)
        click.echo(f"  {name:<14}{version or 'missing'}")
        if version is None:
            missing.append(name)
    for name, (module, purpose) in OPTIONAL.items():
        click.echo(f"  {name:<14}{_version(name, module) or 'not installed'}   (optional: {purpose})")
    click.echo(f"GPU: {_gpu()}")
    if missing:
        click.echo(f"Install what is missing: pip install {' '.join(missing)}", err=True)
        raise click.exceptions.Exit(4)
    click.echo("All that is needed is there.")


def _version(name: str, module: str) -> str | None:
    """Of an installed distribution whose module can be found; None if it is missing."""
    from importlib import metadata, util

    if util.find_spec(module) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _memory() -> str:
    try:
        import psutil
    except ImportError:
        return ""
    memory = psutil.virtual_memory()
    return f", {memory.total / 2**30:.0f} GiB of memory ({memory.available / 2**30:.0f} free)"


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return "unknown, torch is missing"
    if not torch.cuda.is_available():
        return "none that torch can use; everything runs on the CPU"
    return ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
