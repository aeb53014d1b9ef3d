"""Weights from files, read without running code."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from bmdkit.errors import PreflightError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights from safetensors.

    Raises:
        PreflightError: The file is missing or no safetensors, such as a pickle (BMD-TRN-009).
    """
    try:
        return load_safetensors(path.read_bytes())
    except Exception as error:  # the Rust side raises its own kinds
        raise PreflightError("BMD-TRN-009", f"no readable safetensors ({error}).", file=path) from error


def load_weights(network: nn.Module, weights: dict[str, Tensor], *, source: Path) -> None:
    """Fill a network.

    Raises:
        PreflightError: Names or shapes are those of another architecture (BMD-TRN-006).
    """
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    if own != given:
        differ = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        first = differ[0]
        message = f"{len(differ)} weights differ, the first {first}: {given.get(first)} for {own.get(first)}."
        raise PreflightError("BMD-TRN-006", message, file=source)
    network.load_state_dict(weights)


def halved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Kernels and matrices in half precision; vectors, such as the running variances of a norm, stay as they are."""
    return {name: value.half() if value.ndim > 1 else value for name, value in weights.items()}
