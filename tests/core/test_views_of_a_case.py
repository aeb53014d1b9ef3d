"""Rows that share a view_group are views of one moment; others stand alone."""

from pathlib import Path

from bmdkit.core.case import Case, CohortRow
from bmdkit.io.cohort_columns import find_near_columns


def make_row(xray: str, group: str) -> CohortRow:
    return CohortRow("p", Path("ct"), Path(xray), "L", carried={"view_group": group} if group else {})


def test_views_of_one_moment():
    case = Case("p", tuple(make_row(*pair) for pair in (("b", "1"), ("a", "1"), ("c", "2"), ("d", ""), ("e", ""))))
    assert case.views_with(Path("a")) == case.views_with(Path("b")) == (Path("a"), Path("b"))
    for alone in "cde":
        assert case.views_with(Path(alone)) == (Path(alone),)


def test_a_column_that_is_nearly_it_is_noticed():
    assert [near.meant for near in find_near_columns(["View Group"])] == ["view_group"]
