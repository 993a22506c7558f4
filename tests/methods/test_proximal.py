"""Group LASSO by proximal gradient against closed forms and the conditions of its optimum."""

import jax
import numpy as np
import pytest

from pfrl.graph import trace
from pfrl.methods.channels.lasso import lasso
from pfrl.methods.channels.proximal import Part, as_part, descend, lengths, proximal, shrink
from pfrl.methods.channels.readers import find_readers
from pfrl.methods.repair.reconstruct import gather
from tests.support.tiny import shape


def part(channels, moments, target):
    return Part(np.asarray(channels), np.asarray(moments, float)[None], np.asarray(target)[None])


def solve(parts, penalty, size, iterations=2000):
    start = [np.zeros_like(each.target) for each in parts]
    return descend(parts, penalty, start, size, iterations)


def test_slices_are_shrunk_by_their_joint_length():
    # Channel 0: (3, 4) in one reader and (0, 12) in the other, 13 long; channel 1 is 0.5 long.
    one = part([0, 1], np.eye(2), [[3.0, 4], [0, 0.5]])
    two = part([0, 1], np.eye(2), [[0.0, 12], [0, 0]])
    parts, kernels = [one, two], [one.target, two.target]
    np.testing.assert_allclose(lengths(parts, kernels, 2), [13, 0.5])
    first, second = shrink(parts, kernels, 1.3, 2)
    np.testing.assert_allclose(first[0], [[2.7, 3.6], [0, 0]])
    np.testing.assert_allclose(second[0], [[0, 10.8], [0, 0]])


def test_orthogonal_inputs_are_thresholded_softly():
    # With G = diag(d) each slice solves d (W' − W) + λ W' / |W'| = 0: W' = W (1 − λ / (d |W|)).
    target = np.array([[3.0, 4], [1, 0], [0, 2]])
    diagonal = np.array([1.0, 4, 0.5])
    each = part([0, 1, 2], np.diag(diagonal), target)
    for penalty in (0.5, 2.0, 4.5):
        factors = np.maximum(1 - penalty / (diagonal * [5, 1, 2]), 0)
        (found,) = solve([each], penalty, 3)
        np.testing.assert_allclose(found[0], factors[:, None] * target, atol=1e-9)


def test_the_optimum_has_no_slope_where_alive_and_not_enough_where_dead():
    rng = np.random.default_rng(0)
    # Three channels of two taps and two readers, the second of which does not read channel 2.
    parts = []
    for channels in ([0, 1, 2, 0, 1, 2], [1, 0, 0, 1]):
        inputs = rng.normal(size=(40, len(channels)))
        parts.append(part(channels, inputs.T @ inputs / 40, rng.normal(size=(len(channels), 3))))
    penalty = 0.8 * lengths(parts, [p.moments @ p.target for p in parts], 3).max()
    found = solve(parts, penalty, 3)
    norms = lengths(parts, found, 3)
    slopes = [p.moments @ (w - p.target) for p, w in zip(parts, found, strict=True)]
    alive = norms > 0
    assert alive.any() and not alive.all()
    assert (lengths(parts, slopes, 3)[~alive] <= penalty).all()
    directions = np.divide(penalty, norms, out=np.zeros(3), where=alive)
    for each, kernel, slope in zip(parts, found, slopes, strict=True):
        rows = alive[each.channels]
        balance = slope + directions[each.channels, None] * kernel
        np.testing.assert_allclose(balance[:, rows], 0, atol=1e-9)


def dense(p, x):
    return jax.nn.relu(x @ p["a"]) @ p["b"]


def found(p, x, counts):
    graph = trace(dense, shape(*x.shape), variables=p)
    grams = gather(graph, p, [x])
    return [proximal(graph, p, grams, {"a": count})["a"].tolist() for count in counts]


def test_which_channels_of_a_network_stay():
    # Example i lights hidden channel i alone, with 1, 2 and 3: slices 5, 1 and 2 long are left at
    # λ < d |W| with d = 1, 4 and 9, so that the order is 18, 5, 4.
    p = {"a": np.eye(3, dtype=np.float32), "b": np.array([[3.0, 4], [1, 0], [0, -2]], np.float32)}
    assert found(p, np.diag([1.0, 2, 3]).astype(np.float32), (1, 2, 3)) == [[2], [0, 2], [0, 1, 2]]


def test_of_equal_contributions_the_one_with_the_smaller_kernel_stays():
    # Both channels give 2 · 1 and 1 · 2: LASSO sees no difference and takes the first.
    p = {"a": np.eye(2, dtype=np.float32), "b": np.array([[2.0], [1.0]], np.float32)}
    x = np.diag([1.0, 2]).astype(np.float32)
    assert found(p, x, [1]) == [[1]]
    graph = trace(dense, shape(2, 2), variables=p)
    assert lasso(graph, p, gather(graph, p, [x]), {"a": 1})["a"].tolist() == [0]


def test_a_count_that_the_path_jumps_over_is_filled_up():
    # Three copies live and die together, and are longer than the fourth channel.
    a = np.array([[1.0, 1, 1, 0], [0, 0, 0, 1]], np.float32)
    p = {"a": a, "b": np.array([[2.0], [2], [2], [0.1]], np.float32)}
    kept = found(p, np.array([[1, 0], [0, 1]], np.float32), (1, 2, 3, 4))
    assert kept == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


@pytest.mark.parametrize("scale", [1, 1000])
def test_a_readers_scale_does_not_matter(scale):
    def two(p, x):
        x = jax.nn.relu(x @ p["a"])
        return x @ p["b"], x @ p["c"]

    rng = np.random.default_rng(0)
    p = {n: rng.normal(size=(6, 6)).astype(np.float32) for n in "abc"}
    x = rng.normal(size=(40, 6)).astype(np.float32)
    graph = trace(two, shape(40, 6), variables=p)
    expected = proximal(graph, p, gather(graph, p, [x]), {"a": 3})["a"]
    larger = {**p, "c": scale * p["c"]}
    grams = gather(graph, larger, [x])
    np.testing.assert_array_equal(proximal(graph, larger, grams, {"a": 3})["a"], expected)
    for reader in find_readers(graph.groups["a"], larger, grams):
        one = as_part(reader)
        np.testing.assert_allclose(np.linalg.norm(one.target), 1)
        # The kernel taken away whole is the whole error.
        error = np.sum(one.target * (one.moments @ one.target))
        np.testing.assert_allclose(error, 1, rtol=1e-5)
