"""TotalSegmentator as a program: a stand-in reads its arguments and writes its files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from labelled_ct import labelled_ct

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.errors import CaseError, PreflightError
from bmdkit.io.label_maps import write_labels
from bmdkit.segmentation.ct_labels import SegmentationConfig, segment_with_totalsegmentator
from bmdkit.segmentation.totalsegmentator import ROIS, TotalSegmentatorConfig, run_totalsegmentator

STAND_IN = """#!{python}
import argparse, os, sys, time
import nibabel, numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("-i"), parser.add_argument("-o"), parser.add_argument("--device")
parser.add_argument("--roi_subset", nargs="+"), parser.add_argument("--fast", action="store_true")
a = parser.parse_args()
{deed}
truth = nibabel.load({truth!r})
image = nibabel.load(a.i)
assert np.allclose(image.affine, truth.affine) and np.asarray(image.dataobj).min() < -900
labels = np.asarray(truth.dataobj)
left = np.zeros(labels.shape, bool)
left[: labels.shape[0] // 2] = True
x = image.affine[0, 0] * np.arange(labels.shape[0]) + image.affine[0, 3]
left = np.broadcast_to((x < np.median(x))[:, None, None], labels.shape)  # RAS: the patient's left is at -x
masks = {{"hip_left": (labels == 1) & left, "hip_right": (labels == 1) & ~left,
         "femur_left": labels == 2, "femur_right": labels == 3, "sacrum": labels == 4}}
os.makedirs(a.o)
for name in a.roi_subset:
    mask = masks.get(name, np.zeros(labels.shape, bool)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), os.path.join(a.o, name + ".nii.gz"))
"""


def stand_in(folder: Path, deed: str = "") -> tuple[TotalSegmentatorConfig, object, object]:
    """A program that finds the truth; what it does first is up to the test."""
    volume, labels = labelled_ct(3)
    write_labels(folder / "truth.nii.gz", labels)
    program = folder / "TotalSegmentator"
    text = STAND_IN.format(python=sys.executable, truth=str(folder / "truth.nii.gz"), deed=deed)
    program.write_text(text)
    program.chmod(0o755)
    return TotalSegmentatorConfig(executable=str(program)), volume, labels


def test_its_masks_become_our_structures(tmp_path):
    config, ct, truth = stand_in(tmp_path)
    found = run_totalsegmentator(ct, config)
    assert found.values == LABEL_VALUES
    np.testing.assert_array_equal(found.array, truth.array)


def test_it_is_asked_for_the_bones_and_the_device(tmp_path):
    check = f"assert a.roi_subset == {list(ROIS)!r} and a.device == 'gpu:1' and a.fast"
    config, ct, _ = stand_in(tmp_path, check)
    fast = TotalSegmentatorConfig(executable=config.executable, fast=True)
    assert run_totalsegmentator(ct, fast, device="cuda:1").array.any()


def test_its_labels_are_refined_like_a_networks(tmp_path):
    config, ct, truth = stand_in(tmp_path)
    found = segment_with_totalsegmentator(ct, SegmentationConfig(totalsegmentator=config, refine_mm=3.0))
    assert found.labels.grid.spacing_mm.max() <= 3.0
    assert found.uncertainty == {}
    assert found.variance is None
    volume = {name: truth.mask(name).sum() * truth.grid.voxel_volume_mm3 for name in truth.present()}
    for name, expected in volume.items():
        got = found.labels.mask(name).sum() * found.labels.grid.voxel_volume_mm3
        assert got == pytest.approx(expected, rel=0.1)  # voxels of 5 x 5 x 6 mm rounded off


def test_without_it_nothing_is_started():
    with pytest.raises(PreflightError, match="BMD-SEG-002"):
        run_totalsegmentator(labelled_ct()[0], TotalSegmentatorConfig(executable="no-such-program-here"))


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("sys.exit('no weights in ' + a.i)", "exit status 1: no weights in /ct.nii.gz"),
        ("sys.exit(0)", "wrote no mask"),
        ("time.sleep(60)", "not done after 2 s"),
    ],
)
def test_a_failure_names_the_case_and_the_reason(tmp_path, deed, said):
    config, ct, _ = stand_in(tmp_path, deed)
    short = TotalSegmentatorConfig(executable=config.executable, timeout_s=2.0 if "sleep" in deed else 60.0)
    with pytest.raises(CaseError, match="BMD-SEG-003: p7") as failure:
        run_totalsegmentator(ct, short, case="p7")
    assert said in str(failure.value)
