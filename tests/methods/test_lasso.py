"""LASSO channel selection against paths worked out by hand and against scikit-learn's Lasso."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from pfrl.graph import trace
from pfrl.methods.channels.lasso import lasso, on_path, quadratic
from pfrl.methods.channels.readers import find_readers
from pfrl.methods.repair.reconstruct import gather
from tests.support.tiny import shape


def chosen(form, count):
    return np.sort(on_path(np.asarray(form, float), count)).tolist()


def test_of_orthogonal_channels_the_largest_contributions_stay():
    # β = max(0, 1 − λ / Q_ii): the last to become zero is the one with the largest Q_ii.
    form = np.diag([1, 9, 4])
    assert [chosen(form, count) for count in (1, 2, 3)] == [[1], [1, 2], [0, 1, 2]]


def test_one_of_two_copies_goes_first():
    # q = (8, 8, 1). At λ < 8 one copy has β = 2 − λ/4 and the slope of the other is λ itself,
    # so that it never has to move. The third comes at λ = 1, small as it is.
    form = [[4, 4, 0], [4, 4, 0], [0, 0, 1]]
    assert chosen(form, 1) in ([0], [1])
    assert chosen(form, 2) in ([0, 2], [1, 2])
    assert chosen(form, 3) == [0, 1, 2]


def test_correlated_channels_by_hand():
    # q = Q 1 = (1.9, 2.9, 2.2). At λ = 2.9 channel 1 comes, with β = (2.9 − λ) / 2. Slopes are
    # then 1.9 − 0.9 β and 2.2 − 0 β: channel 2 meets λ at 2.2. Channel 0 meets it where
    # 1.9 − 0.9 (2.9 − λ) / 2 = λ, at 1.082, and the three are found in the order 1, 2, 0.
    form = [[1, 0.9, 0], [0.9, 2, 0], [0, 0, 2.2]]
    assert [chosen(form, count) for count in (1, 2, 3)] == [[1], [1, 2], [0, 1, 2]]


def test_a_channel_that_is_always_zero_is_the_last():
    assert chosen([[0, 0, 0], [0, 2, 0], [0, 0, 3]], 2) == [1, 2]
    assert chosen([[0, 0, 0], [0, 2, 0], [0, 0, 3]], 3) == [0, 1, 2]
    assert chosen(np.zeros((3, 3)), 2) == [0, 1]


@settings(max_examples=40, database=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.booleans())
def test_every_count_is_met(size, rank, seed, copies):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rank, size)) ** 2
    if copies:
        vectors = vectors[:, rng.integers(size, size=size)]
    form = vectors.T @ vectors
    for count in range(1, size + 1):
        found = on_path(form, count)
        assert len(set(found.tolist())) == len(found) == count


def test_the_support_is_that_of_scikit_learns_lasso():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(50, 8)) @ rng.normal(size=(8, 8))
    form = inputs.T @ inputs
    seen = set()
    for penalty in np.geomspace(1e-4, 1, 60) * form.sum(axis=1).max():
        # Scikit-learn divides the squares by 2 n; its penalty is ours over n.
        model = Lasso(penalty / 50, fit_intercept=False, positive=True, tol=1e-8, max_iter=10**5)
        support = np.flatnonzero(model.fit(inputs, inputs.sum(axis=1)).coef_)
        count = len(support)
        if count and count not in seen:
            assert chosen(form, count) == support.tolist()
            seen.add(count)
    assert seen >= {1, 2, 3, 4, 5, 6, 7}


def dense(p, x):
    return jax.nn.relu(x @ p["a"]) @ p["b"]


# Example i lights hidden channel i alone, with 1, 2 and 3.
LIGHT = np.diag([1.0, 2, 3]).astype(np.float32)


def test_contributions_of_a_network_by_hand():
    # Channel i gives i² |bᵢ|²: 1 · 25, 4 · 1 and 9 · 4. In all 65.
    p = {"a": np.eye(3, dtype=np.float32), "b": np.array([[3.0, 4], [1, 0], [0, -2]], np.float32)}
    graph = trace(dense, shape(3, 3), variables=p)
    grams = gather(graph, p, [LIGHT])
    readers = find_readers(graph.groups["a"], p, grams)
    form = quadratic(readers, 3)
    np.testing.assert_allclose(form, np.diag([25, 4, 36]) / 65, atol=1e-7)
    for count, expected in ((1, [2]), (2, [0, 2]), (3, [0, 1, 2])):
        np.testing.assert_array_equal(lasso(graph, p, grams, {"a": count})["a"], expected)


def test_two_readers_count_alike_however_large_they_are():
    def two(p, x):
        x = jax.nn.relu(x @ p["a"])
        return x @ p["b"], x @ p["c"]

    a = np.eye(3, dtype=np.float32)
    # Contributions: 1, 4, 9 of 14 in b, and 25, 4, 0 of 29 in c.
    p = {"a": a, "b": np.ones((3, 1), np.float32), "c": np.array([[5.0], [1], [0]], np.float32)}
    expected = np.diag([1 / 14 + 25 / 29, 4 / 14 + 4 / 29, 9 / 14])
    for scale in (1, 100):
        p["c"] = scale * p["c"]
        graph = trace(two, shape(3, 3), variables=p)
        readers = find_readers(graph.groups["a"], p, gather(graph, p, [LIGHT]))
        np.testing.assert_allclose(quadratic(readers, 3), expected, atol=1e-6)


def flattened(p, x):
    """[N, 2, 1] to 1 output: two pixels of two channels, flattened."""
    x = x @ p["a"]
    return x.reshape(x.shape[0], -1) @ p["b"]


def test_all_places_of_a_channel_count():
    # Channels are 1 and -2 times the pixel; rows of b: pixel 0 of both, then pixel 1 of both.
    p = {"a": np.array([[1.0, -2]], np.float32), "b": np.array([[1.0], [2], [3], [4]], np.float32)}
    graph = trace(flattened, shape(2, 2, 1), variables=p)
    x = np.array([[1, 1], [0, 2]], np.float32)[:, :, None]
    (reader,) = find_readers(graph.groups["a"], p, gather(graph, p, [x]))
    np.testing.assert_array_equal(reader.channels, [0, 1, 0, 1])
    # Of the two examples channel 0 gives 1 + 3 and 2 · 3, channel 1 gives -2 (2 + 4) and
    # -2 (2 · 4): (4, 6) and (-12, -16), in all (-8, -10).
    form = np.array([[16 + 36, -48 - 96], [-48 - 96, 144 + 256]]) / (64 + 100)
    np.testing.assert_allclose(quadratic([reader], 2), form, rtol=1e-6)
