"""Conversions between the units of densities and lengths."""

MG_CM3_MM_TO_G_CM2 = 1e-4
"""A line integral of mg/cm3 over mm, in g/cm2; of HU over mm, in 1000 HU cm."""

PROJECTION_UNITS = {"density": "g/cm2", "hu": "1000 HU cm"}
"""Unit of a line integral by what is projected."""

WATER_ATTENUATION_PER_MM = 0.01928
"""Linear attenuation of water at 70 keV, 1/mm (NIST XCOM: 0.1928 cm2/g at 1 g/cm3)."""
