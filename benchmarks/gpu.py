"""Everything that a graphics card has to show, in one run; a run that is cut keeps what it has.

    python benchmarks/gpu.py --minutes 12 --json benchmarks/results/gpu.json
    python benchmarks/gpu.py --only rendering training

Steps, in this order: `correctness` (the tests marked gpu), `rendering` (bmdkit and the peers that are installed),
`registration` (one radiograph, then a build of two patients), `segmentation`, `pairs`, `training`, `learning`. Each
runs in a process of its own with a share of the time, and each number is written as soon as it is known. A step that
fails or is cut is named, and the next one begins. Nothing is downloaded.

`--dry-run` runs every step at a tiny size, on the processor and through Triton's interpreter, to find mistakes before a
card is there; its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import drr_peers
from figure_files import write_figures
from gpu_steps import STEPS

SECONDS = {
    "correctness": 90,
    "rendering": 120,
    "registration": 150,
    "segmentation": 60,
    "pairs": 60,
    "training": 120,
    "learning": 240,
}
"""Time of each step at most; what one leaves goes to the last."""

TARGETS = {
    "rendering.population_ms": 1.0,
    "rendering.over_nanodrr_square": 0.5,
    "rendering.over_nanodrr_bf16_square": 0.5,
    "registration.seconds": 0.5,
    "registration.largest_difference_mm": 0.1,
    "segmentation.seconds": 10.0,
    "training.waiting_on_device": 0.05,
}
"""Figures that are to be at most so large."""

FLOORS = {"pairs.per_second": 100.0, "training.bf16_over_float32": 2.5, "training.compiled_over_float32": 2.5}
"""Figures that are to be at least so large."""


def run_step(name: str, seconds: float, work: Path, is_dry: bool) -> tuple[dict[str, float], str]:
    """Run one step in a process of its own.

    Args:
        name: Step.
        seconds: Time that it has.
        work: Folder for what steps share.
        is_dry: Whether it runs at a tiny size without a card.

    Returns:
        What it measured, even if it did not end; and how it ended.
    """
    part = work / f"{name}.json"
    words = [sys.executable, str(Path(__file__).with_name("gpu_steps.py")), name, "--json", str(part)]
    words += ["--work", str(work), "--seconds", f"{seconds:.0f}", *["--dry-run"] * is_dry]
    environment = os.environ | ({"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""} if is_dry else {})
    started = time.monotonic()
    try:
        done = subprocess.run(words, env=environment, timeout=seconds, check=False)
        ended = "finished" if done.returncode == 0 else f"failed with status {done.returncode}"
    except subprocess.TimeoutExpired:
        ended = "cut, its time was over"
    found = json.loads(part.read_text(encoding="utf-8")) if part.exists() else {}
    return found | {"step_seconds": time.monotonic() - started}, ended


def judge(name: str, value: float) -> str:
    """Say what a figure was to be, if anything."""
    if name in TARGETS:
        return f"   at most {TARGETS[name]:g}: {'met' if value <= TARGETS[name] else 'missed'}"
    if name in FLOORS:
        return f"   at least {FLOORS[name]:g}: {'met' if value >= FLOORS[name] else 'missed'}"
    return ""


def main() -> None:
    """Run the steps, print and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="time of the whole run")
    parser.add_argument("--only", nargs="+", choices=list(STEPS), default=list(STEPS), help="these steps alone")
    parser.add_argument("--work", type=Path, help="folder for cohorts and runs; a temporary one if not given")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, no card")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    work = args.work or Path(tempfile.mkdtemp(prefix="bmdkit-gpu-"))
    work.mkdir(parents=True, exist_ok=True)
    absent = {name: why for name in drr_peers.PEERS if (why := drr_peers.missing(name))}
    for name, why in absent.items():
        print(f"{name}: left out, {why}", flush=True)
    found: dict[str, float] = {}
    endings: dict[str, str] = {}
    for name in args.only:
        left = until - time.monotonic()
        if left < 5:
            endings[name] = "not begun, the time was over"
        else:
            seconds = left if args.dry_run or name == args.only[-1] else min(left, SECONDS[name])
            figures, endings[name] = run_step(name, seconds, work, args.dry_run)
            found |= {f"{name}.{key}": value for key, value in figures.items()}
            for key, value in figures.items():
                print(f"{name + '.' + key:52s} {value:12.5g}{judge(name + '.' + key, value)}", flush=True)
        print(f"{name}: {endings[name]}", flush=True)
        if args.json:
            device = "cpu" if args.dry_run else "cuda"
            write_figures(args.json, found, device, steps=endings, left_out=absent, dry_run=args.dry_run)
    if any(ending != "finished" for ending in endings.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
