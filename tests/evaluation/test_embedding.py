"""Principal components of what lies on a line or a plane; t-SNE keeps groups that are far apart."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from bmdkit.evaluation.embedding import principal_components, tsne, within_groups

RNG = np.random.default_rng(0)


def test_data_on_a_line_have_one_component_that_explains_all():
    along = RNG.normal(size=20)
    direction = np.array([2.0, 0, -1, 2]) / 3
    found = principal_components(5 + along[:, None] * direction)
    assert found.explained == pytest.approx([1, 0])
    assert found.scores[:, 0] == pytest.approx(along - along.mean())  # the largest weight, 2/3, is positive
    assert found.scores[:, 1] == pytest.approx(0, abs=1e-12)


def test_a_components_sign_does_not_depend_on_that_of_the_singular_vectors():
    along = RNG.normal(size=9)
    found = principal_components(along[:, None] * np.array([0.1, -3.0]), 1)
    assert found.scores[:, 0] == pytest.approx(-(along - along.mean()) * np.hypot(0.1, 3))


def test_shares_are_those_of_the_variances():
    """Axes of a cross: 4 times as far out in x gives 16 times the variance."""
    cross = np.array([[4, 0], [-4, 0], [0, 1], [0, -1.0]])
    assert principal_components(cross).explained == pytest.approx([16 / 17, 1 / 17])


def test_what_does_not_differ_explains_nothing():
    found = principal_components(np.full((3, 5), 7.3))
    assert found.explained == pytest.approx([0, 0])
    assert found.scores == pytest.approx(0, abs=1e-12)
    assert principal_components(np.ones((1, 1)), 2).scores.shape == (1, 2)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 2)), np.full((2, 2), np.nan)])
def test_what_is_no_matrix_is_refused(bad):
    with pytest.raises(ValueError, match="vectors"):
        principal_components(bad)


def test_what_tells_groups_apart_is_taken_away():
    """Means 3 and -3, spread 4 within: 9 of 25 parts of the variance lie between the groups."""
    left, share = within_groups([[7.0], [-1], [1], [-7]], ["L", "L", "R", "R"])
    assert left[:, 0] == pytest.approx([4, -4, 4, -4])
    assert share == pytest.approx(9 / 25)
    assert within_groups(np.ones((2, 3)), ["L", "L"])[1] == 0
    with pytest.raises(ValueError, match="groups"):
        within_groups(np.ones((2, 3)), ["L"])


def test_groups_that_are_far_apart_stay_apart():
    pytest.importorskip("sklearn")
    group = np.repeat([0, 1], 12)
    vectors = RNG.normal(size=(24, 6)) + 40.0 * group[:, None]
    plane = tsne(vectors)
    assert plane.shape == (24, 2)
    assert np.array_equal(plane, tsne(vectors))
    distance = np.linalg.norm(plane[:, None] - plane[None], axis=2) + np.diag(np.full(24, np.inf))
    assert (group[distance.argmin(1)] == group).all()
    with pytest.raises(ValueError, match="at least 4"):
        tsne(vectors[:3])


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match=r"bmdkit\[figures\]"):
        tsne(np.eye(5))


def test_components_are_those_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    values = np.random.default_rng(1).normal(size=(30, 5)) * [5, 3, 1, 0.5, 0.1]
    theirs = decomposition.PCA(3, svd_solver="full").fit(values)
    ours = principal_components(values, 3)
    assert ours.explained == pytest.approx(theirs.explained_variance_ratio_, rel=1e-10)
    assert np.abs(ours.scores) == pytest.approx(np.abs(theirs.transform(values)), abs=1e-10)
