"""BMD of the hips of one radiograph: the call of the front door."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bmdkit.core.anatomy import Side, require_side
from bmdkit.core.device import resolve_device
from bmdkit.core.radiograph import Radiograph
from bmdkit.inference.hip_prediction import Prediction, choose_hips, predict_hip
from bmdkit.inference.predictor import Predictor, load_predictor
from bmdkit.inference.recalibrated import recalibrate
from bmdkit.io.known_hips import read_known_hips
from bmdkit.io.xray import read_radiograph


def predict(
    radiograph: Radiograph | str | Path,
    run: str | Path | Sequence[str | Path] | Predictor | None = None,
    *,
    side: Side | None = None,
    known: str | Path | None = None,
    device: str = "auto",
) -> dict[Side, Prediction]:
    """Estimate the BMD of the hips that an AP radiograph shows. For research, not for diagnosis.

    Args:
        radiograph: Image of the whole pelvis, the patient's left on its right; or its file, which is then read as
            those were that the run has learnt from.
        run: Folder of a finished decomposition run of dataset B, of a regression, of both (BMD by the regression, the
            projection by the decomposition), or of several decompositions (the mean of what they tell); or what
            `load_predictor` made of them. None: the networks that come with the package, which have learnt from
            simulated images alone.
        side: Hip to look at, the patient's own; None: the one that the file names, else both.
        known: CSV file of hips of the same place whose DXA-BMD is known (patient_id, xray, side, dxa_bmd), of four
            patients or more: DXA-BMD is told by the line that they give. Each call looks at their radiographs.
        device: Device of the network: auto, cpu or cuda[:N].

    Returns:
        One prediction per hip, by side.

    Raises:
        ValueError: The side is neither L nor R.
        CaseError: The file cannot be read, or shows the other side (BMD-XR-020), or one hip alone that nothing names
            (BMD-XR-025).
        PreflightError: The run cannot be used (BMD-TRN-009, BMD-PRE-001, -004), the known hips give no line
            (BMD-PRE-005), or the device is not there (BMD-TRN-010).

    Example:
        >>> found = predict("pelvis.dcm", "runs/b")["L"]  # doctest: +SKIP
        >>> found.bmd["dxa"], found.intervals["dxa"], found.quality  # doctest: +SKIP
    """
    if side is not None:
        require_side(side)
    if not isinstance(run, Predictor):
        run = load_predictor(_list_paths(run), device=resolve_device(device))
    if known is not None:
        run = recalibrate(run, read_known_hips(Path(known)))
    if not isinstance(radiograph, Radiograph):
        radiograph = read_radiograph(radiograph, config=run.xray)
    return {hip: predict_hip(run, radiograph, hip) for hip in choose_hips(radiograph, side)}


def _list_paths(runs: str | Path | Sequence[str | Path] | None) -> list[Path] | None:
    if runs is None:
        return None
    return [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
