"""All pairs of a split in memory, ready to be taken as batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bmdkit.dataset.layout import LAYERS, layers_file
from bmdkit.dataset.samples import Pair, PairDataset
from bmdkit.errors import PreflightError
from bmdkit.io.images import read_tiff
from bmdkit.training.bone_density import Task
from bmdkit.training.reexposure import SoftTissue


@dataclass(frozen=True, eq=False)
class PairTensors:
    """Images of some pairs.

    Attributes:
        pairs: Pairs that they belong to.
        xray: (N, 1, H, W), [-1, 1].
        drr: (N, C, H, W), g/cm2.
        mask: (N, 1, H, W), uint8.
        scale_g_cm2: What becomes 1 when projections are scaled to [-1, 1]; 0 g/cm2 becomes -1.
        layers: (N, 3, H, W), g/cm2, what the radiographs were made of; None where that is not asked for.
    """

    pairs: tuple[Pair, ...]
    xray: Tensor
    drr: Tensor
    mask: Tensor
    scale_g_cm2: float
    layers: Tensor | None = None

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.pairs)

    def take(self, indices: Tensor, device: torch.device) -> dict[str, Tensor]:
        """A batch: `xray` and `drr` in [-1, 1] and `mask`, all float32; with layers these, and which are left hips."""
        indices = indices.to(self.xray.device)
        xray, drr, mask = (self._taken(images, indices, device) for images in (self.xray, self.drr, self.mask))
        batch = {"xray": xray, "drr": scale_density(drr, self.scale_g_cm2), "mask": mask}
        if self.layers is None:
            return batch
        is_left = self._is_left[indices.cpu()].to(device)
        return batch | {"layers": self._taken(self.layers, indices, device), "is_left": is_left}

    @cached_property
    def _is_left(self) -> Tensor:
        return torch.tensor([pair.side == "L" for pair in self.pairs])

    def soft_tissue(self) -> SoftTissue | None:
        """The soft tissue of all pairs; None without layers."""
        return None if self.layers is None else SoftTissue(self.layers[:, :1], self._is_left)

    @staticmethod
    def _taken(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
        part = images[indices]
        if part.device.type != device.type and device.type == "cuda":
            part = part.pin_memory().to(device, non_blocking=True)
        return part.to(device, torch.float32)

    def moved_if_it_fits(self, device: torch.device) -> PairTensors:
        """The same on `device`, if that is a GPU with room for three times as much; so that no step waits for data."""
        if device.type != "cuda":
            return self
        images = [self.xray, self.drr, self.mask, *([] if self.layers is None else [self.layers])]
        free, _ = torch.cuda.mem_get_info(device)
        if 3 * sum(image.numel() * image.element_size() for image in images) > free:
            return self
        xray, drr, mask, *layers = (image.to(device) for image in images)
        return PairTensors(self.pairs, xray, drr, mask, self.scale_g_cm2, *layers)

    def bmd(self, task: Task) -> np.ndarray:
        """(N,) of dxa (g/cm2) or qct (mg/cm3); NaN where not known."""
        values = [p.dxa_bmd_g_cm2 if task == "dxa" else p.qct_bmd_mg_cm3 for p in self.pairs]
        return np.array([np.nan if value is None else value for value in values])


def load_pairs(
    pairs: Sequence[Pair],
    image_size: tuple[int, int],
    *,
    scale_g_cm2: float | None = None,
    half: bool = False,
    layers: bool = False,
    threads: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> PairTensors:
    """Read pairs into memory.

    Args:
        pairs: Pairs of one dataset.
        image_size: (rows, columns).
        scale_g_cm2: Scale of the training set; None takes the largest value found here.
        half: Keep the images in half precision, for sets that would not fit otherwise.
        layers: Read what the radiographs were made of, too; always in half precision.
        threads: Files read at a time.
        progress: Called with the pairs read and all pairs.

    Raises:
        PreflightError: An image cannot be used (BMD-TRN-002, -005).
    """
    data = PairDataset.from_pairs(pairs, image_size=image_size)
    dtype = torch.float16 if half else torch.float32
    xrays, drrs, masks = [], [], []
    largest = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for done, item in enumerate(pool.map(data.__getitem__, range(len(data))), start=1):
            largest = max(largest, float(item["drr"].max()))
            xrays.append(item["xray"].to(dtype))
            drrs.append(item["drr"].to(dtype))
            masks.append(item["mask"].to(torch.uint8))
            if progress is not None:
                progress(done, len(data))
    if not xrays:
        raise ValueError("pairs: expected at least one")
    scale = scale_g_cm2 or largest or 1.0
    made_of = torch.stack([_read_layers(pair, image_size) for pair in pairs]) if layers else None
    return PairTensors(tuple(pairs), torch.stack(xrays), torch.stack(drrs), torch.stack(masks), scale, made_of)


def _read_layers(pair: Pair, image_size: tuple[int, int]) -> Tensor:
    """What the radiograph of a pair was made of, (3, H, W), g/cm2, float16.

    Raises:
        PreflightError: They are missing, damaged, not finite or not three (BMD-TRN-005).
    """
    file = layers_file(pair.xray.parent)
    try:
        pages = read_tiff(file).astype(np.float32)
    except (OSError, ValueError) as error:
        message = f"no readable layers ({error}); `bmdkit simulate --set layers=true` keeps them."
        raise PreflightError("BMD-TRN-005", message, case=pair.pair_id, file=file.name) from error
    if len(pages) != len(LAYERS) or not np.isfinite(pages).all():
        message = f"layers: expected {len(LAYERS)} pages of finite values, got {len(pages)}."
        raise PreflightError("BMD-TRN-005", message, case=pair.pair_id, file=file.name)
    tensor = torch.from_numpy(pages)[None]
    return torch.nn.functional.interpolate(tensor, image_size, mode="bilinear", antialias=True)[0].half()


def scale_density(drr: Tensor, scale_g_cm2: float) -> Tensor:
    """Areal density, g/cm2, to [-1, 1]: 0 (and noise below it) to -1, the scale to 1."""
    return (2.0 / scale_g_cm2) * drr.clamp(0.0, scale_g_cm2) - 1.0


def unscale_density(drr: Tensor, scale_g_cm2: float) -> Tensor:
    """Undo `scale_density`."""
    return (0.5 * scale_g_cm2) * (drr + 1.0)


def load_cropped_pairs(pairs: Sequence[Pair], size: tuple[int, int], *, margin: float) -> PairTensors:
    """Pairs cut to where the target projects, and brought to one size: a region of interest found without error.

    Args:
        pairs: Pairs of dataset B.
        size: (rows, columns) of the result; sides are stretched to it.
        margin: Added on each side, as a fraction of the region's size.

    Raises:
        PreflightError: An image cannot be used, or its target is empty (BMD-TRN-005).
    """
    data = PairDataset.from_pairs(pairs)
    xrays, drrs, masks = [], [], []
    for pair, item in zip(pairs, (data[n] for n in range(len(data))), strict=True):
        box = _box(item["drr"][0] > 0, margin)
        if box is None:
            raise PreflightError("BMD-TRN-005", "the target projects nowhere.", case=pair.pair_id, file=pair.drr.name)
        cut = [item[name][:, box[0], box[1]][None] for name in ("xray", "drr", "mask")]
        xray, drr, mask = (torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)[0] for x in cut)
        xrays.append(xray)
        drrs.append(drr)
        masks.append((mask > 1.0 - 1e-4).to(torch.uint8))
    drr = torch.stack(drrs)
    return PairTensors(tuple(pairs), torch.stack(xrays), drr, torch.stack(masks), float(drr.max()))


def _box(inside: Tensor, margin: float) -> tuple[slice, slice] | None:
    slices = []
    for axis in (1, 0):
        where = torch.nonzero(inside.any(axis))
        if not len(where):
            return None
        first, last = int(where[0]), int(where[-1]) + 1
        more = round(margin * (last - first))
        slices.append(slice(max(0, first - more), min(inside.shape[1 - axis], last + more)))
    return slices[0], slices[1]
