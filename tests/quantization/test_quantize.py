"""Fake quantization against grids worked out by hand."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfrl.compression.policy import Policy
from pfrl.compression.rounding import Rounding
from pfrl.compression.sliced import compress, run_graph
from pfrl.evaluation.compilations import compilations
from pfrl.graph import trace
from pfrl.graph.masks import Masks
from pfrl.methods.channels.base import choose
from pfrl.methods.channels.criteria import l1_scores
from pfrl.methods.quantization.base import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS
from pfrl.methods.quantization.uniform import (
    activation_grid,
    fake_quantize_activations,
    fake_quantize_weights,
)
from tests.support.conformance import examples
from tests.support.tiny import Dense, made, shape

weights = jax.jit(fake_quantize_weights)
activations = jax.jit(fake_quantize_activations)
grid_of = jax.jit(activation_grid)
BITS = (2, 3, 4, 5, 6, 7, 8, 32)


def column(*values):
    """A kernel [I, 1] of one output channel."""
    return np.asarray(values, np.float32)[:, None]


# The largest integer is 2^(bits - 1) - 1: 1 at 2 bits, 3 at 3 bits, 7 at 4 bits.
@pytest.mark.parametrize(
    ("bits", "kernel", "expected"),
    [
        (2, [0.9, -0.4, 0.2, -1.0], [1, 0, 0, -1]),
        (2, [4.0, 2.1, -1.9, -3.0], [4, 4, 0, -4]),
        (3, [3.0, 1.4, -2.6, 0.4], [3, 1, -3, 0]),
        (4, [-0.7, 0.26, 0.34, 0.0], [-0.7, 0.3, 0.3, 0]),
        # Step 0.01.
        (8, [1.27, 0.014, -0.016], [1.27, 0.01, -0.02]),
    ],
)
def test_weights_on_a_symmetric_grid(bits, kernel, expected):
    assert np.allclose(weights(column(*kernel), bits), column(*expected), atol=1e-6)


def test_every_output_channel_has_its_own_scale():
    kernel = np.asarray([[0.9, 90.0, 0.0], [-1.0, 40.0, 0.0]], np.float32)
    assert np.allclose(weights(kernel, 2), [[1, 90, 0], [-1, 0, 0]])
    conv = np.stack([kernel, 2 * kernel])[None]
    assert np.allclose(weights(conv, 2)[0, 1], [[2, 180, 0], [-2, 0, 0]])


def test_weights_have_as_many_values_as_bits_allow():
    kernel = np.linspace(-1, 1, 2001, dtype=np.float32)[:, None]
    for bits in (2, 3, 5, 8):
        found = np.unique(np.round(weights(kernel, bits) * (2 ** (bits - 1) - 1), 3))
        assert len(found) == 2**bits - 1
        # Half a step at most.
        error = np.abs(weights(kernel, bits) - kernel).max()
        assert error <= 0.5 / (2 ** (bits - 1) - 1) + 1e-6


# The grid of n bits has 2^n values, low and high at its ends, moved so that 0 is one of them.
@pytest.mark.parametrize(
    ("bits", "low", "high", "x", "expected"),
    [
        # Step 1, zero point 1.
        (2, -1.0, 2.0, [-5, -1, -0.4, 0, 0.6, 1.4, 9], [-1, -1, 0, 0, 1, 1, 2]),
        # Step 1, zero point round(0.4) = 0: the grid becomes 0 to 3.
        (2, -0.4, 2.6, [-0.4, 0.7, 2.6, 9], [0, 1, 3, 3]),
        # A range without 0 is widened to hold it: 0 to 3, and -3 to 0.
        (2, 1.0, 3.0, [0.4, 1.6, 5], [0, 2, 3]),
        (2, -3.0, -1.0, [0.4, -1.6, -5], [0, -2, -3]),
        # Step 0.2.
        (4, 0.0, 3.0, [0.09, 0.11, 2.95, 4], [0, 0.2, 3, 3]),
        # One side only: 0 to 1 in steps of 1/7, and its mirror image.
        (3, 0.0, 1.0, [-1, 0.06, 0.52, 1], [0, 0, 4 / 7, 1]),
        (3, -1.0, 0.0, [1, -0.06, -0.49, -1], [0, 0, -3 / 7, -1]),
        # Step 3/255, zero point 85.
        (8, -1.0, 2.0, [-1, 0.014, 2.1], [-1, 3 / 255, 2]),
        # Nothing was ever seen but 0: step 1/3.
        (2, 0.0, 0.0, [0, 0.3, -0.3], [0, 1 / 3, 0]),
    ],
)
def test_activations_on_an_affine_grid(bits, low, high, x, expected):
    found = activations(np.asarray(x, np.float32), bits, low, high)
    assert np.allclose(found, expected, atol=1e-6)


def test_at_32_bits_nothing_changes_bit_for_bit():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert np.array_equal(weights(x, 32), x)
    assert np.array_equal(activations(x, 32, -0.1, 0.1), x)


def test_gradients_pass_straight_through_and_stop_outside_of_the_range():
    x = jnp.asarray([-5.0, -0.4, 0.6, 1.4, 9.0])
    factors = jnp.arange(1.0, 6.0)

    @jax.jit
    def gradients(bits):
        return (
            jax.grad(lambda x: (factors * activations(x, bits, -1.0, 2.0)).sum())(x),
            jax.grad(lambda k: (factors * weights(k[:, None], bits)[:, 0]).sum())(x),
        )

    inside, kernel = gradients(2)
    assert np.array_equal(inside, [0, 2, 3, 4, 0])
    assert np.array_equal(kernel, factors)
    inside, kernel = gradients(32)
    assert np.array_equal(inside, factors)
    assert np.array_equal(kernel, factors)


def test_a_channel_of_zeros_stays_and_has_a_gradient():
    zero = column(0.0, 0.0)
    assert np.array_equal(weights(zero, 4), zero)
    gradient = jax.jit(jax.grad(lambda k: weights(k, 4).sum()))
    assert np.array_equal(gradient(zero), np.ones_like(zero))
    # So does one that weight decay has all but brought there.
    assert np.array_equal(weights(column(1e-38, -1e-37), 4), zero)
    assert np.array_equal(activations(column(1e-38, 0), 4, 0.0, 1e-38), zero)


def test_a_given_scale_clips():
    kernel = np.asarray([[0.9, 9.0], [-0.4, 4.0], [0.1, -8.0]], np.float32)
    scale = np.asarray([0.2, 4.0], np.float32)
    # 3 bits, integers from -3 to 3: 4.5 is clipped, -2, 0.5 is even 0; 2.25, 1, -2.
    expected = [[0.6, 8.0], [-0.4, 4.0], [0.0, -8.0]]
    assert np.allclose(weights(kernel, 3, scale=scale), expected, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda k: weights(k, 3, scale=scale).sum()))(kernel)
    assert np.array_equal(gradient, [[0, 1], [1, 1], [1, 1]])


def test_the_gradient_of_what_is_clipped_goes_to_the_end_of_the_range():
    x = jnp.asarray([-5.0, -0.4, 2.5, 9.0])
    ends = jax.jit(jax.grad(lambda r: activations(x, 8, r[0], r[1]).sum()))(jnp.asarray([-1.0, 2]))
    # Zero point 85 of 255: the ends of the grid are -85 and 170 times (high - low) / 255. One
    # value is clipped to the lower, and two to the upper.
    scale = np.asarray([-1, 1]) / 255
    assert np.allclose(ends, (-85 + 2 * 170) * scale, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_type_is_kept_and_short_ones_lose_no_digits(dtype):
    x = jnp.linspace(-1, 1, 41).astype(dtype)
    for bits in (2, 8, 32):
        for rounded in (weights(x[:, None], bits)[:, 0], activations(x, bits, -1.0, 1.0)):
            assert rounded.dtype == x.dtype
        # Up to the last digit of a short type, the same numbers as in float32.
        exact = activations(x.astype(jnp.float32), bits, -1.0, 1.0)
        found = activations(x, bits, -1.0, 1.0).astype(jnp.float32)
        assert np.array_equal(found, exact.astype(dtype).astype(jnp.float32))


@given(
    low=st.floats(-10, 1, width=32),
    high=st.floats(-1, 10, width=32),
    bits=st.sampled_from(BITS[:-1]),
)
@examples(30)
def test_any_range_has_a_grid_that_holds_zero(low, high, bits):
    low, high = min(low, high), max(low, high)
    scale, zero, levels = map(np.asarray, grid_of(np.int32(bits), low, high))
    assert levels == 2**bits - 1
    assert 0 <= zero <= levels and zero == np.round(zero)
    x = np.linspace(-12, 12, 301, dtype=np.float32)
    found = np.asarray(activations(x, np.int32(bits), low, high))
    integers = found / scale + zero
    assert np.allclose(integers, np.round(integers), atol=1e-2)
    assert integers.min() > -1e-2 and integers.max() < levels + 1e-2
    assert np.asarray(activations(np.zeros(1, np.float32), np.int32(bits), low, high)) == 0
    inside = (x > -zero * scale) & (x < (levels - zero) * scale)
    assert np.abs(found - x)[inside].max(initial=0) <= scale * 0.501
    # What is on the grid stays.
    assert np.allclose(activations(found, np.int32(bits), low, high), found, atol=1e-5)


@given(seed=st.integers(0, 10**6), bits=st.sampled_from(BITS[:-1]), powers=st.booleans())
@examples(30)
def test_weight_grids_commute_with_factors_per_output_channel(seed, bits, powers):
    # So a kernel that is rounded before a normalisation is folded into it has the same integers
    # as the folded kernel that is rounded: Q(w · c) = c · Q(w), for factors of either sign.
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)
    factors = rng.uniform(0.1, 10, 5).astype(np.float32)
    if powers:  # of two, by which every product is exact
        factors = np.exp2(rng.integers(-8, 8, 5)).astype(np.float32)
    factors *= rng.choice(np.asarray([-1, 1], np.float32), 5)
    rounded, folded = weights(kernel, np.int32(bits)), weights(kernel * factors, np.int32(bits))
    levels = 2 ** (bits - 1) - 1

    def integers(kernel, rounded):
        scale = np.abs(kernel).max((0, 1, 2)) / levels
        return np.asarray(rounded) / scale

    if powers:
        assert np.array_equal(folded, rounded * factors)
    before, after = integers(kernel, rounded), integers(kernel * factors, folded)
    assert np.allclose(after, before * np.sign(factors), atol=1e-3)
    assert np.allclose(before, np.round(before), atol=1e-3)


def test_masked_kernels_have_the_grid_of_sliced_ones():
    kernel = np.random.default_rng(0).normal(size=(3, 6, 4)).astype(np.float32)
    kept = [0, 2, 5]
    masked = np.zeros_like(kernel)
    masked[:, kept] = kernel[:, kept]
    for bits in (2, 4):
        found = np.asarray(weights(masked, bits))
        assert np.array_equal(found[:, kept], weights(kernel[:, kept], bits))
        assert not found[:, [1, 3, 4]].any()


def test_bit_widths_are_traced_and_compile_once():
    @jax.jit
    def both(x, bits):
        return weights(x, bits), activations(x, bits, -1.0, 1.0)

    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    both(x, np.int32(2))
    before = compilations()
    found = [np.asarray(both(x, np.int32(bits))) for bits in BITS]
    assert compilations() == before
    for one, other in pairwise(found):
        assert not np.array_equal(one, other)


def test_where_training_starts_compiles_once_for_all_bit_widths():
    kernel, alive = np.ones((3, 4), np.float32), np.ones((3, 4), bool)
    low, high = np.float32(-1), np.float32(2)

    def start(bits):
        for weights in WEIGHT_QUANTIZERS.values():
            weights.start(jnp.asarray(kernel), bits, alive)
        for inputs in ACTIVATION_QUANTIZERS.values():
            if inputs.start is not None:
                inputs.start(np.int32(bits), low, high)

    start(BITS[0])
    before = compilations()
    for bits in BITS:
        start(bits)
    assert compilations() == before


RANGES = {"a": (-2.0, 1.0), "b": (0.0, 3.0)}


def quantized_by_hand(variables, x, keep):
    """``Dense`` at 3 and 8 bits in a, 8 and 4 in b, in NumPy and over some hidden channels."""

    def round_weights(kernel, bits):
        scale = np.abs(kernel).max(0) / (2 ** (bits - 1) - 1)
        return np.round(kernel / scale) * scale

    def round_range(x, bits, low, high):
        scale = (high - low) / (2**bits - 1)
        zero = np.round(-low / scale)
        return (np.clip(np.round(x / scale) + zero, 0, 2**bits - 1) - zero) * scale

    hidden = round_range(x, 8, -2.0, 1.0) @ round_weights(variables["a.kernel"][:, keep], 3)
    hidden = np.maximum(hidden + variables["a.bias"][keep], 0)
    return (
        round_range(hidden, 4, 0.0, 3.0) @ round_weights(variables["b.kernel"][keep], 8)
        + variables["b.bias"]
    )


def test_a_compressed_network_is_quantized_at_the_inputs_of_its_layers():
    model = made(Dense)
    graph = trace(model, shape(1, 3))
    variables = {name: np.asarray(value) for name, value in graph.source.variables.items()}
    policy = Policy({"a": 0.75}, {"a": 3, "b": 8}, {"a": 8, "b": 4})
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    small = compress(model, policy, graph=graph, ranges=RANGES)
    expected = quantized_by_hand(variables, x, small.kept["a"])
    assert np.allclose(jax.jit(small)(x), expected, atol=1e-5)
    plain = compress(
        model, Policy({"a": 0.75}, {"a": 32, "b": 32}, {"a": 32, "b": 32}), graph=graph
    )
    assert np.abs(jax.jit(plain)(x) - expected).max() > 0.01

    # A masked network, whose removed inputs are zeros, is quantized alike.
    masks = Masks(graph)
    kept = choose(l1_scores(graph, variables), policy.counts(graph))

    def round_site(place, x):
        name = graph.sites[place].name
        return activations(x, policy.act_bits[name], *RANGES[name])

    rounding = Rounding(lambda name, kernel: weights(kernel, policy.weight_bits[name]), round_site)

    def masked(variables, vector, x):
        return run_graph(graph, masks.apply(variables, vector), x, False, rounding=rounding)[0]

    assert np.allclose(jax.jit(masked)(variables, masks.vector(kept), x), expected, atol=1e-5)


def test_quantized_activations_need_calibrated_ranges():
    model = made(Dense)
    graph = trace(model, shape(1, 3))
    with pytest.raises(ValueError, match="'a' has quantized activations but no calibrated"):
        compress(model, Policy.uniform(graph, act_bits=8), graph=graph)
