"""Errors of a study against the angles of the hip in each radiograph: figures, points and fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bmdkit.dataset.samples import read_pairs
from bmdkit.evaluation.figure_style import save
from bmdkit.evaluation.joint_angle_errors import ANGLES, Posture, fit_angle, postures
from bmdkit.evaluation.representation_figures import error_against_angle
from bmdkit.io.results import finite, write_csv
from bmdkit.study.agreement_figures import UNITS, Kind, Split, file_stem, known_rows, shown_rows, upper
from bmdkit.study.finished_runs import Method
from bmdkit.training.run_layout import BMD_COLUMNS, predicted_column

ANGLE_COLUMNS = ("method", "seed", "task", "pair_id", "patient_id", "side", "pose", "source")
ANGLE_COLUMNS += ("flexion_deg", "abduction_deg", "error")
FIT_COLUMNS = ("method", "seed", "task", "angle", "source", "images", "patients")
FIT_COLUMNS += ("slope_per_deg", "intercept", "r", "p")
FIT_COLUMNS += ("error_low", "error_high", "angle_low", "angle_high", "outside_pct_usual", "outside_pct_unusual")

_NO_ROTATION = "There is no rotation angle: no knee is in the scan."
_SOURCES = {
    "isb": "Angles of the femur's shaft in the frame of the pelvis (ISB, Wu et al. 2002).",
    "change": "Turn of the femur against the pelvis since the CT, about the CT's axes; zero is the posture in the CT.",
}


def draw_angles(methods: Sequence[Method], data: Path, out: Path, split: Split, kind: Kind) -> list[str]:
    """Errors of each method and task against the angles of the hip, of the first seed.

    Args:
        methods: Of one study.
        data: Their dataset.
        out: joint_angles.csv, joint_angle_fits.csv and figures/ are written to it.
        split, kind: Whose errors, and of which data.

    Returns:
        Why there is nothing, in sentences.
    """
    if not any(method.first.dataset == "B" for method in methods):
        return ["error against hip-joint angle: no run is of dataset B."]
    known = postures(data, read_pairs(data, "B", verdicts=("accept", "review", "reject")))
    if not known:
        return [
            "error against hip-joint angle: neither registration_<xray>.json in cases/ nor the meta.json of dataset A "
            "tells the poses of pelvis and femur."
        ]
    points: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    for method, seed, task, rows in _errors(methods, split, known):
        common = {"method": method.name, "seed": seed, "task": task}
        column = BMD_COLUMNS[task]
        errors = [row[predicted_column(column)] - row[column] for row in rows]
        found = [known[row["pair_id"]] for row in rows]
        points += [
            common | {k: row[k] for k in ("pair_id", "patient_id", "side", "pose")} | asdict(posture) | {"error": error}
            for row, posture, error in zip(rows, found, errors, strict=True)
        ]
        shown = shown_rows(rows, [r for r in method.seeds[seed] if task in r.tasks], split, kind, seed)
        source = found[0].source
        for angle in ANGLES:
            angles = [posture.angle(angle) for posture in found]
            fit = fit_angle(angles, errors)
            numbers = {k: finite(getattr(fit, k)) for k in ("slope_per_deg", "intercept", "r", "p")}
            for name in ("error", "angle"):
                numbers |= dict(zip((f"{name}_low", f"{name}_high"), getattr(fit, f"{name}_limits"), strict=True))
            for name in ("outside_pct_usual", "outside_pct_unusual"):
                numbers[name] = finite(getattr(fit, name))
            about = {"angle": angle, "source": source, "images": shown.images, "patients": shown.patients}
            fits.append(common | about | numbers)
            figure = error_against_angle(
                angles,
                errors,
                fit,
                angle=sentence(angle) if source == "isb" else f"{sentence(angle)} since the CT",
                quantity=f"{upper(task)}-BMD",
                unit=UNITS[task],
                poses=[row["pose"] for row in rows],
                shown=shown,
                caption=f"{sentence(method.name)}. {_SOURCES[source]} {_NO_ROTATION} p takes images for independent.",
            )
            save(figure, out / "figures" / f"{angle}_{file_stem(method.name)}_{task}")
    if not fits:
        return ["error against hip-joint angle: no prediction is of a pair whose posture is known."]
    write_csv(out / "joint_angles.csv", points, ANGLE_COLUMNS)
    write_csv(out / "joint_angle_fits.csv", fits, FIT_COLUMNS)
    return []


def _errors(
    methods: Sequence[Method], split: Split, known: dict[str, Posture]
) -> Iterator[tuple[Method, int, str, list[dict[str, Any]]]]:
    for method in methods:
        seed = next(iter(method.seeds))
        for task in BMD_COLUMNS:
            rows = [row for row in known_rows(method.rows(seed, split, task), task) if row["pair_id"] in known]
            if len(rows) > 1:
                yield method, seed, task, rows


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]
