"""Labels of the bones: made by a network or given, sorted by side, and checked against their CT."""
