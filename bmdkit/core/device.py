"""Where numbers are made: the one meaning of `auto`, `cpu` and `cuda[:N]`. PyTorch is loaded only when it is asked."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec

from bmdkit.errors import PreflightError

_NAME = re.compile(r"auto|cpu|cuda(:[0-9]+)?")
_INTERPRETER = "TRITON_INTERPRET"


def check_device_name(name: str) -> str:
    """Return the name of a device if it is one; whether the device is there is not asked.

    Args:
        name: Name to check.

    Returns:
        The same name.

    Raises:
        ValueError: It is not auto, cpu or cuda[:N].

    Example:
        >>> check_device_name("cuda:1")
        'cuda:1'
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"device: expected auto, cpu or cuda[:N], got {name!r}")
    return name


def resolve_device(name: str, *, renders: bool = False) -> str:
    """Name the device that a command works on: `auto` is the GPU where it can be used, else the CPU.

    A GPU can be used where PyTorch finds it and Triton, in which the rendering kernels are written, is installed. The
    answer to `auto` is the same for every command. A device that is asked for by name has to be there.

    Args:
        name: auto, cpu or cuda[:N].
        renders: Whether radiographs are rendered on the device, for which a GPU that is named needs Triton as well.

    Returns:
        cpu or cuda[:N].

    Raises:
        ValueError: The name is no device's.
        PreflightError: The named device is not there (BMD-TRN-010), or cannot render (BMD-DRR-001).

    Example:
        >>> resolve_device("cpu")
        'cpu'
    """
    check_device_name(name)
    if name == "cpu":
        return name
    has_triton = find_spec("triton") is not None
    if name == "auto":
        return "cuda" if has_triton and count_gpus() else "cpu"
    if renders and not has_triton:
        raise PreflightError("BMD-DRR-001", "triton is not installed.")
    if renders and is_interpreted():
        return name
    count = count_gpus()
    if int(name.partition(":")[2] or 0) >= count:
        code = "BMD-DRR-001" if renders else "BMD-TRN-010"
        raise PreflightError(code, f"{name} was asked for, PyTorch finds {count} CUDA devices.")
    return name


def count_gpus() -> int:
    """Count the CUDA devices that PyTorch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def is_interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU, as in tests of the kernels."""
    return os.environ.get(_INTERPRETER) == "1"


def free_gpu_memory_gb(device: str) -> float | None:
    """Free memory of a GPU, GB of 1e9 bytes.

    Args:
        device: cpu or cuda[:N], from `resolve_device`.

    Returns:
        Free memory; None for the CPU.
    """
    if device == "cpu" or is_interpreted():
        return None
    import torch

    return torch.cuda.mem_get_info(torch.device(device))[0] / 1e9
