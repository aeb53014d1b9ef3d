"""A whole study from one recipe: cohorts, the trainings of every fold and seed, and the comparison of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bmdkit.core.device import resolve_device
from bmdkit.dataset.simulated_pairs import simulate_pairs
from bmdkit.inference.t_score import Reference
from bmdkit.io.results import write_json
from bmdkit.jobs.local_pool import run_in_pool
from bmdkit.study.comparison import evaluate_runs, read_kind, read_study
from bmdkit.study.members import MEMBER, Member, list_members, prepare_study, read_member, split_chains
from bmdkit.study.paper_figures import choose_shown, draw_compression
from bmdkit.study.plan_settings import StudyConfig
from bmdkit.study.representation import draw_pictures
from bmdkit.study.robustness import measure_robustness
from bmdkit.study.task_values import Kind
from bmdkit.training.decomposition import train_decomposition
from bmdkit.training.regression import train_regression
from bmdkit.training.settings import DecompositionConfig

RESULTS = "results"


def run_study(
    config: StudyConfig,
    out: Path,
    *,
    recipes: Path,
    data: Path | None = None,
    data_ct: Path | None = None,
    kind: Kind | None = None,
    device: str = "auto",
    n_jobs: int = 1,
    reference: Reference | None = None,
    on_run: Callable[[str, int], None] | None = None,
) -> dict[str, Any]:
    """Train what is not there yet, and compare.

    Args:
        config: The study.
        out: Folder that gets data/ and data_ct/ (unless they are given), runs/ and results/; where cohorts are named,
            each has a folder with these.
        recipes: The folder to which the runs' recipes are relative.
        data: A built dataset in place of simulated pairs.
        data_ct: The same patients built with uncalibrated targets, where a run learns from such.
        kind: Kind of the data; None: as dataset.json says.
        device: Device to compute on: auto, cpu or cuda[:N].
        n_jobs: Number of processes that simulate and, on a CPU, train, each on one core: runs that do not start from
            each other are trained side by side, as are seeds, folds and cohorts.
        reference: Young adults from whom T-scores count.
        on_run: Called with the name and the seed of each run before it starts, or, with several processes, when it and
            all that starts from it are done.

    Returns:
        The figures of each cohort by its name, as results/metrics.json has them; see `evaluate_runs`. The name is
        empty where none is named.

    Raises:
        ConfigError: A recipe holds an unknown setting; nothing was started.
        ValueError: Data are given beside cohorts, or one of two datasets is given that the runs learn from.
        PreflightError: Data or runs cannot be used, or nothing says of which kind the data are (BMD-EVA-005).
    """
    study = prepare_study(config, out, recipes=recipes, data=data, data_ct=data_ct, device=device)
    for place in study.simulated:
        simulate_pairs(place.folder, place.settings, seed=config.data_seed, n_jobs=n_jobs)
    kinds = {name: kind or read_kind(*own.values()) for name, own in study.places.items()}
    members = [member for name in study.places for member in list_members(config, study, out, name)]
    if n_jobs == 1 or resolve_device(device) != "cpu":  # several trainings would not fit one GPU
        _train_chain(members, device, on_run)
    else:
        for done in run_in_pool(_train_chain, [(chain, device) for chain in split_chains(members)], n_jobs):
            for member in done:
                if on_run is not None:
                    on_run(member.name, member.seed)
    return {
        name: _compare(config, out / name, list(own.values()), kinds[name], device, reference)
        for name, own in study.places.items()
    }


def _train_chain(
    members: Sequence[Member], device: str, on_run: Callable[[str, int], None] | None = None
) -> Sequence[Member]:
    """Train one after the other; gives the same."""
    for member in members:
        if on_run is not None:
            on_run(member.name, member.seed)
        _train_member(member, device)
    return members


def _compare(
    config: StudyConfig, out: Path, datasets: Sequence[Path], kind: Kind, device: str, reference: Reference | None
) -> dict[str, Any]:
    """Compare the runs of one cohort; gives the figures."""
    compared, results = config.folders(out, compared=True), out / RESULTS
    figures = evaluate_runs(compared, datasets, results, kind=kind, reference=reference)
    if config.robustness:
        shown = choose_shown(read_study(compared, datasets, "test", kind).methods)
        measure_robustness(compared, datasets, results, methods=shown, device=device)
        draw_compression(results, "test", kind, data=datasets[0])
    if config.pictures:
        draw_pictures(config.folders(out), datasets, results, split="test", kind=kind, device=device)
    return figures


def _train_member(member: Member, device: str) -> None:
    """Train one run, unless it has been finished from the same data, settings and start."""
    made_from = member.describe()
    if read_member(member.folder) == made_from:
        return
    given: dict[str, Any] = {"seed": member.seed, "device": device, "init_from": member.start}
    if isinstance(member.settings, DecompositionConfig):
        train_decomposition(member.data, member.folder, member.settings, **given)
    else:
        train_regression(member.data, member.folder, member.settings, **given)
    write_json(member.folder / MEMBER, made_from)
