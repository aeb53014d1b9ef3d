"""One held-out case as a network under training sees it, after some epochs: for a figure of how it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bmdkit.io.images import read_tiff, write_tiff
from bmdkit.training.pair_batches import PairTensors, unscale_density

FOLDER = "case"
_XRAY, _TARGET = "xray.tif", "target.tif"


@dataclass(frozen=True, eq=False)
class Snapshots:
    """What was kept of one case.

    Attributes:
        xray: (rows, columns), [0, 1].
        target: (rows, columns), true projection, first channel.
        pages: Projection after each of some epochs, by epoch.
    """

    xray: np.ndarray
    target: np.ndarray
    pages: dict[int, np.ndarray]


class CaseWriter:
    """Writes what a network sees in one case after some epochs.

    Args:
        run: Folder of the run.
        data: Held-out pairs; the case is the first of them, by name, of a pose that is learnt.
        epochs: Epochs after which it is written.
        poses: Poses that are learnt; empty for all.
    """

    def __init__(self, run: Path, data: PairTensors, epochs: tuple[int, ...], poses: Sequence[str] = ()) -> None:
        """Keep the case; nothing is written yet."""
        learnt = [n for n, pair in enumerate(data.pairs) if not poses or pair.pose in poses]
        place = min(learnt or range(len(data)), key=lambda n: data.pairs[n].pair_id)
        self.folder, self.epochs = run / FOLDER, epochs
        self.xray, self.scale_g_cm2 = data.xray[place : place + 1], data.scale_g_cm2
        self.mask, self.target = data.mask[place, 0].cpu().numpy() > 0, data.drr[place, 0].float().cpu().numpy()

    def look(self, network: nn.Module, epoch: int) -> None:
        """Write the projection after an epoch, if it is one of them; the network keeps its mode."""
        if epoch not in self.epochs:
            return
        if not (self.folder / _TARGET).exists():
            write_tiff(self.folder / _XRAY, (self.xray[0, 0].float().cpu().numpy() + 1) / 2)
            write_tiff(self.folder / _TARGET, np.where(self.mask, self.target, 0).astype(np.float32))
        was_training, device = network.training, next(network.parameters()).device
        network.eval()
        with torch.inference_mode():
            seen = unscale_density(network(self.xray.to(device, torch.float32)).float(), self.scale_g_cm2)
        network.train(was_training)
        page = np.where(self.mask, seen[0, 0].cpu().numpy(), 0).astype(np.float32)
        write_tiff(self.folder / f"epoch_{epoch:05d}.tif", page)


def read_snapshots(run: Path) -> Snapshots | None:
    """Read what was kept in the folder of a run; None where nothing was."""
    folder = run / FOLDER
    files = sorted(folder.glob("epoch_*.tif"))
    if not files or not (folder / _TARGET).exists():
        return None
    pages = {int(file.stem.partition("_")[2]): np.squeeze(read_tiff(file)) for file in files}
    return Snapshots(np.squeeze(read_tiff(folder / _XRAY)), np.squeeze(read_tiff(folder / _TARGET)), pages)
