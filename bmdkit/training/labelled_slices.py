"""CTs with labels as slices to learn from: found in a cohort or a folder, kept on disk, read as they are needed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.samples import Fold
from bmdkit.dataset.splits import assign_folds, choose_folds
from bmdkit.errors import CaseError, PreflightError
from bmdkit.io.cohort import TABLE, read_cohort
from bmdkit.io.ct import read_ct
from bmdkit.io.label_maps import read_labels
from bmdkit.io.volumes import VOLUME_SUFFIXES, find_stem, find_suffix
from bmdkit.models.bayesian_unet import MULTIPLE
from bmdkit.segmentation.body import body_box
from bmdkit.segmentation.dropout_prediction import to_working_size, working_factor
from bmdkit.segmentation.model import CLASSES, VALUES, scale_hu

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledCt:
    """A CT and its label map, not read yet.

    Attributes:
        name: Name of the CT.
        patient_id: Patient whose it is.
        ct, labels: Files or folders.
        fold: Fold of the patient.
    """

    name: str
    patient_id: str
    ct: Path
    labels: Path
    fold: int

    def read(self) -> tuple[Volume, LabelMap]:
        """The CT in HU, and its labels.

        Raises:
            PreflightError: Either cannot be used (BMD-TRN-021).
        """
        try:
            return read_ct(self.ct, case=self.patient_id).volume, read_labels(self.labels, case=self.patient_id)
        except CaseError as error:
            raise PreflightError("BMD-TRN-021", f"{error.code}: {error.message}", case=self.name) from error


def find_labelled(data: Path, *, seed: int) -> tuple[LabelledCt, ...]:
    """The CTs with labels of a cohort, or of a folder with images/ and labels/.

    In such a folder an image and its labels share their name; what stands before a double underscore, if there is one,
    is the patient. A cohort's column `fold` is taken; without one patients are dealt into five folds.

    Args:
        data: The folder.
        seed: Seed of the folds.

    Raises:
        PreflightError: It is neither, or holds no CT with labels (BMD-TRN-020).
    """
    if (data / TABLE).is_file():
        cases = read_cohort(data).cases
        folds = choose_folds(cases, seed=seed)
        found = [LabelledCt(c.patient_id, c.patient_id, c.ct, c.labels, folds[c.patient_id]) for c in cases if c.labels]
        if len(found) < len(cases):
            logger.warning("%d of %d patients have no labels and are not used", len(cases) - len(found), len(cases))
    else:
        images, labels = (_by_name(data / name) for name in ("images", "labels"))
        if images.keys() != labels.keys():
            lone = sorted(images.keys() ^ labels.keys())
            raise PreflightError("BMD-TRN-020", f"{lone[0]} is not in both images/ and labels/.", file=data)
        patients = {name: name.partition("__")[0] for name in images}
        folds = assign_folds(sorted(set(patients.values())), seed=seed)
        found = [LabelledCt(n, patients[n], images[n], labels[n], folds[patients[n]]) for n in sorted(images)]
    if not found:
        raise PreflightError("BMD-TRN-020", "it holds no CT with labels.", file=data)
    return tuple(found)


def split_labelled(found: Sequence[LabelledCt], fold: Fold) -> tuple[tuple[LabelledCt, ...], tuple[LabelledCt, ...]]:
    """Those to learn from, and those of the fold that is held out.

    Raises:
        PreflightError: Either is empty (BMD-TRN-004).
    """
    if fold == "all":
        return tuple(found), ()
    train = tuple(ct for ct in found if ct.fold != fold)
    test = tuple(ct for ct in found if ct.fold == fold)
    if not train or not test:
        folds = ", ".join(map(str, sorted({ct.fold for ct in found})))
        raise PreflightError(
            "BMD-TRN-004", f"fold {fold} of {folds}: {len(train)} CTs to learn from, {len(test)} held out."
        )
    return train, test


def class_map(labels: LabelMap) -> np.ndarray:
    """A label map as numbers of `CLASSES`, uint8."""
    table = np.zeros(256, np.uint8)
    for name, value in labels.values.items():
        if name in VALUES:
            table[value] = VALUES[name]
    return table[labels.array]


class SliceStore:
    """All slices of some CTs on disk: HU in the window and each bone's share of a pixel, a byte each; see `Samples`.

    Labels are brought to the network's pixels as the slices are, so that a pixel at the edge of a bone keeps what the
    bone has of it; in whole pixels the labels of a finer CT would have the edge of a coarser one.
    Only the box around the body is kept. All slices are filled up with air to the size of the largest. Memory does not
    grow with their number. What is there already is used again.

    Args:
        cts: CTs to learn from.
        folder: Folder for the arrays.
        pixel_mm: Size of the pixels that a slice is brought to; None: as it is.
        window_hu: Brought to [0, 1].
    """

    def __init__(
        self, cts: Sequence[LabelledCt], folder: Path, *, pixel_mm: float | None, window_hu: tuple[float, float]
    ) -> None:
        """Write what is not there yet, and open all."""
        folder.mkdir(parents=True, exist_ok=True)
        self._arrays = []
        self._places: list[tuple[int, int]] = []
        for number, ct in enumerate(cts):
            path = folder / f"{ct.name}.shares.npy"  # of earlier versions: whole classes, without `shares`
            if not path.exists():
                self._prepare(ct, path, pixel_mm, window_hu)
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            self._arrays.append(array)
            self._places += [(number, k) for k in range(len(array))]
        most = np.max([array.shape[2:] for array in self._arrays], axis=0)
        self.shape = tuple(max(-(-int(n) // MULTIPLE) * MULTIPLE, 2 * MULTIPLE) for n in most)

    def __len__(self) -> int:
        """Count the slices."""
        return len(self._places)

    def take(self, indices: Tensor, device: torch.device) -> dict[str, Tensor]:
        """`image` (B, 1, H, W) and `shares` (B, bones, H, W), both in [0, 1]; each slice in the middle."""
        chosen = np.zeros((len(indices), len(CLASSES), *self.shape), np.uint8)
        for place, index in zip(chosen, indices.tolist(), strict=True):
            number, k = self._places[index]
            rows, columns = self._arrays[number].shape[2:]
            top, left = (self.shape[0] - rows) // 2, (self.shape[1] - columns) // 2
            place[:, top : top + rows, left : left + columns] = self._arrays[number][k]
        batch = torch.from_numpy(chosen).to(device).float() / 255
        return {"image": batch[:, :1], "shares": batch[:, 1:]}

    def _prepare(self, ct: LabelledCt, path: Path, pixel_mm: float | None, window_hu: tuple[float, float]) -> None:
        """(slices, 1 + bones, rows, columns) of the body, uint8."""
        volume, labels = ct.read()
        classes = class_map(labels.resample(volume.grid))
        missing = [name for value, name in enumerate(CLASSES) if value and not (classes == value).any()]
        if len(missing) == len(CLASSES) - 1:
            raise PreflightError("BMD-TRN-021", "its labels do not lie in the CT.", case=ct.name)
        if missing:
            logger.warning("%s: no voxel of %s; it is learnt as background", ct.name, ", ".join(missing))
        factor = working_factor(volume.grid, pixel_mm)
        part = path.with_suffix(".part")
        box = body_box(volume)
        out: np.memmap | None = None
        for k, (hu, seen) in enumerate(zip(volume.array[box], classes[box], strict=True)):
            image = scale_hu(torch.from_numpy(hu.astype(np.float32)), window_hu)
            bones = [torch.from_numpy(seen == value).float() for value in range(1, len(CLASSES))]
            slices = to_working_size(torch.stack([image, *bones])[None], factor)[0]
            if out is None:
                shape = (box[0].stop - box[0].start, *slices.shape)
                out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
            out[k] = torch.round(255 * slices.clamp(0.0, 1.0)).to(torch.uint8).numpy()
        if out is not None:
            out.flush()
        del out
        part.replace(path)


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise PreflightError("BMD-TRN-020", f"neither {TABLE} nor a folder {folder.name}/.", file=folder.parent)
    entries = [path for path in sorted(folder.iterdir()) if path.is_dir() or find_suffix(path) in VOLUME_SUFFIXES]
    return {path.name if path.is_dir() else find_stem(path): path for path in entries}
