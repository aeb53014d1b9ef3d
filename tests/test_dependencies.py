"""Dependencies earn their place: what setup.cfg asks for is imported, and what is imported is asked for."""

import ast
import configparser
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULE_OF = {
    "PyYAML": "yaml",
    "SimpleITK": "SimpleITK",
    "itk-core": "itk",
    "itk-io": "itk",
    "lazy-loader": "lazy_loader",
    "pillow": "PIL",
    "python-gdcm": "gdcm",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "tensorboard": "torch",
}
PLUG_INS = {"gdcm"}  # pydicom finds it by itself
COME_ALONG = {
    "llvmlite": "numba",
    "dask": "distributed",
    "markupsafe": "jinja2",
    "typing_extensions": "torch",
}  # a part of another package


def read_setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def modules_of(requirements: str) -> set[str]:
    names = (re.split(r"[\[<>=!~; ]", line)[0] for line in requirements.split("\n") if line)
    return {MODULE_OF.get(name, name) for name in names}


def imported_modules() -> set[str]:
    """Top-level names that the package imports, those inside functions too."""
    found: set[str] = set()
    for path in (ROOT / "bmdkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"bmdkit"}


def test_every_requirement_is_imported():
    needed = modules_of(read_setup()["options"]["install_requires"])
    assert needed - imported_modules() - PLUG_INS == set()


def test_every_import_is_asked_for():
    setup = read_setup()
    known = modules_of(setup["options"]["install_requires"])
    for extra, requirements in setup["options.extras_require"].items():
        if extra != "dev":
            known |= modules_of(requirements)
    known |= {name for name, bringer in COME_ALONG.items() if bringer in known} | {"triton"}
    assert imported_modules() - known == set()


def test_every_requirement_is_pinned_for_each_python():
    setup = read_setup()
    asked = {setup["options"]["install_requires"], *setup["options.extras_require"].values()}
    names = {re.split(r"[\[<>=!~; ]", line)[0].lower() for text in asked for line in text.split("\n") if line}
    for file in ("constraints.txt", "constraints-3.10.txt"):
        pinned = {line.split("==")[0].lower() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()}
        assert names - {"tensorboard"} - pinned == set(), file
