"""The calibration of one CT: by a phantom found or given, by a line, by the patient's tissues, or not at all."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from bmdkit.calibration.axial_slices import AxialStack
from bmdkit.calibration.line import Calibration, Rod, Verdict, fit_line
from bmdkit.calibration.pattern import identify
from bmdkit.calibration.phantom_models import MODELS, PhantomModel, PhantomName
from bmdkit.calibration.phantomless import measure_tissues
from bmdkit.calibration.rods import Trace, find_phantom, measure_rods
from bmdkit.core.arguments import require_type
from bmdkit.core.volume import Volume
from bmdkit.errors import CaseError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RodPlace:
    """A rod whose place is given.

    Attributes:
        density_mg_cm3: Known, hydroxyapatite.
        center_lps_mm: A point on its axis.
    """

    density_mg_cm3: float
    center_lps_mm: tuple[float, float, float]


@dataclass(frozen=True)
class LineSettings:
    """A line given by the user, from another scan of the same scanner and protocol."""

    slope_mg_cm3_per_hu: float
    intercept_mg_cm3: float


@dataclass(frozen=True)
class CalibrationConfig:
    """How HU become mg/cm3.

    Attributes:
        mode: phantom; file (the line below, or a calibration.json that the command reads); phantomless (air, fat and
            muscle of the patient); none (HU in place of density, marked as such).
        phantom: Phantom to look for; auto tries the known ones; custom uses `densities_mg_cm3` or `model`.
        densities_mg_cm3: Of a custom phantom: hydroxyapatite rods in a row, in any order.
        diameter_mm, spacing_mm: Ranges of a custom phantom's rods.
        rods: Places of the rods, if they are not to be looked for.
        rod_radius_mm: Radius of rods whose places are given.
        line: Line that mode file takes.
        least_r: Pearson's r below which a calibration is refused.
        accept_r, accept_residual: r and residual (as a share of the densities' span) for the verdict accept.
    """

    mode: Literal["phantom", "file", "phantomless", "none"] = "phantom"
    phantom: Literal["auto", "b-mas200", "qrm-bdc-3", "qrm-bdc-6", "mindways-3", "custom"] = "auto"
    densities_mg_cm3: tuple[float, ...] = ()
    diameter_mm: tuple[float, float] = (13.0, 26.0)
    spacing_mm: tuple[float, float] = (24.0, 65.0)
    rods: tuple[RodPlace, ...] = ()
    rod_radius_mm: float = 8.0
    line: LineSettings | None = None
    least_r: float = 0.98
    accept_r: float = 0.999
    accept_residual: float = 0.015

    def __post_init__(self) -> None:
        """Check that a custom phantom is described, and that given rods differ."""
        if self.phantom == "custom" and self.mode == "phantom" and not self.rods and len(self.densities_mg_cm3) < 3:
            raise ValueError(f"densities_mg_cm3: a custom phantom needs at least three, got {self.densities_mg_cm3}")
        if self.rods and len({rod.density_mg_cm3 for rod in self.rods}) < 2:
            raise ValueError("rods: expected at least two different densities")

    def models(self) -> tuple[PhantomModel, ...]:
        """The phantoms to look for."""
        if self.phantom == "auto":
            return tuple(MODELS.values())
        if self.phantom == "custom":
            return (
                PhantomModel(
                    "custom",
                    self.densities_mg_cm3,
                    diameter_mm=self.diameter_mm,
                    spacing_mm=self.spacing_mm,
                    orders_mg_cm3=(self.densities_mg_cm3,),
                ),
            )
        return (MODELS[self.phantom],)


def calibrate(ct: Volume, config: CalibrationConfig | None = None) -> Calibration:
    """Find the line from HU to mg/cm3 of one CT.

    Args:
        ct: HU.
        config: The mode and the phantom.

    Raises:
        CaseError: BMD-CAL-001, no phantom found; 002, its rods do not fit; 003, a given rod lies outside; 004, no line
            given; 005, phantomless without enough tissue.

    Source: Uemura et al. 2021, doi 10.1007/s11548-021-02345-w; Eggermont et al. 2019, doi 10.1371/journal.pone.0220564.

    Example:
        >>> from bmdkit import read_ct
        >>> ct = read_ct("cohort/ct/sim000").volume
        >>> line = calibrate(ct)
        >>> line.phantom, line.apply(ct).quantity
        ('b-mas200', 'density_mg_cm3')
    """
    require_type("ct", ct, Volume)
    ct.require("hu")
    config = CalibrationConfig() if config is None else config
    match config.mode:
        case "none":
            notes = ("HU in place of density",)
            return Calibration(1.0, 0.0, None, None, (), "none", verdict="review", notes=notes)
        case "file":
            if config.line is None:
                raise CaseError(
                    "BMD-CAL-004", "calibration.mode is file, and no file and no calibration.line is given."
                )
            return Calibration(config.line.slope_mg_cm3_per_hu, config.line.intercept_mg_cm3, None, None, (), "file")
        case "phantomless":
            rods = measure_tissues(AxialStack.of(ct))
            slope, intercept, residual, r = fit_line(*_columns(rods))
            notes = ("from air, fat and muscle: less exact than a phantom",)
            return Calibration(slope, intercept, residual, None, rods, "phantomless", r, "review", notes)
        case _:
            return _by_phantom(AxialStack.of(ct), config)


def _by_phantom(stack: AxialStack, config: CalibrationConfig) -> Calibration:
    trace = _given(stack, config) if config.rods else find_phantom(stack, config.models())
    if trace is None:
        names = ", ".join(model.name for model in config.models())
        raise CaseError("BMD-CAL-001", f"no row of rods of {names} in {len(stack.array)} slices.")
    rods = measure_rods(stack, trace)
    if not rods:
        raise CaseError("BMD-CAL-001", f"the rods of {trace.model.name} show on fewer than three slices.")
    model = trace.model
    if any(model.water_hu):
        slope_hu, zero_hu, residual, r = identify([rod.hu for rod in rods], trace.rods, model)
        slope_hu, zero_hu = slope_hu + model.slope_shift, zero_hu + model.intercept_shift_hu
        slope, intercept = 1 / slope_hu, -zero_hu / slope_hu
    else:
        slope, intercept, residual, r = fit_line(*_columns(rods))
    if r < config.least_r or slope <= 0:
        raise CaseError("BMD-CAL-002", f"{model.name}: r {r:.4f} over {len(rods)} rods, needed {config.least_r}.")
    verdict, notes = _judge(trace, rods, residual, r, config)
    _LOG.info("%s: %d rods, r %.5f, residual %.2f mg/cm3, %s", model.name, len(rods), r, residual, verdict)
    return Calibration(slope, intercept, residual, model.name, rods, "phantom", r, verdict, notes)


def _judge(
    trace: Trace, rods: tuple[Rod, ...], residual: float, r: float, config: CalibrationConfig
) -> tuple[Verdict, tuple[str, ...]]:
    notes = []
    count = len(trace.model.densities_mg_cm3)
    if len(rods) < count:
        notes.append(f"{len(rods)} of {count} rods in view")
    if r < config.accept_r:
        notes.append(f"r {r:.4f} below {config.accept_r}")
    allowed = config.accept_residual * trace.model.span_mg_cm3
    if residual > allowed:
        notes.append(f"residual {residual:.2f} mg/cm3 above {allowed:.2f}")
    if rods[0].slices is not None and rods[0].slices < 5:
        notes.append(f"rods on {rods[0].slices} slices only")
    return ("review" if notes else "accept"), tuple(notes)


def _given(stack: AxialStack, config: CalibrationConfig) -> Trace:
    """The trace of rods whose places are given: straight across the slices."""
    densities = tuple(rod.density_mg_cm3 for rod in config.rods)
    if config.phantom in ("auto", "custom"):
        model = PhantomModel("given", densities)
    else:
        model = MODELS[cast(PhantomName, config.phantom)]
    chosen = tuple(int(np.argmin(np.abs(np.array(model.densities_mg_cm3) - density))) for density in densities)
    places = stack.indices(np.array([rod.center_lps_mm for rod in config.rods]))[:, 1:]
    inside = (places >= 0).all(axis=1) & (places <= np.array(stack.array.shape[1:]) - 1).all(axis=1)
    if not inside.all():
        worst = config.rods[int(np.argmin(inside))]
        raise CaseError("BMD-CAL-003", f"the rod of {worst.density_mg_cm3:g} mg/cm3 at {worst.center_lps_mm} mm.")
    return Trace(model, chosen, config.rod_radius_mm, np.repeat(places[None], len(stack.array), axis=0))


def _columns(rods: tuple[Rod, ...]) -> tuple[list[float], list[float]]:
    return [rod.hu for rod in rods], [rod.density_mg_cm3 for rod in rods]
