"""examples/shards.smk: its commands are the ones that bmdkit takes, and cover every shard once."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bmdkit.cli.build_dataset import command

WORKFLOW = Path(__file__).parents[2] / "examples" / "shards.smk"


def read_commands() -> dict[str, str]:
    """Rule -> its shell command."""
    text = WORKFLOW.read_text(encoding="utf-8")
    return dict(re.findall(r"rule (\w+):.*?shell:\s*\"(.*?)\"\n", text, re.DOTALL))


@pytest.mark.parametrize("rule", ["collect", "shard"])
def test_a_rule_calls_build_dataset_with_options_that_it_has(rule, tmp_path):
    words = read_commands()[rule].partition(" || ")[0]
    for name, value in {
        "{COHORT}": str(tmp_path), "{OUT}": "dataset", "{OPTIONS}": "--no-report",
        "{wildcards.number}": "3", "{SHARDS}": "4",
    }.items():  # fmt: skip
        words = words.replace(name, value)
    program, name, *given = shlex.split(words)
    assert (program, name) == ("bmdkit", "build-dataset")
    found = command.make_context(name, given).params
    assert found["shard"] == ("3/4" if rule == "shard" else None)


def test_quarantined_cases_do_not_fail_a_job_and_other_failures_do():
    for words in read_commands().values():
        assert words.endswith("|| [ $? -eq 3 ]")


def test_every_shard_has_one_job():
    text = WORKFLOW.read_text(encoding="utf-8")
    assert "number=range(1, SHARDS + 1)" in text
