"""`bmdkit simulate`: a cohort of digital patients with known truth, or pairs of images straight from them."""

from __future__ import annotations

from pathlib import Path

import click

from bmdkit.cli import options
from bmdkit.cli.multi_value_options import ListCommand

_POSES = ("standing", "supine", "abduction", "adduction")
_OF_A_COHORT = {
    "patients": "--patients",
    "slice_mm": "--slice-mm",
    "prone": "--prone",
    "full_size": "--full-size",
    "give": "--give, --no-labels, --no-landmarks",
}
"""Flags that mean nothing where there is no CT."""
_STRESSES = ("marker", "collimation", "blades", "offcentre", "pa", "implant")


@click.command("simulate", cls=ListCommand)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--pairs", type=click.IntRange(min=1), metavar="N", help="Number of pairs of datasets A and B to make, without CTs."
)
@click.option("--patients", type=click.IntRange(min=1), metavar="N", help="Number of patients.  [default: 4]")
@click.option(
    "--poses",
    type=click.Choice(_POSES),
    multiple=True,
    help="Poses of the radiographs of each patient.  [default: standing supine]",
)
@click.option("--sides", type=click.Choice(["L", "R"]), multiple=True, help="Hips in the table.  [default: L R]")
@click.option("--prefix", metavar="TEXT", help="Prefix of the patients' names.  [default: sim]")
@click.option("--slice-mm", type=float, metavar="MM", help="Thickness of a CT slice.  [default: 3]")
@click.option(
    "--pixel-mm", type=float, metavar="MM", help="Size of a radiograph's pixel at the detector.  [default: 0.5]"
)
@click.option("--full-size", is_flag=True, default=None, help="Make CT slices of 512 x 512 instead of 256 x 256.")
@click.option("--prone", is_flag=True, default=None, help="Let the patients lie prone in the CT.")
@click.option(
    "--give",
    type=click.Choice(["labels", "landmarks", "none"]),
    multiple=True,
    help="Expert input that the cohort holds.  [default: labels landmarks]",
)
@click.option("--no-labels", is_flag=True, help="Leave the label maps out of the cohort.")
@click.option("--no-landmarks", is_flag=True, help="Leave the landmarks out of the cohort.")
@click.option(
    "--stress", type=click.Choice(_STRESSES), multiple=True, help="Difficulties to add to the images. Repeatable."
)
@click.option(
    "--site",
    metavar="per-image|mixed|N|N-M",
    help="Where radiographs are taken: each by itself, each patient at a site of his own, all at site N, or each "
    "patient at one of the sites N to M.  [default: per-image]",
)
@click.option(
    "--mineral", type=float, metavar="FACTOR", help="Factor of the bone mineral of every patient; drawn if not given."
)
@click.option(
    "--anatomy",
    type=click.Path(exists=True, path_type=Path),
    metavar="MAP",
    help="Label map to use as the patients' anatomy.",
)
@click.option(
    "--anatomy-labels",
    multiple=True,
    metavar="NAME=VALUE ...",
    help="Values of a map without names: pelvis, femur (or femur_L, femur_R), sacrum, spine, muscle=5-28, body.",
)
@click.option("--warp-mm", type=float, metavar="MM", help="Size of the random deformation of such a map.  [default: 3]")
@options.n_jobs
@click.option("--only", multiple=True, metavar="PATIENT ...", help="Simulate these patients only.")
@options.dry_run("Name the patients that would be simulated, and do nothing.")
@click.option("--overwrite", is_flag=True, help="Replace a simulated cohort of other settings.")
@options.common
def command(
    out,
    pairs,
    give,
    no_labels,
    no_landmarks,
    n_jobs,
    only,
    dry_run,
    overwrite,
    recipe,
    overrides,
    device,
    seed,
    **chosen,
) -> None:
    """Make a cohort with known truth in OUT: CT, radiographs, landmarks, labels, DXA values; no data needed.

    Truth lies in OUT/truth. The same seed makes the same patients, whatever their number; running again goes on where
    an earlier run stopped.

    With --pairs, OUT is a dataset as build-dataset makes it, at true poses, ready to train on. Simulations run on the
    CPU, so that their bytes are the same on every machine; a --device that is not there ends the command all the same.
    """
    import logging

    from bmdkit.cli.interrupts import ending_cleanly
    from bmdkit.cli.progress import naming_bar
    from bmdkit.jobs.machine import MachineNeeds, check_machine
    from bmdkit.simulation.patient import locate_truth_file
    from bmdkit.simulation.settings import SimulateConfig
    from bmdkit.simulation.simulated_cohort import list_patients, simulate_cohort

    log = logging.getLogger("bmdkit.cli.simulate")
    check_machine(MachineNeeds(device=device, out=out))
    flags = {name: value for name, value in chosen.items() if value not in (None, ())}
    if str(flags.get("site", "")).isdigit():
        flags["site"] = int(flags["site"])
    if give or no_labels or no_landmarks:
        kept = set(give or ("labels", "landmarks")) - {"none"}
        kept -= {name for name, drop in (("labels", no_labels), ("landmarks", no_landmarks)) if drop}
        flags["give"] = tuple(sorted(kept))
    if pairs is not None:
        _pairs(out, pairs, flags, n_jobs, only, dry_run, overwrite, recipe, overrides, seed)
        return
    config = options.settings(SimulateConfig, recipe=recipe, overrides=overrides, **flags)
    names = list_patients(config)
    if unknown := sorted(set(only) - set(names)):
        raise click.UsageError(f"--only: no {', '.join(unknown)} among {names[0]} to {names[-1]}")
    if dry_run:
        for name in only or names:
            click.echo(
                f"{name}: {'there' if locate_truth_file(out, name).exists() and not overwrite else 'to simulate'}"
            )
        return

    with ending_cleanly(), naming_bar("patients") as on_patient:
        table = simulate_cohort(
            out, config, seed=seed, n_jobs=n_jobs, only=only, overwrite=overwrite, progress=on_patient
        )
    log.info("written to %s", table)


def _pairs(out, pairs, flags, n_jobs, only, dry_run, overwrite, recipe, overrides, seed) -> None:
    import logging

    from bmdkit.cli.interrupts import ending_cleanly
    from bmdkit.cli.progress import naming_bar
    from bmdkit.dataset.layout import MANIFEST_CSV
    from bmdkit.dataset.simulated_pairs import plan_pairs, simulate_pairs
    from bmdkit.dataset.simulated_pairs_settings import SimulatePairsConfig

    log = logging.getLogger("bmdkit.cli.simulate")
    unfit = [text for name, text in _OF_A_COHORT.items() if name in flags] + ["--only"] * bool(only)
    if unfit:
        raise click.UsageError(f"{', '.join(unfit)}: not with --pairs")
    config = options.settings(SimulatePairsConfig, recipe=recipe, overrides=overrides, count=pairs, **flags)
    if dry_run:
        kept = sum(plan_pairs(out, config, seed=seed, overwrite=overwrite).values())
        click.echo(f"{config.count} pairs of each dataset, from {config.patients} patients, {kept} of them there")
        return

    with ending_cleanly(), naming_bar("patients") as on_patient:
        rows = simulate_pairs(out, config, seed=seed, n_jobs=n_jobs, overwrite=overwrite, progress=on_patient)
    left_out = sum(not row.pair.is_ok for row in rows)
    log.info("%d pairs of each dataset%s", config.count, f", {left_out} lines left out" if left_out else "")
    click.echo(out / MANIFEST_CSV)
