"""Which runs a training starts from, and that none of them has learnt from the patients that it holds out."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bmdkit.dataset.commit import digest
from bmdkit.dataset.samples import Fold, Pair
from bmdkit.errors import PreflightError
from bmdkit.io.results import sha256_of

logger = logging.getLogger(__name__)

CONFIG = "config.json"
LINEAGE = "lineage"


def settings_digest(settings: dict[str, Any]) -> str:
    """Of all settings but those in which runs of one method differ: the fold, the task, what is only drawn."""
    return digest({k: v for k, v in settings.items() if k not in ("fold", "task", "montage_pairs")})


def learnt_from(data: Path, init_from: Path | None, *, fold: Fold, held_out: Sequence[Pair]) -> dict[str, Any]:
    """What a training learns from, as entries of its config.json: the manifest's checksum, and its ancestors.

    Args:
        data: The dataset.
        init_from: The run that it starts from.
        fold: That it holds out.
        held_out: The pairs of that fold.

    Returns:
        `data_sha256`, and `lineage`: kind, dataset, fold, data_sha256 and settings (a digest) of `init_from`, of the
        run that this one started from, and so on.

    Raises:
        PreflightError: One of them has learnt from patients that are held out here (BMD-TRN-014), or it is no run
            (BMD-TRN-009).
    """
    own = sha256_of(data / "manifest.csv")
    ancestors = [] if init_from is None else _ancestors(init_from)
    if fold != "all":
        for ancestor in ancestors:
            if ancestor["data_sha256"] == own and ancestor["fold"] != fold:
                message = f"fold {ancestor['fold']} was held out there, fold {fold} is here."
                raise PreflightError("BMD-TRN-014", message, file=init_from)
    if ancestors and ancestors[0]["data_sha256"] != own:
        _warn_of_names(init_from, held_out)
    return {"data_sha256": own, LINEAGE: ancestors}


def _ancestors(folder: Path) -> list[dict[str, Any]]:
    """A run and those before it, the nearest first."""
    try:
        identity = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        settings = identity["settings"]
        one = {"kind": identity["kind"], "dataset": settings.get("dataset", "B"), "fold": settings["fold"]}
        one |= {"data_sha256": identity["data_sha256"], "settings": settings_digest(settings)}
        return [one, *identity.get(LINEAGE, [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PreflightError("BMD-TRN-009", f"no finished run ({error!r}).", file=folder) from error


def _warn_of_names(folder: Path, held_out: Sequence[Pair]) -> None:
    """Another dataset may hold the same patients; names alone do not prove it."""
    try:
        with (folder / "predictions.csv").open(newline="", encoding="utf-8") as handle:
            seen = {row["patient_id"] for row in csv.DictReader(handle) if row["split"] == "train"}
    except (OSError, ValueError, KeyError):
        return
    same = sorted({pair.patient_id for pair in held_out} & seen)
    if same:
        count = (
            f"{len(same)} held-out patients have names of patients that {folder.name} learnt from on another dataset"
        )
        logger.warning("%s (%s); see that they are not the same", count, ", ".join(same[:5]))
