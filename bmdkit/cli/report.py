"""`bmdkit report`."""

from __future__ import annotations

from pathlib import Path

import click

from bmdkit.cli.options import logging_options


@click.command("report")
@click.argument("dataset", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--open", "show", is_flag=True, help="Show the report in the web browser.")
@click.option(
    "--ratings",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of ratings that was saved from the report, to be taken into DIR/ratings.csv. Repeatable.",
)
@logging_options
def command(dataset: Path, show: bool, ratings: tuple[Path, ...]) -> None:
    """Write DIR/report/: an index and one page per case, each a file that needs nothing else.

    DIR is what `bmdkit build-dataset` wrote; a build that is not finished has a report too. Pairs can be rated on the
    pages (good, review, bad); the next build and `bmdkit evaluate` respect DIR/ratings.csv.
    """
    from bmdkit.cli.progress import counting_bar
    from bmdkit.dataset.integrity import record_report
    from bmdkit.jobs.lock import is_held
    from bmdkit.report.pages import write_report

    if ratings:
        from bmdkit.dataset.ratings import add_ratings

        click.echo(f"{len(add_ratings(dataset, ratings))} pairs are rated")
    with counting_bar("pages of the report") as on_page:
        index = write_report(dataset, progress=on_page)
    if not is_held(dataset):  # a build that is going on seals its own
        record_report(dataset)
    click.echo(index)
    if show:
        click.launch(index.resolve().as_uri())
