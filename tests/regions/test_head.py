"""The femoral head: one fit for landmarks, registration and simulation, on solids and on the bones of patients."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from hip_skeleton import HEADS, skeleton
from scipy import ndimage
from scipy.spatial.transform import Rotation
from solid_femur import VALUES, SolidFemur

from bmdkit.core.anatomy import LABEL_VALUES, SIDES
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume, bounding_box
from bmdkit.errors import CaseError
from bmdkit.io.volumes import read_array, turn_to_axial
from bmdkit.regions import find_landmarks
from bmdkit.regions.head import HeadConfig, find_head
from bmdkit.registration.bodies import prepare_bodies

PATIENTS = ("Pelvic-Ref-001", "Pelvic-Ref-002")
TURNED_MM = 1.5  # a head's centre may move by this much when the femur is turned: its slices are 3 mm thick
ON_SPHERE_MM = 2.0  # from the sphere to a surface voxel of the head: half a slice and the roughness of a bone
LEAST_ON_SPHERE = 0.5  # share of the half-sphere's surface; the rest is fovea, rim and, in 002, arthrosis


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("spacing_mm", [(1.5, 1.5, 1.5), (0.8, 0.8, 3.0)])
def test_the_head_of_a_solid_femur(side, spacing_mm):
    femur = SolidFemur(side)
    head = find_head(femur.labels(spacing_mm), side)
    assert np.linalg.norm(head.centre_mm - femur.head) < 0.7  # less than half a voxel
    assert head.radius_mm == pytest.approx(femur.head_radius, abs=0.5)
    assert head.inliers > 0.9


def test_registration_turns_a_femur_about_the_head_that_the_landmarks_have():
    density, labels = skeleton()
    bodies = {body.name: body for body in prepare_bodies(density, labels)}
    for side in SIDES:
        centre = bodies[f"femur_{side}"].centre_mm
        assert np.array_equal(centre, find_head(labels, side).centre_mm)
        assert np.linalg.norm(centre - HEADS[side]) < 2.0  # voxels are 3 mm


def test_what_is_no_head_is_refused():
    _, labels = skeleton()
    with pytest.raises(CaseError, match="BMD-LMK-001"):
        find_head(labels.crop((slice(0, 30), slice(None), slice(None))), "L")  # the shaft alone
    with pytest.raises(CaseError, match="no voxel"):
        find_head(LabelMap(np.zeros((4, 4, 4)), Grid((4, 4, 4), [1] * 3, [0] * 3, np.eye(3)), VALUES), "L")
    with pytest.raises(CaseError, match="radius"):
        find_head(labels, "L", HeadConfig(radius_mm=(30.0, 34.0)))


def test_a_femur_without_a_head_is_left_out_of_the_registration():
    density, labels = skeleton()
    array = labels.array.copy()
    away = labels.grid.points(np.moveaxis(np.indices(array.shape), 0, -1)) - HEADS["L"]
    array[(array == labels.values["femur_L"]) & (np.linalg.norm(away, axis=-1) < 60)] = 0  # leaves the shaft
    bodies = prepare_bodies(density, LabelMap(array, labels.grid, labels.values))
    assert [body.name for body in bodies] == ["pelvis", "femur_R"]
    assert set(bodies[0].joints_mm) == {"R"}


@functools.cache
def patient_labels(path: Path) -> LabelMap:
    """Pelvis and femurs of a patient; the map has one value for both femurs."""
    array, grid, _ = read_array(path)
    array, grid = turn_to_axial(array, grid)
    out = np.zeros(array.shape, np.uint8)
    out[array == 1] = LABEL_VALUES["pelvis"]
    parts, _ = ndimage.label(array == 2)
    pair = np.argsort(np.bincount(parts.ravel())[1:])[-2:] + 1
    for side, n in zip(
        SIDES, sorted(pair, key=lambda n: -grid.points(np.argwhere(parts == n))[:, 0].mean()), strict=True
    ):
        out[parts == n] = LABEL_VALUES[f"femur_{side}"]
    return LabelMap(out, grid, LABEL_VALUES)


@pytest.fixture(params=PATIENTS)
def patient(request, shared) -> LabelMap:
    return patient_labels(shared / "data" / "pelvic-labels" / request.param / "label.mhd")


class TestPatients:
    """Hips as they are; one of the four once had two heads, 7.4 mm apart."""

    def test_landmarks_and_registration_have_one_head(self, patient):
        density = Volume(np.where(patient.array > 0, 800, 0).astype(np.float32), patient.grid, "density_mg_cm3")
        bodies = {body.name: body for body in prepare_bodies(density, patient)}
        for side in SIDES:
            centre = find_landmarks(patient, side).landmarks["head_center"]
            assert np.allclose(bodies[f"femur_{side}"].centre_mm, centre, atol=1e-9)

    @pytest.mark.parametrize("side", SIDES)
    def test_the_sphere_lies_on_the_bone(self, patient, side):
        head = find_head(patient, side)
        mask = patient.mask(f"femur_{side}")
        box = bounding_box(mask, 1)
        surface = mask[box] & ~ndimage.binary_erosion(mask[box], border_value=1)
        away = patient.grid.crop(box).points(np.argwhere(surface)) - head.centre_mm
        distance = np.linalg.norm(away, axis=1)
        medial = away[:, 0] * (-1 if side == "L" else 1)
        near = (medial + away[:, 2] > 0) & (distance < head.radius_mm + 8)
        assert (np.abs(distance[near] - head.radius_mm) < ON_SPHERE_MM).mean() > LEAST_ON_SPHERE

    @pytest.mark.parametrize("side", SIDES)
    def test_left_and_right_heads_are_alike_and_turning_the_bone_moves_neither(self, patient, side):
        head, other = find_head(patient, side), find_head(patient, "R" if side == "L" else "L")
        assert abs(head.radius_mm - other.radius_mm) < 1.5  # of one person
        for angles in ((0, 20, 0), (0, -20, 0), (-15, 15, 20)):
            moved = turned(patient, side, Rotation.from_euler("xyz", angles, degrees=True), head.centre_mm)
            assert np.linalg.norm(find_head(moved, side).centre_mm - head.centre_mm) < TURNED_MM


def turned(labels: LabelMap, side: str, turn: Rotation, centre_mm: np.ndarray) -> LabelMap:
    """One femur, turned about a point, on voxels of 2 mm."""
    mask = labels.mask(f"femur_{side}")
    box = bounding_box(mask, 4)
    mask, grid = mask[box], labels.grid.crop(box)
    size = grid.spacing_mm[::-1]
    depth = ndimage.distance_transform_edt(mask, size) - ndimage.distance_transform_edt(~mask, size)
    matrix = turn.as_matrix()
    corners = (grid.corners() - centre_mm) @ matrix.T + centre_mm
    low, high = corners.min(axis=0), corners.max(axis=0)
    wide = Grid(tuple(np.ceil((high - low) / 2).astype(int)[::-1]), [2.0] * 3, low, np.eye(3))
    points = wide.points(np.moveaxis(np.indices(wide.shape), 0, -1))
    index = np.moveaxis(grid.indices((points - centre_mm) @ matrix + centre_mm), -1, 0)
    inside = ndimage.map_coordinates(depth, index, order=1, mode="constant", cval=-10.0) > 0
    return LabelMap(inside * np.uint8(labels.values[f"femur_{side}"]), wide, labels.values)
