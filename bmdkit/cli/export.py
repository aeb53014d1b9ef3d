"""`bmdkit export`: a finished run as safetensors with a card, ONNX or a MONAI bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from bmdkit.cli import options


@click.command("export")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder to write to; it appears whole, or not at all.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["safetensors", "onnx", "monai"]),
    help="Format to write beside safetensors, which is always written. Repeatable.",
)
@options.logging_options
def command(run: Path, out: Path, formats: tuple[Literal["safetensors", "onnx", "monai"], ...]) -> None:
    """Write the network of RUN, of any `bmdkit train`, to a folder to hand on.

    It holds model.safetensors, model.json and README.md, the card: what goes in and comes out, the data, what was
    measured, what it is for. ONNX adds model.onnx, MONAI configs/. Every copy is read back and compared. Of a
    regression and of key points the last phase is taken.
    """
    from bmdkit.inference.exporting import export_run

    for name, value in export_run(run, out, formats).items():
        click.echo(f"{name}: differs from the network by {value:.1g} of its largest value")
    click.echo(f"Written to {out}")
