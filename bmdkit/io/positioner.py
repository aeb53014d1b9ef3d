"""Where a C-arm stood: the positioner's angles and distances of a DICOM image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from bmdkit.core.calibrated_camera import CalibratedCamera, CameraSpread
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.pose import find_view_rotation

POSITIONER_SD = CameraSpread(rotation_deg=1.0, translation_mm=10.0)
"""How sure the angles (written in whole degrees by many) and the isocentre are."""


def find_positioner_pose(primary_deg: float, secondary_deg: float, source_isocentre_mm: float) -> RigidTransform:
    """Find camera_from_isocentre of a C-arm about a patient who lies on the back, head first.

    At 0 and 0 the detector is in front of the patient and the source behind. A positive primary angle turns the
    detector towards the patient's left, a positive secondary angle towards the head. The isocentre's axes are LPS. Such
    images are displayed as seen from the detector: the columns of their camera are reversed.

    Args:
        primary_deg: PositionerPrimaryAngle (0018,1510), LAO positive.
        secondary_deg: PositionerSecondaryAngle (0018,1511), cranial positive.
        source_isocentre_mm: DistanceSourceToPatient (0018,1111), source to isocentre.

    Source: DICOM PS3.3, C.8.7.5.1.2 (XA positioner module).
    """
    if not source_isocentre_mm > 0:
        raise ValueError(f"source_isocentre_mm: expected a positive number, got {source_isocentre_mm!r}")
    # the beam points forward (-y); primary turns it about z, then secondary tilts it towards the head
    turn = Rotation.from_euler("z", primary_deg, degrees=True) * Rotation.from_euler("x", -secondary_deg, degrees=True)
    rotation = find_view_rotation("pa") @ turn.as_matrix().T
    return RigidTransform.from_parts(rotation, np.array([0.0, 0.0, source_isocentre_mm]))


def read_positioner(path: Path, geometry: ProjectionGeometry) -> CalibratedCamera | None:
    """Read where the C-arm of a DICOM image stood.

    Args:
        path: DICOM file.
        geometry: Camera of its pixels.

    Returns:
        The camera with its place about the isocentre, its columns reversed; None where the file does not say it.
    """
    from bmdkit.io.dicom_files import UnreadableError
    from bmdkit.io.dicom_parsing import read_header

    try:
        tags = read_header(Path(path)).radiograph
    except UnreadableError:
        return None
    if tags.positioner_deg is None or tags.source_isocentre_mm is None:
        return None
    pose = find_positioner_pose(*tags.positioner_deg, tags.source_isocentre_mm)
    return CalibratedCamera(replace(geometry, reversed_columns=True), pose, POSITIONER_SD, "positioner")
