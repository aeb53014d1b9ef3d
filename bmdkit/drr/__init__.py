"""Digitally reconstructed radiographs: line integrals of volumes, exact, fast and differentiable."""
