"""What README and docs show is true: their Python runs, their commands run, and every option that they name exists."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from page_blocks import Block, read_blocks

from bmdkit.cli.main import group

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in (
        "*.md",
        "docs/*.md",
        "docs/tutorials/*.md",
        "docs/how-to/*.md",
        "pipelines/**/*.md",
        "benchmarks/**/*.md",
    )
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md"
)
LANGUAGES = ("python", "console", "text", "yaml", "json")
BY_NAME = {page.relative_to(ROOT).as_posix(): read_blocks(page) for page in PAGES}


def pages_with(*, slow: bool) -> list[str]:
    return [name for name, blocks in BY_NAME.items() if any(b.is_run and (b.remark == "slow") == slow for b in blocks)]


def run_block(block: Block, page: str, names: dict, folder: Path) -> None:
    if block.language == "python":
        code = compile("\n" * block.line + block.text, page, "exec")
        exec(code, names)
        return
    for command in block.commands():
        words = [sys.executable, "-m", "bmdkit.cli.main", *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{page}:{block.line}: {command}\n{done.stdout}{done.stderr}"


def run_page(page: str, cohort: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, slow: bool) -> None:
    """Run a page from top to bottom, as a reader would who starts with the sample cohort."""
    shutil.copytree(cohort, folder / "cohort")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    names: dict = {"__name__": "__main__"}
    for block in BY_NAME[page]:
        if block.is_run and (slow or block.remark != "slow"):
            run_block(block, page, names, folder)


@pytest.mark.parametrize("page", pages_with(slow=False))
def test_what_a_page_shows_runs(page, sample_cohort, tmp_path, monkeypatch):
    run_page(page, sample_cohort, tmp_path, monkeypatch, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with(slow=True))
def test_what_a_page_shows_runs_with_its_long_blocks(page, sample_cohort, tmp_path, monkeypatch):
    run_page(page, sample_cohort, tmp_path, monkeypatch, slow=True)


@pytest.mark.parametrize("page", BY_NAME)
def test_every_block_says_what_it_is(page):
    unnamed = [f"{page}:{block.line}" for block in BY_NAME[page] if block.language not in LANGUAGES]
    assert unnamed == []
    text = re.sub(r"^ *```.*?^ *```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^    (?:\$ )?(?:bmdkit|import|from|python) .*", text, flags=re.MULTILINE) == []


@pytest.mark.parametrize("page", [name for name, blocks in BY_NAME.items() if any(b.commands() for b in blocks)])
def test_every_command_and_option_that_a_page_names_exists(page):
    wrong = []
    for block in BY_NAME[page]:
        for line in block.commands():
            _, *words = line.replace("[", " ").replace("]", " ").split()
            command, context = group, None
            while words and hasattr(command, "get_command") and not words[0].startswith("-"):
                found = command.get_command(context, words.pop(0))
                if found is None:
                    break
                command = found
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            options |= {"--help", "--version"}
            unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - options
            if found is None or unknown:
                wrong.append(f"{page}:{block.line}: {line}: {', '.join(sorted(unknown)) or 'no such command'}")
    assert wrong == []


def test_readme_names_every_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in group.list_commands(None) if f"{name}" not in readme] == []
