"""The steps of `gpu.py`: each measures one thing on the card and writes every number as soon as it is known."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Step:
    """What a step has to work with.

    Attributes:
        work: Folder for what steps share.
        file: File of the figures.
        seconds: Time of the step.
        is_dry: Whether it runs at a tiny size without a card.
        found: Figures so far.
    """

    work: Path
    file: Path
    seconds: float
    is_dry: bool
    found: dict[str, float] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """Where networks and whole registrations run: an interpreter would take hours for them."""
        return "cpu" if self.is_dry else "cuda"

    def put(self, name: str, value: float) -> None:
        """Add a figure, and write all of them."""
        self.found[name] = float(value)
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        part.replace(self.file)

    def bmdkit(self, *words: object) -> float:
        """Run a command of bmdkit to its end; returns seconds by the clock."""
        started = time.perf_counter()
        command = [sys.executable, "-m", "bmdkit.cli.main", *map(str, words), "--quiet"]
        status = subprocess.run(command, check=False).returncode
        if status not in (0, 3):  # 3: finished, some cases left out and named
            raise SystemExit(f"bmdkit {words[0]} ended with status {status}")
        return time.perf_counter() - started

    def cohort(self) -> Path:
        """Folder of a simulated cohort of two patients, made once."""
        folder = self.work / "cohort"
        size = ("--slice-mm", 6, "--pixel-mm", 1.5, "--set", "grid_mm=3.0") if self.is_dry else ()
        patients = 1 if self.is_dry else 2
        self.bmdkit("simulate", folder, "--patients", patients, "--poses", "standing", "--n-jobs", patients, *size)
        return folder

    def pairs(self, count: int) -> Path:
        """Folder of simulated pairs, made once."""
        folder = self.work / "pairs"
        size = ("--pixel-mm", 2.8, "--set", "grid_mm=4.0") if self.is_dry else ()
        self.bmdkit("simulate", folder, "--pairs", count, "--n-jobs", os.cpu_count() or 1, *size)
        return folder


def check_correctness(step: Step) -> None:
    """Run the tests that compare a card with the processor."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    words.append(str(ROOT / ("tests/drr" if step.is_dry else "tests")))  # an interpreter needs minutes for the rest
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout[-4000:], flush=True)
    for word in ("passed", "failed", "skipped", "error"):
        count = re.search(rf"(\d+) {word}", done.stdout)
        step.put(f"tests_{word}", int(count.group(1)) if count else 0)
    if done.returncode != 0:
        raise SystemExit("tests failed")


def render_drrs(step: Step) -> None:
    """Measure rendering."""
    import drr_gpu

    drr_gpu.measure(step.put, drr_gpu.TINY if step.is_dry else drr_gpu.WHOLE)


def register_and_build(step: Step) -> None:
    """Register one radiograph on the card and on the processor, then build two patients on the card."""
    from bmdkit.config import load
    from bmdkit.dataset import stages
    from bmdkit.io.cohort import read_cohort
    from bmdkit.io.ct import read_ct
    from bmdkit.io.xray import read_radiograph
    from bmdkit.registration.settings import RegistrationConfig

    cohort = step.cohort()
    case = read_cohort(cohort).cases[0]
    ct = read_ct(case.ct).volume
    labels = stages.read_bones(case.labels, ct)
    radiograph = read_radiograph(case.xrays[0])
    search = ["pelvis.evaluations=24", "femur.evaluations=12", "polish_iterations=1", "restarts=0"]
    config = load(RegistrationConfig, overrides=search if step.is_dry else ())
    bodies = stages.prepare_bones(ct, labels, stages.calibrate_ct(ct), config=config)
    poses = {}
    for device in (step.device, "cpu"):
        for attempt in range(1 if step.is_dry else 2):  # the first one compiles
            started = time.perf_counter()
            poses[device, attempt] = stages.register_bones(bodies, radiograph, config=config, device=device)
            seconds = time.perf_counter() - started
        step.put("seconds" if device == step.device else "cpu_seconds", seconds)
    here, there = (poses[device, 0 if step.is_dry else 1] for device in ("cpu", step.device))
    apart = []
    for body in bodies:
        first, second = (result.bodies[body.name].camera_from_ct.apply(body.points_mm) for result in (here, there))
        apart.append(np.linalg.norm(first - second, axis=1).mean())
    step.put("largest_difference_mm", max(apart))
    words = ["build-dataset", cohort, "--out", step.work / "built", "--device", step.device]
    step.put("build_seconds", step.bmdkit(*words, *["--dry-run"] * step.is_dry))


def segment(step: Step) -> None:
    """Segment a CT of 512 x 512 x 200 with ten draws."""
    from bmdkit.io.cohort import read_cohort
    from bmdkit.io.ct import read_ct
    from bmdkit.segmentation.dropout_prediction import predict
    from bmdkit.segmentation.failures import SHIPPED
    from bmdkit.segmentation.model import load_model
    from bmdkit.segmentation.settings import PredictConfig

    ct = read_ct(read_cohort(step.cohort()).cases[0].ct).volume
    size = np.array((4, 96, 96) if step.is_dry else (200, 512, 512))
    ct = ct.resample(ct.grid.with_spacing((ct.grid.shape / size * ct.grid.spacing_mm[::-1])[::-1]))
    model = load_model(SHIPPED, step.device)
    for _ in range(1 if step.is_dry else 2):
        started = time.perf_counter()
        predict(ct, model, PredictConfig(passes=2 if step.is_dry else 10), seed=0)
        step.put("seconds", time.perf_counter() - started)


def simulate_pairs(step: Step) -> None:
    """Simulate pairs on all cores of the processor; the radiographs' rendering has no share on the card."""
    count = 4 if step.is_dry else 64
    started = time.perf_counter()
    step.pairs(count)
    step.put("per_second", count / (time.perf_counter() - started))
    step.put("processor_cores", os.cpu_count() or 1)


def train(step: Step) -> None:
    """Measure the steps of HRFormer-B at 512 x 256: precisions, memory, waiting for data."""
    import training

    from bmdkit.config import load
    from bmdkit.dataset.samples import read_pairs
    from bmdkit.training.engine import choose_device
    from bmdkit.training.pair_batches import load_pairs
    from bmdkit.training.settings import DecompositionConfig

    small = ["image_size=[32,32]", "generator.backbone=unet", "generator.filters=8", "loop.batch_size=2"]
    recipe = ROOT / "pipelines/train/paper.yaml"
    config = load(DecompositionConfig, recipe=recipe, overrides=small if step.is_dry else ())
    pairs = load_pairs(
        read_pairs(step.pairs(4 if step.is_dry else 64), "A"), config.image_size, half=config.half_in_memory
    )
    variants = ["float32", "bf16"] if step.is_dry else ["float32", "bf16", "compiled"]
    device = choose_device(step.device)
    steps, rounds = (1, 1) if step.is_dry else (10, 3)
    found = training.measure(config, pairs, device, variants=variants, steps=steps, rounds=rounds)
    for name, value in found.items():
        step.put(name, value)


def learn(step: Step) -> None:
    """Train the ten-minute recipe for the time that is left, and keep its learning curve."""
    run = step.work / "run"
    minutes = 0.05 if step.is_dry else max(step.seconds - 60, 30) / 60
    recipe = ROOT / "pipelines/train" / ("test.yaml" if step.is_dry else "gpu-10min.yaml")
    data = step.pairs(4 if step.is_dry else 64)
    settings = ["--set", f"loop.budget_minutes={minutes:.3g}", "--fold", "all" if step.is_dry else "0"]
    step.bmdkit("train", "decomposition", data, "--out", run, "--recipe", recipe, "--device", step.device, *settings)
    with (run / "log.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            for name in ("l1", "generator", "seconds"):
                if row.get(name):
                    step.put(f"epoch_{int(row['epoch']):03d}_{name}", float(row[name]))


STEPS: dict[str, Callable[[Step], None]] = {
    "correctness": check_correctness,
    "rendering": render_drrs,
    "registration": register_and_build,
    "segmentation": segment,
    "pairs": simulate_pairs,
    "training": train,
    "learning": learn,
}


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    STEPS[args.step](Step(args.work, args.json, args.seconds, args.dry_run))


if __name__ == "__main__":
    main()
