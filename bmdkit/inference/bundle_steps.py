"""What a MONAI bundle does around its network: files in, arrays through the network, files out.

The names and arguments of this module stand in the `configs/inference.json` of every bundle that was exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bmdkit.config import build
from bmdkit.core.anatomy import Side, require_side
from bmdkit.core.naming import make_safe_name, make_unique_name
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.pairs import PairConfig, cut_hip
from bmdkit.io.ct import read_ct
from bmdkit.io.images import write_tiff
from bmdkit.io.label_maps import write_labels
from bmdkit.io.results import write_json
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.models.bayesian_unet import BayesianUNet
from bmdkit.segmentation.ct_labels import SegmentationConfig, segment_with_model
from bmdkit.segmentation.model import CLASSES, SegmentationModel
from bmdkit.segmentation.settings import PredictConfig
from bmdkit.training.key_points import locate_points
from bmdkit.training.pair_batches import unscale_density
from bmdkit.training.run import scale_radiograph


class ValueColumn(nn.Module):
    """A network that gives one number an image, as one channel an image: (B,) becomes (B, 1), as MONAI expects."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, rows, columns) as (B, 1)."""
        values: Tensor = self.network(image)
        return values.reshape(-1, 1)


@dataclass(frozen=True, eq=False)
class HipImage:
    """One hip of a radiograph as networks take it.

    Attributes:
        image: (1, 1, rows, columns) in [-1, 1], -1 where it is no image.
        inside: The same, bool, where it is image.
    """

    image: Tensor
    inside: Tensor


class HipReader:
    """Preprocessing of networks of radiographs: a file, cut as the pairs were that they learnt from."""

    def __init__(
        self, side: Side, image_size: Sequence[int], pairs: Mapping[str, Any], xray: Mapping[str, Any]
    ) -> None:
        """Take the settings.

        Args:
            side: Hip to look at, the patient's own.
            image_size: (rows, columns) of the network's images.
            pairs: Settings by which radiographs are cut, as a run has them.
            xray: Settings by which they are read, as a run has them.
        """
        require_side(side)
        self._side: Side = side
        self._size = (int(image_size[0]), int(image_size[1]))
        self._pairs, self._xray = build(PairConfig, dict(pairs)), build(XrayConfig, dict(xray))

    def __call__(self, path: str | Path) -> HipImage:
        """Read and cut one radiograph.

        Raises:
            CaseError: It cannot be read.
        """
        radiograph = read_radiograph(Path(path), config=self._xray)
        _, image, coverage = cut_hip(radiograph, self._side, self._pairs)
        return HipImage(*scale_radiograph(image, coverage >= self._pairs.mask_coverage, self._size))


class CtReader:
    """Preprocessing of networks of CTs: a folder of DICOM or a volume file, in HU."""

    def __call__(self, path: str | Path) -> Volume:
        """Read one CT.

        Raises:
            CaseError: It cannot be read.
        """
        return read_ct(Path(path)).volume


class ImageInferer:
    """One image through the network."""

    def __call__(self, read: HipImage, network: nn.Module) -> Tensor:
        """What the network gives, on the CPU: (1, channels, ...)."""
        device = next(network.parameters()).device
        with torch.inference_mode():
            given: Tensor = network(read.image.to(device, torch.float32))
        return given.float().cpu()


class SliceInferer:
    """All slices of a CT through the network, and its answers as labels: cleaned, sided, checked, on a fine grid.

    The draws of the dropout are made as `bmdkit segment` makes them: the normalisation was learnt with dropout, and one
    pass without it labels worse.
    """

    def __init__(
        self, window_hu: Sequence[float], dropout: float, passes: int, pixel_mm: float | None = None, seed: int = 0
    ) -> None:
        """Take the settings.

        Args:
            window_hu: HU that become 0 and 1.
            dropout: Share of values that a draw sets to zero.
            passes: Number of draws.
            pixel_mm: Size of the pixels that a slice is brought to; None: its own.
            seed: Seed of the draws.
        """
        self._window_hu, self._pixel_mm = (float(window_hu[0]), float(window_hu[1])), pixel_mm
        self._dropout, self._config, self._seed = dropout, PredictConfig(passes=passes), seed

    def __call__(self, read: Volume, network: BayesianUNet) -> LabelMap:
        """Label one CT.

        Raises:
            CaseError: What was found is no hip.
        """
        first = next(network.parameters())
        drawing = BayesianUNet(len(CLASSES), replace(network.config, dropout=self._dropout)).to(first.device).eval()
        drawing.load_state_dict(network.state_dict())
        model = SegmentationModel(drawing, self._pixel_mm, self._window_hu, first.device)
        return segment_with_model(read, model, SegmentationConfig(predict=self._config), seed=self._seed).labels


class ProjectionWriter:
    """Postprocessing of a decomposition: projections in their unit, a page each."""

    def __init__(self, scale: float) -> None:
        """Take the areal density of the image value 1."""
        self._scale = scale

    def __call__(self, read: HipImage, given: Tensor, path: Path) -> Path:
        """Write NAME.tif, 0 where the radiograph is no image."""
        shown = torch.where(read.inside, unscale_density(given, self._scale), 0.0)[0].numpy()
        path = path.with_suffix(".tif")
        write_tiff(path, shown)
        return path


class BmdWriter:
    """Postprocessing of a regression: BMD in its unit."""

    def __init__(self, mean: float, sd: float, unit: str, task: str) -> None:
        """Take what the network's values are standardised by."""
        self._mean, self._sd, self._unit, self._task = mean, sd, unit, task

    def __call__(self, read: HipImage, given: Tensor, path: Path) -> Path:
        """Write NAME.json."""
        path = path.with_suffix(".json")
        value = float(given.reshape(-1)[0]) * self._sd + self._mean
        write_json(path, {"task": self._task, "bmd": value, "unit": self._unit})
        return path


class PointWriter:
    """Postprocessing of key points: pixels (column, row) of the network's image."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take the names of the points, in the order of the maps."""
        self._names = tuple(names)

    def __call__(self, read: HipImage, given: Tensor, path: Path) -> Path:
        """Write NAME.json."""
        path = path.with_suffix(".json")
        write_json(path, {"points_column_row": dict(zip(self._names, locate_points(given)[0], strict=True))})
        return path


class LabelWriter:
    """Postprocessing of a segmentation: a label map with its names."""

    def __call__(self, read: Volume, given: LabelMap, path: Path) -> Path:
        """Write NAME.nii.gz and NAME.json."""
        path = path.with_name(f"{path.name}.nii.gz")
        write_labels(path, given)
        return path


class BundleRun:
    """A bundle's run: every file read, through the network, and written."""

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Callable[[str], Any],
        inferer: Callable[[Any, nn.Module], Any],
        postprocessing: Callable[[Any, Any, Path], Path],
        output_dir: str,
    ) -> None:
        """Take the steps.

        Args:
            network: Network with its weights, on its device.
            preprocessing: Reads a file.
            inferer: Makes the network's answer of what was read.
            postprocessing: Writes it, to a path without its ending, and returns where.
            output_dir: Folder to write to.
        """
        self._network, self._read, self._infer, self._write = network, preprocessing, inferer, postprocessing
        self._out = Path(output_dir)

    def run(self, datalist: Sequence[str]) -> list[str]:
        """Work on files.

        Args:
            datalist: Their paths.

        Returns:
            What was written, in the order of the files.

        Raises:
            ValueError: There is no file.
            CaseError: A file cannot be read; those before it are written.
        """
        if not datalist:
            raise ValueError("datalist: expected at least one file, got none; give --datalist \"['FILE']\"")
        written: list[str] = []
        names: list[str] = []
        for path in datalist:
            names.append(make_unique_name(make_safe_name(Path(path).name.split(".")[0]), names, separator="-"))
            read = self._read(path)
            written.append(str(self._write(read, self._infer(read, self._network), self._out / names[-1])))
        return written
