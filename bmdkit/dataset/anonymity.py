"""File names of the cohort, taken out of what is said of a case: they may hold a person's name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from bmdkit.core.anatomy import SIDES
from bmdkit.core.case import Case

_TELLS_NOBODY = re.compile(r"[0-9.]{1,4}")


class FileNames:
    """The names of one case's input files, and the words that stand for them.

    Args:
        case: Whose files they are.
        hidden: Whether to hide them at all.
    """

    def __init__(self, case: Case, *, hidden: bool) -> None:
        self._case, self._hidden = case, hidden

    def hide(self, text: str) -> str:
        """The text with every path and file name of the case replaced by its part, such as `[ct file 12]`."""
        if not self._hidden or not self._words:
            return text
        return self._pattern.sub(lambda match: self._words[match.group()], text)

    @cached_property
    def _words(self) -> dict[str, str]:
        words: dict[str, str] = {}
        for part, path in self._inputs():
            words |= {str(path): part, str(path.resolve()): part, path.name: part}
            if path.is_dir():
                inner = sorted(path.rglob("*"))
                words |= {file.name: f"{part} file {n}" for n, file in enumerate(inner, start=1)}
        return {name: f"[{part}]" for name, part in words.items() if not _TELLS_NOBODY.fullmatch(name)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._words, key=lambda name: (-len(name), name))
        return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def _inputs(self) -> Iterator[tuple[str, Path]]:
        yield "ct", self._case.ct
        for part, path in (("labels", self._case.labels), ("calibration", self._case.calibration)):
            if path is not None:
                yield part, path
        for side in SIDES:
            if (path := self._case.landmarks_of(side)) is not None:
                yield f"landmarks {side}", path
        for number, path in enumerate(sorted(self._case.xrays, key=str), start=1):
            yield f"radiograph {number}", path
