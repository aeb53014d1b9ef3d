"""`bmdkit fsck`: hash every output again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("fsck")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Hash every file of the dataset in DIR again; name each damaged, missing or extra one (exit code 3)."""
    from bmdkit.dataset.integrity import check, read_sums
    from bmdkit.dataset.state import require_dataset

    require_dataset(folder)
    findings = check(folder)
    for finding in findings:
        click.echo(f"{finding.kind}  {finding.path}")
    if findings:
        click.echo(
            f"{len(findings)} files are not as they were written; build-dataset makes damaged cases anew", err=True
        )
        raise click.exceptions.Exit(3)
    click.echo(f"{len(read_sums(folder))} files, all as they were written")
