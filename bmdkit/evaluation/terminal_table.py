"""What a study says in the terminal: every method, every seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_FORMS = {"dxa": ("g/cm2", ".3f"), "qct": ("mg/cm3", ".1f")}


def study_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Lines of text, one per method, seed and task.

    Args:
        figures: Figures as `evaluate_runs` returns them.
    """
    for method, entry in figures["methods"].items():
        yield method
        for task, found in entry.get("tasks", {}).items():
            unit, form = _FORMS[task]
            seeds = found.get("by_seed")
            for place, one in enumerate([found] if seeds is None else seeds):
                seed = "" if seeds is None else f" seed {found['seeds'][place]}"
                yield f"  {task.upper()}{seed}: {_agreement(one, unit, form)}"
        for seed, one in zip(entry.get("seeds", ()), entry.get("images", ()), strict=False):
            psnr, dice = (_text(one[name], f) for name, f in (("psnr_db", ".1f"), ("dice", ".3f")))
            yield f"  PF-DRR seed {seed}: {one['images']} images, PSNR {psnr} dB, Dice {dice}"


def _agreement(one: Mapping[str, Any], unit: str, form: str) -> str:
    low, high = one["pcc_interval"]
    pcc = f"PCC {_text(one['pcc'], '.3f')} ({_text(low, '.3f')} to {_text(high, '.3f')})"
    pcc = pcc if one["pcc"] is not None else "no PCC"
    return f"{one['patients']} patients, n {one['n']}, MAE {_text(one['mae'], form)} {unit}, {pcc}, " + (
        f"ICC {_text(one['icc'], '.3f')}"
    )


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
