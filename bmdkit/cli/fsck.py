"""`bmdkit fsck`: hash every file again, of a dataset or of a sealed cohort."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("fsck")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seal", is_flag=True, help="DIR is a cohort: write its SHA256SUMS, which builds then hold it against.")
@click.option("--overwrite", is_flag=True, help="With --seal: forget what an earlier seal says.")
def command(folder: Path, seal: bool, overwrite: bool) -> None:
    """Hash every file of the dataset, or of the sealed cohort, in DIR again.

    Names each damaged, missing or extra one (exit code 3). Raw DICOM and NIfTI files have no checksum of their own:
    seal a cohort when its files have just been exported.
    """
    from bmdkit.dataset.input_checksums import check_seal, write_seal
    from bmdkit.dataset.integrity import check, read_sums
    from bmdkit.dataset.status import require_dataset
    from bmdkit.io.cohort import TABLE, read_cohort

    if overwrite and not seal:
        raise click.UsageError("--overwrite: only with --seal")
    remedy = "build-dataset makes damaged cases anew"
    if seal or (folder / TABLE).exists():
        cases = read_cohort(folder, pseudonymise_key=b"any identifier will do").cases
        findings = write_seal(folder, cases, anew=overwrite) if seal else check_seal(folder, cases)
        remedy = "restore them; if the changes are yours, seal anew with --seal --overwrite"
    else:
        require_dataset(folder)
        findings = check(folder)
    for finding in findings:
        click.echo(f"{finding.kind}  {finding.path}")
    if findings:
        click.echo(f"{len(findings)} files are not as they were; {remedy}", err=True)
        raise click.exceptions.Exit(3)
    click.echo(f"{len(read_sums(folder))} files, {'sealed' if seal else 'all as they were written'}")
