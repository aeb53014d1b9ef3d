"""`bmdkit config`: every setting of a command, as a recipe to start from."""

from __future__ import annotations

import click


@click.command("config")
@click.argument("words", nargs=-1, metavar="COMMAND", required=True)
@click.option("--pairs", is_flag=True, help="For simulate: the settings of simulate --pairs.")
def command(words: tuple[str, ...], pairs: bool) -> None:
    """Print every setting of COMMAND with its default, unit and meaning, as YAML that --recipe takes.

    For instance: bmdkit config build-dataset > mine.yaml, or bmdkit config train decomposition.
    """
    from bmdkit.cli.settings_listing import SETTINGS, write_recipe

    name = " ".join(words) + (" --pairs" if pairs else "")
    try:
        click.echo(write_recipe(name), nl=False)
    except ValueError as error:
        things = [known for known in SETTINGS if known.startswith(f"{name} ")]
        raise click.UsageError(f"name one of: {', '.join(things)}" if things else str(error)) from error
