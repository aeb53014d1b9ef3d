"""A segmentation run as a folder to hand on: half precision, its settings, and how well it knows its failures.

    python examples/ship_segmentation.py RUN OUT [--roc ROC.json]

OUT can be named as `segmentation.model` or `--model`. The weights inside the package were made so, by
pipelines/train/segmentation-cpu.yaml. Halving changes the weights, and the largest uncertainty belongs to the weights
that it was measured with: run this first, measure OUT with benchmarks/segmentation.py, run this again with --roc.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import save

from bmdkit.io.results import write_bytes
from bmdkit.models.weights import halved, read_weights
from bmdkit.segmentation.failures import ROC
from bmdkit.segmentation.model import RUN, WEIGHTS, load_model
from bmdkit.segmentation.settings import PredictConfig


def main() -> None:
    """Copy what is needed of a run, and check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run of `bmdkit train segmentation`")
    parser.add_argument("out", type=Path)
    parser.add_argument("--roc", type=Path, help="from benchmarks/segmentation.py --model OUT --spoil --roc")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_bytes(args.out / WEIGHTS, save(halved(read_weights(args.run / WEIGHTS))))
    shutil.copyfile(args.run / RUN, args.out / RUN)
    if args.roc:
        shutil.copyfile(args.roc, args.out / ROC)
    model = load_model(args.out)
    limit = model.limit_uncertainty(PredictConfig())
    if limit.refusal:
        (args.out / ROC).unlink()
        raise SystemExit(f"{args.roc}: {limit.refusal}")
    if limit.most is not None:
        print(f"largest uncertainty: {limit.most:.3g}")
    size = (args.out / WEIGHTS).stat().st_size / 2**20
    print(f"{size:.1f} MiB, {model.network.config.filters} filters, pixels of {model.pixel_mm} mm: {args.out}")


if __name__ == "__main__":
    main()
