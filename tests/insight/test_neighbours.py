"""Neighbours and duplicates by cosine, beside scikit-learn's."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from layered.foundation import BadValue, OutOfRange
from layered.insight import Duplicate, duplicates, most_similar, neighbours

ROWS = np.random.default_rng(0).normal(size=(70, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def _few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 16)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_neighbours_are_those_of_scikit_learn(kind):
    distances, positions = NearestNeighbors(metric="cosine").fit(ROWS).kneighbors(n_neighbors=4)  # each without itself
    similarities, found = most_similar(kind(ROWS), k=4)
    assert found.tolist() == positions.tolist()
    assert_allclose(similarities, 1 - distances, atol=1e-6)
    distances, positions = NearestNeighbors(metric="cosine").fit(ROWS[:50]).kneighbors(ROWS[50:], 50)
    similarities, found = most_similar(kind(ROWS[:50]), kind(ROWS[50:]), k=50)
    assert found.tolist() == positions.tolist()


def test_duplicates_are_all_pairs_from_a_similarity_on():
    cosines, names = cosine_similarity(ROWS), [f"{i}.png" for i in range(70)]
    expected = {(i, j): cosines[i, j] for j in range(70) for i in range(j) if cosines[i, j] >= 0.7}
    found = duplicates(ROWS, names, similarity=0.7)
    assert {(a, b) for _, a, b in found} == {(names[i], names[j]) for i, j in expected}
    assert_allclose([pair.similarity for pair in found], sorted(expected.values(), reverse=True), atol=1e-6)
    assert duplicates(ROWS[:1]) == []


def test_equal_rows_are_duplicates_of_each_other_and_zeros_of_nothing():
    found = duplicates(np.array([[0.1, 0.7], [0, 0], [1, 7], [0, 0], [0.1, 0.7]]), similarity=1)
    assert found == [Duplicate(pytest.approx(1), a, b) for a, b in [(0, 2), (0, 4), (2, 4)]]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: most_similar(ROWS, k=70), OutOfRange, "from 1 to 69"),
        (lambda: most_similar(ROWS, k=0), OutOfRange, "neighbours"),
        (lambda: most_similar(ROWS, ROWS[:, :3]), BadValue, "differ in length"),
        (lambda: most_similar(ROWS[0]), BadValue, "row for each item"),
        (lambda: most_similar(np.array([[1.0, 2.0], [np.nan, 0.0]])), BadValue, "1 rows, the first 1"),
        (lambda: duplicates(ROWS, ["a"]), BadValue, "1 items"),
        (lambda: duplicates(ROWS, similarity=95), OutOfRange, "from -1 to 1"),
        (lambda: duplicates(np.ones((300, 2))), BadValue, "nearly all items are alike"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
