"""Which runs a training starts from, and that none of them has learnt from the patients that it holds out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bmdkit.dataset.case_meta import hash_data
from bmdkit.dataset.layout import MANIFEST_CSV
from bmdkit.dataset.samples import Fold, Pair
from bmdkit.errors import PreflightError
from bmdkit.io.results import sha256_of
from bmdkit.training.run_layout import CONFIG, PREDICTIONS, Ancestor, Provenance, read_json, read_predictions

logger = logging.getLogger(__name__)

PROVENANCE_KEY = "lineage"
"""Entry of config.json that holds the runs before."""


_DRAWN_ONLY = ("fold", "task", "montage_pairs", "case_epochs")


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Digest of all settings but those in which runs of one method differ: the fold, the task, what is only drawn."""
    return hash_data({k: v for k, v in settings.items() if k not in _DRAWN_ONLY})


def trace_provenance(data: Path, init_from: Path | None, *, fold: Fold, held_out: Sequence[Pair]) -> Provenance:
    """Find what a training learns from: its dataset, and the runs before it.

    Args:
        data: Folder of the dataset.
        init_from: Folder of the run that it starts from; None: it starts from nothing.
        fold: Fold that it holds out.
        held_out: Pairs of that fold.

    Raises:
        PreflightError: A run before it has learnt from patients that are held out here (BMD-TRN-014), or `init_from`
            is no run (BMD-TRN-009).
    """
    own = sha256_of(data / MANIFEST_CSV)
    if init_from is None:
        return Provenance(own)
    ancestors = _read_ancestors(init_from)
    for ancestor in ancestors if fold != "all" else ():
        if ancestor.data_sha256 == own and ancestor.fold != fold:
            message = f"fold {ancestor.fold} was held out there, fold {fold} is here."
            raise PreflightError("BMD-TRN-014", message, file=init_from)
    if ancestors[0].data_sha256 != own:
        _warn_of_names(init_from, held_out)
    return Provenance(own, ancestors)


def _read_ancestors(folder: Path) -> tuple[Ancestor, ...]:
    """A run and those before it, the nearest first."""
    identity = read_json(folder / CONFIG)
    try:
        settings = identity["settings"]
        nearest = Ancestor(
            kind=identity["kind"],
            dataset=settings.get("dataset", "B"),
            fold=settings["fold"],
            data_sha256=identity["data_sha256"],
            settings=settings_digest(settings),
        )
        return nearest, *(Ancestor(**one) for one in identity.get(PROVENANCE_KEY, []))
    except (KeyError, TypeError, AttributeError) as error:
        raise PreflightError("BMD-TRN-009", f"no finished run ({error!r}).", file=folder) from error


def _warn_of_names(folder: Path, held_out: Sequence[Pair]) -> None:
    """Say so if another dataset may hold the same patients; names alone do not prove it."""
    try:
        seen = {row.patient_id for row in read_predictions(folder / PREDICTIONS) if row.split == "train"}
    except (OSError, ValueError, KeyError):
        return
    same = sorted({pair.patient_id for pair in held_out} & seen)
    if same:
        count = (
            f"{len(same)} held-out patients have names of patients that {folder.name} learnt from on another dataset"
        )
        logger.warning("%s (%s); see that they are not the same", count, ", ".join(same[:5]))
