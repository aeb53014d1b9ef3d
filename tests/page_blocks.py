"""The code blocks of the project's Markdown pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_REMARK = re.compile(r"<!-- (?P<remark>slow|not run: [^\n]+?) -->\n+\Z")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: Line of its opening fence, from 1.
        language: Word behind the opening fence.
        text: Lines between the fences, without their common indent.
        remark: Text of a comment right above it: "slow", "not run: REASON", or nothing.
    """

    line: int
    language: str
    text: str
    remark: str

    @property
    def is_run(self) -> bool:
        """Whether a test runs it, quick or slow."""
        return self.language in ("python", "console") and not self.remark.startswith("not run")

    def commands(self) -> list[str]:
        """The `bmdkit` command lines of a block of commands, continued lines joined and remarks left out."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        lines = (re.sub(r"\s+#.*", "", line).removeprefix("$ ").strip() for line in joined.splitlines())
        return [line for line in lines if line.startswith("bmdkit ")]


def read_blocks(page: Path) -> list[Block]:
    """Every fenced block of a Markdown page, in its order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in _FENCE.finditer(text):
        remark = _REMARK.search(text[: found.start()])
        body = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        line = text.count("\n", 0, found.start()) + 1
        blocks.append(Block(line, found["language"], body, remark["remark"] if remark else ""))
    return blocks
