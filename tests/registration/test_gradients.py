"""The sums of gradients of which every local correlation is made."""

from __future__ import annotations

import os
import subprocess
import sys


def test_compiled_anew_or_from_the_cache_the_bytes_are_the_same(tmp_path) -> None:
    """A build that compiles the kernels, on a new machine, and the next one, which finds them compiled."""
    code = """
import hashlib
import numpy as np
from bmdkit.registration.gradients import compute_gradients, sum_gradient_products
rng = np.random.default_rng(0)
images = np.zeros((7, 120, 160), np.float32)
images[:, 20:90, 30:120] = rng.random((7, 70, 90))
fixed = compute_gradients(rng.random((1, 120, 160)).astype(np.float32))[0]
weight = (rng.random((120, 160)) > 0.05).astype(np.float32)
print([hashlib.sha256(sums.tobytes()).hexdigest() for sums in sum_gradient_products(fixed, images, weight, 8)])
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", code]
    told = [subprocess.run(words, env=environment, check=True, capture_output=True).stdout for _ in range(2)]
    assert told[0]
    assert told[0] == told[1]
