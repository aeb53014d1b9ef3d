"""Labels of the bones: made by a network or given, sorted by side, and checked against their CT."""

from bmdkit.segmentation.labels import LabelConfig, prepare_labels

__all__ = ["LabelConfig", "prepare_labels"]
