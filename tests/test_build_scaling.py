"""What the benchmark of how builds grow says of cases that only sleep, and of a cohort that is not built."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def benchmarks_are_found(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.mark.parametrize(
    ("seconds", "workers", "expected"),
    [([3.0, 1.0, 2.0], 1, 6.0), ([3.0, 1.0, 2.0], 2, 3.0), ([1.0, 1.0, 4.0], 2, 5.0), ([2.0, 1.0], 64, 2.0)],
)
def test_the_next_case_goes_to_who_is_free_first(seconds, workers, expected):
    from build_scaling import find_makespan

    assert find_makespan(seconds, workers) == expected


def test_every_sleeping_case_is_dealt_out_once():
    pytest.importorskip("distributed")
    from build_scaling import measure_scheduling

    found = dict(measure_scheduling([0.01] * 12, 3, 20.0))
    assert found["3 Dask workers that sleep: cases"] == 12
    assert found["3 Dask workers that sleep: ideal, s"] == pytest.approx(0.04)
    assert found["3 Dask workers that sleep: wall, s"] >= 0.04
