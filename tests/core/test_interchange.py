"""Volumes go to other libraries and come back: the same values at the same places, checked by the libraries' own words.

The grid is anisotropic, oblique and off the origin, so that a swapped axis, sign or order shows.
"""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from bmdkit.core.grid import Grid
from bmdkit.core.interchange import make_grid
from bmdkit.core.volume import Volume

VOXEL_KJI = (1, 2, 3)
RAS = np.array([-1.0, -1.0, 1.0])
NEAR_MM = 1e-4  # NIfTI keeps its affine in single precision


@pytest.fixture(params=[np.int16, np.float32])
def volume(request) -> Volume:
    array = np.random.default_rng(0).integers(-1000, 2000, (4, 5, 6)).astype(request.param)
    turn = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
    return Volume(array, Grid(array.shape, np.array([0.7, 1.1, 2.5]), np.array([12.0, -40.0, 300.0]), turn), "hu")


def assert_same(found: Volume, given: Volume) -> None:
    assert found.quantity == "hu"
    assert found.array.dtype == given.array.dtype
    np.testing.assert_array_equal(found.array, given.array)
    assert found.grid.is_near(given.grid, NEAR_MM)


def where(volume: Volume) -> np.ndarray:
    """LPS of one voxel."""
    return volume.grid.points(VOXEL_KJI)


def test_simpleitk_and_back(volume):
    image = volume.to_simpleitk()
    i, j, k = VOXEL_KJI[::-1]
    assert image.GetPixel(i, j, k) == volume.array[VOXEL_KJI]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((i, j, k)), where(volume), atol=1e-9)
    assert_same(Volume.from_simpleitk(image, "hu"), volume)


def test_nibabel_and_back(volume):
    image = volume.to_nibabel()
    ijk = VOXEL_KJI[::-1]
    assert image.dataobj[ijk] == volume.array[VOXEL_KJI]
    np.testing.assert_allclose(nibabel.affines.apply_affine(image.affine, ijk), RAS * where(volume), atol=NEAR_MM)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=NEAR_MM)
    assert_same(Volume.from_nibabel(image, "hu"), volume)


def test_monai_and_back(volume):
    tensor = volume.to_monai()
    ijk = VOXEL_KJI[::-1]
    assert tensor[(0, *ijk)].item() == volume.array[VOXEL_KJI]
    point = tensor.affine.numpy() @ np.array([*ijk, 1.0])
    np.testing.assert_allclose(point[:3], RAS * where(volume), atol=1e-9)
    assert_same(Volume.from_monai(tensor, "hu"), volume)


def test_monai_reads_the_same_from_a_file(tmp_path, volume):
    from monai.transforms import LoadImage

    nibabel.save(volume.to_nibabel(), tmp_path / "v.nii.gz")
    loaded = LoadImage(ensure_channel_first=True)(tmp_path / "v.nii.gz")
    ours = volume.to_monai()
    np.testing.assert_array_equal(loaded.numpy(), ours.numpy())
    np.testing.assert_allclose(loaded.affine.numpy(), ours.affine.numpy(), atol=NEAR_MM)


def test_itk_and_back(volume):
    itk = pytest.importorskip("itk")
    image = volume.to_itk()
    ijk = VOXEL_KJI[::-1]
    assert image.GetPixel(ijk) == volume.array[VOXEL_KJI]
    np.testing.assert_allclose(np.array(image.TransformIndexToPhysicalPoint(ijk)), where(volume), atol=1e-9)
    assert itk.size(image) == tuple(volume.array.shape[::-1])
    assert_same(Volume.from_itk(image, "hu"), volume)


def test_itk_agrees_about_points_that_lie_between_voxels(volume):
    """ITK as an oracle: continuous indices of points in the patient, over an oblique anisotropic grid."""
    itk = pytest.importorskip("itk")
    image = volume.to_itk()
    for point in volume.grid.points(np.random.default_rng(1).uniform(0, 3, (20, 3))):
        index = image.TransformPhysicalPointToContinuousIndex(itk.Point[itk.D, 3](point.tolist()))
        np.testing.assert_allclose(np.array(index)[::-1], volume.grid.indices(point), atol=1e-6)


def test_masks_become_numbers():
    mask = np.zeros((3, 4, 5), bool)
    mask[1, 2, 3] = True
    grid = Grid(mask.shape, np.ones(3), np.zeros(3), np.eye(3))
    image = Volume(mask, grid, "probability").to_simpleitk()
    assert image.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    assert SimpleITK.GetArrayFromImage(image).sum() == 1


def test_images_that_are_no_volume_are_refused():
    with pytest.raises(ValueError, match="three axes"):
        Volume.from_simpleitk(SimpleITK.Image(4, 5, SimpleITK.sitkInt16), "hu")
    with pytest.raises(ValueError, match="three axes"):
        Volume.from_nibabel(nibabel.Nifti1Image(np.zeros((2, 3, 4, 2), np.int16), np.eye(4)), "hu")
    with pytest.raises(ValueError, match="positive length"):
        make_grid((2, 3, 4), np.diag([1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="orthonormal"):
        make_grid((2, 3, 4), np.array([[1.0, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
