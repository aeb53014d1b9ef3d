"""Everything of one digital patient, written to its places in a cohort."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bmdkit.core.anatomy import LABEL_VALUES, SIDES, Side
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.io.label_maps import write_labels
from bmdkit.io.markups import write_landmarks
from bmdkit.io.results import write_bytes, write_json
from bmdkit.io.volumes import write_volume
from bmdkit.regions.areal import areal_bmd
from bmdkit.regions.volumetric import proximal_femur, volumetric_bmd
from bmdkit.simulation.dicom import write_ct, write_radiograph
from bmdkit.simulation.exposure_site import find_site
from bmdkit.simulation.population import Person, Sex, draw_person
from bmdkit.simulation.procedural_anatomy import Anatomy
from bmdkit.simulation.radiography import RadiographSettings, mineral_channels, take_stored
from bmdkit.simulation.scan import Scan, ScanSettings, scan_patient
from bmdkit.simulation.settings import SimulateConfig
from bmdkit.simulation.tissue import Tissue, fill_tissue

DXA_ERROR = 0.018
"""Relative; the precision of DXA at the hip."""


class Draw(Protocol):
    """What makes a patient's anatomy."""

    def __call__(self, rng: np.random.Generator, *, sex: Sex | None = None) -> Anatomy:
        """Draw one patient of a group."""


@dataclass(frozen=True, eq=False)
class DigitalPatient:
    """One patient before anything is taken of him.

    Attributes:
        person: What the population says of him.
        anatomy: His shapes.
        tissue: What fills them.
        radiographs: How his radiographs are taken.
        dxa_factors: By side, what a DXA device reads of the areal BMD, as a factor of it.
    """

    person: Person
    anatomy: Anatomy
    tissue: Tissue
    radiographs: RadiographSettings
    dxa_factors: Mapping[Side, float]

    def describe(self) -> dict[str, Any]:
        """Return plain data: sex and site, where there are such."""
        site = self.radiographs.site
        sex = {} if self.person.sex is None else {"sex": self.person.sex}
        return sex | ({} if site is None else {"site": asdict(site)})


def draw_patient(
    draw: Draw, config: SimulateConfig, seed: int, number: int, rng: np.random.Generator
) -> DigitalPatient:
    """Draw the body of one patient and the site where he is examined.

    Args:
        draw: What makes anatomies.
        config: Settings of the cohort.
        seed: Seed of the cohort.
        number: Number of the patient.
        rng: Random generator of the patient's body.
    """
    person = draw_person(config.population, seed, number)
    anatomy = draw(rng, sex=person.sex)
    tissue = fill_tissue(anatomy, rng, config.mineral, person)
    radiographs = RadiographSettings(
        config.pixel_mm,
        find_site(config.site, seed, number),
        config.stress,
        config.stress_probability,
        config.population.pose_spread,
    )
    factors = {side: float(rng.normal(1, DXA_ERROR)) for side in SIDES}
    return DigitalPatient(person, anatomy, tissue, radiographs, factors)


def make_radiograph_generator(seed: int, number: int, place: int) -> np.random.Generator:
    """Make the random generator of one radiograph: it depends neither on the CT nor on the other radiographs.

    Args:
        seed: Seed of the cohort.
        number: Number of the patient.
        place: Number of the radiograph among those of the patient.
    """
    return np.random.default_rng([seed, number, place])


def locate_truth_file(out: Path, patient: str) -> Path:
    """Where a patient's truth lies; it is written last."""
    return out / "truth" / patient / "truth.json"


def simulate_patient(out: Path, patient: str, number: int, draw: Draw, config: SimulateConfig, seed: int) -> int:
    """Write everything of one patient, its truth last; returns its number."""
    rng = np.random.default_rng([seed, number])
    origin = f"bmdkit simulate {seed} {number} {patient}"
    drawn = draw_patient(draw, config, seed, number, rng)
    anatomy, tissue = drawn.anatomy, drawn.tissue
    matrix = 512 if config.full_size else 256
    scan = scan_patient(
        anatomy,
        tissue,
        ScanSettings(config.slice_mm, matrix, prone=config.prone, implant="implant" in config.stress),
        rng,
    )
    write_ct(out / "ct" / patient, scan.hu, patient, prone=config.prone, origin=origin)
    labels = anatomy.labels()
    truth = out / "truth" / patient
    write_labels(truth / "labels.nii.gz", labels)
    density = Volume(tissue.density(), anatomy.grid, "density_mg_cm3")
    write_volume(truth / "density.nii.gz", density)
    if "labels" in config.give:
        write_labels(out / "labels" / f"{patient}.nii.gz", labels)
    radiographs: dict[str, dict] = {}
    record = {
        "mineral_factor": tissue.mineral_factor,
        **drawn.describe(),
        "calibration": {
            "hu_per_mg_cm3": scan.hu_per_mg_cm3,
            "hu_at_zero": scan.hu_at_zero,
            "rods_xy_mm": scan.rods_xy_mm,
        },
        "radiographs": radiographs,
        "head_centre_lps": {side: anatomy.heads_mm[side].tolist() for side in ("L", "R")},
        "head_radius_mm": dict(anatomy.head_radii_mm),
        "labels": LABEL_VALUES,
        "proximal_femur": {side: _measure_hip(truth, drawn, labels, scan, side) for side in config.sides},
    }
    if "landmarks" in config.give:
        for side in config.sides:
            write_landmarks(out / "landmarks" / f"{patient}_{side}.mrk.json", anatomy.landmarks[side])
    mineral = mineral_channels(tissue)
    for place, pose in enumerate(config.poses):
        own = make_radiograph_generator(seed, number, place)
        radiographs[pose] = _simulate_radiograph(out, patient, drawn, mineral, pose, own, origin)
    write_json(locate_truth_file(out, patient), record)
    return number


def _measure_hip(truth: Path, drawn: DigitalPatient, labels: LabelMap, scan: Scan, side: Side) -> dict:
    """What a perfect tool would measure on the scan, the physical density, and a DXA device's reading of it."""
    anatomy = drawn.anatomy
    landmarks, name = anatomy.landmarks[side], f"femur_{side}"
    mask = proximal_femur(labels, landmarks)
    write_volume(truth / f"proximal_femur_{side}.nii.gz", Volume(mask.astype(np.uint8), labels.grid, "probability"))
    physical, volumetric = drawn.tissue.measure_bmd(anatomy, side)
    return {
        "qct_bmd_mg_cm3": volumetric_bmd(scan.reference, mask, labels.grid),
        "areal_bmd_g_cm2": float(areal_bmd(scan.reference, labels.mask(name), landmarks, grid=labels.grid).abmd_g_cm2),
        "physical_bmd_mg_cm3": volumetric,
        "physical_areal_bmd_g_cm2": physical,
        "dxa_bmd_g_cm2": physical * drawn.dxa_factors[side],
        "lesser_trochanter": anatomy.lesser_mm[side].tolist(),
        "landmarks_lps": {name: point.tolist() for name, point in landmarks.points_mm.items()},
    }


def _simulate_radiograph(
    out: Path, patient: str, drawn: DigitalPatient, mineral, pose: str, rng: np.random.Generator, origin: str
) -> dict:
    exposed, image = take_stored(drawn.anatomy, drawn.tissue, mineral, pose, rng, drawn.radiographs)
    if exposed.field is not None:
        buffer = io.BytesIO()
        np.save(buffer, np.packbits(exposed.field))
        write_bytes(out / "truth" / patient / f"field_{pose}.npy", buffer.getvalue())
    inverted = bool(rng.random() < 0.3)
    path = out / "xray" / f"{patient}_{pose}.dcm"
    write_radiograph(path, image, exposed, patient, inverted=inverted, origin=origin)
    geometry = exposed.geometry
    point = geometry.principal_point_uv
    return {
        "camera": {
            "sdd": geometry.sdd_mm,
            "pixel": geometry.column_spacing_mm,
            "rows": geometry.rows,
            "cols": geometry.columns,
            "ppx": float(point[0]),
            "ppy": float(point[1]),
            "focal_px": geometry.sdd_mm / geometry.column_spacing_mm,
            **({"reversed_columns": True} if geometry.reversed_columns else {}),
        },
        "ct_to_camera": {body: pose.matrix.tolist() for body, pose in exposed.camera_from_ct.items()},
        "kvp": exposed.kvp,
    }
