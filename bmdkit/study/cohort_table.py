"""Table 1 of a study: who the patients of datasets A and B are, from the manifest and the columns that it carries."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from bmdkit.dataset.manifest import parse_number
from bmdkit.evaluation.screening import T_SCORES
from bmdkit.evaluation.tables import Column, Label, Value
from bmdkit.inference.t_score import Reference
from bmdkit.study.paper_tables import PaperTable

UNKNOWN = "n/a"
_COLUMNS = {
    "sex": ("sex", "gender"),
    "age": ("age", "age_years", "age_y"),
    "bmi": ("bmi", "bmi_kg_m2", "body_mass_index"),
    "device": ("device", "xray_device", "scanner", "manufacturer", "detector"),
}
"""Names under which a cohort may carry what the table tells; letter case does not count."""

_FEMALE, _MALE = ("f", "female", "woman"), ("m", "male", "man")

Rows = Sequence[Mapping[str, str]]


def make_cohort_table(rows: Rows, reference: Reference | None = None) -> PaperTable:
    """Describe the patients of both datasets: the paper's rows in its order, then poses and devices.

    Every patient counts once: of both hips the mean, and of several radiographs the first value of a carried column.

    Args:
        rows: Rows of a manifest; those that are left out of the dataset do not count.
        reference: Young adults from whom T-scores count.
    """
    usable = [row for row in rows if row.get("status") == "ok"]
    parts = {name: [row for row in usable if row.get("dataset") == name] for name in ("A", "B")}
    cells = {name: _describe(part, reference) for name, part in parts.items() if part}
    for name in ("DXA", "T-score", "CT-BMD"):  # dataset A is there for its images
        for item in cells.get("A", {}):
            if name in item:
                cells["A"][item] = UNKNOWN
    items = dict.fromkeys(item for found in cells.values() for item in found)
    table: dict[Label, dict[str, Value]] = {
        item: {name: found.get(item, UNKNOWN) for name, found in cells.items()} for item in items
    }
    return PaperTable(table, [Column(name, f"Dataset {name}") for name in cells], ("Item",))


def _describe(rows: Rows, reference: Reference | None) -> dict[str, str]:
    by_patient: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_patient.setdefault(row["patient_id"], []).append(row)
    patients = list(by_patient.values())
    dxa, qct = (_means_of(patients, name) for name in ("dxa_bmd_g_cm2", "qct_bmd_mg_cm3"))
    scores = [] if reference is None else [reference.t_score(value) for value in dxa]
    cut = T_SCORES["osteoporosis"]
    found = {
        "Number of X-ray images": str(len(rows)),
        "Number of patients": str(len(patients)),
        "Female, n (%)": _count_women(patients),
        "Mean age (sd), years": _mean_and_sd(_carried_numbers(patients, "age"), 1),
        "Mean BMI (sd), kg/m²": _mean_and_sd(_carried_numbers(patients, "bmi"), 1),
        "Mean DXA-BMD (sd), g/cm²": _mean_and_sd(dxa, 3),
        "Median T-score (IQR)": _median_and_quartiles(scores),
        "Osteoporosis w.r.t. DXA-BMD, n (%)": _share(sum(one <= cut for one in scores), len(scores)),
        "Mean CT-BMD (sd), mg/cm³": _mean_and_sd(qct, 0),
    }
    for pose, count in sorted(Counter(row["pose"] for row in rows).items()):
        found[f"X-ray images, {pose}, n (%)"] = _share(count, len(rows))
    devices = Counter(filter(None, (read_carried(row, "device") for row in rows)))
    for device, count in sorted(devices.items()):
        found[f"X-ray images, {device}, n (%)"] = _share(count, len(rows))
    return found


def read_carried(row: Mapping[str, str], what: str) -> str:
    """Read what a cohort carries of a patient or radiograph: sex, age, bmi or device; "" where it does not.

    Args:
        row: Row of a manifest.
        what: A key of the known columns.
    """
    names = {name.casefold(): name for name in row}
    return next((row[names[name]].strip() for name in _COLUMNS[what] if name in names), "")


def _first_of(patients: Iterable[Rows], read: Callable[[Mapping[str, str]], str]) -> list[str]:
    """The first cell of each patient that is not empty; patients without one are left out."""
    cells = (next(filter(None, map(read, rows)), "") for rows in patients)
    return [cell for cell in cells if cell]


def _carried_numbers(patients: Sequence[Rows], what: str) -> list[float]:
    values = []
    for cell in _first_of(patients, lambda row: read_carried(row, what)):
        try:
            values.append(float(cell))
        except ValueError:
            continue
    return [value for value in values if math.isfinite(value)]


def _means_of(patients: Sequence[Rows], column: str) -> list[float]:
    """The mean over the hips of each patient, of those that are known."""
    found = []
    for rows in patients:
        of_hips = {row["side"]: value for row in rows if (value := parse_number(row.get(column))) is not None}
        if of_hips:
            found.append(float(np.mean(list(of_hips.values()))))
    return found


def _count_women(patients: Sequence[Rows]) -> str:
    words = [cell.casefold() for cell in _first_of(patients, lambda row: read_carried(row, "sex"))]
    known = [word for word in words if word in (*_FEMALE, *_MALE)]
    return _share(sum(word in _FEMALE for word in known), len(known))


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.1f})" if of else UNKNOWN


def _mean_and_sd(values: Sequence[float], digits: int) -> str:
    if len(values) < 2:
        return UNKNOWN
    return f"{np.mean(values):.{digits}f} ({np.std(values, ddof=1):.{digits}f})"


def _median_and_quartiles(values: Sequence[float]) -> str:
    if not values:
        return UNKNOWN
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.1f} ({low:.1f}, {high:.1f})"
