"""Names that cannot clash, and folds that cannot leak."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmdkit.core.case import Case, CohortRow
from bmdkit.dataset.names import name_radiographs, pair_id, shorten_names
from bmdkit.dataset.splits import assign_folds, choose_folds
from bmdkit.errors import PreflightError

SAFE = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def case(patient: str, stems: list[str], **changes) -> Case:
    rows = [CohortRow(patient, Path("ct"), Path(f"x{n}") / f"{stem}.dcm", "L") for n, stem in enumerate(stems)]
    return Case(patient, tuple(replace(row, **changes) for row in rows))


@settings(max_examples=40)
@given(st.lists(st.text(min_size=1, max_size=90).filter(lambda t: not set(t) & set("/\0")), min_size=1, max_size=5))
def test_radiographs_have_safe_names_of_their_own(stems):
    names = list(name_radiographs(case("p", [f"a{stem}" for stem in stems])).values())
    assert len({name.casefold() for name in names}) == len(stems)
    assert all(set(name) <= SAFE for name in names)
    assert not any("__" in name for name in names)


def test_names_do_not_depend_on_the_order_of_the_rows():
    straight = case("p", ["a", "a", "b"])
    assert name_radiographs(straight) == name_radiographs(Case("p", straight.rows[::-1]))


def test_pseudonymous_cases_show_no_file_name():
    assert set(name_radiographs(case("sub-1", ["SMITH_1", "SMITH_2"], pose="supine"), anonymous=True).values()) == {
        "supine",
        "supine-2",
    }


def test_the_patient_is_not_named_twice_unless_names_would_clash():
    assert shorten_names("b0", ["b0_standing", "b0_supine"]) == {"b0_standing": "standing", "b0_supine": "supine"}
    clash = ["b0_standing", "b0-standing"]
    assert shorten_names("b0", clash) == dict(zip(clash, clash, strict=True))


@given(
    st.lists(st.tuples(st.text("ab_", min_size=1, max_size=5), st.sampled_from(["a", "b", "a_b", "b_a"])), max_size=9)
)
def test_no_two_pairs_share_an_identifier(parts):
    distinct = set(parts)
    assert len({pair_id(patient, name, "L") for patient, name in distinct}) == len(distinct)


@given(st.integers(0, 60), st.integers(0, 3), st.randoms())
def test_folds_are_balanced_and_independent_of_order(count, seed, random):
    patients = [f"p{n}" for n in range(count)]
    folds = assign_folds(patients, seed=seed)
    sizes = Counter(folds.values())
    assert not sizes or max(sizes.values()) - min(sizes.get(fold, 0) for fold in range(5)) <= 1
    shuffled = list(patients)
    random.shuffle(shuffled)
    assert assign_folds(shuffled, seed=seed) == folds


def test_another_seed_deals_otherwise():
    patients = [f"p{n}" for n in range(40)]
    assert assign_folds(patients, seed=0) != assign_folds(patients, seed=1)


def test_folds_given_by_the_cohort_are_taken_and_checked():
    given_ones = [case("a", ["x", "y"], carried={"fold": "3"}), case("b", ["x"], carried={"fold": "0"})]
    assert choose_folds(given_ones, seed=0) == {"a": 3, "b": 0}
    rows = given_ones[0].rows
    torn = Case("a", (rows[0], replace(rows[1], carried={"fold": "4"})))
    for wrong in (torn, case("a", ["x"], carried={"fold": "one"})):
        with pytest.raises(PreflightError) as caught:
            choose_folds([wrong, given_ones[1]], seed=0)
        assert caught.value.code == "BMD-RUN-033"
