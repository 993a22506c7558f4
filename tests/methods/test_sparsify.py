"""Sparsity: schedules and masks worked out by hand, and counts that are met to the element."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfrl.graph import trace
from pfrl.graph.masks import Masks, slice_variables
from pfrl.methods.sparsity.sparsify import (
    SparsityError,
    allocate,
    magnitude_mask,
    n_of_m_mask,
    zeros_of,
    zhu_gupta,
)
from tests.support.tiny import Dense, Shared, TwoConvs, made, resnet8, shape

magnitude = jax.jit(magnitude_mask)
n_of_m = jax.jit(n_of_m_mask, static_argnums=(2, 3))


@pytest.fixture(scope="module")
def network():
    """The graph of a ResNet-8 with stages of 4, 8 and 16 channels."""
    return trace(made(resnet8), shape(2, 8, 8, 1))


def test_zhu_gupta_at_five_times():
    # From 0 to 0.8 in steps 10 to 50: 0.8 − 0.8 · (1 − share of the way)³.
    expected = {
        10: 0.0,
        20: 0.4625,  # 0.8 · (1 − 27/64)
        30: 0.7,  # 0.8 · (1 − 1/8)
        40: 0.7875,  # 0.8 · (1 − 1/64)
        50: 0.8,
        0: 0.0,
        1000: 0.8,
    }
    schedule = jax.jit(lambda step, final: zhu_gupta(step, 10, 50, 0.0, final))
    found = {step: float(schedule(step, 0.8)) for step in expected}
    assert found == pytest.approx(expected, abs=1e-6)
    assert float(zhu_gupta(20, 10, 50, 0.5, 0.5)) == 0.5


def test_a_schedule_has_to_end_after_it_begins():
    with pytest.raises(SparsityError, match="begins at step 5 and ends at step 5"):
        zhu_gupta(0, 5, 5, 0.0, 0.5)


@pytest.mark.parametrize(
    ("sparsity", "expected"),
    [
        (0.0, [1, 1, 1, 1, 1, 1, 1, 1]),
        (0.25, [1, 1, 0, 1, 1, 1, 1, 0]),  # 0.1 and the last of the four 2s
        (0.5, [1, 1, 0, 1, 1, 0, 0, 0]),  # of the four 2s the first stays
        (0.5625, [1, 1, 0, 1, 1, 0, 0, 0]),  # 4.5 zeros: 4
        (0.6875, [1, 0, 0, 1, 0, 0, 0, 0]),  # 5.5 zeros: 6
        (1.0, [0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_the_smallest_go_and_of_equal_ones_the_first_stay(sparsity, expected):
    kernel = jnp.array([[-3.0, 2.0, 0.1, 5.0], [2.0, -2.0, 2.0, -2.0]])
    mask = magnitude(kernel, sparsity)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask.ravel(), np.array(expected, bool))
    assert zeros_of(sparsity, 8) == 8 - sum(expected)


def test_what_is_not_alive_is_off_and_not_counted():
    kernel = jnp.array([[9.0, 1.0, 3.0], [8.0, 4.0, 2.0]])
    # The first column is gone: of 1, 3, 4 and 2 half are off.
    mask = magnitude(kernel, 0.5, np.array([0.0, 1.0, 1.0]))
    np.testing.assert_array_equal(mask, [[False, False, True], [False, True, False]])
    # A zero that is alive counts, unlike one that is not.
    mask = magnitude(kernel.at[1, 2].set(0), 0.25, np.array([0.0, 1.0, 1.0]))
    np.testing.assert_array_equal(mask, [[False, True, True], [False, True, False]])


@settings(max_examples=30)
@given(
    st.floats(0, 1),
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=24, max_size=24),
)
def test_the_count_is_exact_and_nothing_smaller_stays(sparsity, elements):
    kernel = np.array([value for value, _ in elements], np.float32).reshape(2, 3, 4)
    alive = np.array([living for _, living in elements]).reshape(2, 3, 4)
    mask = np.asarray(magnitude(kernel, sparsity, alive))
    assert mask.sum() == alive.sum() - zeros_of(sparsity, int(alive.sum()))
    assert not mask[~alive].any()
    smallest = np.abs(kernel[mask]).min(initial=np.inf)
    assert (np.abs(kernel[alive & ~mask]) <= smallest).all()


def test_any_number_of_zeros_of_a_large_kernel_can_be_asked_for():
    elements = 2**22
    zeros = np.random.default_rng(0).integers(0, elements, 2_000)
    assert [zeros_of(zero / elements, elements) for zero in zeros] == zeros.tolist()
    elements -= 1
    assert [zeros_of(zero / elements, elements) for zero in zeros] == zeros.tolist()


def test_two_of_four_and_four_of_eight():
    column = np.array([1.0, -4, 3, 2, 5, 5, -5, 5], np.float32)
    kernel = jnp.asarray(np.stack([column, column[::-1]], axis=1))
    # Blocks (1, 4, 3, 2) and (5, 5, 5, 5), in which the first two stay; backwards alike.
    expected = [[0, 1, 1, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 1, 1, 0]]
    np.testing.assert_array_equal(n_of_m(kernel, 2, 4, -2).T, np.array(expected, bool))
    expected = [[0, 0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0]]
    np.testing.assert_array_equal(n_of_m(kernel, 4, 8, -2).T, np.array(expected, bool))
    np.testing.assert_array_equal(n_of_m(kernel.T, 4, 8, -1), np.array(expected, bool))


def test_a_last_block_keeps_at_most_as_many_and_taps_are_blocks_of_their_own():
    # Two taps of seven inputs and one output.
    kernel = jnp.array([[1.0, 2, 3, 4, 3, 2, 1], [4, 3, 2, 1, 9, 0, 8]]).reshape(2, 1, 7, 1)
    expected = [[0, 0, 1, 1, 1, 1, 0], [1, 1, 0, 0, 1, 0, 1]]
    mask = n_of_m(kernel, 2, 4, -2)
    np.testing.assert_array_equal(mask.reshape(2, 7), np.array(expected, bool))
    depthwise = jnp.array([0.1, 0.2, 0.3]).reshape(3, 1, 1, 1)
    assert n_of_m(depthwise, 1, 4, -2).all()


def test_blocks_are_of_inputs_that_are_alive():
    kernel = jnp.array([7.0, 1, 8, 2, 3, 9, 4]).reshape(7, 1)
    alive = np.array([0, 1, 0, 1, 1, 0, 1]).reshape(7, 1)
    # 1, 2, 3 and 4 are one block.
    mask = n_of_m(kernel, 2, 4, -2, alive)
    np.testing.assert_array_equal(mask.ravel(), np.array([0, 0, 0, 0, 1, 0, 1], bool))


@pytest.mark.parametrize("n", [0, 5])
def test_more_than_a_block_cannot_be_kept(n):
    with pytest.raises(SparsityError, match=f"keep 1 to 4 of 4, got {n}"):
        n_of_m_mask(jnp.ones((4, 1)), n, 4)


@pytest.mark.parametrize("seed", range(3))
def test_the_mask_of_a_masked_kernel_is_that_of_the_sliced_one(seed):
    rng = np.random.default_rng(seed)
    # Few values, so that many are equal.
    kernel = rng.integers(-4, 5, (3, 3, 11, 6)).astype(np.float32)
    inputs, outputs = np.sort(rng.permutation(11)[:6]), np.sort(rng.permutation(6)[:4])
    alive = np.zeros((1, 1, 11, 6), np.float32)
    alive[:, :, inputs[:, None], outputs] = 1
    small = kernel[:, :, inputs[:, None], outputs]
    for masked, sliced in (
        (magnitude(kernel, 0.7, alive), magnitude(small, 0.7)),
        (n_of_m(kernel, 2, 4, -2, alive), n_of_m(small, 2, 4, -2)),
    ):
        np.testing.assert_array_equal(masked[:, :, inputs[:, None], outputs], sliced)
        assert masked.sum() == sliced.sum()


def kernel_masks(graph, variables, sparsity, alive=None):
    """``magnitude_mask`` of every kernel; of layers that share one the first one's share counts."""
    shares = {layer.kernel: sparsity[layer.name] for layer in reversed(graph.layers)}
    return {
        name: magnitude_mask(variables[name], share, None if alive is None else alive[name])
        for name, share in shares.items()
    }


def test_the_masks_of_a_masked_network_are_those_of_the_sliced_one(network):
    variables, masks = network.source.variables, Masks(network)
    kept = {name: np.arange(1, group.size, 2) for name, group in network.groups.items()}
    shares = {layer.name: 0.1 * i for i, layer in enumerate(network.layers)}
    ones = {name: np.ones_like(value) for name, value in variables.items()}

    @jax.jit
    def of_masked(variables, vector, shares):
        return kernel_masks(network, variables, shares, masks.apply(ones, vector))

    masked = of_masked(variables, masks.vector(kept), shares)
    sliced = jax.jit(lambda v, s: kernel_masks(network, v, s))(
        slice_variables(network, variables, kept), shares
    )
    expected = slice_variables(network, {**variables, **masked}, kept)
    for layer in network.layers:
        np.testing.assert_array_equal(sliced[layer.kernel], expected[layer.kernel])
        assert masked[layer.kernel].sum() == sliced[layer.kernel].sum()


def kernel_zeros(graph, shares):
    """Zeros of every kernel, each counted once."""
    return {
        layer.kernel: zeros_of(shares[layer.name], int(np.prod(layer.kernel_shape)))
        for layer in graph.layers
    }


def test_one_threshold_for_all_kernels():
    graph = trace(made(Dense), shape(2, 3))
    a, b = np.full((3, 4), 0.5), np.full((4, 2), 0.1)
    a[0], b[3] = 0.05, 2.0
    variables = {**graph.source.variables, "a.kernel": a, "b.kernel": b}
    # In order: four 0.05 of a, six 0.1 of b, eight 0.5 of a, two 2.0 of b.
    for zeros, of_a, of_b in ((2, 2, 0), (4, 4, 0), (7, 4, 3), (10, 4, 6), (12, 6, 6)):
        shares = allocate(graph, variables, zeros / 20)
        assert shares == {"a": of_a / 12, "b": of_b / 8}
    # The largest of a, one of the eight, stays though it is smaller than those of b.
    assert allocate(graph, variables, 0.9) == {"a": 11 / 12, "b": 7 / 8}


@settings(max_examples=25)
@given(total=st.floats(0, 0.97))
def test_the_total_is_met_exactly(network, total):
    layers = network.layers
    shares = allocate(network, network.source.variables, total)
    elements = sum(layer.params for layer in layers)
    zeros = kernel_zeros(network, shares)
    assert sum(zeros.values()) == round(total * elements)
    assert all(zeros[layer.kernel] < layer.params for layer in layers)


def test_the_masks_of_shares_have_the_zeros_of_the_total(network):
    shares = allocate(network, network.source.variables, 0.6)
    masks = jax.jit(lambda v, s: kernel_masks(network, v, s))(network.source.variables, shares)
    off = {name: int((~np.asarray(mask)).sum()) for name, mask in masks.items()}
    assert off == kernel_zeros(network, shares)
    assert sum(off.values()) == round(0.6 * sum(layer.params for layer in network.layers))
    magnitudes = {n: np.abs(np.asarray(network.source.variables[n])) for n in masks}
    largest = max(float(magnitudes[n][~np.asarray(m)].max()) for n, m in masks.items() if off[n])
    smallest = min(float(magnitudes[n][np.asarray(m)].min()) for n, m in masks.items())
    assert largest <= smallest


def test_layers_that_share_a_kernel_share_its_zeros():
    graph = trace(made(Shared), shape(2, 6, 6, 2))
    variables = graph.source.variables
    names = [layer.name for layer in graph.layers]
    assert names == ["first", "shared", "shared#2", "out"]
    shares = allocate(graph, variables, 0.5)
    assert shares["shared"] == shares["shared#2"]
    # Kernels of 108, 324 and 18 elements.
    assert sum(kernel_zeros(graph, shares).values()) == 225
    assert kernel_masks(graph, variables, dict.fromkeys(names, 0.5)).keys() == {
        "first.kernel",
        "shared.kernel",
        "out.kernel",
    }


def test_what_cannot_be_allocated_is_refused():
    graph = trace(made(TwoConvs), shape(2, 8, 8, 1))
    variables = graph.source.variables
    # Kernels of 72, 576 and 32 elements, of which one each stays.
    with pytest.raises(SparsityError, match=r"1\.0 is 680 zeros.* room for 0 to 677"):
        allocate(graph, variables, 1.0)
    assert set(allocate(graph, variables, 0).values()) == {0}
