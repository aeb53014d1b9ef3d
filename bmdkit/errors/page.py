"""The page docs/errors.md, made from the table of codes."""

from __future__ import annotations

from bmdkit.errors.exceptions import CODES

_HEAD = """\
# Error codes

`make docs` writes this page from the tables in `bmdkit/errors`. The outcome of a code is one of these:

- *quarantine*: the case is left out and named, and the rest is built.
- *flag*: the hip is marked and left out of the BMD values.
- *warning*: it is said, and nothing is left out.
- *failed*: the work on the case broke off.
- *exit N*: the command ends with that status.

| code | outcome | cause | remedy |
|---|---|---|---|
"""


def write_page() -> str:
    """Every code with its outcome, cause and remedy, as Markdown."""
    rows = [f"| {name} | {code.outcome} | {code.cause} | {code.remedy} |\n" for name, code in sorted(CODES.items())]
    return _HEAD + "".join(rows)
