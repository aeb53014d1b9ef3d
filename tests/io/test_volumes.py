"""Volume files: RAS is turned into LPS once, a round trip is exact, and no damaged file is accepted."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK
from dicom_samples import BONE_HU, BONE_KJI, ORIGIN_MM, SPACING_MM, body_hu, bone_lps

from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.errors import CaseError
from bmdkit.io.ct import read_ct
from bmdkit.io.volumes import read_volume, turn_to_axial, write_volume

AFFINE_TOLERANCE_MM = 1e-4  # NIfTI keeps its affine in single precision
GRID = Grid((12, 40, 48), SPACING_MM, ORIGIN_MM, np.eye(3))
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nifti(path, array_ijk, lps_from_ijk=GRID.lps_from_ijk, qform=1, sform=1, slope=None, inter=0.0):
    image = nibabel.Nifti1Image(array_ijk, RAS_FROM_LPS @ lps_from_ijk)
    image.set_qform(image.affine, code=qform)
    image.set_sform(image.affine, code=sform)
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


def test_nifti_of_another_program_lands_in_lps(tmp_path):
    path = nifti(tmp_path / "ct.nii.gz", body_hu().transpose(2, 1, 0))
    scan = read_ct(path)
    found = scan.volume.grid.points(np.argwhere(scan.volume.array == BONE_HU)[0])
    np.testing.assert_allclose(found, bone_lps(), atol=AFFINE_TOLERANCE_MM)
    assert scan.volume.array.dtype == np.int16
    assert scan.patient_key is None


def test_storage_order_does_not_change_the_anatomy(tmp_path):
    """The same voxels stored with axes flipped and permuted (RAS, PSR ...) read as the same array on the same grid."""
    straight = read_ct(nifti(tmp_path / "a.nii", body_hu().transpose(2, 1, 0))).volume
    ijk = body_hu().transpose(2, 1, 0)
    for order, flips in (((0, 1, 2), (1, 1, 0)), ((1, 2, 0), (0, 1, 1)), ((2, 0, 1), (1, 0, 0))):
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for new, old in enumerate(order):
            matrix[old, new] = -1 if flips[new] else 1
            matrix[old, 3] += (ijk.shape[old] - 1) if flips[new] else 0
        stored = ijk.transpose(order)
        stored = stored[tuple(slice(None, None, -1 if f else 1) for f in flips)]
        turned = read_ct(nifti(tmp_path / "b.nii", stored, GRID.lps_from_ijk @ matrix)).volume
        assert turned.grid.is_near(straight.grid)
        np.testing.assert_array_equal(turned.array, straight.array)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_round_trip_is_exact_and_repeatable(tmp_path, name, dtype):
    volume = Volume(body_hu().astype(dtype), GRID, "hu")
    write_volume(tmp_path / name, volume)
    first = (tmp_path / name).read_bytes()
    write_volume(tmp_path / name, volume)
    assert (tmp_path / name).read_bytes() == first
    back = read_volume(tmp_path / name, "hu")
    assert back.array.dtype == dtype
    assert back.grid.is_near(GRID, AFFINE_TOLERANCE_MM)
    np.testing.assert_array_equal(back.array, volume.array)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_what_we_write_itk_reads_at_the_same_place(tmp_path):
    write_volume(tmp_path / "v.nii.gz", Volume(body_hu(), GRID, "hu"))
    image = SimpleITK.ReadImage(str(tmp_path / "v.nii.gz"))
    k, j, i = BONE_KJI
    assert image[i, j, k] == BONE_HU
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((i, j, k)), bone_lps(), atol=1e-3)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_metaimage_and_nrrd(tmp_path, suffix):
    image = SimpleITK.GetImageFromArray(body_hu())
    image.SetSpacing(SPACING_MM)
    image.SetOrigin(ORIGIN_MM)
    path = tmp_path / f"ct{suffix}"
    SimpleITK.WriteImage(image, str(path))
    scan = read_ct(path)
    assert scan.volume.grid.is_near(GRID)
    np.testing.assert_array_equal(scan.volume.array, body_hu())
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(CaseError, match="BMD-CT-020"):
        read_ct(path)


def test_scaled_nifti(tmp_path):
    stored = (body_hu().astype(np.float64) + 1024).astype(np.uint16).transpose(2, 1, 0)
    exact = nifti(tmp_path / "a.nii", stored, slope=1.0, inter=-1024.0)
    assert read_ct(exact).volume.array.dtype == np.int16
    np.testing.assert_array_equal(read_ct(exact).volume.array, body_hu())
    halves = nifti(tmp_path / "b.nii", (stored * 2).astype(np.uint16), slope=0.5, inter=-1024.0)
    np.testing.assert_allclose(read_ct(halves).volume.array, body_hu(), atol=0.01)


IJK = body_hu().transpose(2, 1, 0)


def patched(offset, values, **options):
    """A sound file whose header bytes from `offset` on are overwritten."""

    def make(path):
        whole = bytearray(nifti(path, IJK, **options).read_bytes())
        data = np.asarray(values).tobytes()
        whole[offset : offset + len(data)] = data
        path.write_bytes(whole)

    return make


def cut(keep):
    return lambda path: path.write_bytes(nifti(path, IJK).read_bytes()[:keep])


def with_peak(value, dtype):
    return lambda path: nifti(path, np.where(IJK > 1000, value, IJK).astype(dtype))


BAD = {
    "NaN": (with_peak(np.nan, "f4"), "BMD-CT-024"),
    "infinite": (with_peak(np.inf, "f8"), "BMD-CT-024"),
    "NaN everywhere": (lambda p: nifti(p, np.full((9, 9, 9), np.nan, "f4")), "BMD-CT-024"),
    "4-D": (lambda p: nifti(p, np.stack([IJK, IJK], -1)), "BMD-CT-021"),
    "4-D of one": (lambda p: nifti(p, IJK[..., None]), "BMD-CT-021"),
    "2-D": (lambda p: nifti(p, IJK[0]), "BMD-CT-021"),
    "RGB": (lambda p: nifti(p, np.zeros((9, 9, 9), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "BMD-CT-021"),
    "no position": (lambda p: nifti(p, IJK, qform=0, sform=0), "BMD-CT-007"),
    "singular": (patched(280, np.zeros(4, "f4")), "BMD-CT-022"),
    "not finite": (patched(280, np.float32(np.nan)), "BMD-CT-022"),
    "two columns alike": (patched(296, np.array([-2, 0, 0], "f4"), qform=0), "BMD-CT-022"),
    "spacing of zero": (patched(80, np.zeros(3, "f4"), sform=0), "BMD-CT-022"),
    "truncated": (cut(-100), "BMD-CT-020"),
    "header only": (cut(200), "BMD-CT-020"),
    "empty": (cut(0), "BMD-CT-020"),
    "no NIfTI": (lambda p: p.write_bytes(b"x" * 5000), "BMD-CT-020"),
    "huge": (patched(42, np.array([30000, 30000, 30000], "i2")), "BMD-CT-020"),
    "negative size": (patched(42, np.array([-5], "i2")), "BMD-CT-020"),
    "no HU": (lambda p: nifti(p, IJK + 1024), "BMD-CT-015"),
}


@pytest.mark.parametrize(("make", "code"), BAD.values(), ids=BAD)
def test_bad_nifti_is_quarantined(tmp_path, make, code):
    make(tmp_path / "ct.nii")
    with pytest.raises(CaseError) as caught:
        read_ct(tmp_path / "ct.nii", case="p1")
    assert caught.value.code == code


def sheared():
    affine = GRID.lps_from_ijk.copy()
    affine[0, 1] += 0.5
    return affine


@pytest.mark.parametrize(
    ("offset_mm", "allowed"), [((0, 0, 0.03), True), ((5, 0, 0), False), ((0, 0, -1), False), ((0, 0.3, 0), False)]
)
def test_qform_against_sform(tmp_path, offset_mm, allowed):
    image = nibabel.Nifti1Image(body_hu().transpose(2, 1, 0), RAS_FROM_LPS @ GRID.lps_from_ijk)
    other = image.affine.copy()
    other[:3, 3] += offset_mm
    image.set_sform(image.affine, code=1)
    image.set_qform(other, code=1)
    nibabel.save(image, tmp_path / "ct.nii")
    if allowed:
        read_ct(tmp_path / "ct.nii")
    else:
        with pytest.raises(CaseError, match="BMD-CT-023"):
            read_ct(tmp_path / "ct.nii")


def test_sheared_sform_is_refused(tmp_path):
    image = nibabel.Nifti1Image(body_hu().transpose(2, 1, 0), None)
    image.set_sform(RAS_FROM_LPS @ sheared(), code=1)
    nibabel.save(image, tmp_path / "ct.nii")
    with pytest.raises(CaseError, match="BMD-CT-008"):
        read_ct(tmp_path / "ct.nii")


def test_every_truncation_and_bit_flip_of_a_gz_is_found(tmp_path):
    path = tmp_path / "ct.nii.gz"
    write_volume(path, Volume(body_hu(), GRID, "hu"))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(whole)
        if rng.random() < 0.5:
            broken = broken[: rng.integers(0, len(broken) - 1)]
        else:
            broken[rng.integers(10, len(broken))] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with pytest.raises(CaseError):
            read_ct(path)


def test_a_gz_bomb_is_refused_before_it_is_unpacked(tmp_path):
    nifti(tmp_path / "a.nii", body_hu().transpose(2, 1, 0))
    whole = (tmp_path / "a.nii").read_bytes() + bytes(200_000_000)
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(whole, compresslevel=1))
    with pytest.raises(CaseError, match="more data than"):
        read_ct(tmp_path / "ct.nii.gz")


def test_axial_keeps_every_voxel_in_place():
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    grid = Grid((3, 4, 5), (1.0, 2.0, 3.0), (7.0, 8.0, 9.0), turn)
    array = np.arange(60).reshape(3, 4, 5)
    turned, where = turn_to_axial(array, grid)
    for value in (0, 17, 59):
        before = grid.points(np.argwhere(array == value)[0])
        np.testing.assert_allclose(where.points(np.argwhere(turned == value)[0]), before)
