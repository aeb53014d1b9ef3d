"""`bmdkit`: the group of commands, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches

import click

from bmdkit import __version__
from bmdkit.errors import BmdkitError

COMMANDS = {
    "simulate": "Make a cohort with known truth: no data needed.",
    "init-cohort": "Write the table of a cohort from a tree of DICOM exports.",
    "validate": "Check every row of a cohort; touches nothing.",
    "build-dataset": "Turn a cohort into the paired datasets A and B.",
    "register": "Register the bones of one CT to one radiograph.",
    "render-drr": "Cast a digitally reconstructed radiograph from a CT.",
    "train": "Train a network on a built dataset, or on labelled CTs.",
    "evaluate": "Compare runs: tables and figures of the paper.",
    "study": "Train and compare all runs of a study from one recipe.",
    "export": "Hand a network on: safetensors with a card, ONNX, MONAI bundle.",
    "predict": "Estimate BMD from new radiographs.",
    "calibrate": "Turn HU into mg/cm3 from the phantom in one CT.",
    "segment": "Label the bones of one CT with a trained network.",
    "landmarks": "Find the landmarks of the proximal femurs of one CT.",
    "report": "Write the HTML report of a built dataset.",
    "status": "Progress of a build.",
    "fsck": "Hash every output again and name each damaged file.",
    "recipes": "The recipes that come with bmdkit, and what each is for.",
    "config": "Every setting of a command, as a recipe to start from.",
    "doctor": "Versions, devices, and what is missing.",
}


class LazyGroup(click.Group):
    """Knows its commands by name; imports the file of the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the file of one command."""
        if name not in COMMANDS:
            return None
        from bmdkit.cli.options import name_variables

        return name_variables(importlib.import_module(f"bmdkit.cli.{name.replace('-', '_')}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; one that is mistyped is told with the one that it is near to."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            key = name.replace("_", "-").casefold()
            near = get_close_matches(key, COMMANDS, n=1) or [known for known in COMMANDS if known.startswith(key)][:1]
            meant = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {name!r}.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with what they do, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bmdkit")
def group() -> None:
    """Bone mineral density from plain hip radiographs: datasets, registration, DRRs, networks."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; only `BmdkitError`s become exit codes, anything else is a bug and shows itself."""
    try:
        status = group.main(args=arguments, prog_name="bmdkit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BmdkitError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    if isinstance(status, int):  # click returns the status of an Exit here instead of raising it
        sys.exit(status)


if __name__ == "__main__":
    main()
