"""`bmdkit recipes`: the recipes that come with bmdkit."""

from __future__ import annotations

import click


@click.command("recipes")
@click.argument("words", nargs=-1, metavar="[COMMAND]")
@click.option("--paths", is_flag=True, help="Name the files too.")
def command(words: tuple[str, ...], paths: bool) -> None:
    """List the recipes that come with bmdkit, of all commands or of COMMAND, with what each is for.

    Use one by its name: bmdkit train regression ... --recipe paper. A recipe of your own is a YAML file; `bmdkit config
    COMMAND` prints one to start from.
    """
    from bmdkit.cli.recipe_files import choose_commands, list_recipes

    try:
        chosen = choose_commands(words)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for number, name in enumerate(chosen):
        recipes = list_recipes(name)
        width = max(len(recipe.name) for recipe in recipes)
        click.echo(("\n" if number else "") + name)
        for recipe in recipes:
            click.echo(f"  {recipe.name:<{width}}  {recipe.purpose}")
            if paths:
                click.echo(f"  {'':<{width}}  {recipe.path}")
