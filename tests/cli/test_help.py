"""Help texts: every option says what it is, as a sentence or a noun, and none begins in the middle of a sentence."""

import click
import pytest

from bmdkit.cli.main import COMMANDS, group

UNCLEAR = ("of ", "which ", "how many ", "what ")
"""Beginnings that leave out the noun."""


def all_commands() -> list[tuple[str, click.Command]]:
    found = []
    for name in COMMANDS:
        command = group.get_command(None, name)
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", command.get_command(None, inner)) for inner in command.list_commands(None)]
        else:
            found.append((name, command))
    return found


@pytest.mark.parametrize(("name", "command"), all_commands(), ids=[name for name, _ in all_commands()])
def test_every_option_says_what_it_is(name, command):
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert [option.opts[0] for option in options if not option.help] == []
    assert [option.opts[0] for option in options if option.help.lower().startswith(UNCLEAR)] == []
    assert command.help, f"{name} says nothing about itself"
