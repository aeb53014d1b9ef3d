"""The package can be imported on Windows and macOS: what only Linux has is asked for only there."""

import ast
from pathlib import Path

import bmdkit

POSIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "crypt", "nis"}
"""Modules of the standard library that Windows does not have."""


def unguarded_imports(source: str) -> list[str]:
    """Modules for POSIX alone that are imported outside of `if sys.platform ...`."""
    found: list[str] = []

    def walk(node: ast.AST, guarded: bool) -> None:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        found.extend(name for name in names if name in POSIX_ONLY and not guarded)
        inside = guarded or (isinstance(node, ast.If) and "sys.platform" in ast.unparse(node.test))
        for child in ast.iter_child_nodes(node):
            walk(child, inside)

    walk(ast.parse(source), False)
    return found


def test_no_module_needs_what_only_posix_has():
    files = sorted(Path(bmdkit.__file__).parent.rglob("*.py"))
    assert len(files) > 100
    assert {file.name: names for file in files if (names := unguarded_imports(file.read_text("utf-8")))} == {}


def test_the_search_finds_what_it_looks_for():
    assert unguarded_imports("import fcntl\nfrom resource import getrlimit") == ["fcntl", "resource"]
    assert unguarded_imports("def f():\n    import pwd") == ["pwd"]
    assert unguarded_imports("import sys\nif sys.platform == 'linux':\n    import resource") == []
