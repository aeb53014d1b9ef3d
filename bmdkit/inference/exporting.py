"""A finished run as something to hand on: safetensors with a card, ONNX, a MONAI bundle.

Each copy of the network is read back and compared with the original before anything is said to be exported.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bmdkit import __version__
from bmdkit.errors import PreflightError
from bmdkit.inference.exportable import ANY_SIDE, Exportable, read_exportable
from bmdkit.inference.predictor import USE
from bmdkit.io.results import open_staged_folder, write_bytes, write_json, write_text
from bmdkit.models.bayesian_unet import MULTIPLE
from bmdkit.training.checkpoint import load_weights, read_weights, save_weights

Format = Literal["safetensors", "onnx", "monai"]
FORMATS: tuple[Format, ...] = ("safetensors", "onnx", "monai")
CARD, MODEL, ONNX = "README.md", "model.safetensors", "model.onnx"
INPUT, OUTPUT = "image", "pred"
"""Names of what goes in and comes out; those that MONAI looks for."""
MODEL_PT = "models/model.pt"
MONAI_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
"""Where MONAI keeps the schema of metadata.json; nothing here reads it."""
ONNX_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Largest difference between a network and its copy, relative to the largest value of the output."""


def export_run(run: Path, out: Path, formats: Sequence[Format] = ("safetensors",)) -> dict[str, float]:
    """Write a finished run to a folder to hand on.

    Args:
        run: Folder of any training of `bmdkit train`; of a regression and of key points, the last phase is taken.
        out: An empty or new folder. It appears whole: what fails leaves nothing behind.
        formats: safetensors and the card are always written.

    Returns:
        Format -> largest difference between the outputs of the network and of its copy, relative to the largest value.

    Raises:
        PreflightError: The run cannot be read (BMD-TRN-009), `out` is not empty (BMD-EXP-001), a format needs a library
            that is not there (BMD-EXP-002), or a copy does not give what the network gives (BMD-EXP-003).
    """
    if out.exists() and any(out.iterdir()):
        raise PreflightError("BMD-EXP-001", "the folder is not empty.", file=out)
    if "onnx" in formats:
        _need(ONNX_LIBRARIES)
    found = read_exportable(run)
    with open_staged_folder(out.resolve()) as staged:
        save_weights(staged / MODEL, found.network)
        write_json(staged / "model.json", {**found.trained, "builder": found.builder, "bmdkit": __version__})
        again = _built(found.builder)
        load_weights(again, read_weights(staged / MODEL), source=out)
        differences = {"safetensors": _difference(found, _runner(again))}
        if "onnx" in formats:
            differences["onnx"] = _difference(found, _write_onnx(found, staged / ONNX))
        if "monai" in formats:
            differences["monai"] = _difference(found, _write_bundle(found, staged))
        for name, value in differences.items():
            if not value <= TOLERANCE:
                raise PreflightError("BMD-EXP-003", f"{name} differs by {value:.2g}, allowed {TOLERANCE:g}.", file=out)
        write_text(staged / CARD, _card(found, differences))
    return differences


def _need(libraries: Sequence[str]) -> None:
    for name in libraries:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise PreflightError("BMD-EXP-002", f"{name} is not installed.") from error


def _write_onnx(found: Exportable, path: Path) -> Callable[[Tensor], np.ndarray]:
    """Write it, and give what runs it."""
    import onnxruntime

    shapes = None
    if found.any_size:
        rows, columns = (MULTIPLE * torch.export.Dim(name, min=2) for name in ("n", "m"))
        shapes = ({2: rows, 3: columns},)
    # fused attention kernels lay their result out as ONNX's do not
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        program = torch.onnx.export(
            found.network,
            found.examples()[:1],
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    if program is None:
        raise PreflightError("BMD-EXP-003", "the exporter gave no program.", file=path)
    write_bytes(path, program.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {INPUT: image.numpy()})[0]


def _write_bundle(found: Exportable, out: Path) -> Callable[[Tensor], np.ndarray]:
    """configs/ and models/ as MONAI's bundles have them; gives what runs its network."""
    import monai
    from monai.bundle import ConfigParser

    channels, rows, columns = found.shape
    sides = [ANY_SIDE] * 2 if found.any_size else [rows, columns]
    named = {str(n): v for n, v in enumerate(found.outputs)}
    metadata = {
        "schema": MONAI_SCHEMA,
        "version": __version__,
        "changelog": {__version__: "exported"},
        "name": f"{found.trained['run']['kind']} of bmdkit",
        "task": f"{found.trained['run']['kind']} of bmdkit",
        "description": f"In: {found.reads}. Out: {found.gives}.",
        "authors": "whoever trained it, with bmdkit",
        "copyright": "of the weights: whoever trained them",
        "intended_use": USE,
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__,
        "numpy_version": np.__version__,
        "required_packages_version": {"bmdkit": __version__},
        "network_data_format": {
            "inputs": {INPUT: _data_format(channels, sides, {"0": "image"})},
            "outputs": {OUTPUT: _data_format(len(found.outputs), found.sides, named)},
        },
    }
    write_json(out / "configs" / "metadata.json", metadata)
    steps = "bmdkit.inference.bundle_steps"
    is_column = not found.sides
    builder = {"_target_": f"{steps}.ValueColumn", "network": found.builder} if is_column else found.builder
    holder = "@network_def.network" if is_column else "@network_def"
    inference: dict[str, Any] = {
        "imports": ["$import pathlib", "$from bmdkit.training.checkpoint import read_weights"],
        "bundle_root": ".",
        "device": "cpu",
        "network_def": dict(builder),
        "weights": f"$read_weights(pathlib.Path(@bundle_root) / '{MODEL}')",
        "loaded": f"${holder}.load_state_dict(@weights)",
        "network": "$[@loaded, @network_def.to(@device).eval()][1]",
    }
    if found.steps:
        if found.steps["preprocessing"].get("side"):
            inference["side"] = "L"
        inference |= {
            "datalist": [],
            "output_dir": "$str(pathlib.Path(@bundle_root) / 'eval')",
            **found.steps,
            "evaluator": {"_target_": f"{steps}.BundleRun", "network": "@network"}
            | {name: f"@{name}" for name in (*found.steps, "output_dir")},
            "run": ["$@evaluator.run(@datalist)"],
        }
    write_json(out / "configs" / "inference.json", inference)
    (out / MODEL_PT).parent.mkdir()
    state = io.BytesIO()
    torch.save(found.network.state_dict(), state)
    write_bytes(out / MODEL_PT, state.getvalue())
    parser = ConfigParser()
    parser.read_config(str(out / "configs" / "inference.json"))
    parser["bundle_root"] = str(out)
    run = _runner(parser.get_parsed_content("network"))
    return (lambda image: run(image)[:, 0]) if is_column else run


def _data_format(channels: int, sides: Sequence[int | str], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "image" if sides else "tuples",
        "format": "magnitude",
        "num_channels": channels,
        "spatial_shape": list(sides),
        "value_range": [],
        "modality": "n/a",
        "dtype": "float32",
        "is_patch_data": False,
        "channel_def": dict(names),
    }


def _built(builder: Mapping[str, Any]) -> nn.Module:
    from monai.bundle import ConfigParser

    parser = ConfigParser({"network": dict(builder)})
    return parser.get_parsed_content("network").eval()


def _runner(network: nn.Module) -> Callable[[Tensor], np.ndarray]:
    return torch.inference_mode()(lambda image: network(image).float().numpy())


def _difference(found: Exportable, copy: Callable[[Tensor], np.ndarray]) -> float:
    """The largest of all examples; infinite if the shapes differ."""
    own = _runner(found.network)
    return float(np.max([_relative(own(image), copy(image)) for image in found.examples()]))


def _relative(own: np.ndarray, copy: np.ndarray) -> float:
    if own.shape != copy.shape:
        return np.inf
    return np.abs(own - copy).max() / max(np.abs(own).max(), 1e-12)


def _card(found: Exportable, differences: Mapping[str, float]) -> str:
    run = found.trained["run"]
    settings = found.trained["training"].get("settings", {})
    parameters = sum(p.numel() for p in found.network.parameters())
    copies = ", ".join(f"{name} {value:.1g}" for name, value in differences.items())
    lines = [
        f"# {run['kind'].capitalize()} network of bmdkit {__version__}",
        "",
        f"**{USE}** No regulator has seen it. What it says of a person is to be confirmed by a measurement.",
        "",
        "| | |",
        "|---|---|",
        f"| input `{INPUT}` | {' x '.join(map(str, found.shape))}: {found.reads} |",
        f"| output `{OUTPUT}` | {', '.join(found.outputs)}; {found.gives} |",
        f"| parameters | {parameters:,} |",
        f"| epochs | {run.get('epochs', 'see model.json')} |",
        f"| fold held out | {settings.get('fold', 'unknown')} |",
        f"| difference of the copies from the network, relative | {copies} |",
        "",
        "## Data",
        "",
        _data_of(found),
        "",
        "## Measured",
        "",
        "As metrics.json of the run has it; `test` are patients that were held out, `train` those it learnt from.",
        "",
        "```json",
        json.dumps(found.metrics, indent=1) if found.metrics else "nothing: the run has no metrics.json",
        "```",
        "",
        "Settings of the training and the run's own description are in `model.json`.",
        "",
    ]
    return "\n".join(lines)


def _data_of(found: Exportable) -> str:
    known = found.trained["run"].get("trained_on")
    if known:
        return ", ".join(f"{value} {name}" for name, value in known.items()) + "."
    digest = found.trained["training"].get("data_sha256")
    return "Unknown." if digest is None else f"The dataset whose manifest.csv has the SHA-256 {digest}."
