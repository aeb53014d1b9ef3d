"""Units of length are converted; a file that does not say where its voxels lie is refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from volume_headers import GRID, VALUES, metaimage_header, nrrd_header, scaled_nrrd, write_nifti

from bmdkit.core.volume import Volume
from bmdkit.errors import CaseError
from bmdkit.io.volumes import read_volume

NEAR_MM = 1e-3  # single precision of a NIfTI header in metres


def assert_read(path) -> None:
    found = read_volume(path, "hu")
    np.testing.assert_array_equal(found.array, VALUES)
    assert found.grid.is_near(GRID, NEAR_MM)


def code_of(path) -> str:
    with pytest.raises(CaseError) as caught:
        read_volume(path, "hu")
    return caught.value.code


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1.0), ("micron", 1000.0), ("meter", 0.001), ("unknown", 1.0)])
def test_nifti_units_are_converted(tmp_path, unit, scale):
    write_nifti(tmp_path / "v.nii.gz", unit, scale)
    assert_read(tmp_path / "v.nii.gz")


def test_a_nifti_unit_that_does_not_exist_is_refused(tmp_path):
    write_nifti(tmp_path / "v.nii", "mm", 1.0)
    raw = bytearray((tmp_path / "v.nii").read_bytes())
    raw[123] = 5
    (tmp_path / "v.nii").write_bytes(raw)
    assert code_of(tmp_path / "v.nii") == "BMD-CT-025"


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1e3), ("micron", 1.0), ("meter", 1.0)])
def test_a_unit_that_cannot_be_right_is_refused(tmp_path, unit, scale):
    write_nifti(tmp_path / "v.nii.gz", unit, scale)
    assert code_of(tmp_path / "v.nii.gz") == "BMD-CT-026"


@pytest.mark.parametrize(
    ("unit", "scale"), [("mm", 1.0), ("um", 1e3), ("\u00b5m", 1e3), ("microns", 1e3), ("cm", 0.1), ("m", 1e-3)]
)
def test_nrrd_units_are_converted(tmp_path, unit, scale):
    (tmp_path / "v.nrrd").write_bytes(scaled_nrrd(scale, unit).encode() + VALUES.tobytes())
    assert_read(tmp_path / "v.nrrd")


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1.0), ("um", 1e3), ("cm", 0.1)])
def test_metaimage_units_are_converted(tmp_path, unit, scale):
    header = metaimage_header(scale, DistanceUnits=unit)
    (tmp_path / "v.mha").write_bytes(header.encode() + VALUES.tobytes())
    assert_read(tmp_path / "v.mha")


@pytest.mark.parametrize(
    ("name", "header", "code"),
    [
        ("no space.nrrd", nrrd_header(space=None, **{"space directions": None, "space origin": None}), "BMD-CT-007"),
        (
            "spacings alone.nrrd",
            nrrd_header(space=None, spacings="1 1 1", **{"space directions": None, "space origin": None}),
            "BMD-CT-007",
        ),
        ("no origin.nrrd", nrrd_header(**{"space origin": None}), "BMD-CT-007"),
        ("scanner.nrrd", nrrd_header(space="scanner-xyz"), "BMD-CT-007"),
        ("parsec.nrrd", scaled_nrrd(1.0, "parsec"), "BMD-CT-025"),
        ("no spacing.mha", metaimage_header(ElementSpacing=None), "BMD-CT-007"),
        ("no offset.mha", metaimage_header(Offset=None), "BMD-CT-007"),
        ("neither.mha", metaimage_header(ElementSpacing=None, Offset=None, TransformMatrix=None), "BMD-CT-007"),
        ("furlong.mha", metaimage_header(DistanceUnits="furlong"), "BMD-CT-025"),
        ("metres as mm.mha", metaimage_header(0.001), "BMD-CT-026"),
    ],
)
def test_absent_geometry_and_unknown_units_are_refused(tmp_path, name, header, code):
    (tmp_path / name).write_bytes(header.encode() + VALUES.tobytes())
    assert code_of(tmp_path / name) == code


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_what_itk_writes_is_read(tmp_path, suffix):
    SimpleITK.WriteImage(Volume(VALUES, GRID, "hu").to_simpleitk(), str(tmp_path / f"v{suffix}"))
    assert_read(tmp_path / f"v{suffix}")
