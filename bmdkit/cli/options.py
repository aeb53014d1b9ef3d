"""Options that every long command takes, and how they become settings."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import click

ENVIRONMENT = "BMDKIT"


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
    envvar=f"{ENVIRONMENT}_DEVICE",
    help="cpu, cuda[:N], or auto: the GPU where it can be used, else the CPU. cpu gives the same bytes everywhere.",
)


n_jobs = click.option(
    "--n-jobs",
    type=click.IntRange(min=1),
    default=1,
    envvar=f"{ENVIRONMENT}_N_JOBS",
    show_default=True,
    help="Number of processes.",
)


n_jobs_per_processor = click.option(
    "--n-jobs",
    type=click.IntRange(min=1),
    envvar=f"{ENVIRONMENT}_N_JOBS",
    help="Number of processes.  [default: one per processor]",
)


def recipe_options(command: Callable) -> Callable:
    """Add --recipe and --set."""
    recipe = click.option(
        "--recipe",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="YAML recipe with the settings.",
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
                envvar=f"{ENVIRONMENT}_SEED",
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
        envvar=f"{ENVIRONMENT}_LOG_FORMAT",
        show_default=True,
        help="Form of the messages: for people, or one JSON object a line.",
    )
    @functools.wraps(command)
    def wrapped(*args, quiet: bool, verbose: bool, log_format: str, **kwargs):
        set_up_logging(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO, log_format)
        return command(*args, **kwargs)

    return wrapped


def set_up_logging(level: int, log_format: str) -> None:
    """Log of the package to standard error, for people (rich) or for machines (one JSON object a line)."""
    from rich.console import Console
    from rich.logging import RichHandler

    if log_format == "json":
        handler: logging.Handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
    else:
        handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False, log_time_format="%H:%M:%S")
    logger = logging.getLogger("bmdkit")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


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
