"""Everything a killed training needs to go on as if nothing had happened, and its weights."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from bmdkit.errors import PreflightError
from bmdkit.io.results import write_bytes
from bmdkit.models.weights import load_weights as load_weights
from bmdkit.models.weights import read_weights as read_weights

FORMAT = 1
KEPT = 2


def save_checkpoint(folder: Path, state: dict[str, Any], step: int) -> Path:
    """Write `step_<step>.pt` and drop all but the last two.

    Args:
        folder: Folder of the run's checkpoints.
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


def load_last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, on the CPU; None if there is none.

    Networks and optimisers bring what they take over to their own device. An optimiser keeps the number of its steps
    where it is read, and on a GPU it would wait for each of them at every step.

    Raises:
        PreflightError: There are some, and none can be read (BMD-TRN-009).
    """
    failures = []
    for path in reversed(_checkpoints(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
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
