"""Hooks of the site: pages made from the code, pages that stand outside docs/, and links between all of them."""

from __future__ import annotations

import ast
import dataclasses
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from bmdkit.cli.main import COMMANDS, group
from bmdkit.cli.options import FROM_ENVIRONMENT
from bmdkit.cli.settings_listing import SETTINGS, Setting, list_settings, load_settings, write_value

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
"""Pages that stand at the top of the repository; those of pipelines/ come with them."""
PICTURES = ("benchmarks/results/study/*.png",)
"""Pictures that pages show and that stand elsewhere."""
_LINK = re.compile(
    r"(?P<shows>!?)\[(?P<text>[^\[\]]+)\]\((?!https?:|#|mailto:)(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
)


def list_outside() -> dict[Path, str]:
    """File in the repository -> its place in the site."""
    pages = [*(ROOT / name for name in OUTSIDE), *ROOT.glob("pipelines/*/README.md")]
    return {path: f"project/{path.relative_to(ROOT).as_posix()}" for path in pages}


def list_pictures() -> dict[Path, str]:
    """Picture in the repository -> its place in the site."""
    found = [path for pattern in PICTURES for path in sorted(ROOT.glob(pattern))]
    return {path: f"project/{path.relative_to(ROOT).as_posix()}" for path in found}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the decisions into the menu, and every page that it does not name."""
    named = set(list_menu(config.nav or []))
    pages = sorted(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))
    decisions = [page for page in pages if page.startswith("decisions/")]
    further = [page for page in pages if page not in named and page not in decisions]
    groups = {"Decisions": decisions, "Further pages": further}
    config.nav = [*(config.nav or []), *({title: listed} for title, listed in groups.items() if listed)]
    return config


def list_menu(entries: Iterable[str | dict]) -> list[str]:
    """The pages that a menu names, in its order."""
    found = []
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += [value] if isinstance(value, str) else list_menu(value)
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and those that stand elsewhere."""
    for path, place in list_outside().items():
        files.append(File.generated(config, place, content=path.read_text(encoding="utf-8")))
    for path, place in list_pictures().items():
        files.append(File.generated(config, place, abs_src_path=str(path)))
    made = {"commands": write_commands, "options": write_options, "settings": write_settings, "python": write_names}
    for name, write in made.items():
        files.append(File.generated(config, f"reference/{name}.md", content=write()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let every link and picture of the repository lead to its place; a link that has none becomes plain text."""
    place = PurePosixPath(page.file.src_uri)
    by_place = {site: path for path, site in list_outside().items()}
    source = by_place.get(str(place), ROOT / "docs" / place)
    places = list_outside() | list_pictures()
    places |= {ROOT / "docs" / file.src_uri: file.src_uri for file in files if file.src_uri not in by_place}

    def lead(found: re.Match[str]) -> str:
        target = Path(posixpath.normpath(source.parent.joinpath(found["target"]).as_posix()))
        site = places.get(target) or places.get(target / "README.md")
        if target == ROOT / "README.md":
            site = "index.md"
        if site is None:
            return found[0] if found["shows"] else found["text"]
        return f"{found['shows']}[{found['text']}]({posixpath.relpath(site, str(place.parent))}{found['anchor'] or ''})"

    return _LINK.sub(lead, markdown)


def write_commands() -> str:
    """Every command with its help and its options."""
    lines = ["# Commands", "", "As `bmdkit COMMAND --help` prints them.", ""]
    context = click.Context(group, info_name="bmdkit")
    for name in COMMANDS:
        lines += _describe(group.get_command(context, name), name, context)
    return "\n".join(lines)


def _describe(command: click.Command, name: str, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {name}", "", *_plain(command.help), "", "```text", usage, "```", ""]
    inner = getattr(command, "commands", {})
    rows = [parameter.get_help_record(context) for parameter in command.params]
    if not inner and any(rows):
        lines += ["| option | |", "|---|---|"]
        lines += [f"| {_cell(f'`{row[0]}`')} | {_cell(row[1])} |" for row in rows if row]
    for thing, found in inner.items():
        lines += _describe(found, f"{name} {thing}", context)
    return [*lines, ""]


def _plain(text: str | None) -> list[str]:
    return [re.sub(r"([<>])", r"\\\1", line) for line in (text or "").splitlines()]


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def write_options() -> str:
    """The options that commands share, their variables, and who takes them."""
    takers: dict[str, list[str]] = {}
    facts: dict[str, click.Option] = {}
    for name in COMMANDS:
        command = group.get_command(None, name)
        inner = getattr(command, "commands", None) or {"": command}
        for thing, found in inner.items():
            for parameter in found.params:
                if isinstance(parameter, click.Option) and parameter.name in FROM_ENVIRONMENT:
                    takers.setdefault(parameter.name, []).append(f"{name} {thing}".strip())
                    facts[parameter.name] = parameter
    lines = [
        "# Options and variables",
        "",
        "A flag on the command line comes before a variable, a variable before a recipe, a recipe before the default.",
        "No variable has to be set.",
        "",
        "| option | variable | meaning | commands |",
        "|---|---|---|---|",
    ]
    for name in FROM_ENVIRONMENT:
        option = facts[name]
        spelled = max(option.opts, key=len)
        who = "all that work for long" if len(takers[name]) > 12 else ", ".join(takers[name])
        lines.append(f"| `{spelled}` | `{option.envvar}` | {_cell(option.help or '')} | {who} |")
    return "\n".join([*lines, ""])


def write_settings() -> str:
    """Every setting of every command, read from the dataclasses."""
    lines = [
        "# Settings",
        "",
        "What a recipe may hold, and `--set key.path=value`. `bmdkit config COMMAND` prints the same as YAML.",
        "",
    ]
    groups: dict[type, list[str]] = {}
    for command in SETTINGS:
        groups.setdefault(load_settings(command), []).append(command)
    for kind, commands in groups.items():
        lines += [f"## {', '.join(commands)}", "", "| setting | default | kind | meaning |", "|---|---|---|---|"]
        lines += [_describe_setting(setting) for setting in list_settings(kind)]
        lines.append("")
    return "\n".join(lines)


def _describe_setting(setting: Setting) -> str:
    if setting.is_section:
        return f"| **{setting.path}** | | | {_cell(setting.meaning)} |"
    is_missing = setting.default is dataclasses.MISSING
    default = "has to be given" if is_missing else f"`{write_value(setting.default)}`"
    kind = ", ".join(filter(None, [setting.kind, setting.unit]))
    return f"| `{setting.path}` | {_cell(default)} | {_cell(kind)} | {_cell(setting.meaning)} |"


def write_names() -> str:
    """The names of the front door, each with its docstring."""
    stub = ast.parse((ROOT / "bmdkit/__init__.pyi").read_text(encoding="utf-8"))
    lines = [
        "# Python",
        "",
        "`import bmdkit as bk` gives these names; they are typed and stay. Every other module may change from one",
        "version to the next. [The library by example](../library.md) shows each at work.",
        "",
    ]
    for statement in stub.body:
        if isinstance(statement, ast.ImportFrom):
            for name in statement.names:
                lines += [f"::: bmdkit.{statement.module}.{name.name}", ""]
    return "\n".join(lines)
