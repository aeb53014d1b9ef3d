"""Measure again what a processor can in half an hour, and print each figure beside the one that is kept.

    python benchmarks/bench.py [--work DIR] [--only NAME ...]

Every step runs in a process of its own and writes its figures to WORK/NAME.json; those of the same name in
benchmarks/results/ stand beside them, with their ratio. Here they are of fewer patients, so that accuracies scatter
more; times are of this machine. A step that fails is named, and the next one begins; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from measured_figures import RESULTS, flatten, write_number

ROOT = Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "bmdkit.cli.main")


@dataclass(frozen=True)
class Step:
    """One measurement.

    Attributes:
        name: Name of its file of figures, without the ending.
        words: Script of benchmarks/ and its arguments; WORK stands for the folder of work.
        data: What it needs: folder in WORK -> arguments of `bmdkit simulate`.
    """

    name: str
    words: tuple[str, ...]
    data: Mapping[str, tuple[str, ...]]


COHORT = {"cohort": ("--patients", "2", "--seed", "31")}
UNET = ("--recipe", str(ROOT / "pipelines/train/unet-cpu.yaml"), "--variants", "float32", "--steps", "20")
STEPS = (
    Step("drr_cpu", ("drr.py",), {}),
    Step("ct_stage_cpu", ("ct_stage.py", "WORK/cohort"), COHORT),
    Step("registration_cpu", ("registration.py", "--cohort", "WORK/cohort", "--radiographs", "2"), COHORT),
    Step("build_cpu", ("build.py", "WORK/cohort", "--work", "WORK/built", "--quick"), COHORT),
    Step("validate_cpu", ("validate.py", "WORK/cohort", "--rows", "200", "--n-jobs", "2"), COHORT),
    Step("polarity_cpu", ("polarity.py", "--patients", "1", "--seed", "31"), {}),
    Step("collimation_cpu", ("collimation.py", "--patients", "1", "--registered", "0", "--seed", "31"), {}),
    Step("training_unet_cpu", ("training.py", "WORK/pairs", *UNET), {"pairs": ("--pairs", "32", "--seed", "31")}),
)


def run_step(step: Step, work: Path) -> int:
    """Make what a step needs and run it; gives its exit status."""
    for folder, words in step.data.items():
        if not (work / folder).exists():
            subprocess.run([*COMMAND, "simulate", str(work / folder), *words], check=True, stdout=subprocess.DEVNULL)
    given = [word.replace("WORK", str(work)) for word in step.words[1:]]
    script = str(ROOT / "benchmarks" / step.words[0])
    words = [sys.executable, script, *given, "--json", str(work / f"{step.name}.json")]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(words, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path}, check=False)
    return done.returncode


def compare(name: str, work: Path, results: Path = RESULTS) -> Iterator[tuple[str, str, str, str]]:
    """Name of each new figure, the kept one (empty where there is none), the new one, and new over kept."""
    kept_file = results / f"{name}.json"
    kept = flatten(json.loads(kept_file.read_text(encoding="utf-8"))) if kept_file.exists() else {}
    for figure, value in flatten(json.loads((work / f"{name}.json").read_text(encoding="utf-8"))).items():
        old = kept.get(figure)
        ratio = f"{value / old:.2f}" if old else ""
        yield figure, "" if old is None else write_number(old), write_number(value), ratio


def main() -> int:
    """Run the steps and print their tables; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/bench"))
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    work, failed = options.work.resolve(), []
    for step in STEPS:
        if options.only and step.name not in options.only:
            continue
        start = time.monotonic()
        if status := run_step(step, work):
            failed.append(step.name)
            print(f"{step.name}: failed with exit status {status}", flush=True)
            continue
        print(f"\n{step.name}, {time.monotonic() - start:.0f} s: {' '.join(step.words)}")
        print(f"{'':72s} {'kept':>10s} {'now':>10s} {'ratio':>7s}")
        for figure, old, new, ratio in compare(step.name, work):
            print(f"{figure:72s} {old:>10s} {new:>10s} {ratio:>7s}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
