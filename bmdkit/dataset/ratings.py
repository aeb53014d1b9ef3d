"""What a reader of the report thinks of the pairs: good, review or bad, in a file that belongs to the reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bmdkit.dataset.layout import RATINGS
from bmdkit.dataset.manifest import LeftOut, PairRow
from bmdkit.errors import PreflightError
from bmdkit.io.results import read_csv, write_csv

Rating = Literal["good", "review", "bad"]
CHOICES: tuple[Rating, ...] = ("good", "review", "bad")
COLUMNS = ("pair_id", "rating")


def read_ratings(root: Path) -> dict[str, Rating]:
    """Pair -> rating, of a dataset; empty where nobody has rated.

    Args:
        root: Folder of the dataset.

    Raises:
        PreflightError: ratings.csv cannot be used (BMD-RAT-001).
    """
    path = root / RATINGS
    return _read(path) if path.exists() else {}


def add_ratings(root: Path, files: Iterable[Path]) -> dict[str, Rating]:
    """Take ratings that were saved from the report into the dataset; the last of a pair holds.

    Args:
        root: Folder of the dataset.
        files: Saved files, in their order; an empty rating takes an earlier one back.

    Returns:
        All ratings of the dataset.

    Raises:
        PreflightError: A file cannot be used (BMD-RAT-001); nothing was written.
    """
    known: dict[str, Rating | None] = dict(read_ratings(root))
    for file in files:
        known |= _read(file, empty=True)
    kept = {pair: rating for pair, rating in known.items() if rating is not None}
    write_csv(root / RATINGS, [dict(zip(COLUMNS, one, strict=True)) for one in sorted(kept.items())], COLUMNS)
    return kept


def apply_rating(row: PairRow, ratings: Mapping[str, Rating]) -> PairRow:
    """A row of the manifest after its reader has had a say: a bad pair is left out, a good one is accepted.

    Args:
        row: What the case says of the pair; one that is left out already stays as it is.
        ratings: Pair -> rating.
    """
    if not row.is_ok:
        return row
    match ratings.get(row.pair_id):
        case "bad":
            return row.leave_out(LeftOut("BMD-RAT-002", "rated bad in the report."))
        case "review":
            return row if row.verdict == "reject" else replace(row, verdict="review")
        case "good":
            return replace(row, verdict="accept")
        case None:
            return row


def _read(path: Path, *, empty: bool = False) -> dict:
    try:
        rows = read_csv(path)
        found = {row["pair_id"]: row["rating"].strip() or None for row in rows}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise PreflightError("BMD-RAT-001", f"not readable as ratings ({error!r}).", file=path.name) from error
    for pair, rating in found.items():
        if rating not in CHOICES and not (empty and rating is None):
            message = f"{pair}: expected {', '.join(CHOICES)}, got {rating!r}."
            raise PreflightError("BMD-RAT-001", message, file=path.name)
    return found
