"""Stage three in closed form: BMD by ridge regression on what a decomposition run sees, and a run that predicts so."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.dataset.samples import Pair
from bmdkit.errors import PreflightError
from bmdkit.io.results import write_json
from bmdkit.jobs.machine import MachineNeeds, check_machine
from bmdkit.training.pair_batches import load_pairs
from bmdkit.training.provenance import trace_provenance
from bmdkit.training.regression_results import write_regression
from bmdkit.training.regression_settings import RegressionConfig
from bmdkit.training.ridge import Readable, can_choose, fit_ridge, read_features
from bmdkit.training.run import DecompositionRun, load_run
from bmdkit.training.run_folder import examine_folder, make_identity, open_folder
from bmdkit.training.run_layout import (
    CONFIG,
    PLAUSIBILITY,
    PREDICTIONS,
    RUN,
    Provenance,
    RegressionDescription,
    Split,
    read_predictions,
)
from bmdkit.training.run_plan import TrainingPlan, count_pairs

PHASE = "ridge"
"""Folder of the regression inside its run; it is a decomposition run too, which predicts with the regression."""


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A ridge regression of which everything but the images has been found to be there."""

    run: DecompositionRun
    start: Path
    config: RegressionConfig
    provenance: Provenance
    identity: dict[str, Any]
    device: str


def _prepare(
    splits: Mapping[Split, Sequence[Pair]],
    data: Path,
    out: Path,
    config: RegressionConfig,
    *,
    seed: int,
    device: str,
    init_from: Path | None,
) -> _Prepared:
    """Check what a regression needs, but for its images; nothing is written. Arguments are those of the regression."""
    there = check_machine(MachineNeeds(device=device, out=out))
    if init_from is None:
        raise PreflightError("BMD-TRN-012", "a ridge regression, and no run to start from.")
    run = load_run(init_from, device=there)
    if run.config.dataset != "B":
        raise PreflightError("BMD-TRN-012", "a run of dataset A knows no proximal femur.", file=init_from)
    config = replace(config, generator=run.config.generator, image_size=run.config.image_size)  # what is looked through
    provenance = trace_provenance(
        data, init_from, fold=config.fold, held_out=(*splits["tune"], *splits.get("test", ()))
    )
    identity = make_identity("representation", config, seed=seed, data=provenance, init_from=init_from)
    return _Prepared(run, init_from, config, provenance, identity, there)


def plan_ridge_run(
    splits: Mapping[Split, Sequence[Pair]],
    data: Path,
    out: Path,
    config: RegressionConfig,
    *,
    seed: int,
    device: str,
    init_from: Path | None,
    overwrite: bool,
) -> TrainingPlan:
    """Check what `fit_ridge_run` checks before it begins, and say what it would do; nothing is written.

    The arguments and errors are those of `fit_ridge_run`.
    """
    found = _prepare(splits, data, out, config, seed=seed, device=device, init_from=init_from)
    folder = examine_folder(out, found.identity, overwrite=overwrite, settings=RegressionConfig)
    return TrainingPlan(out, found.device, "pairs", config.fold, count_pairs(splits), (), folder, found.start)


def fit_ridge_run(
    splits: Mapping[Split, Sequence[Pair]],
    data: Path,
    out: Path,
    config: RegressionConfig,
    *,
    seed: int,
    device: str,
    init_from: Path | None,
    overwrite: bool,
) -> dict[str, Any]:
    """Fit the regression, its strength chosen as `fit_ridge` does it, and measure on the patients that are left.

    Args:
        splits: Pairs of each split; the BMD of those to train and tune with is known.
        data: The dataset that they are of.
        out: Folder of the run.
        config: All settings.
        seed: Seed of the run that it stands beside; nothing is drawn.
        device: Device to compute on: auto, cpu or cuda[:N].
        init_from: The decomposition run of dataset B whose network is looked through.
        overwrite: Whether to drop what `out` holds.

    Returns:
        The figures, as its metrics.json has them.

    Raises:
        PreflightError: There is no decomposition run of dataset B to start from (BMD-TRN-012), or `out` holds something
            else (BMD-TRN-008).
    """
    found = _prepare(splits, data, out, config, seed=seed, device=device, init_from=init_from)
    run, config, provenance, start = found.run, found.config, found.provenance, found.start
    size, reads = run.config.image_size, config.head.reads
    with open_folder(out, found.identity, overwrite=overwrite, settings=RegressionConfig):
        known: dict[Split, Readable] = {}
        for split, pairs in splits.items():
            images = load_pairs(pairs, size, scale_g_cm2=run.scale_g_cm2, half=config.half_in_memory)
            features = read_features(run.generator, images.xray, images.mask, run.scale_g_cm2, reads=reads)
            known[split] = Readable(features, images.bmd(config.task), [pair.patient_id for pair in pairs])
        readout = fit_ridge(config.task, known["train"], known["tune"], reads=reads)
        folder = out / PHASE
        replace(run, readouts={**run.readouts, config.task: readout}).save(folder, epochs=0)
        for name in (CONFIG, PLAUSIBILITY):
            shutil.copyfile(start / name, folder / name)
        predicted = {split: (pairs, readout.bmd(known[split].features)) for split, pairs in splits.items()}
        if not can_choose(known["tune"].patients):  # learnt from: no split of its own
            (own, told), (others, told_others) = predicted["train"], predicted.pop("tune")
            predicted["train"] = [*own, *others], np.concatenate([told, told_others])
        same_data = provenance.lineage[0].data_sha256 == provenance.data_sha256
        before = {row.pair_id: row for row in read_predictions(start / PREDICTIONS)} if same_data else {}
        about = {"strength": readout.strength}
        metrics = write_regression(config.task, config.fold, predicted, folder, before=before, **about)
        scale = known["train"].bmd
        described = RegressionDescription(
            config.network, config.task, size, float(scale.mean()), float(scale.std()), (PHASE,)
        )
        write_json(out / RUN, asdict(described))
    return metrics
