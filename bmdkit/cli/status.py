"""`bmdkit status`: how far a build has come."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("status")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(folder: Path, as_json: bool) -> None:
    """Progress of the build in DIR, running or not, and what is left out and why."""
    import dataclasses
    import json

    from bmdkit.dataset.status import read_state

    state = read_state(folder)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(state), indent=1))
        return
    done = state.ok + state.quarantined + state.failed
    of = "" if state.patients is None else f" of {state.patients}"
    click.echo(
        f"{done}{of} cases: {state.ok} complete, {state.quarantined} with something left out, {state.failed} failed"
    )
    if state.running:
        click.echo("running now")
    elif state.finished:
        click.echo("finished: manifest and checksums are there")
    else:
        click.echo("not finished: run build-dataset again, it resumes")
    for what, code, reason in state.problems:
        click.echo(f"  {what}: {code} {reason}")
