"""A built dataset as tensors."""

import csv
import json

import numpy as np
import pytest
import torch

from bmdkit.dataset.integrity import write_sums
from bmdkit.dataset.samples import PairDataset, read_pairs, split_pairs
from bmdkit.errors import PreflightError
from bmdkit.io.images import write_tiff
from bmdkit.io.results import sha256_of

SHAPE = (8, 4)


@pytest.fixture
def built(tmp_path):
    rows = []
    for p in range(3):
        for name, pages in (("A", 2), ("B", 1)):
            folder = tmp_path / f"dataset_{name.lower()}/p{p}__standing__R"
            write_tiff(folder / "xray.tif", np.linspace(0, 1, 32, dtype=np.float32).reshape(SHAPE))
            write_tiff(folder / "drr.tif", np.full((pages, *SHAPE), p + 1, np.float32))
            mask = np.full(SHAPE, 255, np.uint8)
            mask[0, 0] = 0
            write_tiff(folder / "mask.tif", mask)
            files = {key: f"{folder.relative_to(tmp_path)}/{key}.tif" for key in ("xray", "drr", "mask")}
            who = {
                "pair_id": folder.name,
                "dataset": name,
                "patient_id": f"p{p}",
                "side": "R",
                "pose": "standing",
                "fold": p,
            }
            bmd = {"dxa_bmd_g_cm2": "" if p else "0.9", "qct_bmd_mg_cm3": "250", "pf_drr_mean_g_cm2": ""}
            rows.append(who | bmd | files | {"status": "ok", "verdict": "accept"})
    write(tmp_path, rows)
    (tmp_path / "dataset.json").write_text(json.dumps({"kind": "bmdkit dataset", "units": {"drr.tif": "g/cm2"}}))
    return tmp_path


def rows_of(root):
    with (root / "manifest.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def write(root, rows):
    with (root / "manifest.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_items_are_scaled_radiographs_and_areal_densities(built):
    item = PairDataset(built, "A", fold=0, split="test")[0]
    assert item["xray"].shape == (1, *SHAPE)
    assert item["xray"][0, 0, 0] == -1  # outside the mask
    np.testing.assert_allclose(item["xray"].flatten()[1:], np.linspace(-1, 1, 32)[1:], atol=1e-6)
    assert (item["drr"].shape, float(item["drr"].max())) == ((2, *SHAPE), 1.0)
    assert item["mask"].sum() == 31
    assert (item["pair_id"], item["dxa"], item["qct"]) == ("p0__standing__R", 0.9, 250.0)
    assert np.isnan(PairDataset(built, "B", fold=1, split="test")[0]["dxa"])


def test_a_smaller_image_averages_areas_and_is_masked_where_any_of_it_is(built):
    item = PairDataset(built, "B", image_size=(4, 2))[0]
    full = torch.linspace(0, 1, 32).view(SHAPE)
    expected = 2 * full.view(4, 2, 2, 2).mean((1, 3)) - 1
    expected[0, 0] = -1
    assert torch.allclose(item["xray"][0], expected, atol=1e-6)
    assert item["mask"].flatten().tolist() == [0.0] + [1.0] * 7


def test_folds_hold_patients_out(built):
    train, test = split_pairs(read_pairs(built, "A"), 1)
    assert [pair.patient_id for pair in train] == ["p0", "p2"]
    assert [pair.patient_id for pair in test] == ["p1"]
    assert len(split_pairs(read_pairs(built, "A"), "all")[0]) == 3
    with pytest.raises(PreflightError, match=r"BMD-TRN-004.*nobody to hold out.*0, 1, 2"):
        split_pairs(read_pairs(built, "A"), 4)


def test_some_poses_can_be_kept_from_training(built):
    pairs = read_pairs(built, "A")
    poses = sorted({pair.pose for pair in pairs})
    train, test = split_pairs(pairs, 1, train_poses=poses[:1])
    assert {pair.pose for pair in train} == set(poses[:1])
    assert test == split_pairs(pairs, 1)[1]
    with pytest.raises(PreflightError, match="no pair is sitting"):
        split_pairs(pairs, 1, train_poses=["sitting"])


def test_what_failed_or_was_rejected_is_left_out(built):
    rows = rows_of(built)
    rows[0]["status"], rows[2]["verdict"], rows[4]["verdict"] = "quarantined", "reject", "review"
    write(built, rows)
    assert [pair.patient_id for pair in read_pairs(built, "A")] == ["p2"]
    with pytest.raises(PreflightError, match="BMD-TRN-004"):
        read_pairs(built, "A", verdicts=("accept",))


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("fold", "2", "BMD-TRN-003"),
        ("fold", "", "BMD-TRN-003"),
        ("dxa_bmd_g_cm2", "nan", "BMD-TRN-003"),
        ("drr", "../../secret.tif", "BMD-TRN-003"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused(built, column, value, code):
    rows = rows_of(built)
    rows.append(rows[0] | {column: value, "pair_id": "p0__supine__R"})
    write(built, rows)
    with pytest.raises(PreflightError, match=code):
        read_pairs(built, "A")


@pytest.mark.parametrize(
    ("description", "code"),
    [(None, "001"), ({"kind": "a cohort"}, "001"), ({"kind": "bmdkit dataset", "units": {"drr.tif": "mg"}}, "002")],
)
def test_another_kind_of_folder_is_refused(built, description, code):
    if description is None:
        (built / "dataset.json").unlink()
    else:
        (built / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(PreflightError, match=f"BMD-TRN-{code}"):
        read_pairs(built, "A")


@pytest.mark.parametrize(
    ("name", "image", "code"),
    [
        ("drr.tif", np.full((2, *SHAPE), np.inf, np.float32), "005"),
        ("drr.tif", np.ones((1, *SHAPE), np.float32), "005"),
        ("xray.tif", np.ones((4, 4), np.float32), "005"),
        ("xray.tif", np.full(SHAPE, 255, np.uint8), "002"),
        ("drr.tif", np.full((2, *SHAPE), 15000, np.float32), "002"),
    ],
)
def test_images_of_another_shape_or_unit_are_refused(built, name, image, code):
    write_tiff(built / "dataset_a/p1__standing__R" / name, image)
    with pytest.raises(PreflightError, match=rf"BMD-TRN-{code}: p1__standing__R"):
        PairDataset(built, "A")[1]


def test_a_truncated_image_is_named(built):
    path = built / "dataset_a/p1__standing__R/drr.tif"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(PreflightError, match=r"BMD-TRN-005: p1__standing__R drr.tif"):
        PairDataset(built, "A")[1]


def test_an_image_that_is_not_as_the_manifest_says_is_refused(built):
    rows = [row | {f"{k}_sha256": sha256_of(built / row[k]) for k in ("xray", "drr", "mask")} for row in rows_of(built)]
    write(built, rows)
    data = PairDataset(built, "A", fold=0, split="test")
    assert data[0]["xray"].shape == (1, *SHAPE)
    for name in ("xray", "drr", "mask"):
        path = built / f"dataset_a/p0__standing__R/{name}.tif"
        whole = bytearray(path.read_bytes())
        path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])  # a pixel's value
        with pytest.raises(PreflightError, match=r"BMD-TRN-005.*not as the manifest says"):
            data[0]
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["manifest.csv", "dataset.json", "SHA256SUMS"])
def test_tables_that_changed_since_they_were_vouched_for_are_named(built, name, caplog):
    write_sums(built, {table: sha256_of(built / table) for table in ("manifest.csv", "dataset.json")})
    read_pairs(built, "A")
    assert caplog.messages == []
    path = built / name
    path.write_text(path.read_text().replace("250", "260").replace("}}", "} }")[: -1 if name == "SHA256SUMS" else None])
    read_pairs(built, "A")
    assert [message.split()[0] for message in caplog.messages] == [name]
