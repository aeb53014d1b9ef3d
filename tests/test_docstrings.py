"""Examples in docstrings: they give what they say, and everything at the front door has one."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import bmdkit as bk

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "bmdkit").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_say(name, sample_cohort, monkeypatch):
    monkeypatch.chdir(sample_cohort.parent)
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert tried > 0 or "# doctest: +SKIP" in inspect.getsource(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize("name", dir(bk))
def test_every_public_name_has_an_example_or_is_an_error(name):
    public = getattr(bk, name)
    is_error = inspect.isclass(public) and issubclass(public, Exception)
    assert is_error or ">>>" in public.__doc__
