"""A scene of 3D Slicer as MRML: the list of its nodes, and which file, display and transform each refers to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np

from bmdkit.core.geometry import RigidTransform
from bmdkit.core.interchange import LPS_FROM_RAS
from bmdkit.io.results import write_bytes

_VERSION = "Slicer5.0.0"
_HIDDEN = {"hideFromEditors": "true", "selectable": "true", "selected": "false"}
_SHOWN = {**_HIDDEN, "hideFromEditors": "false"}


class SceneFile:
    """Nodes of a scene; files are named relative to the folder that the scene will lie in.

    Source: `ReadXMLAttributes` of the nodes of MRML, whose names and attributes these are.
    """

    def __init__(self) -> None:
        """Begin an empty scene."""
        self._root = ElementTree.Element("MRML", {"version": _VERSION, "userTags": ""})
        self._counts: Counter[str] = Counter()

    def add_transform(self, name: str, file: str, *, under: str | None = None) -> str:
        """Add a linear transform.

        Args:
            name: Name that is shown.
            file: Its file.
            under: Identifier of the transform that moves it.

        Returns:
            Identifier of the node.
        """
        return self._add_stored("LinearTransform", "TransformStorage", name, file, under=under)

    def add_volume(self, name: str, file: str, *, window: tuple[float, float], under: str | None = None) -> str:
        """Add an image.

        Args:
            name: Name that is shown.
            file: Its file.
            window: Darkest and brightest value that are shown.
            under: Identifier of the transform that moves it.

        Returns:
            Identifier of the node.
        """
        low, high = window
        display = self._add(
            "VolumeDisplay",
            "vtkMRMLScalarVolumeDisplayNode",
            f"{name} display",
            {
                **_HIDDEN,
                "window": f"{high - low:.6g}",
                "level": f"{(high + low) / 2:.6g}",
                "interpolate": "1",
                "autoWindowLevel": "0",
                "references": "color:vtkMRMLColorTableNodeGrey;",
            },
        )
        return self._add_stored("Volume", "VolumeArchetypeStorage", name, file, under=under, display=display)

    def add_segmentation(self, name: str, file: str, *, under: str | None = None) -> str:
        """Add a segmentation; 3D Slicer makes its display."""
        return self._add_stored("Segmentation", "SegmentationStorage", name, file, under=under)

    def add_points(self, name: str, file: str, *, colour: tuple[int, int, int], under: str | None = None) -> str:
        """Add a list of points.

        Args:
            name: Name that is shown.
            file: Its file, `.mrk.json`.
            colour: RGB, 0 to 255.
            under: Identifier of the transform that moves it.
        """
        shade = " ".join(f"{value / 255:.4g}" for value in colour)
        display = self._add(
            "MarkupsDisplay",
            "vtkMRMLMarkupsDisplayNode",
            f"{name} display",
            {**_HIDDEN, "color": shade, "selectedColor": shade, "visibility": "true"},
        )
        return self._add_stored("MarkupsFiducial", "MarkupsJsonStorage", name, file, under=under, display=display)

    def show_plane(self, volume: str, lps_from_view: RigidTransform, size_mm: tuple[float, float]) -> None:
        """Show an image in the red slice view, and that slice in the 3D view.

        Args:
            volume: Identifier of the image.
            lps_from_view: Where the slice lies: x to the right of the view, y upwards, the origin in its middle.
            size_mm: Width and height.
        """
        ras_from_view = LPS_FROM_RAS @ lps_from_view.matrix
        self._add(
            "Slice",
            "vtkMRMLSliceNode",
            "Red",
            {
                **_HIDDEN,
                "singletonTag": "Red",
                "layoutLabel": "R",
                "layoutName": "Red",
                "fieldOfView": f"{size_mm[0]:.6g} {size_mm[1]:.6g} 1",
                "sliceToRAS": " ".join(f"{value:.9g}" for value in ras_from_view.ravel()),
                "orientation": "Reformat",
                "sliceVisibility": "true",
            },
            number="Red",
        )
        self._add(
            "SliceComposite",
            "vtkMRMLSliceCompositeNode",
            "Red composite",
            {
                **_HIDDEN,
                "singletonTag": "Red",
                "layoutName": "Red",
                "backgroundVolumeID": volume,
                "references": f"backgroundVolume:{volume};",
            },
            number="Red",
        )

    def look_from(self, eye_mm: np.ndarray, target_mm: np.ndarray, up: np.ndarray, *, angle_deg: float) -> None:
        """Set the camera of the 3D view.

        Args:
            eye_mm: (3,), LPS, where it stands.
            target_mm: (3,), LPS, where it looks.
            up: (3,), direction that is upwards, LPS.
            angle_deg: Angle of view, from bottom to top.
        """
        turn = LPS_FROM_RAS[:3, :3]
        self._add(
            "Camera",
            "vtkMRMLCameraNode",
            "From the X-ray source",
            {
                **_SHOWN,
                "singletonTag": "1",
                "layoutName": "1",
                "activetag": "vtkMRMLViewNode1",
                "position": _numbers(turn @ eye_mm),
                "focalPoint": _numbers(turn @ target_mm),
                "viewUp": _numbers(turn @ up),
                "parallelProjection": "false",
                "viewAngle": f"{angle_deg:.6g}",
            },
        )

    def write(self, path: Path) -> None:
        """Write the scene, `.mrml`."""
        ElementTree.indent(self._root, " ")
        write_bytes(path, ElementTree.tostring(self._root, encoding="utf-8", xml_declaration=True) + b"\n")

    def _add_stored(
        self, tag: str, storage_tag: str, name: str, file: str, *, under: str | None, display: str | None = None
    ) -> str:
        storage = self._add(
            storage_tag,
            f"vtkMRML{storage_tag}Node",
            f"{name} file",
            {**_HIDDEN, "fileName": quote(file), "useCompression": "1"},
        )
        kind = "ScalarVolume" if tag == "Volume" else tag
        referred = {"display": display, "storage": storage, "transform": under}
        attributes = {f"{role}NodeRef": node for role, node in referred.items() if node is not None}
        told = "".join(f"{role}:{node};" for role, node in referred.items() if node is not None)
        return self._add(tag, f"vtkMRML{kind}Node", name, {**_SHOWN, **attributes, "references": told})

    def _add(self, tag: str, node_class: str, name: str, attributes: dict[str, str], number: str | None = None) -> str:
        self._counts[node_class] += 1
        identifier = f"{node_class}{number or self._counts[node_class]}"
        ElementTree.SubElement(self._root, tag, {"id": identifier, "name": name, **attributes})
        return identifier


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in values)
