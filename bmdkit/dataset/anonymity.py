"""File names of the cohort, taken out of what is said of a case: they may hold a person's name."""

from __future__ import annotations

import re
from functools import cached_property

from bmdkit.core.case import Case

_TELLS_NOBODY = re.compile(r"[0-9.]{1,4}")


class FileNames:
    """The names of one case's input files, and the words that stand for them.

    Args:
        case: Case whose files they are.
        hidden: Whether their names are hidden at all.
    """

    def __init__(self, case: Case, *, hidden: bool) -> None:
        """Keep the case; its files are not listed yet."""
        self._case, self._hidden = case, hidden

    def hide(self, text: str) -> str:
        """The text with every path and file name of the case replaced by its part, such as `[ct file 12]`."""
        if not self._hidden or not self._words:
            return text
        return self._pattern.sub(lambda match: self._words[match.group()], text)

    @cached_property
    def _words(self) -> dict[str, str]:
        words: dict[str, str] = {}
        for role, path in self._case.inputs.items():
            part = role.replace("_", " ").replace("xray", "radiograph")
            words |= {str(path): part, str(path.resolve()): part, path.name: part}
            if path.is_dir():
                inner = sorted(path.rglob("*"))
                words |= {file.name: f"{part} file {n}" for n, file in enumerate(inner, start=1)}
        return {name: f"[{part}]" for name, part in words.items() if not _TELLS_NOBODY.fullmatch(name)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._words, key=lambda name: (-len(name), name))
        return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
