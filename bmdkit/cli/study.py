"""`bmdkit study`: data, trainings and comparison of a whole study from one recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from bmdkit.cli import options
from bmdkit.cli.recipe_files import Recipe

if TYPE_CHECKING:
    from bmdkit.study.outlook import StudyPlan


@click.command("study")
@click.argument("recipe_file", metavar="RECIPE", type=Recipe())
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Dataset to use instead of a simulated one.",
)
@click.option(
    "--data-ct",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The same patients built with uncalibrated targets, where the recipe has runs on them.",
)
@click.option(
    "--reference",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with name, mean_g_cm2 and sd_g_cm2 of young adults: adds T-scores.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override one setting.")
@click.option(
    "--n-jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of processes that simulate and, on a CPU, train.",
)
@click.option(
    "--kind", type=click.Choice(["simulated", "clinical"]), help="Kind of the data, where dataset.json does not say."
)
@options.device
@options.dry_run()
@options.logging_options
def command(
    recipe_file: Path,
    out: Path,
    data: Path | None,
    data_ct: Path | None,
    reference: Path | None,
    kind: Literal["simulated", "clinical"] | None,
    overrides: tuple[str, ...],
    n_jobs: int,
    device: str,
    dry_run: bool,
) -> None:
    """Train every run of RECIPE with every seed, and compare them: the paper's tables, figures and metrics.

    RECIPE is a name of `bmdkit recipes study`, or a YAML file. What an earlier call finished is kept.
    """
    import itertools

    from bmdkit.cli.progress import naming_bar
    from bmdkit.config import ConfigError
    from bmdkit.evaluation.terminal_table import study_lines
    from bmdkit.inference.t_score import Reference
    from bmdkit.study.outlook import plan_study
    from bmdkit.study.plan import RESULTS, run_study
    from bmdkit.study.plan_settings import StudyConfig

    config = options.settings(StudyConfig, recipe=recipe_file, overrides=overrides)
    if data is not None and config.cohorts:
        raise click.UsageError("--data: the recipe simulates cohorts of its own")
    if (data is None) != (data_ct is None) and "ct" in config.sources:
        raise click.UsageError("--data, --data-ct: the recipe has runs on both; give both datasets or none")
    if data_ct is not None and "ct" not in config.sources:
        raise click.UsageError("--data-ct: no run of the recipe is on uncalibrated targets")
    table = None if reference is None else options.settings(Reference, recipe=reference, overrides=())

    total = len(config.runs) * len(config.held_out) * len(config.seeds) * max(1, len(config.cohorts))
    begun = itertools.count()
    given: dict[str, Any] = {"recipes": recipe_file.parent, "data": data, "data_ct": data_ct, "kind": kind}
    try:
        if dry_run:
            _show_plan(plan_study(config, out, **given, device=device), out)
            return
        with naming_bar("runs") as on_step:
            figures = run_study(
                config,
                out,
                **given,
                device=device,
                n_jobs=n_jobs,
                reference=table,
                on_run=lambda name, seed: on_step(next(begun), total, f"{name}, seed {seed}"),
            )
    except ConfigError as error:  # of a run's recipe
        raise click.UsageError(str(error)) from error
    for cohort, found in figures.items():
        if cohort:
            click.echo(f"Cohort {cohort}")
        for line in study_lines(found):
            click.echo(line)
        results = out / cohort / RESULTS
        for name in ("table_1.md", "table_2.md", "table_3.md"):
            if (results / name).exists():
                click.echo((results / name).read_text(encoding="utf-8"))
        click.echo(f"Written to {results}")


def _show_plan(plan: StudyPlan, out: Path) -> None:
    """Say what a study would simulate and train, and what is done."""
    for folder, (there, count) in plan.simulated.items():
        click.echo(f"Data {folder.relative_to(out)}: {count - there} of {count} patients are to simulate.")
    for trainings in plan.trainings.values():
        for one in trainings:
            where = one.folder.relative_to(out).as_posix()
            click.echo(f"{where}: run {one.name}, fold {one.fold}, seed {one.seed}: {one.state}.")
    states = [one.state for trainings in plan.trainings.values() for one in trainings]
    left = len(states) - states.count("done")
    click.echo(
        f"{left} of {len(states)} runs are left to train, on {plan.device}; all would then be compared in {out}."
    )
