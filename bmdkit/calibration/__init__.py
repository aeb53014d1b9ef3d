"""From Hounsfield units to mg/cm3 of hydroxyapatite, by the rods of a phantom or without one."""

from bmdkit.calibration.line import Calibration, Rod
from bmdkit.calibration.modes import CalibrationConfig, LineSettings, RodPlace, calibrate

__all__ = ["Calibration", "CalibrationConfig", "LineSettings", "Rod", "RodPlace", "calibrate"]
