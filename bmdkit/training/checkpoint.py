"""Everything a killed training needs to go on as if nothing had happened, and reading weights without running code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from bmdkit.errors import PreflightError
from bmdkit.io.results import write_bytes

FORMAT = 1
KEPT = 2


def save_checkpoint(folder: Path, state: dict[str, Any], step: int) -> Path:
    """Write `step_<step>.pt` and drop all but the last two.

    Args:
        folder: Of the run's checkpoints.
        state: Tensors, numbers, texts, lists and dicts of them; nothing that needs code to be read.
        step: Optimisation steps done.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    path = folder / f"step_{step:09d}.pt"
    write_bytes(path, buffer.getvalue())
    for old in _checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_last_checkpoint(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None if there is none.

    Raises:
        PreflightError: There are some, and none can be read (BMD-TRN-009).
    """
    failures = []
    for path in reversed(_checkpoints(folder)):
        try:
            state = torch.load(path, map_location=device, weights_only=True)
            if not isinstance(state, dict) or state.get("format") != FORMAT:
                raise ValueError(f"format {state.get('format') if isinstance(state, dict) else None}, not {FORMAT}")
        except (OSError, EOFError, ValueError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
            failures.append(f"{path.name}: {str(error).splitlines()[0]}")
            continue
        return state
    if failures:
        raise PreflightError("BMD-TRN-009", "; ".join(failures), file=folder)
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*.pt"))


def rng_state(rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """Of the trainer's own generator and of torch's, which dropout draws from."""
    state = {"own": rng.get_state(), "torch": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng(state: dict[str, Tensor], rng: torch.Generator, device: torch.device) -> None:
    """Undo `rng_state`."""
    rng.set_state(state["own"].cpu())
    torch.set_rng_state(state["torch"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights as safetensors."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_bytes(path, save_safetensors(weights))


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
