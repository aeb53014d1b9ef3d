"""Right and wrong calls of the public API, for a type checker; nothing here is run.

A line that ends in `# wrong: CODE` has to be an error of that code; every other line has to be right.
"""

from pathlib import Path

import numpy as np

import bmdkit as bk


def measure(folder: Path) -> float:
    ct = bk.read_ct(folder / "ct").volume
    labels = bk.read_labels(str(folder / "labels.nii.gz"))
    landmarks = bk.read_landmarks(folder / "landmarks_L.mrk.json", "L")
    found = bk.find_landmarks(labels, "R").landmarks
    density = bk.calibrate(ct).apply(ct)
    region = bk.proximal_femur(labels, landmarks)
    area = bk.areal_bmd(density, labels.mask("femur_R"), found, grid=labels.grid)
    return bk.volumetric_bmd(density, region, labels.grid) + area.abmd_g_cm2


def project(density: bk.Volume, labels: bk.LabelMap) -> np.ndarray:
    camera = bk.ProjectionGeometry(sdd_mm=1000, column_spacing_mm=1, row_spacing_mm=1, columns=400, rows=300)
    view = bk.RigidTransform.identity()
    image: np.ndarray = bk.render(density, [view], camera, labels=labels, structures=[["pelvis"]])
    return image + bk.render(density, "ap", camera)


def learn(root: Path) -> int:
    pairs = bk.PairDataset(root, "A", fold=0, split="test", image_size=(128, 64))
    channels: int = pairs[0]["drr"].shape[0]
    return channels + len(pairs)


def build(folder: Path) -> int:
    table: Path = bk.simulate(folder / "cohort", recipe={"patients": 2}, seed=1)
    try:
        summary = bk.build_dataset(table.parent, folder / "built", n_jobs=2)
    except bk.PreflightError as error:
        raise RuntimeError(error.remedy) from error
    return summary.pairs_ok


def label(ct: bk.Volume) -> bk.LabelMap:
    return bk.segment(ct, device="cpu").labels


def locate(ct: bk.Volume, labels: bk.LabelMap, radiograph: bk.Radiograph) -> list[bk.Pose]:
    result = bk.register(ct, radiograph, labels=labels, sides=["L"], seed=1)
    return list(result.poses())


def locate_any(density: bk.Volume, mask: np.ndarray, radiographs: list[bk.Radiograph]) -> bk.RigidTransform:
    disc = bk.Joint("", "L3", np.zeros(3), sd_mm=2.0, prior=bk.TurnPrior.of(6.0))
    bodies = [bk.Body.from_mask(density, mask, "L4"), bk.Body.from_mask(density, mask, "L3", joint=disc)]
    shown = [bk.Shown(image, image.camera) for image in radiographs]
    spread = bk.StartSpread(rotation_deg=8, in_plane_mm=6, depth_mm=25)
    found = bk.register_views(bodies, shown, start_spread=spread, rng=np.random.default_rng(0))
    return found[0].bodies["L4"].camera_from_ct


def estimate(radiograph: bk.Radiograph) -> float:
    return bk.predict(radiograph, "runs/b", side="L")["L"].bmd["dxa"]


def read(path: Path) -> tuple[int, int]:
    radiograph: bk.Radiograph = bk.read_radiograph(path)
    return radiograph.shape


def mistake(path: Path, ct: bk.Volume, labels: bk.LabelMap, points: bk.Landmarks) -> None:
    bk.read_ct(3)  # wrong: arg-type
    bk.read_landmarks(path, "left")  # wrong: arg-type
    bk.read_radiograph()  # wrong: call-arg
    bk.calibrate(path)  # wrong: arg-type
    bk.calibrate(ct).apply(labels)  # wrong: arg-type
    bk.segment(ct, passes=3)  # wrong: call-arg
    bk.find_landmarks(ct, "L")  # wrong: arg-type
    bk.proximal_femur(points, labels)  # wrong: arg-type
    bk.volumetric_bmd(labels, ct.array, ct.grid)  # wrong: arg-type
    bk.render(labels, "ap", points)  # wrong: arg-type
    bk.render(ct, "sideways", bk.ProjectionGeometry(1, 1, 1, 1, 1))  # wrong: arg-type
    bk.register(ct, labels)  # wrong: call-arg arg-type
    bk.register_views(ct, [bk.Shown(labels)])  # wrong: arg-type call-arg
    bk.predict(path, side="left")  # wrong: arg-type
    bk.PairDataset(path, "C")  # wrong: arg-type
    bk.PairDataset(path, folds=3)  # wrong: call-arg
    bk.simulate(path, patients=3)  # wrong: call-arg
    bk.build_dataset(path)  # wrong: call-arg
    bk.Volume(ct.array, ct.grid, "kg")  # wrong: arg-type
    bk.read_dicom(path)  # wrong: attr-defined
    bk.calibrate(bk.read_ct(path))  # wrong: arg-type
