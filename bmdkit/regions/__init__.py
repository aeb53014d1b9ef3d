"""Where in a hip to measure: landmarks, the proximal femur, its densities, and what speaks against measuring."""

from bmdkit.regions.areal import ArealMeasurement, areal_bmd
from bmdkit.regions.findings import Flag, QualityConfig
from bmdkit.regions.hip_check import check_hip
from bmdkit.regions.landmark_detection import DetectedLandmarks, LandmarkConfig, find_landmarks
from bmdkit.regions.scan_check import check_scan
from bmdkit.regions.volumetric import find_proximal_femora, proximal_femur, volumetric_bmd

__all__ = [
    "ArealMeasurement",
    "DetectedLandmarks",
    "Flag",
    "LandmarkConfig",
    "QualityConfig",
    "areal_bmd",
    "check_hip",
    "check_scan",
    "find_landmarks",
    "find_proximal_femora",
    "proximal_femur",
    "volumetric_bmd",
]
