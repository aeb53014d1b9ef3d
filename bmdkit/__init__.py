"""bmdkit: bone mineral density from plain hip radiographs."""

__version__ = "0.1.0"
