"""What one radiograph gives: its pairs line up with it as displayed, and a mirrored one is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tifffile

from bmdkit.core.anatomy import LABEL_VALUES, Side
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.pose import standard_view
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.ct_stage import Hip
from bmdkit.dataset.layout import pair_folder, pair_image, pair_meta_file
from bmdkit.dataset.manifest import PairRow
from bmdkit.dataset.pairs import PairConfig, make_hip_window
from bmdkit.dataset.radiograph_stage import HipView, Regions, Registered, make_pair
from bmdkit.dataset.settings import BuildConfig
from bmdkit.drr.targets import project_region

CAMERA = ProjectionGeometry(1000.0, 2.0, 2.0, 200, 180, np.array([96.0, 84.0]))
GRID = Grid((30, 20, 70), (4.0, 4.0, 4.0), (-138.0, -38.0, -58.0), np.eye(3))
CONFIG = BuildConfig(pairs=PairConfig(rows=64, columns=32))


@dataclass(frozen=True)
class Blocks:
    """A CT whose left femur is a block that is thicker in front and below, so that no turn of it looks the same."""

    labels: LabelMap
    density: Volume
    hips: Mapping[Side, Hip]

    @property
    def projected(self) -> Volume:
        """What the targets show."""
        return self.density


@pytest.fixture(scope="module")
def ct() -> Blocks:
    array = np.zeros(GRID.shape, np.uint8)
    array[6:22, 6:12, 50:58] = LABEL_VALUES["femur_L"]
    array[6:12, 12:17, 50:54] = LABEL_VALUES["femur_L"]
    region = array > 0
    points = {"head_center": np.array([75.0, 0.0, 10.0]), "shaft_2cm": np.array([70.0, 10.0, -25.0])}
    hips: dict[Side, Hip] = {"L": Hip("L", Landmarks("L", points), region)}
    density = Volume(np.full(GRID.shape, 400, np.float32), GRID, "density_mg_cm3")
    return Blocks(LabelMap(array, GRID, LABEL_VALUES), density, hips)


def view_hip(ct: Blocks, registered: Registered) -> HipView:
    """The left hip in a plain radiograph."""
    pixels = np.tile(np.linspace(0, 1, CAMERA.columns, dtype=np.float32), (CAMERA.rows, 1))
    shown = Radiograph(pixels, np.ones(CAMERA.shape, bool), 2.0, 2.0, 1000.0)
    return HipView(ct.hips["L"], shown, registered, Regions(ct), CONFIG)


def register_as(view: str, verdict: str = "accept", mirrored: bool = False) -> Registered:
    """The femur where a frontal view puts it, the source before or behind the patient."""
    camera = replace(CAMERA, reversed_columns=view == "pa")
    pose = standard_view(view, np.array([0.0, 0.0, 0.0]), camera)
    return Registered(camera, {"femur_L": pose}, {"femur_L": 0.5}, {"femur_L": verdict}, mirrored)


def test_the_pair_of_a_pa_radiograph_lines_up_with_it_as_displayed(ct, tmp_path):
    registered = register_as("pa")
    view = view_hip(ct, registered)
    row = make_pair(view, PairRow("p", "p", "L", "standing", dataset="B"), tmp_path)
    assert row.status == "ok"
    folder = tmp_path / pair_folder("B", "p")
    drr = tifffile.imread(pair_image(folder, "drr"))
    behind = replace(CAMERA, principal_point_uv=np.array([CAMERA.columns - 1 - 96.0, 84.0]))
    plain = project_region(view.regions.cut_proximal_femur("L"), registered.poses["femur_L"], behind)
    window = make_hip_window(view.radiograph, "L", CONFIG.pairs)
    np.testing.assert_allclose(drr.squeeze(), window.carry(plain[:, ::-1]), atol=1e-3 * drr.max())
    assert drr.max() > 0.5
    meta = json.loads(pair_meta_file(folder).read_text(encoding="utf-8"))
    assert meta["camera"]["reversed_columns"] is True
    camera = ProjectionGeometry.from_dict(meta["camera"])
    for name, point in ct.hips["L"].landmarks.points_mm.items():
        column, line = meta["landmarks_uv"][name]
        np.testing.assert_allclose(camera.project(point, camera_from_world=registered.poses["femur_L"]), (column, line))
        assert drr.squeeze()[round(line), round(column)] > 0


def test_an_ap_pair_says_nothing_of_reversed_columns(ct, tmp_path):
    make_pair(view_hip(ct, register_as("ap")), PairRow("p", "p", "L", "standing", dataset="B"), tmp_path)
    meta = json.loads(pair_meta_file(tmp_path / pair_folder("B", "p")).read_text(encoding="utf-8"))
    assert "reversed_columns" not in meta["camera"]


@pytest.mark.parametrize(("mirrored", "code"), [(True, "BMD-XR-022"), (False, "BMD-PAIR-001")])
def test_a_rejected_pair_says_whether_the_mirrored_image_fits_better(ct, mirrored, code):
    problem = view_hip(ct, register_as("ap", "reject", mirrored)).find_problem("B")
    assert problem is not None
    assert problem.code == code
    assert "0.500" in problem.reason
    kept = replace(CONFIG, pairs=replace(CONFIG.pairs, keep_rejected=True))
    assert replace(view_hip(ct, register_as("ap", "reject", mirrored)), config=kept).find_problem("B") is None
