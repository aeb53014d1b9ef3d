"""HTML pages on a built dataset: an index, and one self-contained page per case."""
