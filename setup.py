"""The list of packages, and the README without its inner links; everything else stands in setup.cfg."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

README = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
setup(
    packages=[
        *find_namespace_packages(include=["bmdkit*"]),
        *("bmdkit.recipes", *(f"bmdkit.recipes.{name}" for name in find_namespace_packages("pipelines"))),
    ],
    long_description=re.sub(r"!?\[([^\[\]]+)\]\((?!https?:)[^)]+\)", r"\1", README),
)
