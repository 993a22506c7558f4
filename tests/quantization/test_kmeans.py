"""k-means in one dimension: examples worked out by hand, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfrl.methods.quantization.kmeans import KMeansError, kmeans

numbers = st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=1, max_size=30)


def loss(values, centers):
    """Sum of squared distances to the nearest center."""
    values = np.asarray(values, float)
    return np.square(values[:, None] - centers).min(axis=1).sum()


def test_two_clusters_worked_out_by_hand():
    # From whichever two values it starts it gets there: from 1 and 2, say, {1} and {2, 9, 10}
    # have the means 1 and 7, and halfway between those, at 4, is the cut that stays.
    assert kmeans([9, 1, 10, 2], 2).tolist() == [1.5, 9.5]


def test_three_pairs_have_their_means():
    # Three pairs, their means 0.5, 10.5 and 20.5.
    assert kmeans([0, 1, 10, 11, 20, 21], 3).tolist() == [0.5, 10.5, 20.5]


def test_one_cluster_is_the_mean():
    # (1 + 1 + 4) / 3: a value that comes twice counts twice.
    assert kmeans([[1.0, 4.0, 1.0]], 1).tolist() == [2.0]


def test_few_different_values_are_the_centers():
    assert kmeans([3, 1, 3, 3], 2).tolist() == [1, 3]
    assert kmeans([3, 1, 3, 3], 16).tolist() == [1, 3]
    assert kmeans(np.zeros((2, 2)), 4).tolist() == [0]


def test_empty_clusters_are_put_to_use():
    # All quantiles are 0, so that two of three clusters start empty.
    assert kmeans([0] * 100 + [10, 11, 30], 3).tolist() == [0, 10.5, 30]


@given(numbers, st.integers(1, 6))
def test_centers_are_the_means_of_their_values(values, k):
    centers = kmeans(values, k)
    assert len(centers) == min(k, len(set(values)))
    assert (np.diff(centers) > 0).all()
    nearest = np.searchsorted((centers[1:] + centers[:-1]) / 2, values)
    for index, center in enumerate(centers):
        mine = np.asarray(values)[nearest == index]
        assert len(mine) and np.isclose(mine.mean(), center)


def test_order_and_repetition_of_the_run_change_nothing():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    centers = kmeans(values, 16)
    again = kmeans(values[::-1].reshape(10, 100), 16)
    assert np.array_equal(centers, again)


def test_many_values_come_near_to_the_known_quantizer():
    # The best quantizer of a normal distribution with 4 values has an error of 0.1175 and the
    # values ±0.4528 and ±1.510 (Max 1960, table I).
    values = np.random.default_rng(1).normal(size=200_000)
    centers = kmeans(values, 4)
    assert np.allclose(centers, [-1.510, -0.4528, 0.4528, 1.510], atol=0.02)
    assert abs(loss(values, centers) / len(values) - 0.1175) < 0.001


@pytest.mark.parametrize(
    ("values", "k", "match"),
    [
        ([], 2, "at least one weight"),
        ([1.0, np.nan], 2, "1 are no finite number"),
        ([1.0, np.inf, -np.inf], 2, "2 are no finite number"),
        ([1.0], 0, "at least 1 center, got 0"),
    ],
)
def test_what_has_no_clusters_is_refused(values, k, match):
    with pytest.raises(KMeansError, match=match):
        kmeans(values, k)
