"""`bmdkit train`: learn from a built dataset."""

from __future__ import annotations

from pathlib import Path

import click

from bmdkit.cli.options import common, settings


@click.group("train")
def command() -> None:
    """Train a network on a built dataset."""


@command.command("decomposition")
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--dataset", type=click.Choice(["A", "B"]), help="A: pelvis and femur. B: the proximal femur.")
@click.option(
    "--init-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A finished run to take the first weights from: stage two (B) from stage one (A).",
)
@click.option("--fold", metavar="K|all", help="Fold to hold out; all: hold nobody out.  [default: 0]")
@click.option("--overwrite", is_flag=True, help="Drop what the folder of the run holds; without it a run is resumed.")
@common
def decomposition(
    data: Path,
    out: Path,
    dataset: str | None,
    init_from: Path | None,
    fold: str | None,
    overwrite: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
) -> None:
    """Learn to see the bones' areal density in a radiograph: the decomposition network.

    DATA is the output of build-dataset. The run's folder gets the weights, log.csv, predictions.csv, metrics.json and
    montage.png; run the same command again to go on after an interruption.
    """
    from bmdkit.training.decomposition import train_decomposition
    from bmdkit.training.settings import DecompositionConfig

    config = settings(DecompositionConfig, recipe=recipe, overrides=overrides, dataset=dataset, fold=_fold(fold))
    with _progress() as on_epoch:
        outcome = train_decomposition(
            data,
            out,
            config,
            seed=seed,
            device=device,
            init_from=init_from,
            overwrite=overwrite,
            on_epoch=on_epoch,
        )
    _print_metrics(outcome.metrics)
    click.echo(f"Run: {out}   montage: {out / 'montage.png'}")


def _fold(text: str | None) -> int | str | None:
    if text is None or text == "all":
        return text
    if not text.isdecimal():
        raise click.BadParameter(f"expected a fold's number or all, got {text!r}", param_hint="--fold")
    return int(text)


def _progress():
    """A bar with the epochs and the latest losses, on standard error; nothing where that is no terminal."""
    import contextlib

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextlib.contextmanager
    def shown():
        columns = (
            TextColumn("epoch"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None, losses="")

            def on_epoch(done: int, total: int, row: dict[str, float]) -> None:
                losses = "  ".join(f"{name} {row[name]:.3g}" for name in ("l1", "gradient_correlation") if name in row)
                bar.update(task, completed=done, total=total, losses=losses)

            yield on_epoch

    return shown()


def _print_metrics(metrics: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    splits = [split for split in ("train", "test") if split in metrics]
    names = {"train": "trained on", "test": f"held out (fold {metrics['fold']})"}
    table = Table("", *(names[split] for split in splits), title=f"Dataset {metrics['dataset']}")
    lines = [
        ("patients, images", lambda m: f"{m['patients']}, {m['images']}"),
        ("L1, g/cm2", lambda m: _text(m["l1_g_cm2"], ".4f")),
        ("PSNR, dB", lambda m: _text(m["psnr_db"], ".1f")),
        ("Dice", lambda m: _text(m["dice"], ".3f")),
        ("PCC of the mean", lambda m: _text(m["pf_drr_mean_pcc"], ".3f")),
        ("DXA-BMD: MAE g/cm2, PCC", lambda m: _bmd(m.get("dxa_bmd_g_cm2"), ".3f")),
        ("QCT-BMD: MAE mg/cm3, PCC", lambda m: _bmd(m.get("qct_bmd_mg_cm3"), ".1f")),
    ]
    for name, text in lines:
        table.add_row(name, *(text(metrics[split]) for split in splits))
    Console().print(table)


def _bmd(values: dict | None, form: str) -> str:
    return "-" if values is None else f"{_text(values['mae'], form)}, {_text(values['pcc'], '.3f')}"


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
