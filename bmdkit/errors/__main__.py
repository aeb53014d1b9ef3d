"""`python -m bmdkit.errors`: the page docs/errors.md."""

from __future__ import annotations

import sys

from bmdkit.errors.page import write_page

if __name__ == "__main__":
    sys.stdout.write(write_page())
