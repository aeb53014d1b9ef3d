"""`bmdkit status`: how far a build has come."""

from __future__ import annotations

from pathlib import Path

import click

_NAMED = 10


@click.command("status")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(folder: Path, as_json: bool) -> None:
    """Show how far the build in DIR has come, running or not, and what is left out and why."""
    import dataclasses
    import json

    from bmdkit.dataset.status import read_status

    found = read_status(folder)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=1))
        return
    of = "" if found.patients is None else f" of {found.patients}"
    click.echo(
        f"{found.built}{of} cases: {found.ok} complete, {found.quarantined} with something left out, "
        f"{found.failed} failed"
    )
    if found.waiting:
        more = ", ..." if len(found.waiting) > _NAMED else ""
        click.echo(f"not built yet: {', '.join(found.waiting[:_NAMED])}{more}")
    click.echo(found.describe())
    for what, code, reason in found.problems:
        click.echo(f"  {what}: {code} {reason}")
