"""How many simulated pairs a second of one core makes, and which stage takes how much of it.

    python benchmarks/pairs.py [--patients N] [--seed S] [--json FILE]

Each patient gives four pairs: two poses, two hips, as in pipelines/study/cpu.yaml at 128 x 64 pixels; and at 512 x 256,
with radiographs of finer pixels. One patient is made before, so that nothing is compiled in the measurement. Times are
CPU time of this process, on one thread, files included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from figure_files import write_figures

from bmdkit.config import build
from bmdkit.dataset import simulated_pairs
from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig

PAIRS_OF_A_PATIENT = 4
COMMON = {"poses": ["standing", "supine"], "sides": ["L", "R"], "site": 2}
SIZES: Mapping[str, Mapping[str, Any]] = {
    "128 x 64": {"pixel_mm": 1.4, "grid_mm": 3.0, "pairs": {"rows": 128, "columns": 64, "outward": 1}},
    "512 x 256": {"pixel_mm": 0.5, "grid_mm": 2.5, "pairs": {"rows": 512, "columns": 256, "outward": 1}},
}
STAGES = {
    "draw_patient": "anatomy and tissue",
    "_measure": "BMD",
    "mineral_channels": "mineral",
    "_take_radiograph": "radiographs",
    "make_pairs": "projections and files",
}
"""Function of `simulated_pairs` -> what it does."""


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Add the CPU time of each stage to `spent`, s, while the context lasts."""

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*given: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return function(*given, **named)
            finally:
                spent[name] += time.process_time() - start

        return measured

    with mock.patch.multiple(
        simulated_pairs, **{name: wrap(stage, getattr(simulated_pairs, name)) for name, stage in STAGES.items()}
    ):
        yield


def measure(size: str, patients: int, seed: int, folder: Path) -> dict[str, float]:
    """Pairs a core-second at one size, and core-milliseconds a pair of each stage."""
    config = build(SimulatePairsConfig, {**COMMON, **SIZES[size], "count": PAIRS_OF_A_PATIENT})
    simulated_pairs.simulate_pairs(folder / "warm", config, seed=seed)
    config = build(SimulatePairsConfig, {**COMMON, **SIZES[size], "count": PAIRS_OF_A_PATIENT * patients})
    spent: dict[str, float] = defaultdict(float)
    with timed(spent):
        start = time.process_time()
        simulated_pairs.simulate_pairs(folder / "pairs", config, seed=seed + 1)
        whole = time.process_time() - start
    count = PAIRS_OF_A_PATIENT * patients
    found = {f"{size}: pairs a core-second": count / whole}
    stages = {**{stage: spent[stage] for stage in STAGES.values()}, "all else": whole - sum(spent.values())}
    return found | {f"{size}: {stage}, core-ms a pair": 1000 * seconds / count for stage, seconds in stages.items()}


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            figures |= measure(size, options.patients, options.seed, Path(folder))
    for name, value in figures.items():
        print(f"{name:60s} {value:10.4g}")
    if options.json:
        write_figures(options.json, figures, "cpu")


if __name__ == "__main__":
    main()
