"""`bmdkit train`: learn from a built dataset, or from labelled CTs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bmdkit.cli.options import common, dry_run, settings
from bmdkit.cli.progress import epochs_bar
from bmdkit.errors import CODES

if TYPE_CHECKING:
    from bmdkit.training.run_plan import TrainingPlan


@click.group("train")
def command() -> None:
    """Train a network on a built dataset, or on labelled CTs."""


def _training(trained: Callable) -> Callable:
    """Add what every training takes."""

    @functools.wraps(trained)
    def checked(out: Path, device: str, **arguments: Any) -> None:
        from bmdkit.jobs.machine import MachineNeeds, check_machine

        trained(out=out, device=check_machine(MachineNeeds(device=device, out=out)), **arguments)

    options: list[Callable[[Callable], Callable]] = [
        click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path)),
        click.option(
            "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run."
        ),
        click.option(
            "--fold", metavar="K|all", callback=_fold, help="Fold to hold out; all holds nobody out.  [default: 0]"
        ),
        click.option("--overwrite", is_flag=True, help="Start anew; without it a run is resumed."),
        dry_run(),
    ]
    decorated: Callable = checked
    for option in reversed(options):
        decorated = option(decorated)
    return common(decorated)


def _fold(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | str | None:
    if text is None or text == "all":
        return text
    if not text.isdecimal():
        raise click.BadParameter(f"expected a fold's number or all, got {text!r}")
    return int(text)


class _StartRun(click.Path):
    """Folder of a finished run, or the word for a network that comes with the package."""

    name = "run"

    def __init__(self, shipped: str) -> None:
        """Take the kind of network that the word stands for."""
        super().__init__(exists=True, file_okay=False, path_type=Path)
        self.shipped = shipped

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The folder; a folder of the name of the word is meant by ./ before it."""
        from bmdkit.segmentation.failures import SHIPPED
        from bmdkit.training.shipped import DECOMPOSITION, WORD

        if value == WORD:
            return SHIPPED if self.shipped == "segmentation" else DECOMPOSITION
        return super().convert(value, param, ctx)


@command.command("decomposition")
@_training
@click.option("--dataset", type=click.Choice(["A", "B"]), help="A: pelvis and femur. B: the proximal femur.")
@click.option(
    "--init-from",
    type=_StartRun("decomposition"),
    metavar="RUN|bmdkit",
    help="Folder of a finished run to start from: stage two (B) from stage one (A); or bmdkit: the network that comes "
    "with it, trained on simulated images alone.",
)
def decomposition(data, out, fold, overwrite, dry_run, recipe, overrides, device, seed, dataset, init_from) -> None:
    """Learn to see the bones' areal density in a radiograph.

    DATA is the output of build-dataset. The run's folder gets the weights, log.csv, predictions.csv, metrics.json and
    montage.png; run the same command again to go on after an interruption.
    """
    from bmdkit.training.decomposition import plan_decomposition, train_decomposition
    from bmdkit.training.settings import DecompositionConfig

    config = settings(DecompositionConfig, recipe=recipe, overrides=overrides, dataset=dataset, fold=fold)
    given = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    if dry_run:
        _show_plan(plan_decomposition(data, out, config, **given))
        return
    with epochs_bar() as on_epoch:
        trained = train_decomposition(data, out, config, on_epoch=on_epoch, **given)
    if trained is None:
        return
    _print_metrics(f"Dataset {config.dataset}", trained.metrics)
    click.echo(f"Run: {out}   montage: {out / 'montage.png'}   progress: {out / 'progress.png'}")
    _judge([trained.metrics], config.loop.judge)


@command.command("regression")
@_training
@click.option("--task", type=click.Choice(["dxa", "qct"]), help="BMD to learn.  [default: dxa]")
@click.option(
    "--init-from",
    type=_StartRun("decomposition"),
    metavar="RUN|bmdkit",
    help="Folder of the decomposition run whose encoder is taken over; or bmdkit: the one that comes with it.",
)
def regression(data, out, fold, overwrite, dry_run, recipe, overrides, device, seed, task, init_from) -> None:
    """Learn BMD from what a decomposition run has learnt (stage three).

    First the encoder is held (RUN/frozen), then it is tuned too (RUN/tuned); both get weights, predictions.csv and
    metrics.json. Without --init-from all is trained from scratch (RUN/scratch).
    """
    _regress("representation", data, out, fold, overwrite, dry_run, recipe, overrides, device, seed, task, init_from)


@command.command("baseline")
@_training
@click.option("--task", type=click.Choice(["dxa", "qct"]), help="BMD to learn.  [default: dxa]")
def baseline(data, out, fold, overwrite, dry_run, recipe, overrides, device, seed, task) -> None:
    """Learn BMD directly from the region of the proximal femur: the method to compare with."""
    _regress("baseline", data, out, fold, overwrite, dry_run, recipe, overrides, device, seed, task, None)


@command.command("key-points")
@_training
@click.option(
    "--init-from",
    type=_StartRun("decomposition"),
    metavar="RUN|bmdkit",
    help="Folder of the decomposition run whose encoder is taken over; or bmdkit: the one that comes with it.",
)
def key_points(data, out, fold, overwrite, dry_run, recipe, overrides, device, seed, init_from) -> None:
    """Learn where the landmarks of the proximal femur project.

    First the encoder is held (RUN/frozen), then it is tuned too (RUN/tuned); without --init-from all is trained from
    scratch (RUN/scratch). Each gets weights, predictions.csv and metrics.json.
    """
    from bmdkit.training.key_points import KeyPointConfig, plan_key_points, train_key_points

    config = settings(KeyPointConfig, recipe=recipe, overrides=overrides, fold=fold)
    given = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    if dry_run:
        _show_plan(plan_key_points(data, out, config, **given))
        return
    with epochs_bar() as on_epoch:
        figures = train_key_points(data, out, config, on_epoch=on_epoch, **given)
    for phase, metrics in figures.items():
        for split in ("train", "test"):
            if "all" in metrics.get(split, {}):
                told = metrics[split]["all"]
                click.echo(
                    f"{phase}, {split}: {told['n']} points, median {told['median_mm']:.1f} mm at the detector "
                    f"(their mean place: {told['median_of_mean_mm']:.1f} mm)"
                )
    click.echo(f"Run: {out}")


@command.command("segmentation")
@_training
@click.option(
    "--init-from",
    type=_StartRun("segmentation"),
    metavar="RUN|bmdkit",
    help="Folder of a finished segmentation run to start from (fine-tuning); or bmdkit: the one that comes with it.",
)
def segmentation(data, out, fold, overwrite, dry_run, recipe, overrides, device, seed, init_from) -> None:
    """Learn to label the bones of a CT.

    DATA is a cohort whose column labels is filled, or a folder with images/NAME.nii.gz and labels/NAME.nii.gz. The run
    gets the weights, log.csv, structures.csv (Dice, surface distance and uncertainty of each), metrics.json and a
    figure; run the same command again to go on after an interruption.
    """
    from bmdkit.training.segmentation import plan_segmentation, train_segmentation
    from bmdkit.training.segmentation_settings import SegmentationTrainingConfig

    config = settings(SegmentationTrainingConfig, recipe=recipe, overrides=overrides, fold=fold)
    given = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    if dry_run:
        _show_plan(plan_segmentation(data, out, config, **given))
        return
    with epochs_bar() as on_epoch:
        metrics = train_segmentation(data, out, config, on_epoch=on_epoch, **given)
    if metrics is None:
        return
    held = f"held out (fold {metrics['fold']})" if metrics["split"] == "test" else "trained on: nobody is held out"
    click.echo(f"{metrics['cts']} CTs of {metrics['patients']} patients, {held}")
    for name, figures in metrics["structures"].items():
        dice, apart = _text(figures.get("dice"), ".3f"), _text(figures.get("assd_mm"), ".2f")
        click.echo(f"  {name:<8}Dice {dice}   surface distance {apart} mm")
    click.echo(f"Run: {out}")


def _regress(network, data, out, fold, overwrite, dry_run, recipe, overrides, device, seed, task, init_from) -> None:
    from bmdkit.training.regression import plan_regression, train_regression
    from bmdkit.training.regression_settings import RegressionConfig

    config = settings(RegressionConfig, recipe=recipe, overrides=overrides, network=network, task=task, fold=fold)
    given = {"seed": seed, "device": device, "init_from": init_from, "overwrite": overwrite}
    if dry_run:
        _show_plan(plan_regression(data, out, config, **given))
        return
    with epochs_bar() as on_epoch:
        figures = train_regression(data, out, config, on_epoch=on_epoch, **given)
    for phase, metrics in figures.items():
        _print_metrics(f"{config.task.upper()}-BMD, {phase}", metrics)
    click.echo(f"Run: {out}")
    _judge(list(figures.values())[-1:], config.loop.judge)


def _show_plan(plan: TrainingPlan) -> None:
    """Say what a training would do."""
    names = {"train": "learn from", "tune": "tune with", "test": "hold out"}
    parts = [
        f"{names[split]} {_count(one.patients, 'patient')} ({_count(one.samples, plan.samples.removesuffix('s'))})"
        for split, one in plan.counts.items()
    ]
    if "test" not in plan.counts:
        parts.append("hold out nobody")
    fold = f" Fold {plan.fold} is held out." if "test" in plan.counts else ""
    click.echo(f"It would {', '.join(parts[:-1])} and {parts[-1]}.{fold}")
    if plan.init_from is not None:
        click.echo(f"It would start from the weights of {plan.init_from}.")
    for phase in plan.phases:
        steps = "" if phase.epoch_steps is None else f" of {_count(phase.epoch_steps, 'step')}"
        name = f" {phase.name}" if phase.name else ""
        done = f", {phase.epochs_done} of them done" if phase.epochs_done else ""
        click.echo(f"Training{name}: {_count(phase.epochs, 'epoch')}{steps}{done}.")
        if phase.epoch_steps is None:
            click.echo("How many steps an epoch has is known when the slices of the CTs have been made.")
    if not plan.phases:
        click.echo("It would fit a ridge regression, which takes no epochs.")
    click.echo(f"It would compute on {plan.device}.")
    click.echo(_describe_folder(plan))


def _describe_folder(plan: TrainingPlan) -> str:
    """What becomes of the folder of a run, in a sentence."""
    if plan.folder == "new":
        return f"It would begin anew: {plan.out} holds no run yet."
    if plan.folder == "replaced":
        return f"It would begin anew: all that {plan.out} holds would be removed."
    if plan.is_over:
        return f"The run in {plan.out} is finished: its weights would be kept, and its figures written again."
    if not plan.phases:
        return f"{plan.out} holds this run: it would be made again."
    begun = [phase for phase in plan.phases if phase.epochs_done and not phase.is_over]
    ended = [phase for phase in plan.phases if phase.is_over]
    if begun:
        where = f"after epoch {begun[0].epochs_done} of {begun[0].epochs}"
        where += f" of {begun[0].name}" if begun[0].name else ""
    else:
        where = f"after {ended[-1].name}" if ended else "from its beginning, as no epoch is kept"
    return f"The run in {plan.out} would be resumed {where}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _judge(metrics: Sequence[dict], judges: bool) -> None:
    """End with status 3 where a training has failed and is judged."""
    from bmdkit.training.weakness import is_failure

    if judges and any(is_failure(one) for one in metrics):
        click.get_current_context().exit(3)


def _print_metrics(title: str, metrics: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    splits = [split for split in ("train", "tune", "test") if split in metrics]
    names = {"train": "trained on", "tune": "tuned with", "test": f"held out (fold {metrics['fold']})"}
    table = Table("", *(names[split] for split in splits), title=title)
    for name, text in _LINES:
        texts = [text(metrics[split] | {"task": metrics.get("task")}) for split in splits]
        if any(texts):
            table.add_row(name, *texts)
    Console().print(table)
    for weakness in metrics.get("weaknesses", []):
        click.echo(f"{weakness['code']}: {weakness['message']} {CODES[weakness['code']].cause}", err=True)


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _image(name: str, form: str) -> Callable[[dict], str]:
    return lambda m: _text(m[name], form) if name in m else ""


def _bmd(task: str, form: str) -> Callable[[dict], str]:
    def text(m: dict) -> str:
        values = m if m.get("task") == task else m.get(task)
        if not values or not values["n"]:
            return ""
        return f"{_text(values['mae'], form)}, {_text(values['pcc'], '.3f')}"

    return text


_LINES = (
    ("patients", lambda m: str(m["patients"]) if "patients" in m else ""),
    ("images", lambda m: str(m.get("images", m.get("n", "")))),
    ("L1, g/cm2", _image("l1_g_cm2", ".4f")),
    ("PSNR, dB", _image("psnr_db", ".1f")),
    ("Dice", _image("dice", ".3f")),
    ("PCC of the mean", _image("pf_drr_mean_pcc", ".3f")),
    ("DXA-BMD: MAE g/cm2, PCC", _bmd("dxa", ".3f")),
    ("QCT-BMD: MAE mg/cm3, PCC", _bmd("qct", ".1f")),
)
