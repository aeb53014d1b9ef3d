"""What a finished run has to hand on: its network, and what one has to know to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bmdkit.config import ConfigError, build, to_dict
from bmdkit.errors import PreflightError
from bmdkit.models.bayesian_unet import MULTIPLE, BayesianUNet
from bmdkit.models.key_point_head import CELL, make_key_point_network
from bmdkit.models.regression_head import make_baseline, make_regressor
from bmdkit.segmentation.model import CLASSES, KIND, load_model
from bmdkit.segmentation.settings import PredictConfig
from bmdkit.training.bone_density import TASKS
from bmdkit.training.checkpoint import load_weights, read_weights
from bmdkit.training.key_points import KIND as KEY_POINTS_KIND
from bmdkit.training.key_points import KeyPointConfig
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.run import load_run
from bmdkit.training.run_layout import CONFIG, KEY_POINTS, METRICS, REGRESSOR, RUN

ANY_SIDE = f"{2 * MULTIPLE}*n"
"""A side of any allowed length, as MONAI writes it: multiples of the smallest."""

_STEPS = "bmdkit.inference.bundle_steps"
_HALF = "one hip's half of an AP radiograph"
_SCALED = "brighter = denser, [0, 1] brought to [-1, 1]; -1 where it is no image"


@dataclass(frozen=True, eq=False)
class Exportable:
    """A network and what one has to know to use it.

    Attributes:
        network: Network in evaluation mode, on the CPU, without chance: dropout that a prediction keeps on is off.
        shape: (channels, rows, columns) of an input; its sides can be others where `any_size`.
        any_size: Whether the network takes other sides than those of `shape`: multiples of 16, at least 32.
        sides: Sides of the output, as MONAI writes them; empty if it is one number an image and no image.
        reads, gives: What goes in and comes out, in words.
        outputs: What the channels of the output stand for.
        builder: Name of a function and its arguments that make the network with fresh weights, for MONAI's parser.
        steps: What a bundle does around the network, in MONAI's words: preprocessing, inferer, postprocessing, each a
            name of `bundle_steps` with its arguments. Empty of a baseline, whose input no file holds.
        trained: run.json and the settings of the training.
        metrics: metrics.json, or empty.
    """

    network: nn.Module
    shape: tuple[int, int, int]
    any_size: bool
    sides: tuple[int | str, ...]
    reads: str
    gives: str
    outputs: tuple[str, ...]
    builder: Mapping[str, Any]
    trained: Mapping[str, Any]
    metrics: Mapping[str, Any]
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def examples(self) -> tuple[Tensor, ...]:
        """(1, channels, rows, columns) each, the same each time: of `shape`, and of sides that differ if `any_size`."""
        channels, rows, columns = self.shape
        sides = [(rows, columns)]
        if self.any_size:
            sides.append((rows - 3 * MULTIPLE, columns - 7 * MULTIPLE))
        rng = torch.Generator().manual_seed(0)
        return tuple(torch.rand(1, channels, *size, generator=rng) for size in sides)


def read_exportable(run: Path) -> Exportable:
    """Read a finished run of any kind.

    Raises:
        PreflightError: It is none or damaged (BMD-TRN-009).
    """
    try:
        description = json.loads((run / RUN).read_text(encoding="utf-8"))
        identity = _if_there(run / CONFIG)
        kind = description["kind"]
        if kind == "decomposition":
            return _decomposition(run, description, identity)
        if kind == KIND:
            return _segmentation(run, description, identity)
        if kind in ("representation", "baseline"):
            return _regression(run, description, identity)
        if kind == KEY_POINTS_KIND:
            return _key_points(run, description, identity)
        raise ValueError(f"a run of kind {kind!r}")
    except (OSError, KeyError, TypeError, ValueError, ConfigError) as error:
        raise PreflightError("BMD-TRN-009", f"no finished run ({error!r}).", file=run) from error


def _decomposition(run: Path, description: dict, identity: dict) -> Exportable:
    loaded = load_run(run)
    generator = replace(loaded.config.generator, recompute=False)
    return Exportable(
        network=loaded.generator,
        shape=(1, *loaded.config.image_size),
        any_size=False,
        sides=tuple(loaded.config.image_size),
        reads=f"{_HALF}, {_SCALED}",
        gives=f"projection: (value + 1) / 2 x {loaded.scale_g_cm2:g} {loaded.unit}",
        outputs=loaded.channels,
        builder={
            "_target_": "bmdkit.models.generators.make_generator",
            "config": {"_target_": "bmdkit.models.generators.GeneratorConfig", **to_dict(generator)},
            "outputs": len(loaded.channels),
            "rng": "$torch.Generator()",
        },
        trained={"run": description, "training": identity},
        metrics=_if_there(run / METRICS),
        steps=_hip_steps(description, loaded.config.image_size, "ProjectionWriter", scale=loaded.scale_g_cm2),
    )


def _segmentation(run: Path, description: dict, identity: dict) -> Exportable:
    model = load_model(run)
    config = replace(model.network.config, dropout=0.0)
    network = BayesianUNet(len(CLASSES), config).eval()
    network.load_state_dict(model.network.state_dict())
    low, high = model.window_hu
    pixel = "its own pixels" if model.pixel_mm is None else f"pixels of about {model.pixel_mm:g} mm"
    return Exportable(
        network=network,
        shape=(1, 256, 256),
        any_size=True,
        sides=(ANY_SIDE,) * 2,
        reads=f"an axial CT slice at {pixel}, {low:g} to {high:g} HU brought to [0, 1]; "
        f"sides in multiples of {MULTIPLE}, at least {2 * MULTIPLE}",
        gives="scores before the softmax, of a pass without dropout: this copy knows no uncertainty",
        outputs=CLASSES,
        builder={
            "_target_": "bmdkit.models.bayesian_unet.BayesianUNet",
            "classes": len(CLASSES),
            "config": {"_target_": "bmdkit.models.bayesian_unet.UNetConfig", **to_dict(config)},
        },
        trained={"run": description, "training": identity},
        metrics=_if_there(run / METRICS),
        steps={
            "preprocessing": {"_target_": f"{_STEPS}.CtReader"},
            "inferer": {
                "_target_": f"{_STEPS}.SliceInferer",
                "window_hu": [low, high],
                "dropout": model.network.config.dropout,
                "passes": PredictConfig().passes,
                "pixel_mm": model.pixel_mm,
            },
            "postprocessing": {"_target_": f"{_STEPS}.LabelWriter"},
        },
    )


def _regression(run: Path, description: dict, identity: dict) -> Exportable:
    config = build(RegressionConfig, identity["settings"])
    phase = run / description["phases"][-1]
    size = config.image_size
    network: nn.Module
    rng = {"rng": "$torch.Generator()"}
    if config.network == "baseline":
        norm, standardised = config.generator.norm, config.generator.standardise
        network = make_baseline(filters=config.filters, rng=torch.Generator(), norm=norm, standardised=standardised)
        builder: dict[str, Any] = {
            "_target_": "bmdkit.models.regression_head.make_baseline",
            "filters": config.filters,
            "norm": norm,
            "standardised": standardised,
            **rng,
        }
        reads = "the region of interest of a radiograph"
    else:
        generator = replace(config.generator, recompute=False)
        network = make_regressor(generator, config.head, image_size=size, rng=torch.Generator())
        builder = {
            "_target_": "bmdkit.models.regression_head.make_regressor",
            "architecture": {"_target_": "bmdkit.models.generators.GeneratorConfig", **to_dict(generator)},
            "config": {"_target_": "bmdkit.models.regression_head.HeadConfig", **to_dict(config.head)},
            "image_size": list(size),
            **rng,
        }
        reads = _HALF
    load_weights(network, read_weights(phase / REGRESSOR), source=phase)
    scale = {"mean": description["bmd_mean"], "sd": description["bmd_sd"]}
    told = {**scale, "unit": TASKS[config.task], "task": config.task}
    return Exportable(
        network=network.eval(),
        shape=(1, *size),
        any_size=False,
        sides=(),
        reads=f"{reads}, {_SCALED}",
        gives="one value for each image, (B,); "
        f"BMD: value x {description['bmd_sd']:g} + {description['bmd_mean']:g} {TASKS[config.task]}",
        outputs=(f"{config.task} BMD",),
        builder=builder,
        trained={"run": description, "training": identity},
        metrics=_if_there(phase / METRICS),
        steps={} if config.network == "baseline" else _hip_steps(description, size, "BmdWriter", **told),
    )


def _key_points(run: Path, description: dict, identity: dict) -> Exportable:
    config = build(KeyPointConfig, identity["settings"])
    phase, points = run / description["phases"][-1], tuple(description["points"])
    generator = replace(config.generator, recompute=False)
    network = make_key_point_network(generator, len(points), rng=torch.Generator())
    load_weights(network, read_weights(phase / KEY_POINTS), source=phase)
    rows, columns = config.image_size
    return Exportable(
        network=network.eval(),
        shape=(1, rows, columns),
        any_size=False,
        sides=(rows // CELL, columns // CELL),
        reads=f"{_HALF}, {_SCALED}",
        gives=f"scores, one map for each point in this order, one place for each {CELL} x {CELL} pixels of the image. "
        "Softmax over all places of a map gives each its share; the shares' centre of mass is the point: place c, from "
        f"0, is pixel {CELL} (c + 0.5) - 0.5",
        outputs=points,
        builder={
            "_target_": "bmdkit.models.key_point_head.make_key_point_network",
            "architecture": {"_target_": "bmdkit.models.generators.GeneratorConfig", **to_dict(generator)},
            "points": len(points),
            "rng": "$torch.Generator()",
        },
        trained={"run": description, "training": identity},
        metrics=_if_there(phase / METRICS),
        steps=_hip_steps(description, config.image_size, "PointWriter", names=list(points)),
    )


def _hip_steps(
    description: Mapping[str, Any], image_size: tuple[int, int], writer: str, **settings: Any
) -> dict[str, dict[str, Any]]:
    """What a bundle of a network of radiographs does around it; `@side` is set in the bundle."""
    reader = {"_target_": f"{_STEPS}.HipReader", "side": "@side", "image_size": list(image_size)}
    return {
        "preprocessing": reader | {name: description.get(name) or {} for name in ("pairs", "xray")},
        "inferer": {"_target_": f"{_STEPS}.ImageInferer"},
        "postprocessing": {"_target_": f"{_STEPS}.{writer}", **settings},
    }


def _if_there(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
