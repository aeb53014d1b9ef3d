"""The numbered figures of a study with the numbers behind them, and one page that shows them with all tables."""

from __future__ import annotations

import csv
import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from matplotlib.figure import Figure

from bmdkit.dataset.layout import REPORT
from bmdkit.evaluation.figure_style import save
from bmdkit.evaluation.figures import Shown
from bmdkit.io.results import write_csv, write_json, write_text
from bmdkit.report.pages import page_name

FIGURES, CAPTIONS, INDEX = "figures", "captions.json", "index.html"
_DPI = 130
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;max-width:1200px;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-size:13px;margin:.5rem 0}th,td{padding:.2rem .6rem;border-bottom:1px solid #dfe4ea;
text-align:right}th:first-child,td:first-child,td[rowspan]{text-align:left;vertical-align:top}
img{max-width:100%}figure{margin:1.5rem 0}
figcaption{color:#5b6675;font-size:13px}.kind{background:#fff4d6;padding:.6rem 1rem;border-left:4px solid #c76a1b}
"""


class FigureBook:
    """Figures of one study.

    Args:
        out: Folder of the study's results; the figures go to its folder `figures`.
        fresh: Whether numbered figures of an earlier call are removed.
        data: The dataset, to the pages of whose report the index leads where it has one; None if it is not known.
    """

    def __init__(self, out: Path, *, fresh: bool = False, data: Path | None = None) -> None:
        """Read which figures there are."""
        self.out, self.folder = out, out / FIGURES
        self.report = None if data is None else data / REPORT
        if fresh:
            for old in (*self.folder.glob("figure_[01][0-9]_*"), self.folder / CAPTIONS):
                old.unlink(missing_ok=True)
        try:
            self.captions: dict[str, dict[str, str]] = json.loads((self.folder / CAPTIONS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.captions = {}

    def add(
        self,
        number: int,
        what: str,
        figure: Figure,
        rows: Sequence[Mapping[str, object]],
        *,
        title: str,
        caption: str,
        shown: Shown,
        outside: Iterable[str] = (),
    ) -> None:
        """Write a figure as PNG and PDF with its numbers as CSV.

        Args:
            number: Number of the figure in the paper.
            what: Word for the file's name.
            figure: The figure, within `drawing`.
            rows: Numbers that it shows; all of one set of names.
            title: Title in words.
            caption: What there is to say of it.
            shown: What it shows.
            outside: Patients that it names as outliers.
        """
        name = f"figure_{number:02d}_{what}"
        save(figure, self.folder / name, dpi=_DPI)
        if rows:
            write_csv(self.folder / f"{name}.csv", list(rows), list(rows[0]))
        self.captions.pop(f"figure_{number:02d}", None)
        about = {"title": title, "caption": caption, "shown": str(shown)}
        if patients := sorted(set(outside)):
            about["outside"] = " ".join(patients)
        self._write_caption(name, about)

    def leave_out(self, number: int, title: str, reason: str) -> None:
        """Say on the page why a figure of the paper is not there; nothing is said of one that is.

        Args:
            number: Number of the figure in the paper.
            title: Title in words.
            reason: Why it is not there, as a sentence.
        """
        name = f"figure_{number:02d}"
        if not any(one.startswith(f"{name}_") for one in self.captions):
            self._write_caption(name, {"title": title, "left_out": reason})

    def _write_caption(self, name: str, about: dict[str, str]) -> None:
        self.captions[name] = about
        write_json(self.folder / CAPTIONS, dict(sorted(self.captions.items())))

    def write_index(self, kind: str) -> Path:
        """Write index.html, which shows every table and every numbered figure with its caption."""
        parts = [
            "<!doctype html><html lang=en><meta charset=utf-8><title>Study</title>",
            f"<style>{_STYLE}</style><h1>Study</h1>",
            f"<p class=kind>All numbers are of <b>{html.escape(kind)}</b> data.</p>",
        ]
        parts += [_table_html(path) for path in sorted(self.out.glob("table_[0-9].csv"))]
        for name, about in sorted(self.captions.items()):
            number = int(name.split("_")[1])
            title = html.escape(about["title"], quote=True)
            if "left_out" in about:
                parts.append(f"<h2>Figure {number}. {title}</h2><p>Left out: {html.escape(about['left_out'])}</p>")
                continue
            files = [f'<a href="{FIGURES}/{name}.pdf">PDF</a>']
            if (self.folder / f"{name}.csv").exists():
                files.append(f'<a href="{FIGURES}/{name}.csv">numbers</a>')
            words = f"{about['caption']} {about['shown']}."
            parts.append(
                f"<figure id={name}><h2>Figure {number}. {title}</h2>"
                f'<img src="{FIGURES}/{name}.png" alt="{title}">'
                f"<figcaption>{html.escape(words)} {self._list_outside(about)}{', '.join(files)}</figcaption></figure>"
            )
        parts.append("</html>\n")
        write_text(self.out / INDEX, "\n".join(parts))
        return self.out / INDEX

    def _list_outside(self, about: Mapping[str, str]) -> str:
        """The outliers of a figure, each with the page of its case where there is one."""
        listed = [self._name_case(patient) for patient in about.get("outside", "").split()]
        return f"Outside the limits: {', '.join(listed)}. " if listed else ""

    def _name_case(self, patient: str) -> str:
        name = html.escape(patient)
        page = None if self.report is None else self.report / page_name(patient)
        if page is None or not page.is_file():
            return name
        try:
            there = Path(os.path.relpath(page, self.out)).as_posix()
        except ValueError:  # on another drive
            return name
        return f'<a href="{html.escape(quote(there), quote=True)}">{name}</a>'


def _table_html(path: Path) -> str:
    """A table as it is shown, with its caption: from the Markdown that stands beside the CSV."""
    with path.open(newline="", encoding="utf-8") as handle:
        header, *rows = list(csv.reader(handle))
    caption = path.with_suffix(".md").read_text(encoding="utf-8").rstrip().splitlines()[-1]
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in _join_equal(rows))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    number = path.stem.rpartition("_")[2]
    return (
        f"<h2>Table {number}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f'<p><a href="{path.name}">CSV</a>, <a href="{path.stem}.tex">LaTeX</a>. {html.escape(caption)}</p>'
    )


def _join_equal(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Cells of a table's body; equal first cells below each other are one."""
    found: list[list[str]] = []
    for n, row in enumerate(rows):
        cells = [f"<td>{html.escape(_shorten(cell))}</td>" for cell in row]
        if n and row[0] == rows[n - 1][0]:
            cells = cells[1:]
        else:
            alike = next((k for k, other in enumerate(rows[n:]) if other[0] != row[0]), len(rows) - n)
            cells[0] = cells[0].replace("<td>", f"<td rowspan={alike}>") if alike > 1 else cells[0]
        found.append(cells)
    return found


def _shorten(cell: str) -> str:
    """A number with four digits; other words as they are."""
    try:
        return f"{float(cell):.4g}" if "." in cell else cell
    except ValueError:
        return cell
