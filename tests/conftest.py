"""Fixtures that several folders of tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_samples import body_hu, hip_image, write_ct, write_dx

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared() -> Path:
    """The folder of measured data and tools beside the project; the test is skipped where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the project")
    return folder


@pytest.fixture
def ct_folder(tmp_path: Path) -> Path:
    """A tiny asymmetric DICOM CT: 12 slices of 40 x 48, bone on the patient's left, in front and above the middle."""
    return write_ct(tmp_path / "ct", body_hu())


@pytest.fixture
def dx_file(tmp_path: Path) -> Path:
    """A tiny asymmetric DICOM DX, 96 x 120, brighter = denser, 0.5 mm, SDD 1100 mm."""
    return write_dx(tmp_path / "xray.dcm", hip_image())
