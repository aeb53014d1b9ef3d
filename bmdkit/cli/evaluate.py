"""`bmdkit evaluate`: tables and figures of a study from finished runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bmdkit.cli import options

if TYPE_CHECKING:
    from bmdkit.study.comparison import Study

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("evaluate")
@click.argument("runs", nargs=-1, required=True, metavar="RUN [RUN ...]", type=_FOLDER)
@click.option(
    "--data",
    "datasets",
    multiple=True,
    type=_FOLDER,
    help="Dataset that the runs were trained on; several of the same patients, if repeated.  [default: found]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to.  [default: evaluation, in the folder of one run or that around several]",
)
@click.option(
    "--split",
    type=click.Choice(["test", "train"]),
    default="test",
    show_default=True,
    help="Patients to evaluate: held out (test), or trained on (train).",
)
@click.option(
    "--kind", type=click.Choice(["simulated", "clinical"]), help="Kind of the data, where dataset.json does not say."
)
@click.option(
    "--pose", "poses", multiple=True, help="Pose whose held-out radiographs count. Repeatable.  [default: all]"
)
@click.option(
    "--robustness", is_flag=True, help="Also predict JPEGs and spoilt radiographs, and measure the quality flag."
)
@click.option(
    "--pictures", is_flag=True, help="Also draw t-SNE, PCA, attention and errors by joint angle; loads the networks."
)
@click.option(
    "--reference",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with name, mean_g_cm2 and sd_g_cm2 of young adults: adds how well osteoporosis is told.",
)
@options.dry_run()
@options.logging_options
def command(
    runs: tuple[Path, ...],
    datasets: tuple[Path, ...],
    out: Path | None,
    split: Literal["test", "train"],
    kind: Literal["simulated", "clinical"] | None,
    poses: tuple[str, ...],
    robustness: bool,
    pictures: bool,
    reference: Path | None,
    dry_run: bool,
) -> None:
    """Compare runs: metrics, the tables of the paper, figures; each states n, split and kind of data.

    Runs of one method that differ in their fold are pooled; those that differ in their seed give mean and spread.
    """
    from bmdkit.cli.progress import naming_bar
    from bmdkit.inference.t_score import Reference
    from bmdkit.study.comparison import evaluate_runs, open_study
    from bmdkit.training.data_place import find_data

    datasets = datasets or tuple(dict.fromkeys(find_data(run) for run in runs))
    out = _choose_folder(runs) if out is None else out
    table = None if reference is None else options.settings(Reference, recipe=reference, overrides=())
    if dry_run:
        study = open_study(runs, datasets, out, split=split, kind=kind, poses=poses)
        _show_plan(study, out, robustness=robustness, pictures=pictures)
        return
    with naming_bar("evaluation") as on_step:
        metrics = evaluate_runs(
            runs, datasets, out, split=split, kind=kind, reference=table, poses=poses, on_step=on_step
        )
    if robustness:
        from bmdkit.study.paper_figures import draw_compression
        from bmdkit.study.robustness import measure_robustness

        for method, tasks in measure_robustness(runs, datasets, out).items():
            for task, found in tasks.items():
                lost = ", ".join(f"{q}: {_format_number(loss)}" for q, loss in found["jpeg_pcc_loss"].items())
                click.echo(f"{method}, {task}: PCC {_format_number(found['pcc'])}, lost by JPEG of quality {lost}")
                count = f"{found['with_a_large_error']} of {found['images']}"
                click.echo(f"  quality flag: AUROC {_format_number(found['flag_auroc'])} for large errors ({count})")
        draw_compression(out, split, metrics["data"], data=datasets[0])
    if pictures:
        from bmdkit.study.representation import draw_pictures

        for sentence in draw_pictures(runs, datasets, out, split=split, kind=metrics["data"]):
            click.echo(f"Left out: {sentence}")
    for name in ("table_1.md", "table_2.md", "table_3.md"):
        if (out / name).exists():
            click.echo((out / name).read_text(encoding="utf-8"))
    click.echo(f"Written to {out}")


def _show_plan(study: Study, out: Path, *, robustness: bool, pictures: bool) -> None:
    """Say which methods would be compared, and on whom."""
    from bmdkit.study.task_values import SPLITS

    names = ", ".join(str(data) for data in study.datasets)
    click.echo(f"Data: {names}, {study.kind}.")
    for method in study.methods:
        places = ", ".join(f"fold {result.fold} seed {result.seed}" for result in method.results)
        rows = {(row.pair_id, row.patient_id) for result in method.results for row in result.of(study.split)}
        patients = len({patient for _, patient in rows})
        click.echo(f"{method.name}: {places}; {len(rows)} radiographs of {patients} patients ({SPLITS[study.split]}).")
    click.echo(f"It would write the metrics, tables and figures to {out}.")
    if robustness:
        click.echo("It would then predict JPEGs and spoilt radiographs, where the networks allow.")
    if pictures:
        click.echo("It would then draw the pictures that need networks.")


def _choose_folder(runs: tuple[Path, ...]) -> Path:
    """The folder `evaluation` in that of one run, or in the one that holds them all."""
    folders = [run.resolve() for run in runs]
    around = folders[0] if len(folders) == 1 else Path(os.path.commonpath([folder.parent for folder in folders]))
    return around / "evaluation"


def _format_number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
