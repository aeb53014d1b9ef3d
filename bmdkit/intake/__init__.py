"""From a tree of DICOM exports to the first draft of a cohort's table."""
