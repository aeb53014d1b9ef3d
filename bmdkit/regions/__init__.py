"""Where in a hip to measure: landmarks, the proximal femur, its densities, and what speaks against measuring."""
