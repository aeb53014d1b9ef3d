"""What all cases of a build share, and what each of them gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bmdkit.core.case import Case
from bmdkit.dataset.input_checksums import InputChecksums
from bmdkit.dataset.settings import BuildConfig
from bmdkit.dataset.stage_clock import Spent


@dataclass(frozen=True)
class BuildContext:
    """What all cases of a build share.

    Attributes:
        out: The dataset.
        staging: Private folder of the run, on the same file system if possible.
        config: Everything that can change a result.
        anonymous: File names of the cohort must not be shown.
        device: Device of renderer and registration.
        overwrite: Make every case anew.
        checksums: Hashes that the inputs have to have; None: the cohort is not sealed.
    """

    out: Path
    staging: Path
    config: BuildConfig
    anonymous: bool = False
    device: str = "cpu"
    overwrite: bool = False
    checksums: InputChecksums | None = None

    def select_case(self, case: Case) -> BuildContext:
        """What the process of one case has to know: of the checksums, no more than is about its inputs."""
        return self if self.checksums is None else replace(self, checksums=self.checksums.select_case(case))


@dataclass(frozen=True)
class CaseResult:
    """How one case came out; small, for the parent process.

    Attributes:
        patient_id: The case.
        status: "ok" or "quarantined": some or all of its pairs are left out.
        problems: Pair, code and reason of what is left out, see `manifest.list_problems`.
        reused: Whether what was there before was verified and kept.
        staged: Folder where it waits to be published; None when it was reused.
        spent: Time by stage.
        notes: Sentences that a user should know.
        kept: Whether an earlier result stays although the new build failed.
    """

    patient_id: str
    status: str
    problems: tuple[tuple[str, str, str], ...] = ()
    reused: bool = False
    staged: Path | None = None
    spent: Mapping[str, Spent] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kept: bool = False
