"""Options that every long command takes, and how they become settings."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bmdkit.cli.recipe_files import Recipe

if TYPE_CHECKING:
    from bmdkit.core.grid import Grid

ENVIRONMENT = "BMDKIT"
FROM_ENVIRONMENT = (
    *("recipe", "overrides", "device", "seed", "n_jobs", "work_dir", "timeout_per_case", "overwrite", "dry_run"),
    *("fail_fast", "quiet", "verbose", "log_format", "dask"),
)
"""Options that a variable sets where the command line does not: BMDKIT_ and the option's name, BMDKIT_N_JOBS."""


def name_variables(command: click.Command) -> click.Command:
    """Let every common option of a command, and of the commands below it, be set by its variable."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name in FROM_ENVIRONMENT:
            longest = max(parameter.opts, key=len)
            parameter.envvar = f"{ENVIRONMENT}_{longest.lstrip('-').replace('-', '_').upper()}"
            parameter.show_envvar = True
    for inner in getattr(command, "commands", {}).values():
        name_variables(inner)
    return command


class Device(click.ParamType):
    """Name of a device: auto, cpu or cuda[:N]; the pre-flight of the command finds out whether it is there."""

    name = "device"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name if it is a device's."""
        from bmdkit.core.device import check_device_name

        try:
            return check_device_name(value)
        except ValueError as error:
            self.fail(str(error).removeprefix("device: "), param, ctx)


device = click.option(
    "--device",
    type=Device(),
    default="auto",
    show_default=True,
    help="cpu, cuda[:N], or auto: the GPU where it can be used, else the CPU. cpu gives the same bytes everywhere.",
)


n_jobs = click.option(
    "--n-jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of processes.",
)


n_jobs_per_processor = click.option(
    "--n-jobs",
    type=click.IntRange(min=1),
    help="Number of processes.  [default: one per processor]",
)


def dry_run(
    text: str = "Check all that is needed, say what would be done, and do nothing.",
) -> Callable[[Callable], Callable]:
    """--dry-run.

    Args:
        text: What it says and leaves undone, for the help.
    """
    return click.option("--dry-run", is_flag=True, help=text)


def describe_grid(grid: Grid) -> str:
    """Size and spacing of a CT, in words.

    Example:
        >>> import numpy as np
        >>> from bmdkit.core.grid import Grid
        >>> describe_grid(Grid((100, 256, 512), (0.8, 0.8, 2.5), (0, 0, 0), np.eye(3)))
        '100 slices of 256 x 512 pixels of 0.80 x 0.80 mm, 2.50 mm apart'
    """
    slices, rows, columns = grid.shape
    x, y, z = grid.spacing_mm
    return f"{slices} slices of {rows} x {columns} pixels of {y:.2f} x {x:.2f} mm, {z:.2f} mm apart"


def show_files(files: Sequence[Path], out: Path) -> None:
    """Say on a dry run which files would be written to a folder, and which of them would be replaced."""
    names = ", ".join(path.relative_to(out).as_posix() for path in files)
    click.echo(f"It would write to {out}: {names}.")
    there = [path.relative_to(out).as_posix() for path in files if path.exists()]
    if there:
        click.echo(f"There already, and to be replaced: {', '.join(there)}.")


def dicom_objects(written: str) -> Callable[[Callable], Callable]:
    """--dicom and --pseudonymise.

    Args:
        written: What is written as DICOM, for the help.
    """

    def decorate(command: Callable) -> Callable:
        dicom = click.option(
            "--dicom",
            is_flag=True,
            help=f"Also write {written} as DICOM objects that join the study of the image. They carry the patient's "
            "identification as the image does (name, PatientID, dates, UIDs), and are refused inside a dataset.",
        )
        pseudonymise = click.option(
            "--pseudonymise",
            is_flag=True,
            help="With --dicom: a pseudonym and new UIDs instead; OUT.keys.csv tells who is who.",
        )
        return dicom(pseudonymise(command))

    return decorate


def require_dicom(*, dicom: bool, pseudonymise: bool) -> None:
    """Refuse --pseudonymise where no object is written that names anybody."""
    if pseudonymise and not dicom:
        raise click.UsageError("--pseudonymise goes with --dicom: nothing else that is written names the patient")


def recipe_options(command: Callable) -> Callable:
    """Add --recipe and --set."""
    recipe = click.option(
        "--recipe", type=Recipe(), help="Recipe with the settings: a name of `bmdkit recipes`, or a YAML file."
    )
    overrides = click.option(
        "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override one setting."
    )
    return recipe(overrides(command))


def common(command: Callable) -> Callable:
    """Add the options of every command that works for long."""
    for option in reversed(
        [
            recipe_options,
            device,
            click.option(
                "--seed",
                type=int,
                default=0,
                show_default=True,
                help="Seed of all random draws.",
            ),
        ]
    ):
        command = option(command)
    return logging_options(command)


def logging_options(command: Callable) -> Callable:
    """Add -q, -v and --log-format, and set the log up before the command runs."""

    @click.option("-q", "--quiet", is_flag=True, help="Show warnings and errors only.")
    @click.option("-v", "--verbose", is_flag=True, help="Show every message.")
    @click.option(
        "--log-format",
        type=click.Choice(["rich", "json"]),
        default="rich",
        show_default=True,
        help="Form of the messages: for people, or one JSON object a line.",
    )
    @functools.wraps(command)
    def wrapped(*args, quiet: bool, verbose: bool, log_format: str, **kwargs):
        set_up_logging(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO, log_format)
        return command(*args, **kwargs)

    return wrapped


def set_up_logging(level: int, log_format: str) -> None:
    """Log of the package to standard error, for people (rich) or for machines (one JSON object a line).

    Where standard error is no terminal, rich gives way to one plain line a message, with day and time in front.
    """
    from rich.console import Console
    from rich.logging import RichHandler

    console = Console(stderr=True)
    handler: logging.Handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    elif console.is_terminal:
        handler = RichHandler(console=console, show_path=False, markup=False, log_time_format="%H:%M:%S")
    else:
        handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("bmdkit")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


class PlainFormatter(logging.Formatter):
    """One line per record, whatever line ends its message holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and below it the traceback if there is one."""
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        bare = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
        return " ".join(super().format(bare).splitlines()) + trace


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and the code and case if the record has them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        import json

        entry = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: getattr(record, key) for key in ("code", "case") if hasattr(record, key)}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def settings(kind: type, *, recipe: Path | None, overrides: tuple[str, ...], **flags):
    """Settings of one command; flags that were not given (None) leave the recipe's value.

    Raises:
        click.UsageError: A setting is unknown or mistyped.
    """
    from bmdkit import config

    try:
        return config.load(
            kind, recipe=recipe, overrides=overrides, flags={k: v for k, v in flags.items() if v is not None}
        )
    except config.ConfigError as error:
        raise click.UsageError(str(error)) from error
