"""Stages that take no time, importable by children: what a case does is said by the text of its CT file."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bmdkit.core.case import Case, CohortRow
from bmdkit.dataset.build import CaseWork, build_case
from bmdkit.dataset.layout import pair_folder
from bmdkit.dataset.manifest import PairRow
from bmdkit.errors import CaseError
from bmdkit.io.images import write_tiff
from bmdkit.io.results import sha256_of, write_json


def make_cases(root: Path, count: int, deeds: dict[int, str] | None = None) -> list[Case]:
    """Make patients p00, p01, ...

    `deeds` says which of them does what: kill, hang, raise, memory, eat, unreadable, quarantine, rejected, slow1.5,
    wait (for p00.seen beside its CT).
    """
    root.mkdir(parents=True, exist_ok=True)
    cases = []
    for number in range(count):
        name = f"p{number:02}"
        ct, xray = root / f"{name}.nii", root / f"{name}_standing.dcm"
        ct.write_text((deeds or {}).get(number, "fine") + f" {number}")
        xray.write_text(f"film {number}")
        rows = tuple(
            CohortRow(name, ct, xray, side, "standing", dxa_bmd_g_cm2=0.5 + number / 10, carried={"sex": "F"})
            for side in ("L", "R")
        )
        cases.append(Case(name, rows))
    return cases


def build_fake(case: Case, context):
    """`build_case` with the stages below."""
    return build_case(case, context, stages)


def stages(work: CaseWork) -> list[PairRow]:
    """Write a few files that depend on the case alone."""
    text = work.case.ct.read_text()
    deed = text.split()[0]
    if deed.startswith("slow"):
        time.sleep(float(deed[4:]))
    elif deed == "wait":  # until the parent has seen which stage this is
        with work.clock("register"):
            while not work.case.ct.with_suffix(".seen").exists():
                time.sleep(0.02)
    elif deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == "hang":
        time.sleep(600)
    elif deed == "raise":
        raise RuntimeError("a bug")
    elif deed == "eat":
        np.ones(8 * 10**9)  # 64 GB
    elif deed == "unreadable":
        raise OSError(116, "Stale file handle", "/clinic/ct.dcm")
    elif deed == "memory":
        raise MemoryError
    write_json(work.folder / "calibration.json", {"text": text})
    if text.startswith("quarantine"):
        raise CaseError("BMD-LBL-001", "no labels.")
    rows = []
    for row in work.case.rows:
        begun = work.names.start_row(row)
        for dataset in work.config.datasets:
            folder = pair_folder(dataset, begun.pair_id)
            made = replace(begun, dataset=dataset, verdict="reject" if deed == "rejected" else "accept")
            images = {
                "xray": np.full((4, 2), len(text) / 100, np.float32),
                "drr": np.full(({"A": 2, "B": 1}[dataset], 4, 2), len(text), np.float32),
                "mask": np.full((4, 2), 255, np.uint8),
            }
            for name, image in images.items():
                file = folder / f"{name}.tif"
                write_tiff(work.staged / file, image)
                made = replace(made, **{name: file.as_posix(), f"{name}_sha256": sha256_of(work.staged / file)})
            write_json(work.staged / folder / "meta.json", {"pair_id": begun.pair_id})
            rows.append(made)
    return rows
