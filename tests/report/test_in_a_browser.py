"""The pages in a browser: no violation of accessibility, and ratings that are kept and saved."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bmdkit.report import pages

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(os.environ.get("AXE_CORE") or ROOT / "node_modules/axe-core/axe.min.js")
WIDTHS = {"laptop": "1280,900", "phone": "390,844"}

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
needs_axe = pytest.mark.skipif(
    not AXE.is_file(), reason="axe-core is not installed: npm install --no-save axe-core, or AXE_CORE=.../axe.min.js"
)


@pytest.fixture(scope="module")
def report(built) -> Path:
    (built / "ratings.csv").write_text("pair_id,rating\np01__supine__R,bad\n")
    try:
        return pages.write_report(built).parent
    finally:
        (built / "ratings.csv").unlink()


def ask(page: Path, folder: Path, script: str, *, width: str = WIDTHS["laptop"], first: str = "") -> object:
    """Run a script in a page, whose policy is taken out for it; it calls `tell` with what is to come back."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    answer = "const tell = (what) => { const told = document.createElement('pre'); told.id = 'told'; "
    answer += "told.textContent = JSON.stringify(what); document.body.appendChild(told); };"
    copy = folder / page.name
    extra = f"<script>{first}</script><script>{answer}\n{script}</script></body>"
    copy.write_text(text.replace("</body>", extra), encoding="utf-8")
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--window-size={width}"]
    words += ["--virtual-time-budget=60000", f"--user-data-dir={folder / 'profile'}", copy.as_uri()]
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    found = re.search(r'<pre id="told">(.*?)</pre>', told.stdout, re.S)
    assert found, told.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


@needs_chromium
@needs_axe
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["index.html", "p01.html", "q1.html"])
def test_axe_finds_no_violation(report, tmp_path, name, width) -> None:
    script = "axe.run().then((found) => tell(found.violations.map((one) => [one.id, one.help, one.nodes[0].html])))"
    first = AXE.read_text(encoding="utf-8")
    assert ask(report / name, tmp_path, script, width=WIDTHS[width], first=first) == []


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["index.html", "p01.html"])
def test_no_page_is_wider_than_its_window(report, tmp_path, name, width) -> None:
    script = "tell([document.documentElement.scrollWidth, window.innerWidth])"
    wide, window = ask(report / name, tmp_path, script, width=WIDTHS[width])
    assert wide <= window


@needs_chromium
def test_a_rating_that_is_chosen_is_saved_for_the_build(report, tmp_path) -> None:
    script = """
    let saved = null;
    URL.createObjectURL = (blob) => { saved = blob; return "#"; };
    const choose = (pair, word) =>
      document.querySelector(`fieldset[data-pair="${pair}"] input[value="${word}"]`).click();
    const known = document.querySelector('fieldset[data-pair="p01__supine__R"] input:checked').value;
    choose("p01__standing__L", "review");
    choose("p01__supine__L", "bad");
    choose("p01__supine__L", "good");
    document.getElementById("save-ratings").click();
    const shown = document.getElementById("rated").textContent;
    saved.text().then((text) => tell([known, shown, text]));
    """
    known, shown, text = ask(report / "p01.html", tmp_path, script)
    assert known == "bad"  # as the dataset has it
    assert shown == "2 rated in this browser"
    assert text == "pair_id,rating\np01__standing__L,review\np01__supine__L,good\n"
    script = "tell(document.getElementById('rated').textContent)"
    assert ask(report / "index.html", tmp_path, script) == shown  # kept from page to page
