"""The example runs, writes its images, and comes back to the true pose."""

import re
import subprocess
import sys
from pathlib import Path


def test_render_a_drr(tmp_path):
    script = Path(__file__).parents[2] / "examples" / "01_render_a_drr.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True, timeout=300)
    start, end = map(float, re.search(r"([\d.]+) mm away at the start, ([\d.]+) mm after", done.stdout).groups())
    assert end < 0.1 * start
    assert {file.name for file in tmp_path.iterdir()} == {"drr.png", "drr.tif"}
