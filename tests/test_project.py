"""What the project says of itself: one version, the Pythons that are tested, hooks and links that work."""

import configparser
import re
from pathlib import Path

import yaml

import bmdkit

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("pipelines/**/*.md"),
    *ROOT.glob("benchmarks/**/*.md"),
]


def read_metadata() -> configparser.SectionProxy:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser["metadata"]


def test_the_pythons_that_are_promised_are_tested_and_pinned():
    promised = set(re.findall(r"Python :: (3\.\d+)", read_metadata()["classifiers"]))
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]
    assert promised == set(matrix["python"]) == {"3.10", "3.11", "3.12", "3.13"}
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    pinned = " ".join(path.read_text(encoding="utf-8").split("\n", 1)[0] for path in ROOT.glob("constraints*.txt"))
    assert promised <= set(re.findall(r"3\.\d+", pinned))


def test_the_metadata_are_complete():
    metadata = read_metadata()
    assert {"author", "description", "keywords", "license", "project_urls"} <= set(metadata)
    assert "long_description=" in (ROOT / "setup.py").read_text(encoding="utf-8")
    assert "Typing :: Typed" in metadata["classifiers"]


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert citation["version"] == newest == bmdkit.__version__


def test_hooks_use_the_environment_that_is_active():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff-check", "ruff-format", "import-layers", "types"}
    assert [hook["entry"] for hook in hooks if "/" in hook["entry"]] == []


def test_decisions_are_numbered_without_gaps():
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs/decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_links_between_pages_lead_somewhere():
    links = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
    targets = [(page, target) for page in PAGES for target in links.findall(page.read_text(encoding="utf-8"))]
    assert [f"{page.name}: {target}" for page, target in targets if not (page.parent / target).exists()] == []
    assert len(targets) > 20
