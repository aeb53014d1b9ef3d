"""`bmdkit fsck`: hash every file again, of a dataset or of a sealed cohort."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bmdkit.dataset.integrity import Finding


@click.command("fsck")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seal", is_flag=True, help="DIR is a cohort: write its SHA256SUMS, which builds then hold it against.")
@click.option(
    "--overwrite", is_flag=True, help="With --seal: replace an earlier seal, also for files that have changed."
)
def command(folder: Path, seal: bool, overwrite: bool) -> None:
    """Hash every file of the dataset, or of the sealed cohort, in DIR again.

    Each damaged, missing or extra file is named (exit code 3). Raw DICOM and NIfTI files have no checksum of their own:
    seal a cohort when its files have just been exported. Of a build that is not finished, the cases that are built are
    checked.
    """
    from bmdkit.dataset.input_checksums import check_input_checksums, write_input_checksums
    from bmdkit.dataset.integrity import read_sums
    from bmdkit.io.cohort import TABLE, read_cohort

    if overwrite and not seal:
        raise click.UsageError("--overwrite: only with --seal")
    if not seal and not (folder / TABLE).exists():
        _check_dataset(folder)
        return
    cases = read_cohort(folder, pseudonymise_key=b"any identifier will do").cases
    if seal:
        findings = write_input_checksums(folder, cases, overwrite=overwrite)
    else:
        findings = check_input_checksums(folder, cases)
    _show(findings, "restore them; if the changes are yours, seal anew with --seal --overwrite")
    click.echo(f"{len(read_sums(folder))} files, {'sealed' if seal else 'all as they were written'}")


def _check_dataset(folder: Path) -> None:
    from bmdkit.dataset.integrity import check_files, read_sums
    from bmdkit.dataset.status import check_built_cases, is_unfinished, read_status

    status = read_status(folder)
    if is_unfinished(folder):
        files, findings = check_built_cases(folder)
    else:
        findings = check_files(folder)
        files = 0 if findings else len(read_sums(folder))
    _show(findings, "build-dataset makes damaged cases anew")
    click.echo(f"{files} files, all as they were written")
    if not status.finished:
        of = "" if status.patients is None else f" of {status.patients}"
        click.echo(f"{status.built}{of} cases; {status.describe()}")


def _show(findings: list[Finding], remedy: str) -> None:
    """Name what is not as it was, and end with exit code 3 if anything is."""
    for finding in findings:
        click.echo(f"{finding.kind}  {finding.path}")
    if findings:
        click.echo(f"{len(findings)} files are not as they were; {remedy}", err=True)
        raise click.exceptions.Exit(3)
