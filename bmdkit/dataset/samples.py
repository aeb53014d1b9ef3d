"""A built dataset as training samples: which pairs, in which fold, and their images as tensors."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bmdkit.config import ConfigError, build
from bmdkit.core.units import PROJECTION_UNITS
from bmdkit.dataset.integrity import read_sums
from bmdkit.dataset.layout import DESCRIPTION, MANIFEST_CSV, PAIR_IMAGES, SUMS, DatasetName
from bmdkit.dataset.manifest import parse_number, read_manifest
from bmdkit.dataset.pairs import PairConfig
from bmdkit.errors import PreflightError
from bmdkit.io.images import read_tiff
from bmdkit.io.results import sha256_of
from bmdkit.io.xray_settings import XrayConfig

logger = logging.getLogger(__name__)

Fold = int | Literal["all"]

CHANNELS: dict[str, tuple[str, ...]] = {"A": ("pelvis", "femur"), "B": ("proximal femur",)}
"""Pages of drr.tif."""

_TABLES = (MANIFEST_CSV, DESCRIPTION)

DENSEST = 100.0
"""More areal density, g/cm2, than any body has, and a longer way through bone than 1000 HU cm can be: an image above
it is in neither unit."""


@dataclass(frozen=True)
class Pair:
    """One line of the manifest that can be learnt from.

    Attributes:
        pair_id, patient_id, side, pose: Names of the pair, as in the manifest.
        dataset: A or B.
        fold: Fold of the patient.
        xray, drr, mask: Image files.
        dxa_bmd_g_cm2, qct_bmd_mg_cm3, pf_drr_mean_g_cm2: None where not known.
        sha256: Hashes of the three images; an empty one is not checked.
    """

    pair_id: str
    patient_id: str
    side: str
    pose: str
    dataset: DatasetName
    fold: int
    xray: Path
    drr: Path
    mask: Path
    dxa_bmd_g_cm2: float | None = None
    qct_bmd_mg_cm3: float | None = None
    pf_drr_mean_g_cm2: float | None = None
    sha256: tuple[str, str, str] = ("", "", "")

    @property
    def hip(self) -> str:
        """The patient's hip, whichever radiograph shows it."""
        return f"{self.patient_id} {self.side}"


def read_pairs(root: Path, dataset: DatasetName, *, verdicts: Sequence[str] = ("accept", "review")) -> tuple[Pair, ...]:
    """The usable pairs of a built dataset, in the order of their names.

    Args:
        root: Output of build-dataset.
        dataset: A or B.
        verdicts: Verdicts of the registration that are used; so is a pair without a verdict.

    Raises:
        PreflightError: No built dataset (BMD-TRN-001), other units (BMD-TRN-002), a line that cannot be used or a
            patient in two folds (BMD-TRN-003), or no pair at all (BMD-TRN-004).
    """
    read_projection_unit(root)
    _compare_sums(root)
    try:
        rows = read_manifest(root)
    except (OSError, ValueError) as error:
        raise PreflightError("BMD-TRN-001", f"no readable manifest ({error}).", file=MANIFEST_CSV) from error
    pairs = [
        _read_pair(root, row)
        for row in rows
        if row.get("dataset") == dataset
        and row.get("status") == "ok"
        and (not row.get("verdict") or row["verdict"] in verdicts)
    ]
    if not pairs:
        raise PreflightError("BMD-TRN-004", f"0 usable pairs of dataset {dataset} among {len(rows)} lines.")
    _check_folds(rows)
    return tuple(sorted(pairs, key=lambda pair: pair.pair_id))


def read_image_settings(root: Path) -> tuple[PairConfig, XrayConfig]:
    """How the radiographs of a dataset were cut and read: what new ones have to go through to look like them.

    Raises:
        PreflightError: No built dataset (BMD-TRN-001), or settings that this version does not know (BMD-TRN-002).
    """
    settings = _description(root).get("configuration", {})
    try:
        return build(PairConfig, settings.get("pairs", {})), build(XrayConfig, settings.get("xray", {}))
    except (ConfigError, AttributeError) as error:
        raise PreflightError("BMD-TRN-002", f"{error}.", file=DESCRIPTION) from error


def read_projection_unit(root: Path) -> str:
    """Read the unit of a dataset's projections: g/cm2, or 1000 HU cm where they are uncalibrated.

    Raises:
        PreflightError: No built dataset (BMD-TRN-001), or another unit (BMD-TRN-002).
    """
    units = _description(root).get("units")
    unit = units.get("drr.tif") if isinstance(units, dict) else None
    if unit not in (None, *PROJECTION_UNITS.values()):
        known = " or ".join(PROJECTION_UNITS.values())
        raise PreflightError("BMD-TRN-002", f"projections in {unit!r}, expected {known}.", file=DESCRIPTION)
    return unit or PROJECTION_UNITS["density"]


def _description(root: Path) -> dict[str, Any]:
    try:
        description = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PreflightError("BMD-TRN-001", f"no readable dataset.json in {root.name} ({error}).") from error
    if not isinstance(description, dict) or "dataset" not in str(description.get("kind", "")):
        raise PreflightError("BMD-TRN-001", "dataset.json does not describe a built dataset.", file=DESCRIPTION)
    return description


def _compare_sums(root: Path) -> None:
    """Say so where SHA256SUMS vouches for other tables than those that are there: somebody may have edited them."""
    try:
        sums = read_sums(root)
        changed = [name for name in _TABLES if name in sums and sha256_of(root / name) != sums[name]]
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        changed = [f"{SUMS} ({error})"]
    for name in changed:
        logger.warning("%s is not as it was written; `bmdkit fsck` names all that is damaged", name)


def _read_pair(root: Path, row: Mapping[str, str]) -> Pair:
    try:
        xray, drr, mask = (_resolve_inside(root, row[name]) for name in PAIR_IMAGES)
        xray_sha256, drr_sha256, mask_sha256 = (row.get(f"{name}_sha256") or "" for name in PAIR_IMAGES)
        return Pair(
            row["pair_id"],
            row["patient_id"],
            row["side"],
            row["pose"],
            "A" if row["dataset"] == "A" else "B",
            int(row["fold"]),
            xray,
            drr,
            mask,
            parse_number(row.get("dxa_bmd_g_cm2")),
            parse_number(row.get("qct_bmd_mg_cm3")),
            parse_number(row.get("pf_drr_mean_g_cm2")),
            (xray_sha256, drr_sha256, mask_sha256),
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"line of {row.get('pair_id') or '?'}: {error!r}."
        raise PreflightError("BMD-TRN-003", message, file=MANIFEST_CSV) from error


def _resolve_inside(root: Path, text: str) -> Path:
    path = root / text
    if not text or not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{text!r} is no file of the dataset")
    return path


def _check_folds(rows: Sequence[dict[str, str]]) -> None:
    """Over both datasets: what is learnt from A must not know whom B holds out."""
    folds: dict[str, str] = {}
    for row in rows:
        patient, fold = row.get("patient_id"), row.get("fold")
        if row.get("status") == "ok" and patient and fold and folds.setdefault(patient, fold) != fold:
            message = f"in the folds {folds[patient]} and {fold}."
            raise PreflightError("BMD-TRN-003", message, case=patient, file=MANIFEST_CSV)


def split_pairs(
    pairs: Sequence[Pair], fold: Fold, *, train_poses: Sequence[str] = ()
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """(train, test): all patients but those of `fold`, and those; with "all" every pair trains and none is held out.

    Args:
        pairs: Pairs of one dataset.
        fold: That is held out.
        train_poses: Radiographs of these poses alone are trained on; those held out keep all of theirs. Empty: all.

    Raises:
        PreflightError: The fold holds nobody, or everybody, or no pair is of such a pose (BMD-TRN-004).
    """
    posed = tuple(pair for pair in pairs if not train_poses or pair.pose in train_poses)
    if not posed:
        found = ", ".join(sorted({pair.pose for pair in pairs}))
        raise PreflightError("BMD-TRN-004", f"no pair is {' or '.join(train_poses)}; the poses are {found}.")
    if fold == "all":
        return posed, ()
    train = tuple(pair for pair in posed if pair.fold != fold)
    test = tuple(pair for pair in pairs if pair.fold == fold)
    if not test or not train:
        found = ", ".join(str(n) for n in sorted({pair.fold for pair in pairs}))
        what = "nobody to hold out" if not test else "nobody left to train on"
        raise PreflightError("BMD-TRN-004", f"fold {fold} leaves {what}; the folds with usable pairs are {found}.")
    return train, test


class PairItem(TypedDict):
    """One pair as tensors.

    Attributes:
        xray: (1, H, W), float32 in [-1, 1]; -1 outside the mask.
        drr: (C, H, W), float32, g/cm2, or 1000 HU cm where the dataset is uncalibrated; pelvis and femur in dataset A,
            the proximal femur in dataset B.
        mask: (1, H, W), float32; 1 where the radiograph is image, else 0.
        pair_id: Name of the pair in the manifest.
        dxa: DXA-BMD, g/cm2; NaN where it is not known.
        qct: QCT-BMD, mg/cm3; NaN where it is not known.
    """

    xray: Tensor
    drr: Tensor
    mask: Tensor
    pair_id: str
    dxa: float
    qct: float


class PairDataset(Dataset[PairItem]):
    """The pairs of a built dataset as a torch Dataset; images are read from disk when they are asked for.

    Args:
        root: Output folder of build-dataset.
        dataset: "A" (pelvis and femur) or "B" (proximal femur and BMD).
        fold: Fold that is held out; "all" holds none out.
        split: "train" for the pairs outside the fold, "test" for those in it.
        image_size: Rows and columns of the images; None keeps the size on disk. A smaller size is made by averaging
            areas, and its mask is 1 only where all that a pixel covers is image.

    Raises:
        PreflightError: The folder is no built dataset, or no pair is left (BMD-TRN-001 to -004).

    Example:
        >>> held_out = PairDataset("dataset", "B", fold=0, split="test")  # doctest: +SKIP
        >>> xray, drr = held_out[0]["xray"], held_out[0]["drr"]  # doctest: +SKIP
    """

    def __init__(
        self,
        root: str | Path,
        dataset: DatasetName = "B",
        *,
        fold: Fold = "all",
        split: Literal["train", "test"] = "train",
        image_size: tuple[int, int] | None = None,
    ) -> None:
        """Read which pairs there are; no image is read yet."""
        train, test = split_pairs(read_pairs(Path(root), dataset), fold)
        self.pairs = train if split == "train" else test
        self.image_size = image_size

    @classmethod
    def from_pairs(cls, pairs: Sequence[Pair], *, image_size: tuple[int, int] | None = None) -> PairDataset:
        """Make a dataset of pairs that were chosen before; all of them are of one dataset.

        Raises:
            ValueError: The pairs are of both datasets.
        """
        if len({pair.dataset for pair in pairs}) > 1:
            raise ValueError("pairs: expected one dataset, got both")
        made = cls.__new__(cls)
        made.pairs, made.image_size = tuple(pairs), image_size
        return made

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> PairItem:
        """Read one pair.

        Raises:
            PreflightError: An image is missing, damaged, of another shape or unit, or not finite (BMD-TRN-005, -002).
        """
        pair = self.pairs[index]
        xray, drr, mask = read_images(pair)
        if self.image_size is not None and self.image_size != tuple(xray.shape[-2:]):
            xray, drr, mask = (_resized(image, self.image_size) for image in (xray, drr, mask))
            mask = (mask > 1.0 - 1e-4).float()
        return {
            "xray": torch.where(mask > 0, 2.0 * xray - 1.0, -1.0),
            "drr": drr,
            "mask": mask,
            "pair_id": pair.pair_id,
            "dxa": float("nan") if pair.dxa_bmd_g_cm2 is None else pair.dxa_bmd_g_cm2,
            "qct": float("nan") if pair.qct_bmd_mg_cm3 is None else pair.qct_bmd_mg_cm3,
        }


def read_images(pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """X-ray (1, H, W) in [0, 1], DRR (C, H, W) in the dataset's unit and mask (1, H, W) in {0, 1}, float32, as on disk.

    Raises:
        PreflightError: See `PairDataset`.
    """
    images = []
    for path, sha256 in zip((pair.xray, pair.drr, pair.mask), pair.sha256, strict=True):
        try:
            data = path.read_bytes()
            if sha256 and hashlib.sha256(data).hexdigest() != sha256:
                raise ValueError("not as the manifest says")
            image = np.asarray(read_tiff(io.BytesIO(data)), np.float32)
        except Exception as error:  # whatever the reader makes of a damaged file
            raise PreflightError("BMD-TRN-005", f"unreadable ({error}).", case=pair.pair_id, file=path.name) from error
        if not np.isfinite(image).all():
            count = int((~np.isfinite(image)).sum())
            raise PreflightError("BMD-TRN-005", f"{count} values are not finite.", case=pair.pair_id, file=path.name)
        images.append(torch.from_numpy(image))
    xray, drr, mask = images
    pages = (1, len(CHANNELS[pair.dataset]), 1)
    if tuple(map(len, images)) != pages or len({image.shape[1:] for image in images}) > 1:
        shapes = [tuple(image.shape) for image in images]
        raise PreflightError("BMD-TRN-005", f"images of {shapes}, expected {pages} equal pages.", case=pair.pair_id)
    if xray.min() < -1e-6 or xray.max() > 1 + 1e-6:
        message = f"values of {float(xray.min()):g} to {float(xray.max()):g}, expected 0 to 1."
        raise PreflightError("BMD-TRN-002", message, case=pair.pair_id, file=pair.xray.name)
    if drr.max() > DENSEST:
        message = f"values up to {float(drr.max()):g}, no projection in g/cm2 or 1000 HU cm."
        raise PreflightError("BMD-TRN-002", message, case=pair.pair_id, file=pair.drr.name)
    return xray, drr, (mask > 0).float()


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, H, W) by averaging areas."""
    return torch.nn.functional.interpolate(image[None], size=size, mode="area")[0]
