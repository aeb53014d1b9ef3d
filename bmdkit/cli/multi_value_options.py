"""Options that take several words, as in `--poses standing supine`."""

from __future__ import annotations

import click


class ListCommand(click.Command):
    """A command whose repeatable options take every word that follows, up to the next option.

    `--poses standing supine` is read as `--poses standing --poses supine`. Words that are no choice of the option end
    its list, so that an argument may follow; an option whose choices hold "none" takes it when no word follows.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the name of an option before each of its words, and parse."""
        lists = {name: p for p in self.params if isinstance(p, click.Option) and p.multiple for name in p.opts}
        words, spread = list(args), []
        while words:
            word = words.pop(0)
            if word == "--":
                spread += [word, *words]
                break
            spread.append(word)
            if word not in lists:
                continue
            choices = getattr(lists[word].type, "choices", None)
            taken = []
            while words and not words[0].startswith("-") and (choices is None or words[0] in choices):
                taken.append(words.pop(0))
            if not taken and choices and "none" in choices:
                taken = ["none"]
            spread[-1:] = [part for value in taken for part in (word, value)] or [word]
        return super().parse_args(ctx, spread)
