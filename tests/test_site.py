"""The site: every page is in its menu, every picture is there, and it builds without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
DOCS = ROOT / "docs"


def list_menu(entries) -> list[str]:
    """The pages of a menu, in order."""
    found = []
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += [value] if isinstance(value, str) else list_menu(value)
    return found


def test_every_page_of_the_menu_is_there_once():
    menu = list_menu(CONFIG["nav"])
    assert len(menu) == len(set(menu))
    written = [name for name in menu if not name.startswith(("reference/", "project/"))]
    assert [name for name in written if not (DOCS / name).is_file()] == []
    assert [name for name in menu if name.startswith("project/") and not (ROOT / name[8:]).is_file()] == []


def test_every_picture_is_there():
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    missing = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).is_file()
    ]
    assert missing == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    names = (tmp_path / "site/reference/python.html").read_text(encoding="utf-8")
    assert "read_ct" in names
    settings = (tmp_path / "site/reference/settings.html").read_text(encoding="utf-8")
    assert "registration.prior.depth_mm" in settings
