"""Writing the report: one page per case, then the index. Pages hold everything they show and load nothing."""

from __future__ import annotations

import base64
import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bmdkit import __version__
from bmdkit.core.anatomy import COLOURS
from bmdkit.dataset.status import require_built_case
from bmdkit.errors import PreflightError
from bmdkit.io.results import write_text
from bmdkit.report.built import read_built
from bmdkit.report.case_page import CaseLine, case_context, case_line
from bmdkit.report.index_page import index_context
from bmdkit.report.page_style import REGION, hexadecimal

logger = logging.getLogger(__name__)

_POLICY = ("default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'")
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(root: Path, *, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write ROOT/report/: index.html and a page per case; pages of cases that are gone are removed.

    The same dataset gives the same bytes. A file of a case that cannot be read leaves a note in its place on the page.

    Args:
        root: A folder that `bmdkit build-dataset` wrote.
        progress: Called with (pages written, pages in all).

    Returns:
        The path of index.html.

    Raises:
        PreflightError: The folder is no dataset (BMD-RUN-035), or no case of it is built yet (BMD-RUN-041).
    """
    built = read_built(root)
    if not built.rows and not built.patients:
        require_built_case(root)
        raise PreflightError("BMD-RUN-035", "its manifest has no rows.", file=root.absolute().name)
    environment = _environment()
    folder = root / "report"
    written = {"index.html"}
    lines: list[CaseLine] = []
    patients = built.patients
    names = [page_name(patient) for patient in patients]
    for number, case in enumerate(built.cases()):
        around = {
            "previous": names[number - 1] if number else "",
            "next": names[number + 1] if number + 1 < len(names) else "",
        }
        page = environment.get_template("case.html").render(**case_context(case), **around)
        write_text(folder / names[number], page)
        written.add(names[number])
        lines.append(case_line(case, names[number]))
        if progress is not None:
            progress(number + 1, len(names))
    index = folder / "index.html"
    write_text(index, environment.get_template("index.html").render(**index_context(built, lines)))
    for stale in folder.glob("*.html"):
        if stale.name not in written:
            stale.unlink()
    logger.info("report of %d cases: %s", len(names), index)
    return index


def page_name(patient_id: str) -> str:
    """The file of a patient's page; a dot, which no identifier has, keeps the index's own name free."""
    return f"{patient_id}.html" if patient_id.casefold() != "index" else f"{patient_id}.case.html"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    colours = "".join(f".body-{name} {{ background: {hexadecimal(rgb)}; }}\n" for name, rgb in COLOURS.items())
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    style += f"{colours}.body-region {{ background: {REGION}; }}\n"
    scripts = {
        name: (_TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in ("table", "rating", "scrolling")
    }
    allowed = (f"style-src {_name_hash(style)}", f"script-src {' '.join(map(_name_hash, scripts.values()))}")
    environment.globals |= {
        "version": __version__,
        "style": Markup(style),
        "scripts": {name: Markup(script) for name, script in scripts.items()},
        "policy": "; ".join((*_POLICY, *allowed)),
    }
    environment.filters |= {"num": number_text, "spread": spread_text}
    return environment


def _name_hash(text: str) -> str:
    """The hash by which a page's policy allows a text that stands in the page."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def number_text(value: Any, digits: int = 2) -> str:
    """A number with its digits, or a dash where there is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return "–"
    if not math.isfinite(number):
        return "–"
    return f"{round(number, digits) + 0.0:.{digits}f}".replace("-", "−")


def spread_text(value: object) -> str:
    """The spread over restarts: one number, or each of its parts by name."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {number_text(part)}" for name, part in value.items())
    return number_text(value)
