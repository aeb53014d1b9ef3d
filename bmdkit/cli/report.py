"""`bmdkit report`."""

from __future__ import annotations

from pathlib import Path

import click

from bmdkit.cli.options import logging_options


@click.command("report")
@click.argument("dataset", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--open", "show", is_flag=True, help="Show it in the web browser.")
@logging_options
def command(dataset: Path, show: bool) -> None:
    """Write DIR/report/: an index and one page per case, each a file that needs nothing else.

    DIR is what `bmdkit build-dataset` wrote; a build that is not finished has a report too.
    """
    from bmdkit.report.pages import write_report

    try:
        index = write_report(dataset)
    except FileNotFoundError as error:
        raise click.UsageError(str(error)) from error
    click.echo(index)
    if show:
        click.launch(index.resolve().as_uri())
