"""Files that 3D Slicer opens: segmentations with terminology, transforms, and the scene of a registration."""
