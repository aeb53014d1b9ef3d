"""What the nouns print: one short line that says shape, spacing and quantity, and nothing of a patient."""

import numpy as np

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import LabelMap, Volume

GRID = Grid((3, 4, 5), (1, 1.25, 2), (0, 0, -0.5), np.eye(3))
LONGEST = 160  # characters: a line and a half of a terminal


def test_a_volume_says_quantity_shape_and_spacing():
    text = repr(Volume(np.zeros(GRID.shape, np.int16), GRID, "hu"))
    assert text == "Volume(hu, shape=(3, 4, 5), spacing_mm=(1, 1.25, 2), int16)"


def test_a_label_map_names_the_structures_that_are_there():
    labels = LabelMap(np.ones(GRID.shape), GRID, {"pelvis": 1, "axial": 4})
    assert repr(labels) == "LabelMap(pelvis, shape=(3, 4, 5), spacing_mm=(1, 1.25, 2))"


def test_a_radiograph_says_its_distances_and_nothing_of_the_patient():
    mask = np.ones((4, 5), bool)
    mask[0] = False
    text = repr(Radiograph(np.zeros((4, 5)), mask, 0.5, 0.5, 1100.0, laterality="L", patient_key="secret"))
    assert text == "Radiograph(shape=(4, 5), spacing_mm=(0.5, 0.5), sdd_mm=1100, laterality=L, 75% image)"


def test_every_noun_is_short():
    camera = ProjectionGeometry(1000, 0.5, 0.5, 2000, 3000)
    points = {"head_center": np.zeros(3)}
    for noun in (GRID, camera, RigidTransform.identity(), Landmarks("L", points)):
        assert repr(noun).startswith(type(noun).__name__)
        assert len(repr(noun)) <= LONGEST
