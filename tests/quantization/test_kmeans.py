"""k-means in one dimension: examples worked out by hand, the best clusterings, what is refused."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfrl.methods.quantization import kmeans as module
from pfrl.methods.quantization.kmeans import KMeansError, kmeans, sort_values

INITS = ("quantile", "kmeans++")
numbers = st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=1, max_size=30)


def loss(values, centers):
    """Sum of squared distances to the nearest center."""
    values = np.asarray(values, float)
    return np.square(values[:, None] - centers).min(axis=1).sum()


def best_loss(values, k):
    """The smallest ``loss`` that there is, from all ways to cut the sorted values into runs."""
    values = np.sort(values)
    found = []
    for cuts in combinations(range(1, len(values)), k - 1):
        runs = np.split(values, cuts)
        found.append(sum(np.square(run - run.mean()).sum() for run in runs))
    return min(found)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("seed", range(8))
def test_two_clusters_worked_out_by_hand(init, seed):
    # From whichever two values it starts it gets there: from 1 and 2, say, {1} and {2, 9, 10}
    # have the means 1 and 7, and halfway between those, at 4, is the cut that stays.
    assert kmeans([9, 1, 10, 2], 2, init=init, seed=seed).tolist() == [1.5, 9.5]


@pytest.mark.parametrize("init", INITS)
def test_both_initialisations_reach_the_same_optimum(init):
    # Three pairs, their means 0.5, 10.5 and 20.5.
    assert kmeans([0, 1, 10, 11, 20, 21], 3, init=init).tolist() == [0.5, 10.5, 20.5]


def test_one_cluster_is_the_mean():
    # (1 + 1 + 4) / 3: a value that comes twice counts twice.
    assert kmeans([[1.0, 4.0, 1.0]], 1).tolist() == [2.0]


@pytest.mark.parametrize("init", INITS)
def test_few_different_values_are_the_centers(init):
    assert kmeans([3, 1, 3, 3], 2, init=init).tolist() == [1, 3]
    assert kmeans([3, 1, 3, 3], 16, init=init).tolist() == [1, 3]
    assert kmeans(np.zeros((2, 2)), 4, init=init).tolist() == [0]


def test_empty_clusters_are_put_to_use():
    # All quantiles are 0, so that two of three clusters start empty.
    assert kmeans([0] * 100 + [10, 11, 30], 3).tolist() == [0, 10.5, 30]


@pytest.mark.parametrize("init", INITS)
def test_a_center_can_be_held_at_zero(init):
    # Without it the centers were 1 and 11: 0 is nearest to the values of up to 6.
    assert kmeans([0, 1, 2, 10, 12], 2, init=init).tolist() == [1, 11]
    assert kmeans([0, 1, 2, 10, 12], 2, init=init, zero=True).tolist() == [0, 11]
    # Also where nothing is near to zero: one center remains for 10 to 12.
    assert kmeans([10, 11, 12], 2, init=init, zero=True).tolist() == [0, 11]
    assert kmeans([-2, 2], 1, init=init, zero=True).tolist() == [0]
    assert kmeans([-2, 2], 3, init=init, zero=True).tolist() == [-2, 0, 2]


def check_centers(values, k, init, seed, zero):
    """Ascending, no better than the best, and each at the mean of what is nearest to it."""
    centers = kmeans(values, k, init=init, seed=seed, zero=zero)
    distinct = len({*values, *([0] if zero else [])})
    assert len(centers) == min(k, distinct)
    assert (np.diff(centers) > 0).all()
    assert not zero or 0 in centers
    middles = (centers[1:] + centers[:-1]) / 2
    nearest = np.searchsorted(middles, values)
    for index, center in enumerate(centers):
        mine = np.asarray(values)[nearest == index]
        if not (zero and center == 0):
            assert len(mine) and np.isclose(mine.mean(), center)
    return centers


@given(numbers, st.integers(1, 6), st.sampled_from(INITS), st.integers(0, 3), st.booleans())
def test_centers_are_the_means_of_their_values(values, k, init, seed, zero):
    check_centers(values, k, init, seed, zero)


@given(st.lists(st.integers(0, 50), min_size=4, max_size=9, unique=True), st.integers(2, 3))
def test_the_better_of_several_starts_is_nearly_the_best_there_is(values, k):
    found = min(loss(values, kmeans(values, k, init="kmeans++", seed=s)) for s in range(8))
    assert best_loss(values, k) - 1e-9 <= found <= 1.5 * best_loss(values, k) + 1e-9


@pytest.mark.parametrize("init", INITS)
def test_order_and_repetition_of_the_run_change_nothing(init):
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    centers = kmeans(values, 16, init=init, seed=3)
    again = kmeans(sort_values(values[::-1].reshape(10, 100)), 16, init=init, seed=3)
    assert np.array_equal(centers, again)


@pytest.mark.parametrize("init", INITS)
def test_many_values_come_near_to_the_known_quantizer(init, monkeypatch):
    # The best quantizer of a normal distribution with 4 values has an error of 0.1175 and the
    # values ±0.4528 and ±1.510 (Max 1960, table I).
    monkeypatch.setattr(module, "SAMPLE", 1000)
    values = np.random.default_rng(1).normal(size=200_000)
    centers = kmeans(values, 4, init=init)
    assert np.allclose(centers, [-1.510, -0.4528, 0.4528, 1.510], atol=0.02)
    assert abs(loss(values, centers) / len(values) - 0.1175) < 0.001


@pytest.mark.parametrize(
    ("values", "k", "init", "match"),
    [
        ([], 2, "quantile", "at least one weight"),
        ([1.0, np.nan], 2, "quantile", "1 are no finite number"),
        ([1.0, np.inf, -np.inf], 2, "quantile", "2 are no finite number"),
        ([1.0], 0, "quantile", "at least 1 center, got 0"),
        ([1.0], 2, "linear", "choose one of quantile, kmeans"),
    ],
)
def test_what_has_no_clusters_is_refused(values, k, init, match):
    with pytest.raises(KMeansError, match=match):
        kmeans(values, k, init=init)
